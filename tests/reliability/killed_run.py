"""`alexnet-train` that sends itself SIGKILL at a chosen place.

python killed_run.py PLACE STEP SEED [flags of alexnet-train]

PLACE, at the first opportunity from STEP on:
  step         somewhere in a call of the compiled loop
  evaluation   before one of an evaluation's batches
  write        somewhere while TensorFlow writes a checkpoint
  data         when a checkpoint is written and none of its files has its name
  index        when its data has, and its index has not
  state        when its index has, and older checkpoints are still there
  best         when half of the best checkpoint has a second name
  metrics      when values are in metrics.jsonl, and not in TensorBoard's file
  drop         while a start writes TensorBoard's file anew
"""

import os
import random
import signal
import sys
import threading
import time

import recorded_run
import tensorflow as tf

from official.alexnet import disk
from official.alexnet.train import run
from official.alexnet.training import checkpoint_files
from official.alexnet.training.evaluation import Evaluator


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def die_within(seconds: float, rng: random.Random) -> None:
    threading.Timer(rng.uniform(0, seconds), die).start()


def arm(place: str, step: int, rng: random.Random) -> None:
    """Puts the kill in its place."""
    present = 0
    evaluate = Evaluator._step
    write = tf.train.Checkpoint.write
    move, keep = disk.move_into_place, checkpoint_files.keep
    link, append = checkpoint_files._link, disk.append

    def counted_run(self, loop, batches, count):
        nonlocal present
        if place == "step" and present + int(count) >= step:
            die_within(0.05, rng)
            result = loop(batches, count)
            # The timer is for this call: it may not outlive it.
            time.sleep(0.05)
            return result
        result = loop(batches, count)
        present = int(self.optimizer.iterations.numpy())
        return result

    def killed_evaluate(self, batch):
        if place == "evaluation" and present >= step and rng.random() < 0.5:
            die()
        return evaluate.__get__(self, Evaluator)(batch)

    def killed_write(self, path, *args, **kwargs):
        if place == "write" and present >= step:
            die_within(0.03, rng)
        result = write(self, path, *args, **kwargs)
        if place == "data" and present >= step:
            die()
        return result

    def killed_move(temporary, path):
        if place == "index" and present >= step and path.suffix == ".index":
            die()
        if place == "drop" and path.name.startswith("events."):
            die()
        move(temporary, path)

    def killed_link(source, target):
        is_best = target.parent.name == checkpoint_files.BEST_DIR
        if (
            place == "best"
            and present >= step
            and is_best
            and target.suffix == ".index"
        ):
            die()
        link(source, target)

    def killed_append(path, data):
        append(path, data)
        if place == "metrics" and present >= step and path.suffix == ".jsonl":
            die()

    def killed_keep(*args):
        if place == "state" and present >= step:
            die()
        keep(*args)

    recorded_run.around_each_loop(counted_run)
    Evaluator._step = killed_evaluate
    tf.train.Checkpoint.write = killed_write
    disk.move_into_place = killed_move
    checkpoint_files.keep = killed_keep
    checkpoint_files._link = killed_link
    disk.append = killed_append


if __name__ == "__main__":
    recorded_run.arm()
    arm(sys.argv[1], int(sys.argv[2]), random.Random(int(sys.argv[3])))
    del sys.argv[1:4]
    run()
