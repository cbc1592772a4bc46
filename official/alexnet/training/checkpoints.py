"""Checkpoints: everything a run needs to go on as if it had never stopped.

Tensors are stored under the name of their layer, one a column, so that either form
of a net reads the checkpoints of the other.
"""

import dataclasses
import json
import pathlib
import re

import keras
import numpy as np
import tensorflow as tf

from official.alexnet.errors import UserError
from official.alexnet.modeling import weights
from official.alexnet.training.loss_scale import LossScale
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.schedules import Plateau

_TENSOR = re.compile(
    r"(?P<kind>weights|velocity|dropout)/(?P<layer>\w*\d)(?P<column>[ab]?)"
    r"(/(?P<name>[a-z]\w*))?/\.ATTRIBUTES/VARIABLE_VALUE"
)


class Progress(tf.train.experimental.PythonState):
    """What the loop remembers besides tensors: the plateau rule and running sums.

    Attributes:
        plateau: state of the plateau rule.
        sums: loss, top-1, top-5 and images since the last line of metrics.
        bad_records: examples skipped since the run began.
        loss_scale: the factor that float16 needs.
    """

    def __init__(self, loss_scale: LossScale | None = None):
        self.loss_scale = loss_scale or LossScale(enabled=False)
        self.plateau = Plateau()
        self.sums = [0.0] * 4
        self.bad_records = 0

    def serialize(self) -> bytes:
        state = {
            "plateau": dataclasses.asdict(self.plateau),
            "sums": self.sums,
            "bad_records": self.bad_records,
            "loss_scale": self.loss_scale.state(),
        }
        return json.dumps(state).encode()

    def deserialize(self, string_value: bytes) -> None:
        state = json.loads(string_value)
        self.plateau = Plateau(**state["plateau"])
        self.sums = state["sums"]
        self.bad_records = state.get("bad_records", 0)
        self.loss_scale.restore(state.get("loss_scale", [1.0, 0]))


@dataclasses.dataclass(frozen=True)
class Contents:
    """A checkpoint read into memory, as the grouped form holds it.

    Attributes:
        step: steps taken.
        weights: by name, such as `conv1/kernel`.
        velocity: the optimizer's, by the same names.
        dropout: state of the dropout seeds, by layer.
        progress: see `Progress`.
    """

    step: int
    weights: dict[str, np.ndarray]
    velocity: dict[str, np.ndarray]
    dropout: dict[str, np.ndarray]
    progress: bytes


class Checkpoints:
    """Writes and restores `ckpt-N` in a model_dir, N being the step.

    Args:
        model_dir: where they are.
        model: net of either form, built under the strategy.
        optimizer: its optimizer, built.
        progress: state of the loop.
        max_to_keep: older ones are deleted.
    """

    def __init__(
        self,
        model_dir: pathlib.Path,
        model: keras.Model,
        optimizer: PaperSGD,
        progress: Progress,
        max_to_keep: int,
    ):
        self._model = model
        self._optimizer = optimizer
        self._progress = progress
        by_layer: dict[str, dict] = {}
        velocity_by_layer: dict[str, dict] = {}
        for layer in model.layers:
            for variable in layer.weights:
                by_layer.setdefault(layer.name, {})[variable.name] = variable.value
            for variable in layer.trainable_weights:
                velocity = optimizer.velocities[_index(model, variable)]
                velocity_by_layer.setdefault(layer.name, {})[variable.name] = (
                    velocity.value
                )
        checkpoint = tf.train.Checkpoint(
            step=optimizer.iterations.value,
            weights=by_layer,
            velocity=velocity_by_layer,
            dropout={name: state.value for name, state in _dropout_states(model)},
            progress=progress,
        )
        self._manager = tf.train.CheckpointManager(
            checkpoint, str(model_dir), max_to_keep, checkpoint_name="ckpt"
        )

    def save(self) -> str:
        """Writes a checkpoint of the present step; returns its path."""
        step = int(self._optimizer.iterations.numpy())
        return self._manager.save(checkpoint_number=step)

    def restore(self) -> int:
        """Restores the latest checkpoint, if there is one.

        Returns:
            The step to go on from; 0 where there is no checkpoint.

        Raises:
            UserError: it is damaged, or of another net.
        """
        path = self._manager.latest_checkpoint
        if path is None:
            return 0
        contents = read(path)
        check_fit(self._model, contents, path)
        variables = weights.variables_by_name(self._model)
        for name, parts in variables.items():
            weights.assign_parts(parts, contents.weights[name])
            if not parts[0].trainable:
                continue
            velocities = [
                self._optimizer.velocities[_index(self._model, part)] for part in parts
            ]
            weights.assign_parts(velocities, contents.velocity[name])
        for name, state in _dropout_states(self._model):
            state.assign(contents.dropout[name.rstrip("ab")])
        self._optimizer.iterations.assign(contents.step)
        self._progress.deserialize(contents.progress)
        return contents.step


def exists(model_dir: pathlib.Path) -> bool:
    """Whether there is a checkpoint in a model_dir."""
    return tf.train.latest_checkpoint(str(model_dir)) is not None


def latest(model_dir: pathlib.Path) -> str:
    """Path of the latest checkpoint.

    Raises:
        UserError: there is none.
    """
    path = tf.train.latest_checkpoint(str(model_dir))
    if path is None:
        raise UserError(
            f"--model_dir={model_dir} holds no checkpoint: train there first, or name "
            "the directory of a run"
        )
    return path


def read(path: str) -> Contents:
    """Reads a checkpoint of either form.

    Raises:
        UserError: it is missing, damaged, or not one of this package.
    """
    kinds: dict[str, dict[str, list]] = {"weights": {}, "velocity": {}, "dropout": {}}
    try:
        reader = tf.train.load_checkpoint(path)
        # Sorted, so that column a comes before column b.
        for key in sorted(reader.get_variable_to_shape_map()):
            if match := _TENSOR.fullmatch(key):
                name = "/".join(filter(None, [match["layer"], match["name"]]))
                kinds[match["kind"]].setdefault(name, []).append(reader.get_tensor(key))
        step = int(reader.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE"))
        progress = reader.get_tensor("progress/.ATTRIBUTES/py_state")
    except (tf.errors.OpError, LookupError, ValueError, RuntimeError) as error:
        raise UserError(
            f"{path} cannot be read as a checkpoint of this package: "
            f"{' '.join(str(error).split())[:200]}"
        ) from error
    return Contents(
        step,
        weights=_whole(kinds["weights"]),
        velocity=_whole(kinds["velocity"]),
        dropout={name: states[0] for name, states in kinds["dropout"].items()},
        progress=progress,
    )


def _whole(tensors: dict[str, list[np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate(parts, -1) for name, parts in tensors.items()}


def load_weights(model: keras.Model, path: str) -> int:
    """Gives a model of either form the weights of a checkpoint; returns its step.

    Raises:
        UserError: the checkpoint cannot be read, or is of another net.
    """
    contents = read(path)
    check_fit(model, contents, path)
    weights.set_weights(model, contents.weights)
    return contents.step


def check_fit(model: keras.Model, contents: Contents, path: str) -> None:
    """Checks that a checkpoint is one of this net.

    Raises:
        UserError: it is not; nothing was changed.
    """
    try:
        weights.check_fit(weights.variables_by_name(model), contents.weights)
    except UserError as error:
        raise UserError(
            f"{path} does not fit the net of the flags (--variant, --num_classes, "
            f"--width, --input_size, ...): {error}"
        ) from error


def _index(model: keras.Model, variable: keras.Variable) -> int:
    return next(
        i for i, other in enumerate(model.trainable_variables) if other is variable
    )


def _dropout_states(model: keras.Model) -> list[tuple[str, keras.Variable]]:
    return [
        (layer.name, layer.seed_generator.state)
        for layer in model.layers
        if hasattr(layer, "seed_generator")
    ]
