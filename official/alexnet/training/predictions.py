"""A line of CSV for each image that is evaluated."""

import contextlib
import csv
import itertools
import pathlib
import typing
from collections.abc import Iterator, Sequence

import numpy as np

from official.alexnet import disk
from official.alexnet.data import lanes, reading, schemas
from official.alexnet.data.dataset import Split
from official.alexnet.data.records import Records

_BEST = 5


class PredictionsFile:
    """Writes what a net says of images, in the order of an evaluation.

    Args:
        file: to write to; the columns' names are its first line: `image`, the name in
            its record or else `FILE:NUMBER`; `label`; and `class_1`, `probability_1`
            and so on, the most probable first.
        split: the images.
        batch_size: of the evaluation, which their order depends on.
        classes: names of the net's classes; None: their numbers are written.
    """

    def __init__(
        self,
        file: typing.TextIO,
        split: Split,
        batch_size: int,
        classes: Sequence[str] | None,
    ):
        self._names = map(str, itertools.count())
        if split.records:
            self._names = _names(split.records, batch_size)
        self._classes = classes or range(split.num_classes)
        self._writer = csv.writer(file, lineterminator="\n")
        best = range(1, min(_BEST, len(self._classes)) + 1)
        columns = [f"{what}_{i}" for i in best for what in ("class", "probability")]
        self._writer.writerow(["image", "label", *columns])

    def add(
        self, labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
    ) -> None:
        """Writes a batch: int (batch,), float (batch, classes), and 0 for no image."""
        order = np.argsort(-probabilities, axis=1, kind="stable")[:, :_BEST]
        for label, row, best in zip(
            labels[weights > 0],
            probabilities[weights > 0],
            order[weights > 0],
            strict=True,
        ):
            pairs = [(self._classes[i], f"{row[i]:.6g}") for i in best]
            known = [self._classes[label], *(value for pair in pairs for value in pair)]
            self._writer.writerow([next(self._names), *known])


def _names(records: Records, batch_size: int) -> Iterator[str]:
    """The images' names: their records once more, in the same order, undecoded."""
    share = lanes.Share.of(batch_size, batch_size, 0, 1)
    blocks = lanes.evaluation_blocks(records, share).unbatch()
    for tag, serialized in blocks.as_numpy_iterator():
        file, number = reading.place_of(int(tag))
        place = f"{pathlib.Path(records.files[file]).name}:{number}"
        yield schemas.file_name(serialized, records.schema) or place


@contextlib.contextmanager
def writing(
    path: str | None, split: Split, batch_size: int, classes: Sequence[str] | None
) -> Iterator[PredictionsFile | None]:
    """The file at a path, which appears when the body has ended; None without one.

    Raises:
        UserError: the disk is full or read-only.
    """
    if path is None:
        yield None
        return
    with (
        disk.atomic_write(pathlib.Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        yield PredictionsFile(file, split, batch_size, classes)
