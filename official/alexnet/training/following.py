"""Evaluates a run beside its training: each checkpoint as it appears."""

import json
import math
import pathlib
import time

from absl import logging

from official.alexnet import config as config_lib
from official.alexnet import disk, paths, run_files
from official.alexnet.config import Config
from official.alexnet.distribution.strategy import place
from official.alexnet.errors import UserError
from official.alexnet.training import (
    checkpoint_files,
    checkpoints,
    evaluation,
    recorder,
)
from official.alexnet.training.checkpoints import Progress
from official.alexnet.training.evaluation import Evaluator, Result, Run
from official.alexnet.training.rates import Schedule

_POLL_SECONDS = 1.0


def follow(
    config: Config, model_dir: str, timeout: float, *, is_told: bool = False
) -> dict:
    """Evaluates each checkpoint of a run until the last, which may be yet to come.

    The results go to `evaluation/` in the run's folder: a line each in its
    metrics.jsonl, whose steps are not evaluated again, and TensorBoard's files. A
    checkpoint that is deleted before it is read, or damaged, is passed over.

    Args:
        config: settings of the run; one process.
        model_dir: of the run; it need not be there yet.
        timeout: seconds without a new checkpoint after which the run is given up.
        is_told: the settings are the workers', who may not have written them yet.

    Returns:
        The last results, the best, the steps evaluated, and whether the run is
        complete.

    Raises:
        UserError: no checkpoint came, one is of another net, earlier results are of
            other crops or images, or a mistake in the data.
    """
    config_lib.check(config)
    folder = paths.of_checkpoints(model_dir, "--model_dir")
    follower, since = _Follower(config, folder, is_told), time.monotonic()
    while not follower.is_complete and time.monotonic() - since < timeout:
        if (step := follower.next_step()) is None:
            time.sleep(_POLL_SECONDS)
            continue
        follower.take(step)
        since = time.monotonic()
    if not follower.rows:
        raise UserError(
            f"--model_dir={folder}: no checkpoint came within {timeout:g} s; start the "
            "training, or give more time with --timeout"
        )
    if not follower.is_complete:
        logging.info("No new checkpoint within %g s.", timeout)
    return {
        "model_dir": str(folder),
        **follower.rows[-1],
        "best": max(follower.rows, key=lambda row: row["accuracy"]),
        "evaluated": [row["step"] for row in follower.rows],
        "complete": follower.is_complete,
    }


class _Follower:
    """What is known of a run so far; net and input are made once, and kept."""

    def __init__(self, config: Config, folder: pathlib.Path, is_told: bool = False):
        self._config, self._folder, self._is_told = config, folder, is_told
        self._own = folder / run_files.EVALUATION_DIR
        self._metrics = self._own / run_files.METRICS_FILE
        self.rows = recorder.kept_rows(self._metrics, {"evaluation": math.inf})
        images = config.data.data_dir
        images = images and str(pathlib.Path(images).absolute())
        self._of = {"eval_crops": config.train.eval_crops, "data_dir": images}
        self._of["tfds_name"] = config.data.tfds_name
        for name, value in self._of.items():
            found = {row.get(name, value) for row in self.rows} - {value}
            if found:
                raise UserError(
                    f"--{name}={value}, but {self._own} has results of "
                    f"{', '.join(map(str, found))}: move it away first"
                )
        self.is_complete = False
        # Steps with the times of their files: a run may start anew.
        self._seen: set[tuple[int, int]] = set()
        self._evaluator = self._events = None

    def next_step(self) -> int | None:
        """The first checkpoint that was not looked at."""
        for step in checkpoint_files.steps(self._folder):
            if self._mark(step) not in self._seen:
                return step
        return None

    def _mark(self, step: int) -> tuple[int, int]:
        index = pathlib.Path(checkpoint_files.prefix(self._folder, step) + ".index")
        try:
            return step, index.stat().st_mtime_ns
        except FileNotFoundError:  # Deleted meanwhile.
            return step, 0

    def take(self, step: int) -> None:
        """Evaluates a checkpoint, if that was not done, and sees whether it is last."""
        path = checkpoint_files.prefix(self._folder, step)
        self._seen.add(self._mark(step))
        if not self._metrics.exists():  # --clean has deleted it.
            self._begin()
        try:
            contents = checkpoints.read(path)
        except checkpoints.Damaged as error:
            is_there = pathlib.Path(f"{path}.index").exists()
            reason = error if is_there else "it was deleted"
            logging.warning("Passing over %s: %s", path, reason)
            return
        if step not in [row["step"] for row in self.rows]:
            result = self._evaluate(path, contents)
            if not self._metrics.exists():  # Meanwhile: it is of the earlier run.
                self.rows = []
                return
            self._record(step, result)
        self.is_complete = self._is_last(contents)

    def _begin(self) -> None:
        if (self._folder / run_files.PARAMS_FILE).is_file():
            now = run_files.load_config(str(self._folder))
            if others := run_files.other_net(now, self._config):
                raise UserError(
                    f"--model_dir={self._folder} is a run with other settings "
                    f"({', '.join(others)}): start this again with those"
                )
        self.rows, self._evaluator = [], None  # Its mean image may be another.
        self._own.mkdir(exist_ok=True)
        self._metrics.touch()

    def _evaluate(self, path: str, contents: checkpoints.Contents) -> Result:
        if self._evaluator is None:
            placement = place(self._config.runtime, self._config.model.num_columns)
            run = Run(self._config, str(self._folder))
            split = evaluation.find_images([run], placement)
            self._member = evaluation.make_member(run, placement, 1.0)
            self._evaluator = Evaluator(
                *(placement.strategy, [self._member], split),
                *(self._config.train.batch_size, self._config.train.eval_crops),
            )
        checkpoints.set_weights(self._member.model, path, contents)
        result, _ = self._evaluator()
        logging.info(
            "%s | %d images | %s", pathlib.Path(path).name, result.num_examples, result
        )
        return result

    def _record(self, step: int, result: Result) -> None:
        row = {"step": step, "split": "evaluation", **result.scalars()}
        row |= {"num_examples": result.num_examples, **self._of}
        if self._events is None or not self._events.exists():
            self._events = recorder.new_file(self._own)
        recorder.add_scalars(self._events, step, result.scalars())
        disk.append(self._metrics, (json.dumps(row) + "\n").encode())
        self.rows.append(row)

    def _is_last(self, contents: checkpoints.Contents) -> bool:
        progress = Progress()
        progress.deserialize(contents.progress)
        # As the run is now: it may be resumed with other settings.
        lengths = [run_files.read_config(str(self._folder)).train]
        lengths += [self._config.train] if self._is_told else []
        for train in lengths:
            if progress.epoch_steps is None and not train.train_steps:
                return False  # An old checkpoint, which does not say.
            schedule = Schedule.of(train, progress.epoch_steps or 1.0, progress.offset)
            if contents.step < schedule.total_steps:
                return False
        return True
