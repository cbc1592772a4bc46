"""Images to look at, with their labels: files, or the records of a split."""

import bisect
import dataclasses
import itertools
import os
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from official.alexnet import run_files
from official.alexnet.data import (
    classes,
    framing,
    image_files,
    pictures,
    preprocessing,
    reading,
    schemas,
)
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError
from official.alexnet.serving.prediction import class_places, find_images, read_image
from visualizing.trained import Trained

UNKNOWN = -1


@dataclasses.dataclass(frozen=True)
class Photograph:
    """One image.

    Attributes:
        name: its path; of a record, the file's and the record's number in it.
        pixels: (256, 256, 3) uint8 RGB, the square that evaluation takes crops from.
        label: 0-based class, or `UNKNOWN`.
    """

    name: str
    pixels: np.ndarray
    label: int

    def line(self, labels: Sequence[str]) -> str | None:
        """Its class's line of the names of the classes; None: not known."""
        return None if self.label == UNKNOWN else labels[self.label]


@dataclasses.dataclass(frozen=True)
class Images:
    """Many images, numbered from 0.

    `read` gives (name, encoded image, label) of a number, or a UserError; `encoded`
    all encoded images in order, and `explained` the error to raise for one of them.
    """

    count: int
    read: Callable[[int], tuple[str, bytes, int]]
    encoded: tf.data.Dataset
    explained: Callable[[tf.errors.OpError], Exception]

    def photograph(self, number: int) -> Photograph:
        """One image; a UserError where it is not a whole one."""
        name, encoded, label = self.read(number)
        try:
            return Photograph(name, square(encoded).numpy(), label)
        except tf.errors.OpError as error:
            reason = pictures.fault(tf.constant(encoded)).numpy().decode()
            raise UserError(f"{name} {reason}") from error

    def spread(self, count: int) -> list[Photograph]:
        """`count` images, spread evenly over all; all if there are fewer."""
        count = min(self.count, count)
        return [self.photograph(i * self.count // count) for i in range(count)]


def find(net: Trained, names: Sequence[str], flag: str, split: str) -> Images:
    """The images that a flag names; where it names none, a split of the run's records.

    Raises:
        UserError: a name stands for no image, or there are no such records.
    """
    if names:
        return of_files(find_images(names, flag), run_files.class_names(net.folder))
    return of_records(net.split(split).records)


def of_files(paths: Sequence[pathlib.Path], labels: Sequence[str] | None) -> Images:
    """Image files; a folder that has the name of just one class tells it."""
    number_of = class_places(labels)

    def read(number: int) -> tuple[str, bytes, int]:
        path = paths[number]
        label = number_of.get(classes.key(path.absolute().parent.name), UNKNOWN)
        return image_files.text(path), read_image(path), label

    def explained(error: tf.errors.OpError) -> Exception:
        for number in range(len(paths)):
            images.photograph(number)  # Raises the UserError of the file it was.
        return error

    # Their bytes, as a name may be no UTF-8.
    names = tf.data.Dataset.from_tensor_slices([os.fsencode(path) for path in paths])
    encoded = names.map(tf.io.read_file, tf.data.AUTOTUNE)
    images = Images(len(paths), read, encoded, explained)
    return images


def of_records(records: Records) -> Images:
    """The images of a split, file by file."""
    starts = [0, *itertools.accumulate(records.file_sizes)]

    def read(number: int) -> tuple[str, bytes, int]:
        file = bisect.bisect(starts, number) - 1
        path, in_file = records.files[file], number - starts[file]
        name = f"{path}, record {in_file}"
        serialized = framing.record(path, in_file)
        if fault := reading.fault(serialized, records):
            raise UserError(f"{name} {fault}")
        label = schemas.stored_label(serialized, records.schema) - records.first_label
        if records.label_map is not None:
            label = records.label_map[label]
        return name, schemas.encoded_image(serialized, records.schema), label

    def explained(error: tf.errors.OpError) -> Exception:
        return reading.as_user_error(error, records) or UserError(
            f"{pathlib.Path(records.files[0]).parent}: a record cannot be used; "
            "tools/validate_records.py --decode says which"
        )

    def image_of(_, serialized: tf.Tensor) -> tf.Tensor:
        return reading.parse_records(serialized[None], records)[0][0]

    files = tf.data.Dataset.range(len(records.files))
    encoded = reading.read_files(files, records).map(image_of, tf.data.AUTOTUNE)
    return Images(records.num_examples, read, encoded, explained)


def square(encoded: bytes | tf.Tensor) -> tf.Tensor:
    """The (256, 256, 3) uint8 image that preparation makes of an encoded one."""
    return preprocessing.resize_to_square(preprocessing.decode_image(encoded))
