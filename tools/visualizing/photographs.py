"""Images to look at, with their labels: files, or the records of a split."""

import dataclasses
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from official.alexnet.data import (
    classes,
    framing,
    image_files,
    pictures,
    preprocessing,
    reading,
)
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError
from official.alexnet.serving.prediction import read_image

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


@dataclasses.dataclass(frozen=True)
class Files:
    """Image files; an image's place is its index.

    Attributes:
        paths: of the files.
        labels: 0-based classes, or `UNKNOWN`, one a file.
    """

    paths: tuple[pathlib.Path, ...]
    labels: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def dataset(self) -> tf.data.Dataset:
        """(place int64, encoded image, label int32) of every image, in order."""
        # Their bytes, as a name may be no UTF-8.
        names = tf.constant([os.fsencode(path) for path in self.paths])
        labels = tf.constant(self.labels, tf.int32)

        def read(place: tf.Tensor):
            return place, tf.io.read_file(names[place]), labels[place]

        return tf.data.Dataset.range(len(self)).map(read, tf.data.AUTOTUNE)

    def photograph(self, place: int) -> Photograph:
        """The image at a place.

        Raises:
            UserError: it is not a whole image.
        """
        encoded = read_image(self.paths[place])
        name = image_files.text(self.paths[place])
        try:
            pixels = square(encoded).numpy()
        except tf.errors.OpError as error:
            reason = pictures.fault(tf.constant(encoded)).numpy().decode()
            raise UserError(f"{name} {reason}") from error
        return Photograph(name, pixels, self.labels[place])

    def spread(self, count: int) -> list[Photograph]:
        """`count` images, spread evenly over all; all if there are fewer."""
        return [self.photograph(i) for i in evenly(len(self), count)]

    def explained(self, error: tf.errors.OpError) -> Exception:
        """The error to raise for one of `dataset`."""
        for place in range(len(self)):
            self.photograph(place)  # Raises the UserError of the file it was.
        return error

    def identity(self) -> list:
        """What a cache must know these images by."""
        return [_stamp(path) for path in self.paths] + list(self.labels)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """The images of a split; an image's place is its record's tag (`reading`).

    Attributes:
        records: of the split.
    """

    records: Records

    def __len__(self) -> int:
        return self.records.num_examples

    def dataset(self) -> tf.data.Dataset:
        """As `Files.dataset`."""

        def parse(tag: tf.Tensor, serialized: tf.Tensor):
            encoded, labels = reading.parse_records(serialized[None], self.records)
            return tag, encoded[0], labels[0]

        files = tf.data.Dataset.range(len(self.records.files))
        return reading.read_files(files, self.records).map(parse, tf.data.AUTOTUNE)

    def photograph(self, place: int) -> Photograph:
        """As `Files.photograph`."""
        file, number = reading.place_of(place)
        path = self.records.files[file]
        serialized = tf.constant([framing.record(path, number)])
        try:
            encoded, labels = reading.parse_records(serialized, self.records)
            pixels = square(encoded[0]).numpy()
        except tf.errors.OpError as error:
            raise self.explained(error) from error
        return Photograph(f"{path}, record {number}", pixels, int(labels[0]))

    def spread(self, count: int) -> list[Photograph]:
        """As `Files.spread`, over the records file by file."""
        wanted = evenly(len(self), count)
        found, before = [], 0
        for file, size in enumerate(self.records.file_sizes):
            found += [
                self.photograph(reading.tag_of(file, i - before))
                for i in wanted
                if before <= i < before + size
            ]
            before += size
        return found

    def explained(self, error: tf.errors.OpError) -> Exception:
        """As `Files.explained`."""
        return reading.as_user_error(error, self.records) or UserError(
            f"{pathlib.Path(self.records.files[0]).parent}: a record cannot be used; "
            "tools/validate_records.py --decode says which"
        )

    def identity(self) -> list:
        """As `Files.identity`."""
        return [_stamp(path) for path in self.records.files] + [
            self.records.first_label,
            self.records.label_map,
        ]


Images = Files | Recorded


def files_with_labels(paths: Sequence[pathlib.Path], labels: Sequence[str]) -> Files:
    """Image files, labelled by the folders they are in.

    A folder tells the class if it has the name of just one; see `classes.key`.
    """
    keys = [classes.key(line) for line in labels]
    number_of = {key: i for i, key in enumerate(keys) if keys.count(key) == 1}
    folders = (classes.key(path.absolute().parent.name) for path in paths)
    known = tuple(number_of.get(key, UNKNOWN) for key in folders)
    return Files(tuple(paths), known)


def evenly(total: int, count: int) -> list[int]:
    """`count` numbers spread over 0..total - 1, or all of them."""
    count = min(total, count)
    return [i * total // count for i in range(count)]


def square(encoded: bytes | tf.Tensor) -> tf.Tensor:
    """The (256, 256, 3) uint8 image that preparation makes of an encoded one."""
    return preprocessing.resize_to_square(preprocessing.decode_image(encoded))


def _stamp(path: str | pathlib.Path) -> list:
    status = os.stat(path)  # noqa: PTH116
    return [str(pathlib.Path(path).absolute()), status.st_size, status.st_mtime_ns]
