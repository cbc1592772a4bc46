"""This project's own training step, made and called as the trainer does it."""

import pathlib
from collections.abc import Callable

import tensorflow as tf

from benchmarking import crossing
from benchmarking.settings import Settings
from official.alexnet.config import (
    Config,
    DataConfig,
    ModelConfig,
    RuntimeConfig,
    TrainConfig,
)
from official.alexnet.data.dataset import find_split
from official.alexnet.data.labels import ANY_CLASSES
from official.alexnet.distribution.strategy import place
from official.alexnet.training.step import Steps
from official.alexnet.training.trainer import Trainer

# So small that weights and speed stay what they are while steps are timed.
LEARNING_RATE = 1e-5


def config(
    settings: Settings, dtype: str, *, num_columns: int = 1, data_dir: str | None = None
) -> Config:
    """Settings of a run; without a data_dir, on synthetic data."""
    label_base = "auto"
    if data_dir:  # Which may have fewer classes than the net.
        records = find_split(
            DataConfig(data_dir=data_dir), "train", ANY_CLASSES
        ).records
        label_base = str(records.first_label)
    return Config(
        model=ModelConfig(
            num_classes=settings.num_classes,
            num_columns=num_columns,
            width=settings.width,
            input_size=settings.input_size,
        ),
        data=DataConfig(
            data_dir=data_dir,
            use_synthetic_data=data_dir is None,
            label_base=label_base,
        ),
        train=TrainConfig(
            batch_size=settings.batch_size,
            learning_rate=LEARNING_RATE,
            train_steps=1,
            schedule="constant",
            skip_eval=True,
        ),
        runtime=RuntimeConfig(
            num_gpus=0,
            logical_cpus=num_columns if num_columns > 1 else None,
            dtype=dtype,
        ),
    )


def bytes_crossing(run: Config, work_dir: pathlib.Path) -> float:
    """Bytes an image that devices send one another in a training step."""
    trainer = Trainer(
        run, work_dir / "run", place(run.runtime, run.model.num_columns), clean=False
    )
    batches = iter(trainer.batches(0))
    step = tf.function(lambda: trainer.step.train_step(next(batches)))
    sent = crossing.crossings(step)
    return sum(each.bytes for each in sent) / run.train.batch_size


def stepper(run: Config, work_dir: pathlib.Path) -> Callable[[int], tf.Tensor]:
    """Builds a trainer and its input.

    Args:
        run: settings.
        work_dir: a folder to work in.

    Returns:
        A function that makes so many steps in one call of the compiled loop, as the
        trainer calls it, and returns when they are finished.
    """
    placement = place(run.runtime, run.model.num_columns)
    trainer = Trainer(run, work_dir / "run", placement, clean=False)
    batches = iter(trainer.batches(0))

    def step(count: int = 1):
        return Steps.of(trainer.step.loop(batches, tf.constant(count))).sums

    return step
