"""Checkpoints: everything that resumes a run as if it had never stopped.

Tensors are stored under the name of their layer, one a column, so that either form
of a net reads the checkpoints of the other.
"""

import dataclasses
import json
import math
import pathlib
import re

import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet import paths, run_files
from official.alexnet.backend import keras
from official.alexnet.errors import UserError
from official.alexnet.modeling import weights
from official.alexnet.training import checkpoint_files
from official.alexnet.training.checkpoint_files import exists, latest
from official.alexnet.training.loss_scale import LossScale
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.rates import Plateau

_OURS = re.compile("(weights|velocity|dropout|step|progress)/")
_TENSOR = re.compile(
    r"(?P<kind>weights|velocity|dropout)/(?P<layer>\w*\d)(?P<column>[ab]?)"
    r"(/(?P<name>[a-z]\w*))?/\.ATTRIBUTES/VARIABLE_VALUE"
)


class Progress(tf.train.experimental.PythonState):
    """What the loop remembers besides tensors."""

    def __init__(self, loss_scale: LossScale | None = None):
        self.loss_scale = loss_scale or LossScale(enabled=False)
        self.plateau = Plateau()
        # Loss, top-1, top-5 and images since the last line of metrics.
        self.sums = [0.0] * 4
        # Step of the last evaluation; 0: there was none.
        self.evaluated = 0
        # The best evaluation: its step, loss, accuracy and top-5 accuracy.
        self.best: dict | None = None
        # Steps in one pass over the training set; None: not known yet.
        self.epoch_steps: float | None = None
        # See `Schedule`.
        self.offset = 0.0
        # What evaluations look at, crops and images; None: not known.
        self.measure: list[int] | None = None

    def change_pace(self, step: int, epoch_steps: float) -> None:
        """Keeps the epochs passed where other batches or data make other steps."""
        if self.epoch_steps not in (None, epoch_steps):
            passed = (step + self.offset) / self.epoch_steps
            self.offset = passed * epoch_steps - step
        self.epoch_steps = epoch_steps

    def change_measure(self, measure: list[int]) -> None:
        """Results of other crops, or another number of images, no longer count."""
        if self.measure not in (None, measure):
            text = "Evaluations are of %d crop(s) of %d images: best/ begins anew."
            logging.info(text, *measure)
            self.plateau = dataclasses.replace(self.plateau, best=math.inf, waited=0)
            self.best = None
        self.measure = measure

    def add(self, sums: np.ndarray) -> None:
        """Adds what a few steps summed up."""
        self.sums = [a + float(b) for a, b in zip(self.sums, sums, strict=True)]

    def serialize(self) -> bytes:
        state = {
            "plateau": dataclasses.asdict(self.plateau),
            "sums": self.sums,
            "evaluated": self.evaluated,
            "best": self.best,
            "fp16_scale": self.loss_scale.state(),
            "pace": [self.epoch_steps, self.offset],
            "measure": self.measure,
        }
        return json.dumps(state).encode()

    def deserialize(self, string_value: bytes) -> None:
        state = json.loads(string_value)
        self.plateau = Plateau(**state["plateau"])
        self.sums = state["sums"]
        # Checkpoints of earlier versions have none of these.
        self.evaluated = state.get("evaluated", 0)
        self.best = state.get("best")
        self.loss_scale.restore(state.get("fp16_scale", []))
        self.epoch_steps, self.offset = state.get("pace", [self.epoch_steps, 0.0])
        self.measure = state.get("measure")


class Damaged(UserError):
    """A checkpoint whose bytes are not those that were written."""


@dataclasses.dataclass(frozen=True)
class Contents:
    """A checkpoint read into memory, as the grouped form holds it."""

    step: int
    weights: dict[str, np.ndarray]  # By name, such as `conv1/kernel`.
    velocity: dict[str, np.ndarray]  # By the same names.
    dropout: dict[str, np.ndarray]  # State of the seeds, by layer.
    progress: bytes  # See `Progress`.


class Checkpoints:
    """Writes and restores `ckpt-N` in a model_dir, N being the step.

    Model and optimizer are built, under the strategy. More than `max_to_keep` are
    deleted; the best one is kept besides, in `best/`.
    """

    def __init__(
        self,
        model_dir: pathlib.Path,
        model: keras.Model,
        optimizer: PaperSGD,
        progress: Progress,
        max_to_keep: int,
    ):
        self._model_dir = model_dir
        self._model = model
        self._optimizer = optimizer
        self._progress = progress
        self._max_to_keep = max_to_keep
        # Step of the last one that was saved or restored.
        self._present = None
        layers = {layer.name: layer for layer in model.layers if layer.weights}
        self._checkpoint = tf.train.Checkpoint(
            step=optimizer.iterations.value,
            weights={
                name: {variable.name: variable.value for variable in layer.weights}
                for name, layer in layers.items()
            },
            velocity={
                name: {
                    variable.name: optimizer.velocity_of(variable).value
                    for variable in layer.trainable_weights
                }
                for name, layer in layers.items()
            },
            dropout={name: state.value for name, state in _dropout_states(model)},
            progress=progress,
        )

    def are_numbers(self) -> bool:
        """Whether all weights and velocities are finite, so that saving makes sense."""
        tensors = [*self._model.weights, *self._optimizer.velocities]
        floats = [v.value for v in tensors if v.value.dtype.is_floating]
        return all(bool(tf.reduce_all(tf.math.is_finite(value))) for value in floats)

    def save(self) -> str:
        """Writes a checkpoint of the present step; returns its path.

        Where there is one already, from before an evaluation, its tensors stay.
        """
        step = int(self._optimizer.iterations.numpy())
        path = checkpoint_files.prefix(self._model_dir, step)
        if step == self._present:
            progress = self._progress.serialize()
            checkpoint_files.write_progress(self._model_dir, step, progress)
        else:
            checkpoint_files.write(self._checkpoint, self._model_dir, step)
        self._present = step
        checkpoint_files.keep(self._model_dir, step, self._max_to_keep)
        self.keep_best()
        return path

    def keep_best(self) -> None:
        """Keeps the checkpoint of the best evaluation apart, if it is not there yet."""
        best = self._progress.best
        if best and best["step"] in checkpoint_files.steps(self._model_dir):
            checkpoint_files.keep_best(self._model_dir, best)

    def restore(self) -> int:
        """Restores the latest checkpoint that is whole, if there is one.

        Returns the step to resume from, 0 where there is none. Raises UserError
        where all are damaged, or it is of another net.
        """
        if not exists(self._model_dir):
            return 0
        path, contents = find(self._model_dir)
        set_weights(self._model, path, contents)
        for name, parts in weights.variables_by_name(self._model).items():
            if parts[0].trainable:
                velocities = [self._optimizer.velocity_of(part) for part in parts]
                weights.assign_parts(velocities, contents.velocity[name])
        for name, state in _dropout_states(self._model):
            state.assign(contents.dropout[name.rstrip("ab")])
        self._optimizer.iterations.assign(contents.step)
        self._progress.deserialize(contents.progress)
        self._present = contents.step
        return contents.step


def find(
    model_dir: pathlib.Path, checkpoint_path: str | None = None
) -> tuple[str, Contents]:
    """Reads a run's checkpoint: `model_dir/ckpt-300`, or the latest that is whole.

    Those that are passed over are named in the log.

    Returns:
        Its path and what it holds.

    Raises:
        UserError: there is none, none that is whole, the named one is of a run with
            other settings, or the disk fails.
    """
    if checkpoint_path is not None:
        path = checkpoint_path.removesuffix(".index")  # As a shell completes it.
        path = str(paths.of_checkpoints(path, "--checkpoint_path"))
        run_files.check_checkpoint(model_dir, path)
        return path, read(path)
    newest = latest(paths.of_checkpoints(model_dir))
    damage = None
    for step in reversed(checkpoint_files.steps(model_dir)):
        path = checkpoint_files.prefix(model_dir, step)
        try:
            contents = read(path)
        except UserError as error:
            checkpoint_files.check_readable(model_dir, step)
            damage = damage or error
            logging.warning("%s", error)
            continue
        if damage:
            logging.warning("%s is damaged: taking %s instead.", newest, path)
        return path, contents
    advice = "; --clean starts anew" if isinstance(damage, Damaged) else ""
    if exists(best := model_dir / run_files.BEST_DIR):
        advice = (
            f"; {latest(best)} may be whole: copy its files into {model_dir} to resume "
            "there (--clean starts anew, and deletes it, too)"
        )
    raise UserError(f"no checkpoint in {model_dir} can be read: {damage}{advice}")


def read(path: str) -> Contents:
    """Reads a checkpoint of either form; Damaged where it is not whole, or not there.

    Raises UserError where it is another program's, or TensorFlow cannot find it there.
    """
    paths.of_checkpoints(path)
    kinds: dict[str, dict[str, list]] = {"weights": {}, "velocity": {}, "dropout": {}}
    try:
        reader = tf.train.load_checkpoint(path)
        # Sorted, so that column a comes before column b.
        keys = sorted(reader.get_variable_to_shape_map())
        # An index that is damaged may show a part of its keys.
        if keys[1:] and not any(_OURS.match(key) for key in keys):
            raise UserError(
                f"{path} is a checkpoint of another program: name another directory"
            )
        for key in keys:
            if match := _TENSOR.fullmatch(key):
                name = "/".join(filter(None, [match["layer"], match["name"]]))
                kinds[match["kind"]].setdefault(name, []).append(reader.get_tensor(key))
        step = int(reader.get_tensor("step/.ATTRIBUTES/VARIABLE_VALUE"))
        progress = checkpoint_files.read_progress(path) or reader.get_tensor(
            "progress/.ATTRIBUTES/py_state"
        )
        json.loads(progress)  # Beside the checkpoint it has no checksum.
    except (tf.errors.OpError, LookupError, ValueError, RuntimeError) as error:
        raise Damaged(
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


def set_weights(model: keras.Model, path: str, contents: Contents) -> int:
    """Gives a model of either form a checkpoint's weights; returns their step.

    Raises UserError, and changes nothing, where they are of another net.
    """
    try:
        weights.set_weights(model, contents.weights)
    except UserError as error:
        raise UserError(
            f"{path} does not fit the net of the flags (--variant, --num_classes, "
            f"--width, --input_size, ...): {error}"
        ) from error
    return contents.step


def _dropout_states(model: keras.Model) -> list[tuple[str, keras.Variable]]:
    return [
        (layer.name, layer.seed_generator.state)
        for layer in model.layers
        if hasattr(layer, "seed_generator")
    ]
