"""The training loop."""

import functools
import math
import pathlib
import time
import typing

import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet import config as config_lib
from official.alexnet import paths, run_files
from official.alexnet.backend import keras
from official.alexnet.config import Config
from official.alexnet.data import atomic, classes, dataset
from official.alexnet.data.statistics import STATISTICS_FILE
from official.alexnet.distribution import feeding
from official.alexnet.distribution.strategy import Placement, place
from official.alexnet.errors import Interrupted, UserError
from official.alexnet.modeling.variants import find_variant
from official.alexnet.modeling.weights import variables_by_name
from official.alexnet.training import (
    agreement,
    checkpoint_files,
    checkpoints,
    initialization,
    kernels,
    recorder,
    run,
)
from official.alexnet.training.checkpoints import Checkpoints, Progress
from official.alexnet.training.clock import Clock
from official.alexnet.training.evaluation import Evaluator, Member, Result
from official.alexnet.training.loss_scale import LossScale
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.preemption import Preemption
from official.alexnet.training.profile import Profile
from official.alexnet.training.rates import Schedule
from official.alexnet.training.recorder import Recorder
from official.alexnet.training.step import Steps, TrainStep

# `unit_variance` measures on them, and the first of them are drawn.
FIRST_IMAGES = 128


def train(
    config: Config,
    model_dir: str,
    *,
    clean: bool = False,
    preemption: Preemption | None = None,
) -> dict:
    """Trains a net, going on from the latest checkpoint in `model_dir`.

    Args:
        config: all settings.
        model_dir: where checkpoints, TensorBoard logs and metrics.jsonl go.
        clean: delete an earlier run in `model_dir` first.
        preemption: watches for signals, after which the step under way is saved.

    Returns:
        The results of the last step and the last evaluation.

    Raises:
        UserError: a mistake in the settings, the data, or an earlier checkpoint,
            settings that the run cannot go on with, or another process trains in
            `model_dir`.
        Interrupted: by a signal; what was done is saved.
    """
    config_lib.check(config)
    if config.runtime.enable_op_determinism:
        keras.utils.set_random_seed(config.train.seed)
        tf.config.experimental.enable_op_determinism()
    placement = place(config.runtime, config.model.num_columns)
    if preemption:
        preemption.listen()
        preemption.check()
    folder = paths.of_checkpoints(model_dir, "--model_dir")
    with placement.watch, run_files.locked(folder, placement.is_chief):
        trainer = Trainer(config, folder, placement, clean)
        dataset.check_labels(trainer.train_split)
        if preemption:
            preemption.check()
        return trainer.run(preemption)


class Trainer:
    """One run: model, optimizer and data under a strategy, and the loop over steps."""

    def __init__(
        self, config: Config, model_dir: pathlib.Path, placement: Placement, clean: bool
    ):
        earlier = None
        if not clean and checkpoints.exists(model_dir):
            earlier, config = run_files.resume(config, model_dir)
        self.config = config
        self.model_dir = model_dir
        self.placement = placement
        self.command = "the same command" + (" without --clean" if clean else "")
        self.strategy = placement.strategy
        # Of the variant: the grouped form's kernels are of two columns, too.
        self.num_columns = find_variant(config.model.variant).num_columns
        run.check_batch_size(config, placement)
        num_classes = config.model.num_classes
        self.train_split = dataset.find_split(config.data, "train", num_classes)
        self.eval_split = None
        if not config.train.skip_eval:
            self.eval_split = dataset.find_split(config.data, "validation", num_classes)
        names = self.train_split.label_names
        if earlier:
            run_files.check_classes(model_dir, names)
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
        self.progress = Progress(self.loss_scale)
        self._set_schedule(0)
        if earlier:  # What its checkpoints do not say, if they are old.
            examples = self.train_split.num_examples
            self.progress.epoch_steps = examples / earlier.train.batch_size
        run.check_placement(self.model, self.optimizer, placement)
        run.check_layers(self.model, self.schedule)
        self.initial_weights = {}
        if earlier is None:
            self.initial_weights = initialization.from_source(self.model, config, names)
        if placement.is_chief:
            if clean:
                run_files.delete(model_dir)
            checkpoint_files.remove_unfinished(model_dir)
        # Also: nobody looks for a checkpoint before the chief has deleted it.
        splits = (self.train_split, self.eval_split)
        placement.watch.agree(agreement.settings(config, splits))
        # What a run that never saved left there may be of other data.
        trained = model_dir if earlier else None
        self.statistics = dataset.find_statistics(config.data, trained)
        self.checkpoints = Checkpoints(
            model_dir,
            self.model,
            self.optimizer,
            self.progress,
            config.train.max_to_keep,
        )
        self.normalize = run.make_normalize(config, self.statistics)
        self.step = TrainStep(
            config,
            self.strategy,
            self.model,
            self.optimizer,
            self.loss_scale,
            self.statistics,
            self.normalize,
        )
        self.evaluator = Evaluator(
            self.strategy,
            [Member(self.model, self.normalize)],
            self.eval_split,
            config.train.batch_size,
            config.train.eval_crops,
            self.step.stop,
        )
        self._set_rates(0)

    def run(self, preemption: Preemption | None = None) -> dict:
        """Trains to the end, or until a signal."""
        train, step = self.config.train, self.checkpoints.restore()
        self.placement.watch.agree(
            agreement.state(step, self.model, self.initial_weights, self.statistics)
        )
        self.saved_step = step
        self._set_schedule(step)
        logging.info("%s", self.placement.describe())
        if step:
            logging.info("Going on from step %d in %s", step, self.model_dir)
        else:
            initialization.initialize(
                self.model, self.config, self.initial_weights, self._measured_images
            )
            self.initial_weights = {}  # The model has them now.
        results = {"step": step} | self._open(step)
        logging.info(
            "Training to step %d: %.2f epochs of %.1f steps of %d images.",
            self.total_steps,
            self.schedule.epoch_of(self.total_steps),
            self.schedule.epoch_steps,
            train.batch_size,
        )
        batches = iter(self._batches(step))
        self._set_rates(step)
        self.step.trace(batches)
        if preemption:
            preemption.hold(self.step.stop)
        clock = Clock(step)
        while step < self.total_steps or self._evaluation_is_due(step):
            if self._evaluation_is_due(step):
                results |= self._evaluate(step)
                self._save(step)
                clock.restart()
                continue
            self._set_rates(step)
            steps = self._run_steps(batches, step, self._next_stop(step))
            step += steps.count
            clock.add_steps(step)
            self._check_loss(steps, step)
            sums = zip(self.progress.sums, steps.sums, strict=True)
            self.progress.sums = [a + float(b) for a, b in sums]
            if self._due(step, train.log_steps):
                results |= self._log(step, clock)
            results["step"] = step
            if steps.stopped:
                self._stop(step)
            # What is evaluated is saved after it.
            due = self._due(step, train.checkpoint_steps)
            if due and not self._evaluation_is_due(step):
                self._save(step)
            clock.restart()
        self._close()
        return results | {"model_dir": str(self.model_dir)}

    def _open(self, step: int) -> dict:
        """Prepares the model_dir; returns the results that are there already."""
        self.writer = None
        profiled = self.config.train.profile_steps if self.placement.is_chief else ()
        self.profile = Profile(self.model_dir / "train", profiled)
        if not self.placement.is_chief:
            return {}
        self.checkpoints.keep_best()
        self._write_settings()
        is_evaluated = self.progress.evaluated == step
        self.writer = Recorder(self.model_dir, step, is_evaluated)
        if step == 0:
            self._write_first_pictures()
        return self.writer.results

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
        epochs = self.config.train.epochs_between_evals
        return max(1, round(epochs * self.schedule.epoch_steps))

    def _evaluation_is_due(self, step: int) -> bool:
        """Also when a run goes on that was stopped during an evaluation."""
        return (
            self.eval_split is not None
            and step > 0
            and self._due(step, self._eval_steps())
            and self.progress.evaluated != step
        )

    def _set_schedule(self, step: int) -> None:
        """Of this batch size, from what the run did with others."""
        config, split = self.config, self.train_split
        epoch_steps = split.num_examples / config.train.batch_size
        self.progress.change_pace(step, epoch_steps)
        self.schedule = Schedule.of(config.train, epoch_steps, self.progress.offset)
        self.total_steps = self.noise_steps = self.schedule.total_steps
        self.changes = self.schedule.changes()
        if config.data.color_noise_epochs is not None:
            self.noise_steps = self.schedule.step_of(config.data.color_noise_epochs)
            self.changes.append(self.noise_steps)

    def _set_rates(self, step: int) -> None:
        rates = self.schedule.rates(step, self.progress.plateau)
        self.step.set_rates(rates, has_noise=step < self.noise_steps)

    def _run_steps(self, batches, step: int, stop: int) -> Steps:
        self.profile.move_to(step)
        try:
            steps = self.step.run(batches, stop - step)
        except tf.errors.OpError as error:
            raise dataset.explained(error, self.train_split) from error
        self.profile.move_to(step + steps.count)
        return steps

    def _check_loss(self, steps: Steps, step: int) -> None:
        """Stops before weights that are no numbers reach a checkpoint."""
        bound = self.config.train.loss_upper_bound
        if not steps.last_loss <= bound:
            above = "" if math.isnan(steps.last_loss) else f", above {bound:g}"
            self._diverged(f"the loss was {steps.last_loss:g}{above}", step)

    def _check_numbers(self, step: int) -> None:
        if not self.checkpoints.are_numbers():
            self._diverged("a weight or velocity was no number", step)

    def _diverged(self, what: str, step: int) -> typing.NoReturn:
        rate = float(self.optimizer.learning_rate.numpy())
        advice = "there is no checkpoint yet; start again with a lower --learning_rate"
        if self.saved_step:
            saved = checkpoint_files.prefix(self.model_dir, self.saved_step)
            advice = (
                f"the last good checkpoint is {saved}; {self.command}, with a lower "
                "--learning_rate, goes on from there"
            )
        raise UserError(
            f"{what} at step {step}, at a learning rate of {rate:g}: {advice}"
        )

    def _batches(self, step: int) -> tf.distribute.DistributedDataset:
        config = self.config
        return feeding.distribute(
            self.strategy,
            lambda context: self.train_split.training(
                config.data,
                config.train.batch_size,
                config.model.image_size,
                config.train.seed,
                round(step + self.schedule.offset),
                context,
            ),
        )

    def _log(self, step: int, clock: Clock) -> dict:
        result = Result.from_sums(np.array(self.progress.sums))
        self.progress.sums = [0.0] * 4
        speed = clock.steps_per_second()
        values = result.scalars() | {
            "learning_rate": float(self.optimizer.learning_rate.numpy()),
            "images_per_second": speed * self.config.train.batch_size,
        }
        if self.writer:
            self.writer.scalars("train", step, values)
        left = (self.total_steps - step) / speed
        logging.info(
            "step %d/%d | epoch %.2f | %s | lr %g | %.1f images/s | %s left",
            step,
            self.total_steps,
            self.schedule.epoch_of(step),
            result,
            values["learning_rate"],
            values["images_per_second"],
            time.strftime("%H:%M:%S", time.gmtime(left)),
        )
        return recorder.named("train", values)

    def _evaluate(self, step: int) -> dict:
        self._check_numbers(step)
        train = self.config.train
        try:
            result, _ = self.evaluator()
        except Interrupted:
            self._stop(step)
        if train.schedule == "plateau":
            self.progress.plateau = self.progress.plateau.after(
                1 - result.accuracy, train.plateau_patience, train.plateau_reductions
            )
        values = result.scalars()
        self.progress.evaluated = step
        best = self.progress.best
        if best is None or result.accuracy > best["accuracy"]:
            self.progress.best = {"step": step, **values}
        if self.writer:
            self.writer.scalars("validation", step, values)
            self._draw_kernels(step)
        logging.info(
            "evaluation at step %d | %d images | %s | best: %.1f %% at step %d",
            step,
            result.num_examples,
            result,
            100 * self.progress.best["accuracy"],
            self.progress.best["step"],
        )
        return recorder.named("validation", values)

    def _save(self, step: int) -> None:
        self._check_numbers(step)
        if self.placement.is_chief:
            logging.info("Saved %s", self.checkpoints.save())
        self.saved_step = step

    def _stop(self, step: int) -> typing.NoReturn:
        """After a signal."""
        if self.saved_step != step:
            self._save(step)
        self._close()
        raise Interrupted(
            f"stopped by a signal after step {step}, which is saved in "
            f"{self.model_dir}: {self.command} goes on from there",
            is_saved=True,
        )

    def _close(self) -> None:
        self.profile.stop()

    def _write_settings(self) -> None:
        with atomic.saying_where(self.model_dir):
            self.model_dir.mkdir(parents=True, exist_ok=True)
        atomic.write_text(self.model_dir / run_files.PARAMS_FILE, self.config.to_yaml())
        self.statistics.save(self.model_dir / STATISTICS_FILE)
        names = self.train_split.label_names
        if names or not self.saved_step:
            classes.write_labels(names, self.model_dir / run_files.LABELS_FILE)

    def _write_first_pictures(self) -> None:
        self._draw_kernels(0)
        self.writer.pictures("input_images", 0, self._first_images[:8])

    def _draw_kernels(self, step: int) -> None:
        # Of the first layer that the net has.
        name, parts = next(iter(variables_by_name(self.model).items()))
        whole = np.concatenate([part.numpy() for part in parts], axis=-1)
        picture = kernels.kernel_picture(whole, self.num_columns)
        self.writer.pictures(f"{name.partition('/')[0]}_kernels", step, picture[None])

    def _measured_images(self) -> tf.Tensor:
        return self.normalize(tf.constant(self._first_images))

    @functools.cached_property
    def _first_images(self) -> np.ndarray:
        config = self.config
        return self.train_split.first_images(
            config.data, FIRST_IMAGES, config.model.image_size, config.train.seed
        )
