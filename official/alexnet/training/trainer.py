"""The training loop."""

import math
import pathlib
import time

import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet import config as config_lib
from official.alexnet import run_files
from official.alexnet.config import Config
from official.alexnet.data import dataset, preprocessing
from official.alexnet.data.statistics import STATISTICS_FILE
from official.alexnet.distribution.strategy import Placement, place
from official.alexnet.errors import UserError
from official.alexnet.modeling.variants import find_variant
from official.alexnet.modeling.weights import variables_by_name
from official.alexnet.training import checkpoints, initialization, run, summaries
from official.alexnet.training.checkpoints import Checkpoints, Progress
from official.alexnet.training.evaluation import (
    Evaluator,
    Member,
    Result,
    evaluate,
    score,
)
from official.alexnet.training.loss_scale import LossScale
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.schedules import Schedule


def train(config: Config, model_dir: str, *, clean: bool = False) -> dict:
    """Trains a net, going on from the latest checkpoint in `model_dir`.

    Args:
        config: all settings.
        model_dir: where checkpoints, TensorBoard logs and metrics.jsonl go.
        clean: delete an earlier run in `model_dir` first.

    Returns:
        The results of the last step and the last evaluation.

    Raises:
        UserError: a mistake in the settings, the data, or an earlier checkpoint.
    """
    config_lib.check(config)
    placement = place(config.runtime, config.model.num_columns)
    return Trainer(config, pathlib.Path(model_dir), placement, clean).run()


class Trainer:
    """One run: model, optimizer and data under a strategy, and the loop over steps."""

    def __init__(
        self, config: Config, model_dir: pathlib.Path, placement: Placement, clean: bool
    ):
        self.config = config
        self.model_dir = model_dir
        self.placement = placement
        self.strategy = placement.strategy
        run.check_batch_size(config, placement)
        classes = config.model.num_classes
        self.train_split = dataset.find_split(config.data, "train", classes)
        self.eval_split = None
        if not config.train.skip_eval:
            self.eval_split = dataset.find_split(config.data, "validation", classes)
        self.epoch_steps = self.train_split.num_examples / config.train.batch_size
        self.total_steps = config.train.train_steps or math.ceil(
            config.train.train_epochs * self.epoch_steps
        )
        self.schedule = Schedule(config.train, self.epoch_steps, self.total_steps)
        self.changes = self.schedule.changes()
        self.noise_steps = self.total_steps
        if config.data.color_noise_epochs is not None:
            self.noise_steps = self.schedule.step_of(config.data.color_noise_epochs)
            self.changes.append(self.noise_steps)
        tf.config.run_functions_eagerly(config.runtime.run_eagerly)
        with self.strategy.scope():
            self.model = run.build_model(config, placement)
            self.optimizer = PaperSGD(
                config.train.learning_rate,
                config.train.momentum,
                config.train.weight_decay,
                decay_biases=config.train.decay_biases,
                skip_nan=config.runtime.dtype == "fp16",
            )
            self.optimizer.build(self.model.trainable_variables)
            self.loss_scale = LossScale(enabled=config.runtime.dtype == "fp16")
        run.check_placement(self.model, self.optimizer, placement)
        run.check_layers(self.model, self.schedule)
        self.initial_weights = {}
        if clean or not checkpoints.exists(model_dir):
            self.initial_weights = initialization.from_source(self.model, config)
        if clean and placement.is_chief:
            run_files.delete(model_dir)
        self.statistics = dataset.find_statistics(config.data, model_dir)
        self.progress = Progress(self.loss_scale)
        self.checkpoints = Checkpoints(
            model_dir,
            self.model,
            self.optimizer,
            self.progress,
            config.train.max_to_keep,
        )
        self.normalize = run.make_normalize(config, self.statistics)
        self.evaluator = Evaluator(
            self.strategy,
            [Member(self.model, self.normalize)],
            config.train.eval_crops,
        )
        self.traced_for = None
        self._set_rates(0)

    def run(self) -> dict:
        """Trains to the end."""
        train, step = self.config.train, self.checkpoints.restore()
        logging.info("%s", self.placement.describe())
        if step:
            logging.info("Going on from step %d in %s", step, self.model_dir)
        else:
            initialization.initialize(
                self.model, self.config, self.initial_weights, self._measured_images
            )
            self.initial_weights = {}  # The model has them now.
        self.writer = None
        if self.placement.is_chief:
            self._write_settings()
            self.writer = summaries.Summaries(self.model_dir, step)
            self._write_first_pictures(step)
        logging.info(
            "Training to step %d: %.2f epochs of %.1f steps of %d images.",
            self.total_steps,
            self.total_steps / self.epoch_steps,
            self.epoch_steps,
            train.batch_size,
        )
        results = {"step": step}
        batches = iter(self._batches(step))
        clock = _Clock(step)
        while step < self.total_steps:
            stop = self._next_stop(step)
            self._set_rates(step)
            sums = self._run_steps(batches, step, stop)
            self._check_finite(sums, stop)
            self.progress.sums = [
                a + float(b) for a, b in zip(self.progress.sums, sums, strict=True)
            ]
            self._count_bad_records(sums, step, stop)
            clock.add_steps(stop)
            step = stop
            if self._due(step, train.log_steps):
                results |= self._log(step, clock)
            if self.eval_split and self._due(step, self._eval_steps()):
                results |= self._evaluate(step)
                self._save()
            elif self._due(step, train.checkpoint_steps):
                self._save()
            results["step"] = step
            clock.restart()
        if self.writer:
            self.writer.close()
        return results | {"model_dir": str(self.model_dir)}

    def _next_stop(self, step: int) -> int:
        """The step up to which the compiled loop may run without looking up."""
        train = self.config.train
        periods = [train.steps_per_loop, train.log_steps, train.checkpoint_steps]
        if self.eval_split:
            periods.append(self._eval_steps())
        stops = [step + period - step % period for period in periods]
        stops += [change for change in self.changes if change > step]
        stops += [s for s in train.profile_steps if s > step]
        return min([*stops, self.total_steps])

    def _due(self, step: int, period: int) -> bool:
        return step % period == 0 or step == self.total_steps

    def _eval_steps(self) -> int:
        return max(1, round(self.config.train.epochs_between_evals * self.epoch_steps))

    def _set_rates(self, step: int) -> None:
        """Prepares the compiled loop for the steps up to the next change."""
        rates = self.schedule.rates(step, self.progress.plateau)
        self.optimizer.learning_rate.assign(rates.learning_rate)
        traced_for = (rates.bias_multiple, rates.layers, step < self.noise_steps)
        if traced_for != self.traced_for:
            self.traced_for = traced_for
            self.optimizer.bias_learning_rate = rates.bias_multiple
            self.optimizer.layer_learning_rates = dict(rates.layers)
            self.has_noise = step < self.noise_steps
            self.train_steps = tf.function(self._train_steps)

    def _run_steps(self, batches, step: int, stop: int) -> np.ndarray:
        profile = self.config.train.profile_steps
        if self.writer and profile and step == profile[0]:
            tf.profiler.experimental.start(str(self.model_dir / "train"))
        try:
            sums = self.train_steps(batches, tf.constant(stop - step)).numpy()
        except tf.errors.OpError as error:
            raise dataset.explained(error, self.train_split) from error
        if self.writer and profile and stop == profile[1]:
            tf.profiler.experimental.stop()
        return sums

    def _check_finite(self, sums: np.ndarray, step: int) -> None:
        """Stops before weights that are no numbers reach a checkpoint."""
        if not np.isfinite(sums[0]):
            rate = float(self.optimizer.learning_rate.numpy())
            raise UserError(
                f"the loss was {sums[0]} by step {step}, at a learning rate of "
                f"{rate:g}: the checkpoints in {self.model_dir} are from before; go on "
                "from there with a lower --learning_rate"
            )

    def _count_bad_records(self, sums: np.ndarray, step: int, stop: int) -> None:
        """Counts the examples of weight 0; stops where they are too many."""
        batch_size = self.config.train.batch_size
        self.progress.bad_records += (stop - step) * batch_size - round(float(sums[3]))
        self.train_split.check_bad_records(self.progress.bad_records, stop * batch_size)

    def _train_steps(self, batches, count: tf.Tensor) -> tf.Tensor:
        """Runs `count` steps; returns the sums of `evaluation.score`."""
        sums = tf.zeros(4)
        for _ in tf.range(count):
            sums += self.train_step(next(batches))
        return sums

    def train_step(self, batch) -> tf.Tensor:
        """One step of every replica on its part of a global batch."""
        replica_step = self._replica_step
        if self.config.runtime.enable_xla:
            replica_step = tf.function(replica_step, jit_compile=True)
        sums = self.strategy.run(replica_step, args=(batch,))
        sums = self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)
        self.loss_scale.update(overflows=sums[4])
        return sums[:4]

    def _replica_step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Forward, backward and update; gradients are summed over the replicas.

        Returns:
            The sums of `evaluation.score`, and 1 where a gradient overflowed.
        """
        images = self.normalize(batch["image"], self._color_noise())
        variables = [
            variable
            for variable in self.model.trainable_variables
            if self.optimizer.multiple(variable) > 0
        ]
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                batch["label"], logits
            )
            weights = batch.get("weight", tf.ones_like(losses))
            loss = tf.reduce_sum(weights * losses) / self.config.train.batch_size
            loss *= self.loss_scale.scale
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        gradients, overflow = self.loss_scale.unscale(gradients)
        self.optimizer.apply(gradients, variables)
        sums = score(batch["label"], losses, logits, weights)
        return tf.concat([sums, [overflow]], axis=0)

    def _color_noise(self) -> tf.Tensor | None:
        """Noise of the replica's images, drawn for the global batch of this step."""
        data = self.config.data
        if data.color_noise == "none" or not self.has_noise:
            return None
        replica = tf.distribute.get_replica_context()
        batch_size = self.config.train.batch_size
        count = batch_size // replica.num_replicas_in_sync
        start = replica.replica_id_in_sync_group * count
        step = tf.cast(self.optimizer.iterations.value, tf.int32)
        gaussians = tf.random.stateless_normal(
            [batch_size, 3], [self.config.train.seed, step], alg="philox"
        )
        return preprocessing.color_noise(
            self.statistics,
            gaussians[start : start + count],
            sigma=data.color_noise_sigma,
            scale=data.color_noise,
        )

    def _batches(self, step: int) -> tf.distribute.DistributedDataset:
        train, data = self.config.train, self.config.data
        return self.strategy.distribute_datasets_from_function(
            lambda context: self.train_split.training(
                data,
                train.batch_size,
                self.config.model.image_size,
                train.seed,
                step,
                context,
            )
        )

    def _log(self, step: int, clock: "_Clock") -> dict:
        result = Result.from_sums(np.array(self.progress.sums))
        self.progress.sums = [0.0] * 4
        speed = clock.steps_per_second()
        values = {
            "loss": result.loss,
            "accuracy": result.accuracy,
            "top_5_accuracy": result.top_5_accuracy,
            "learning_rate": float(self.optimizer.learning_rate.numpy()),
            "images_per_second": speed * self.config.train.batch_size,
        }
        if self.config.data.max_bad_records:
            values["bad_records"] = self.progress.bad_records
            logging.info("%d bad records skipped so far", self.progress.bad_records)
        if self.writer:
            self.writer.scalars("train", step, values)
        left = (self.total_steps - step) / speed
        logging.info(
            "step %d/%d | epoch %.2f | loss %.4f | top-1 %.1f %% | top-5 %.1f %% | "
            "lr %g | %.1f images/s | %s left",
            step,
            self.total_steps,
            step / self.epoch_steps,
            result.loss,
            100 * result.accuracy,
            100 * result.top_5_accuracy,
            values["learning_rate"],
            values["images_per_second"],
            time.strftime("%H:%M:%S", time.gmtime(left)),
        )
        return values

    def _evaluate(self, step: int) -> dict:
        train = self.config.train
        result, _ = evaluate(self.evaluator, self.eval_split, train.batch_size)
        if train.schedule == "plateau":
            self.progress.plateau = self.progress.plateau.after(
                1 - result.accuracy, train.plateau_patience, train.plateau_reductions
            )
        values = {
            "loss": result.loss,
            "accuracy": result.accuracy,
            "top_5_accuracy": result.top_5_accuracy,
        }
        if self.config.data.max_bad_records:
            values["bad_records"] = self.eval_split.num_examples - result.num_examples
        if self.writer:
            self.writer.scalars("validation", step, values)
            self._write_kernels(step)
        logging.info(
            "evaluation at step %d | %d images | loss %.4f | top-1 %.1f %% | "
            "top-5 %.1f %%",
            step,
            result.num_examples,
            result.loss,
            100 * result.accuracy,
            100 * result.top_5_accuracy,
        )
        return {f"eval_{name}": value for name, value in values.items()}

    def _save(self) -> None:
        if self.placement.is_chief:
            logging.info("Saved %s", self.checkpoints.save())

    def _write_settings(self) -> None:
        self.model_dir.mkdir(parents=True, exist_ok=True)
        (self.model_dir / run_files.PARAMS_FILE).write_text(
            self.config.to_yaml(), "utf-8"
        )
        self.statistics.save(self.model_dir / STATISTICS_FILE)
        dataset.write_labels(self.train_split, self.model_dir / run_files.LABELS_FILE)

    def _write_first_pictures(self, step: int) -> None:
        self._write_kernels(step)
        images = next(iter(self._sample_batches(step, 8)))["image"].numpy()
        self.writer.pictures("input_images", step, images)

    def _write_kernels(self, step: int) -> None:
        name, parts = next(iter(variables_by_name(self.model).items()))
        kernels = np.concatenate([np.asarray(part) for part in parts], axis=-1)
        columns = find_variant(self.config.model.variant).num_columns
        picture = summaries.kernel_picture(kernels, columns)
        self.writer.pictures(f"{name.partition('/')[0]}_kernels", step, picture[None])

    def _measured_images(self) -> tf.Tensor:
        batch = next(iter(self._sample_batches(0, 128)))
        images = batch["image"]
        if "weight" in batch:
            images = images[batch["weight"] > 0]
        return self.normalize(images)

    def _sample_batches(self, step: int, count: int) -> tf.data.Dataset:
        """The first images of a step, the same in every process."""
        return self.train_split.training(
            self.config.data,
            count,
            self.config.model.image_size,
            self.config.train.seed,
            step,
            tf.distribute.InputContext(),
        )


class _Clock:
    """Times the steps alone, without evaluations and checkpoints."""

    def __init__(self, step: int):
        self._started = time.perf_counter()
        self._seconds = 0.0
        self._first = self._last = step

    def add_steps(self, step: int) -> None:
        self._seconds += time.perf_counter() - self._started
        self._last = step

    def restart(self) -> None:
        self._started = time.perf_counter()

    def steps_per_second(self) -> float:
        """Since it was last asked."""
        rate = (self._last - self._first) / max(self._seconds, 1e-9)
        self._first, self._seconds = self._last, 0.0
        return rate
