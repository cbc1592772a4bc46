"""The training loop of the CIFAR-10 nets: one device, the data set in memory."""

import dataclasses
import json
import math
import pathlib
import time

import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet import paths, plain_yaml, run_files
from official.alexnet.backend import keras
from official.alexnet.cifar import preprocessing
from official.alexnet.cifar.data import Cifar10
from official.alexnet.cifar.nets import CifarNet, find_net
from official.alexnet.cifar.settings import Settings
from official.alexnet.data import atomic
from official.alexnet.distribution.capabilities import xla_runs_here
from official.alexnet.errors import UserError
from official.alexnet.modeling.weights import variables_by_name
from official.alexnet.training import checkpoint_files, checkpoints
from official.alexnet.training.evaluation import Result, score
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.summaries import Summaries

RESULTS_FILE = "results.json"

# Training errors, checkpoints and the test for stopping: so often in an epoch.
WINDOWS = 4

_EVAL_BATCH = 500


# What a run that is gone on with may change: how long it is, and what is measured.
_MAY_CHANGE = {"train_epochs", "stop_train_error", "eval_training_set"}


class Progress(checkpoints.Progress):
    """What the loop remembers, in every checkpoint.

    Attributes:
        windows: training error of the last windows, an epoch of them at most.
        seconds: wall time of the training steps so far.
    """

    def __init__(self):
        super().__init__()
        self.windows: list[float] = []
        self.seconds = 0.0

    def serialize(self) -> bytes:
        state = {"windows": self.windows, "seconds": self.seconds}
        return json.dumps(json.loads(super().serialize()) | state).encode()

    def deserialize(self, string_value: bytes) -> None:
        super().deserialize(string_value)
        state = json.loads(string_value)
        self.windows, self.seconds = state["windows"], state["seconds"]


def train(
    settings: Settings, data: Cifar10, model_dir: str, *, clean: bool = False
) -> dict:
    """Trains a net, going on from the latest checkpoint in `model_dir`.

    Args:
        settings: of the run.
        data: the data set.
        model_dir: where checkpoints, TensorBoard logs, metrics.jsonl and results.json
            go.
        clean: delete an earlier run in `model_dir` first.

    Returns:
        The results, as in results.json.

    Raises:
        UserError: a mistake in the settings, other settings than those the run was
            started with, a damaged checkpoint, a loss that is not finite, or another
            process at work there.
    """
    settings.check()
    folder = paths.of_checkpoints(model_dir, "--model_dir")
    with run_files.locked(folder, is_chief=True):
        if clean:
            run_files.delete(folder)
            (folder / RESULTS_FILE).unlink(missing_ok=True)
        checkpoint_files.remove_unfinished(folder)
        return Trainer(settings, data, folder).run()


class Trainer:
    """One run: model, optimizer and data, and the loop over windows of steps."""

    def __init__(self, settings: Settings, data: Cifar10, model_dir: pathlib.Path):
        self.settings = settings
        self.data = data
        self.model_dir = model_dir
        self.net = find_net(
            settings.net,
            activation=settings.activation,
            lrn=settings.lrn,
            input_size=settings.input_size,
        )
        self.num_examples = len(data.train_images)
        self.epoch_steps = self.num_examples / settings.batch_size
        self.total_steps = math.ceil(settings.train_epochs * self.epoch_steps)
        self.model = CifarNet(self.net, seed=settings.seed)
        self.optimizer = PaperSGD(
            settings.learning_rate, settings.momentum, decay=0.0, decay_biases=False
        )
        self.optimizer.build(self.model.trainable_variables)
        names = {
            id(variable): name
            for name, (variable,) in variables_by_name(self.model).items()
        }
        decays = self.net.decays() if settings.weight_decay else {}
        self.decays = [
            decays.get(names[id(variable)], 0.0)
            for variable in self.model.trainable_variables
        ]
        self.mean = preprocessing.mean_image(data.train_images, self.net.input_size)
        self.progress = Progress()
        self.checkpoints = checkpoints.Checkpoints(
            model_dir, self.model, self.optimizer, self.progress, max_to_keep=2
        )
        self.reductions = None
        self.compiled = xla_runs_here()
        self.score_batch = tf.function(
            self._score_batch, jit_compile=self.compiled, autograph=False
        )

    def run(self) -> dict:
        """Trains to the end."""
        self._check_same_run()
        step = self.checkpoints.restore()
        earlier = self._read_results()
        if "diverged_by_step" in earlier:
            raise self._divergence(earlier["diverged_by_step"])
        if self._is_done(step) and earlier.get("step") == step:
            logging.info("The run in %s is finished", self.model_dir)
            return earlier
        logging.info(
            "%s, %d parameters, %d training images, from step %d to %d at most",
            self.net.name,
            self.model.count_params(),
            self.num_examples,
            step,
            self.total_steps,
        )
        self.writer = Summaries(self.model_dir, step)
        images = tf.constant(self.data.train_images)
        labels = tf.constant(self.data.train_labels)
        while not self._is_done(step):
            stop = self._next_stop(step)
            self._set_rates(step)
            indices = preprocessing.order(
                self.settings.seed,
                step,
                stop,
                batch_size=self.settings.batch_size,
                num_examples=self.num_examples,
            )
            start = time.monotonic()
            first = tf.constant(step)
            sums = self.train_steps(images, labels, indices, first).numpy()
            seconds = time.monotonic() - start
            self._check_finite(sums, stop)
            self._log(step, stop, sums, seconds)
            if self._ends_epoch(stop):
                self._evaluate_epoch(stop)
            step = stop
            self.checkpoints.save()
        results = self._final_results(step)
        self._write_results(results)
        self.writer.close()
        return results

    def _is_done(self, step: int) -> bool:
        threshold, windows = self.settings.stop_train_error, self.progress.windows
        has_epoch = len(windows) == WINDOWS
        if threshold is not None and has_epoch and np.mean(windows) <= threshold:
            return True
        return step >= self.total_steps

    def _next_stop(self, step: int) -> int:
        window = int(step / self.epoch_steps * WINDOWS + 1e-6)
        stops = [
            math.ceil((window + i) / WINDOWS * self.epoch_steps - 1e-6) for i in (1, 2)
        ]
        changes = [self._step_of(epoch) for epoch in self.settings.learning_rate_steps]
        return min(stop for stop in (*stops, *changes, self.total_steps) if stop > step)

    def _ends_epoch(self, step: int) -> bool:
        """Whether it is the first step at or after an epoch's end."""
        return step == self._step_of(round(step / self.epoch_steps))

    def _step_of(self, epoch: float) -> int:
        return math.ceil(epoch * self.epoch_steps - 1e-6)

    def _set_rates(self, step: int) -> None:
        """Compiles the step anew where the rates change: it holds their ratio."""
        settings = self.settings
        changes = settings.learning_rate_steps
        reductions = sum(step >= self._step_of(epoch) for epoch in changes)
        if reductions != self.reductions:
            self.reductions = reductions
            self.optimizer.learning_rate.assign(settings.learning_rate / 10**reductions)
            self.optimizer.bias_learning_rate = (
                settings.bias_learning_rate * 10**reductions
            )
            self.train_step = tf.function(
                self._train_step, jit_compile=self.compiled, autograph=False
            )
            self.train_steps = tf.function(self._train_steps)

    def _train_steps(self, images, labels, indices, first) -> tf.Tensor:
        """A step for each row of indices; returns the sums of `evaluation.score`."""
        sums = tf.zeros(4)
        for i in tf.range(tf.shape(indices)[0]):
            batch = tf.gather(images, indices[i])
            sums += self.train_step(batch, tf.gather(labels, indices[i]), first + i)
        return sums

    def _train_step(self, images, labels, step) -> tf.Tensor:
        settings, size = self.settings, self.net.input_size
        if settings.augment:
            images = preprocessing.random_crops(images, size, settings.seed, step)
        else:
            (images,) = preprocessing.crops(images, size, 1)
        variables = self.model.trainable_variables
        values = [variable.value for variable in variables]
        with tf.GradientTape() as tape:
            logits = self.model(self._normalize(images), training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = [
            gradient + decay * value if decay else gradient
            for gradient, value, decay in zip(
                tape.gradient(loss, values), values, self.decays, strict=True
            )
        ]
        self.optimizer.apply(gradients, variables)
        return score(labels, losses, logits, tf.ones_like(losses))

    def _normalize(self, images: tf.Tensor) -> tf.Tensor:
        return tf.cast(images, tf.float32) - self.mean

    def _check_finite(self, sums: np.ndarray, step: int) -> None:
        if not (np.isfinite(sums[0]) and self.checkpoints.are_numbers()):
            self._write_results({"diverged_by_step": step})
            raise self._divergence(step)

    def _divergence(self, step: int) -> UserError:
        return UserError(
            f"the loss or a weight in {self.model_dir} was not finite by step {step}, "
            f"at a learning rate of {self.settings.learning_rate:g}: start anew with a "
            "lower --learning_rate in another --model_dir"
        )

    def _log(self, step: int, stop: int, sums: np.ndarray, seconds: float) -> None:
        result = Result.from_sums(sums)
        progress = self.progress
        progress.seconds += seconds
        progress.windows = [*progress.windows, 1 - result.accuracy][-WINDOWS:]
        values = {
            "epoch": stop / self.epoch_steps,
            **result.scalars(),
            "learning_rate": float(self.optimizer.learning_rate.numpy()),
            "images_per_second": result.num_examples / seconds,
            "seconds": progress.seconds,
        }
        self.writer.scalars("train", stop, values)
        logging.info(
            "epoch %.2f | loss %.4f | training error %.1f %% | %.0f images/s",
            values["epoch"],
            result.loss,
            100 * (1 - result.accuracy),
            values["images_per_second"],
        )

    def _evaluate_epoch(self, step: int) -> None:
        result = self._evaluate(self.data.test_images, self.data.test_labels)
        values = {"epoch": step / self.epoch_steps, **result.scalars()}
        self.writer.scalars("validation", step, values)
        logging.info("test error %.2f %%", 100 * (1 - result.accuracy))

    def _evaluate(
        self, images: np.ndarray, labels: np.ndarray, num_crops: int = 1
    ) -> Result:
        """Every image once, with the mean of its crops' probabilities."""
        sums = np.zeros(4)
        for start in range(0, len(images), _EVAL_BATCH):
            chosen = slice(start, start + _EVAL_BATCH)
            sums += self.score_batch(
                tf.constant(images[chosen]), tf.constant(labels[chosen]), num_crops
            ).numpy()
        return Result.from_sums(sums)

    def _score_batch(self, images, labels, num_crops: int) -> tf.Tensor:
        views = preprocessing.crops(images, self.net.input_size, num_crops)
        probabilities = tf.add_n(
            [
                tf.nn.softmax(self.model(self._normalize(view), training=False))
                for view in views
            ]
        ) / len(views)
        losses = keras.losses.sparse_categorical_crossentropy(labels, probabilities)
        return score(labels, losses, probabilities, tf.ones_like(losses))

    def _final_results(self, step: int) -> dict:
        data = self.data
        results = {
            "step": step,
            "epoch": step / self.epoch_steps,
            "running_training_error": float(np.mean(self.progress.windows)),
            "test_error": self._error(data.test_images, data.test_labels, 1),
            "seconds": self.progress.seconds,
            "model_dir": str(self.model_dir),
        }
        if self.settings.eval_training_set:
            error = self._error(data.train_images, data.train_labels, 1)
            results["training_error"] = error
        if self.net.input_size < preprocessing.IMAGE_SIZE:
            nine = self._error(data.test_images, data.test_labels, 9)
            results["test_error_9_crops"] = nine
        return results

    def _error(self, images: np.ndarray, labels: np.ndarray, num_crops: int) -> float:
        return 1 - self._evaluate(images, labels, num_crops).accuracy

    def _read_results(self) -> dict:
        path = self.model_dir / RESULTS_FILE
        return json.loads(path.read_text("utf-8")) if path.is_file() else {}

    def _write_results(self, results: dict) -> None:
        with atomic.atomic_write(self.model_dir / RESULTS_FILE) as path:
            path.write_text(json.dumps(results) + "\n", "utf-8")

    def _check_same_run(self) -> None:
        """Writes the settings; those of a run that is gone on with must be the same."""
        path = self.model_dir / run_files.PARAMS_FILE
        now = dataclasses.asdict(self.settings)
        now["learning_rate_steps"] = list(self.settings.learning_rate_steps)
        results = self.model_dir / RESULTS_FILE
        is_begun = checkpoints.exists(self.model_dir) or results.is_file()
        if is_begun:
            before = plain_yaml.read(path.read_bytes() if path.is_file() else "", path)
            if not isinstance(before, dict):
                raise UserError(
                    f"{path} does not say with what settings the run there was "
                    "started: name another --model_dir, or start anew with --clean"
                )
            for name in now:
                change = f"{name} {before.get(name)}, not {now[name]}"
                if before.get(name) == now[name]:
                    continue
                if name not in _MAY_CHANGE:
                    raise UserError(
                        f"the run in {self.model_dir} was started with {change}: name "
                        "another --model_dir, or start anew with --clean"
                    )
                logging.info("The run was started with %s", change)
        self.model_dir.mkdir(parents=True, exist_ok=True)
        atomic.write_text(path, plain_yaml.write(now))
