"""The data of a run: a split of records, or random images to measure speed."""

import contextlib
import dataclasses
import itertools
import pathlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet.config import DataConfig
from official.alexnet.data import lanes, pipeline, reading, records, tfds_files
from official.alexnet.data.labels import ANY_CLASSES
from official.alexnet.data.statistics import (
    IMAGE_SHAPE,
    STATISTICS_FILE,
    Statistics,
    StatisticsAccumulator,
)
from official.alexnet.errors import UserError

SYNTHETIC_EXAMPLES = {"train": 1_281_167, "validation": 512}
MEASURED_IMAGES = 10_000


@dataclasses.dataclass(frozen=True)
class Split:
    """One split, of labels 0..num_classes - 1; without records it is random images."""

    records: records.Records | None
    num_examples: int
    num_classes: int

    @property
    def label_names(self) -> tuple[str, ...] | None:
        """Names of the classes in label order, where they are known."""
        return self.records.label_names if self.records else None

    def training(
        self,
        data: DataConfig,
        batch_size: int,
        crop_size: int,
        seed: int,
        start_step: int,
        context: tf.distribute.InputContext,
        num_batches: int = -1,
    ) -> tf.data.Dataset:
        """Batches of one input pipeline from `start_step` on; -1 of them: no end."""
        share = _share(batch_size, context)
        if self.records is None:
            return pipeline.synthetic_dataset(
                replica_batch_size=share.replica_batch_size,
                image_size=crop_size,
                num_classes=self.num_classes,
                seed=seed,
                num_batches=num_batches,
            )
        return pipeline.training_dataset(
            self.records,
            share,
            seed=seed,
            start_step=start_step,
            crop_size=crop_size,
            shuffle_buffer=data.shuffle_buffer,
            augment=data.augment,
            num_batches=num_batches,
        )

    def first_images(
        self, data: DataConfig, count: int, crop_size: int, seed: int
    ) -> np.ndarray:
        """The first images of a run, in every worker: uint8 (count, size, size, 3)."""
        # One batch alone: read ahead, a few more would be decoded for nothing.
        examples = self.training(
            data, count, crop_size, seed, 0, tf.distribute.InputContext(), num_batches=1
        )
        with explaining(self):
            return next(examples.as_numpy_iterator())["image"]

    def evaluation(
        self, batch_size: int, context: tf.distribute.InputContext
    ) -> tf.data.Dataset:
        """Batches of one input pipeline that hold every example once."""
        share = _share(batch_size, context)
        if self.records is None:
            return pipeline.synthetic_dataset(
                replica_batch_size=share.replica_batch_size,
                image_size=IMAGE_SHAPE[0],
                num_classes=self.num_classes,
                weighted=True,
            )
        return pipeline.evaluation_dataset(self.records, share)


def _share(batch_size: int, context: tf.distribute.InputContext) -> lanes.Share:
    return lanes.Share.of(
        batch_size,
        context.get_per_replica_batch_size(batch_size),
        context.input_pipeline_id,
        context.num_input_pipelines,
    )


def find_split(
    data: DataConfig, split: str, num_classes: int, classes: Sequence[str] | None = None
) -> Split:
    """Finds the split `train` or `validation` and says what it found.

    The net has `num_classes` and, where it was trained and the data may have others,
    `classes` by name, to which the data's are mapped. Raises UserError where the split
    is not there, or not what the flags say, or its classes are not the net's.
    """
    if data.use_synthetic_data:
        return Split(None, SYNTHETIC_EXAMPLES[split], num_classes)
    where = data.data_dir
    if data.tfds_name:
        where = tfds_files.open_by_name(data.tfds_name, where, data.tfds_download)
    found = records.find_records(
        str(where), split, num_classes, data.label_base, classes
    )
    logging.info("%s: %s", split, records.describe(found))
    if found.label_map is not None:
        logging.info(
            "%s: %d of the net's %d classes, matched by name",
            *(split, found.num_classes, num_classes),
        )
    return Split(found, found.num_examples, num_classes)


def find_statistics(data: DataConfig, model_dir: pathlib.Path | None) -> Statistics:
    """A net's mean image and colour PCA.

    Those of the run or export `model_dir`; for a new net, without one, of the file
    `--statistics`, or statistics.npz in the data directory, or measured on training
    images. Raises UserError where a file is missing, damaged, or not the run's.
    """
    own = None if model_dir is None else model_dir / STATISTICS_FILE
    if own and own.is_file():
        found = Statistics.load(own)
        if data.statistics and not found.equals(Statistics.load(data.statistics)):
            raise UserError(
                f"--statistics={data.statistics} is not {own}, which the weights there "
                "were trained with: leave --statistics out"
            )
        return found
    if data.statistics:
        return Statistics.load(data.statistics)
    if model_dir:
        raise UserError(
            f"{model_dir} has lost its {STATISTICS_FILE}, the mean image: put it back, "
            "or name the file with --statistics"
        )
    beside = pathlib.Path(data.data_dir or "") / STATISTICS_FILE
    if data.data_dir and beside.is_file():
        return Statistics.load(beside)
    if data.use_synthetic_data:
        gray = np.full(IMAGE_SHAPE, 127.5, np.float32)
        return Statistics(gray, np.full(3, 255**2 / 12), np.eye(3), num_images=0)
    return _measure(find_split(data, "train", ANY_CLASSES))


def _measure(split: Split) -> Statistics:
    count = min(split.num_examples, MEASURED_IMAGES)
    logging.info(
        "No %s: measuring mean image and colour PCA on %d training images.",
        *(STATISTICS_FILE, count),
    )
    batches = split.evaluation(64, tf.distribute.InputContext())
    images = (x for each in batches for x in each["image"][each["weight"] > 0].numpy())
    accumulator = StatisticsAccumulator()
    with explaining(split):
        for image in itertools.islice(images, count):
            accumulator.add(image)
    return accumulator.result()


@contextlib.contextmanager
def explaining(split: Split) -> Iterator[None]:
    """Turns what a data set raises in the body into a UserError where it is known."""
    try:
        yield
    except tf.errors.OpError as error:
        if split.records and (known := reading.as_user_error(error, split.records)):
            raise known from error
        raise
