"""The training loop."""

import contextlib
import functools
import math
import pathlib
import typing

import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet import config as config_lib
from official.alexnet import disk, paths, run_files
from official.alexnet.backend import keras
from official.alexnet.config import Config
from official.alexnet.data import classes, dataset
from official.alexnet.data.statistics import STATISTICS_FILE
from official.alexnet.distribution import feeding
from official.alexnet.distribution.strategy import Placement, place
from official.alexnet.errors import Interrupted, UserError
from official.alexnet.training import (
    agreement,
    building,
    checkpoint_files,
    checkpoints,
    initialization,
    kernels,
    recorder,
)
from official.alexnet.training.checkpoints import Checkpoints, Progress
from official.alexnet.training.evaluation import Evaluator, Member, Result
from official.alexnet.training.loss_scale import LossScale
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.pace import Clock, Pace, said
from official.alexnet.training.preemption import Preemption
from official.alexnet.training.recorder import Profile, Recorder
from official.alexnet.training.step import Steps, TrainStep

# `unit_variance` measures on them, and the first of them are drawn.
FIRST_IMAGES = 128


def train(
    config: Config,
    model_dir: str,
    *,
    clean: bool = False,
    preemption: Preemption | None = None,
    placement: Placement | None = None,
) -> dict:
    """Trains a net, or resumes it from the latest checkpoint in `model_dir`.

    Args:
        config: all settings.
        model_dir: where checkpoints, TensorBoard logs and metrics.jsonl go.
        clean: delete an earlier run in `model_dir` first.
        preemption: watches for signals, after which the step under way is saved.
        placement: the devices, if they are started already.

    Returns:
        The results of the last step and the last evaluation.

    Raises:
        UserError: a mistake in the settings, the data, or an earlier checkpoint,
            settings that the run cannot be resumed with, or another process trains in
            `model_dir`.
        Interrupted: by a signal; what was done is saved.
    """
    config_lib.check(config)
    if config.runtime.enable_op_determinism:
        keras.utils.set_random_seed(config.train.seed)
        tf.config.experimental.enable_op_determinism()
    placement = placement or place(config.runtime, config.model.num_columns)
    folder = paths.of_checkpoints(model_dir, "--model_dir")
    with placement.watch, contextlib.ExitStack() as stack:
        if preemption:
            preemption.listen()
            preemption.check()
        if placement.is_chief:
            stack.enter_context(disk.locked(folder, f"--model_dir={folder}"))
        run = Trainer(config, folder, placement, clean)
        if preemption:
            preemption.check()
        step, results = run.start()
        stack.callback(run.profile.stop)
        pace = run.pace
        batches = iter(run.batches(step))
        run.step.loop.get_concrete_function(batches, tf.constant(1))  # Takes seconds.
        if preemption:
            preemption.hold(run.step.stop)
        clock = Clock(step)
        while step < pace.total_steps or pace.evaluation_is_due(step):
            if pace.evaluation_is_due(step):
                results |= run.evaluate(step)
                run.save(step)
                clock.restart()
                continue
            run.set_rates(step)
            run.profile.move_to(step)
            count = tf.constant(pace.next_stop(step) - step)
            with dataset.explaining(run.train_split):
                steps = Steps.of(run.step.loop(batches, count))
            step += steps.count
            run.profile.move_to(step)
            clock.add_steps(step)
            run.check_loss(steps.last_loss, step)
            run.progress.add(steps.sums)
            if pace.is_due(step, config.train.log_steps):
                results |= run.log(step, clock)
            results["step"] = step
            if steps.stopped:
                run.stop(step)
            # What is evaluated is saved after it.
            due = pace.is_due(step, config.train.checkpoint_steps)
            if due and not pace.evaluation_is_due(step):
                run.save(step)
            clock.restart()
        return results | {"model_dir": str(folder)}


class Trainer:
    """One run: its data, net, rates and state; `train` has the loop."""

    def __init__(
        self, config: Config, model_dir: pathlib.Path, placement: Placement, clean: bool
    ):
        earlier = None
        if not clean and checkpoints.exists(model_dir):
            earlier, config = run_files.resume(config, model_dir)
        else:
            run_files.check_new(model_dir, config.data.data_dir, clean)
        self.config = config
        self.model_dir = model_dir
        self.placement = placement
        self.command = "the same command" + (" without --clean" if clean else "")
        self.strategy = placement.strategy
        batch_size, seed = config.train.batch_size, config.train.seed
        building.check_batch_size(batch_size, self.strategy.num_replicas_in_sync)
        num_classes = config.model.num_classes
        self.train_split = dataset.find_split(config.data, "train", num_classes)
        self.eval_split = None
        if not config.train.skip_eval:
            self.eval_split = dataset.find_split(config.data, "validation", num_classes)
        names = self.train_split.label_names
        if earlier:
            run_files.check_classes(model_dir, names)
        with self.strategy.scope():
            self.model = building.build_model(
                config.model, config.runtime, seed, placement.grid
            )
            self.optimizer = PaperSGD(
                config.train.learning_rate,
                config.train.momentum,
                config.train.weight_decay,
                decay_biases=config.train.decay_biases,
                skip_nan=config.runtime.scales_loss,
            )
            self.optimizer.build(self.model.trainable_variables)
            self.loss_scale = LossScale(enabled=config.runtime.scales_loss)
        self.progress = Progress(self.loss_scale)
        self.pace = Pace(
            config.train,
            self.train_split.num_examples,
            config.data.color_noise_epochs,
            self.eval_split is not None,
            self.progress,
        )
        if earlier:  # What its checkpoints do not say, if they are old.
            examples = self.train_split.num_examples
            self.progress.epoch_steps = examples / earlier.train.batch_size
        building.check_placement(self.model, self.optimizer, placement)
        building.check_layers(self.model, self.pace.schedule)
        self.initial_weights = {}
        if not earlier:
            self.initial_weights = initialization.from_source(
                self.model, config.model, config.train, config.data.input_scale, names
            )
        # What a run that never saved left there may be of other data.
        self.statistics = dataset.find_statistics(
            config.data, model_dir if earlier else None
        )
        splits = (self.train_split, self.eval_split)
        values = agreement.settings(config, splits) | {"--clean": clean}
        placement.watch.agree(values)
        # Not before: what may be refused has been read and compared.
        if placement.is_chief:
            if clean:
                _ = self._first_images  # A bad record is met before anything is lost.
                run_files.delete(model_dir)
            checkpoint_files.remove_unfinished(model_dir)
        placement.watch.agree({})  # Nobody looks for a checkpoint before that.
        self.checkpoints = Checkpoints(
            *(model_dir, self.model, self.optimizer, self.progress),
            config.train.max_to_keep,
        )
        self.normalize = building.make_normalize(
            config.data, config.model.image_size, self.statistics
        )
        self.step = TrainStep(
            strategy=self.strategy,
            model=self.model,
            optimizer=self.optimizer,
            loss_scale=self.loss_scale,
            normalize=self.normalize,
            color_noise=building.make_color_noise(
                config.data, batch_size, seed, self.statistics
            ),
            batch_size=batch_size,
            loss_upper_bound=config.train.loss_upper_bound,
            enable_xla=config.runtime.enable_xla,
        )
        self.evaluator = Evaluator(
            *(self.strategy, [Member(self.model, self.normalize)], self.eval_split),
            *(batch_size, config.train.eval_crops, self.step.stop),
        )
        self.set_rates(0)

    def start(self) -> tuple[int, dict]:
        """Restores the latest checkpoint, or draws the first weights.

        Returns the step to train from, and the results that are there already.
        """
        step = self.checkpoints.restore()
        if self.eval_split:
            crops, count = self.config.train.eval_crops, self.eval_split.num_examples
            self.progress.change_measure([crops, count])
        is_resumed = checkpoints.exists(self.model_dir)  # A converted one is of step 0.
        weights = self.model.weights if is_resumed else []
        values = agreement.state(step, weights, self.initial_weights, self.statistics)
        self.placement.watch.agree(values)
        self.saved_step = step
        self.pace.start_at(step)
        schedule = self.pace.schedule
        logging.info("%s", self.placement.describe())
        if is_resumed:
            logging.info("Resumed at step %d in %s", step, self.model_dir)
        else:
            initialization.initialize(
                self.model,
                *(self.config.model, self.config.runtime, self.config.train.seed),
                self.initial_weights,
                lambda: self.normalize(tf.constant(self._first_images)),
            )
            self.initial_weights = {}  # The model has them now.
        results = {"step": step} | self._open(step)
        logging.info(
            "Training to step %d: %.2f epochs of %.1f steps of %d images.",
            *(schedule.total_steps, schedule.epoch_of(schedule.total_steps)),
            *(schedule.epoch_steps, self.config.train.batch_size),
        )
        self.set_rates(step)
        return step, results

    def _open(self, step: int) -> dict:
        """Prepares the model_dir; returns the results that are there already."""
        is_chief, folder = self.placement.is_chief, self.model_dir
        profiled = self.config.train.profile_steps if is_chief else ()
        self.profile, self.writer = Profile(folder / "train", profiled), None
        if not is_chief:
            return {}
        self.checkpoints.keep_best()
        disk.write_text(folder / run_files.PARAMS_FILE, self.config.to_yaml())
        self.statistics.save(folder / STATISTICS_FILE)
        names = self.train_split.label_names
        if names or not checkpoints.exists(folder):
            classes.write_labels(names, folder / run_files.LABELS_FILE)
        self.writer = Recorder(folder, step, self.progress.evaluated == step)
        if step == 0:
            self._draw_kernels(0)
            self.writer.pictures("input_images", 0, self._first_images[:8])
        return self.writer.results

    def set_rates(self, step: int) -> None:
        """Prepares the steps from `step` on."""
        self.step.set_rates(self.pace.rates(step), self.pace.has_noise(step))

    def check_loss(self, loss: float, step: int) -> None:
        """Stops before weights that are NaN reach a checkpoint."""
        bound = self.config.train.loss_upper_bound
        if not loss <= bound:
            above = "" if math.isnan(loss) else f", above {bound:g}"
            self._diverged(f"the loss was {loss:g}{above}", step)

    def _check_numbers(self, step: int) -> None:
        if not self.checkpoints.are_numbers():
            self._diverged("a weight or velocity was NaN or infinite", step)

    def _diverged(self, what: str, step: int) -> typing.NoReturn:
        rate = float(self.optimizer.learning_rate.numpy())
        lower = "with a lower --learning_rate or --rates"
        advice = f"there is no checkpoint yet; start again {lower}"
        if checkpoints.exists(self.model_dir):
            saved = checkpoint_files.prefix(self.model_dir, self.saved_step)
            advice = (
                f"the last good checkpoint is {saved}; {self.command}, {lower}, "
                "resumes there"
            )
        raise UserError(
            f"{what} at step {step}, at a learning rate of {rate:g}: {advice}"
        )

    def batches(self, step: int) -> tf.distribute.DistributedDataset:
        config = self.config
        return feeding.distribute(
            self.strategy,
            lambda context: self.train_split.training(
                config.data,
                config.train.batch_size,
                config.model.image_size,
                config.train.seed,
                # Without the step in it ties always go the same way.
                step + math.floor(self.pace.schedule.offset + 0.5),
                context,
            ),
        )

    def log(self, step: int, clock: Clock) -> dict:
        result = Result.from_sums(np.array(self.progress.sums))
        self.progress.sums = [0.0] * 4
        speed = clock.steps_per_second()
        values = result.scalars() | {
            "learning_rate": float(self.optimizer.learning_rate.numpy()),
            "images_per_second": speed * self.config.train.batch_size,
        }
        if self.writer:
            self.writer.scalars("train", step, values)
        left = (self.pace.total_steps - step) / speed
        logging.info(
            "step %d/%d | epoch %.2f | %s | lr %g | %.1f images/s | %s left",
            *(step, self.pace.total_steps, self.pace.schedule.epoch_of(step), result),
            *(values["learning_rate"], values["images_per_second"], said(left)),
        )
        return recorder.named("train", values)

    def evaluate(self, step: int) -> dict:
        self._check_numbers(step)
        train = self.config.train
        try:
            result, _ = self.evaluator()
        except Interrupted:
            self.stop(step)
        if train.schedule == "plateau":
            self.progress.plateau = self.progress.plateau.after(
                1 - result.accuracy, train.plateau_patience, train.plateau_reductions
            )
        values = result.scalars()
        self.progress.evaluated = step
        best = self.progress.best
        if best is None or result.accuracy > best["accuracy"]:
            best = self.progress.best = {"step": step, **values}
        if self.writer:
            self.writer.scalars("validation", step, values)
            self._draw_kernels(step)
        logging.info(
            "evaluation at step %d | %d images | %s | best: %.1f %% at step %d",
            *(step, result.num_examples, result),
            *(100 * best["accuracy"], best["step"]),
        )
        return recorder.named("validation", values)

    def save(self, step: int) -> None:
        self._check_numbers(step)
        if self.placement.is_chief:
            logging.info("Saved %s", self.checkpoints.save())
        self.saved_step = step

    def stop(self, step: int) -> typing.NoReturn:
        """After a signal."""
        if self.saved_step != step:
            self.save(step)
        raise Interrupted(
            f"stopped by a signal after step {step}, which is saved in "
            f"{self.model_dir}: {self.command} resumes there",
            is_saved=True,
        )

    def _draw_kernels(self, step: int) -> None:
        # Of the variant: the grouped form's kernels are of two columns, too.
        num_columns = self.config.model.net().num_columns
        layer, picture = kernels.first_layer(self.model, num_columns)
        self.writer.pictures(f"{layer}_kernels", step, picture[None])

    @functools.cached_property
    def _first_images(self) -> np.ndarray:
        config = self.config
        return self.train_split.first_images(
            config.data, FIRST_IMAGES, config.model.image_size, config.train.seed
        )
