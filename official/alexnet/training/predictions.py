"""A line of CSV for each image that is evaluated."""

import contextlib
import csv
import itertools
import pathlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from official.alexnet import disk
from official.alexnet.data import lanes, reading, schemas
from official.alexnet.data.dataset import Split
from official.alexnet.data.records import Records

_BEST = 5


@contextlib.contextmanager
def writing(
    path: str | None, split: Split, batch_size: int, classes: Sequence[str] | None
) -> Iterator[Callable[..., None] | None]:
    """A .csv file of what a net says of a split's images, in an evaluation's order.

    Its columns are `image`, the name in its record or else `FILE:NUMBER`; `label`; and
    `class_1`, `probability_1` and so on, the most probable first. It appears at its
    path when the body has ended.

    Args:
        path: None: there is no file.
        split: the images.
        batch_size: of the evaluation, which their order depends on.
        classes: names of the net's classes; None: their numbers are written.

    Yields:
        What writes a batch of labels, int (batch,), probabilities, float (batch,
        classes), and weights (batch,), 0 for no image; None without a path.

    Raises:
        UserError: the disk is full or read-only.
    """
    if path is None:
        yield None
        return
    names = map(str, itertools.count())
    if split.records:
        names = _names(split.records, batch_size)
    classes = classes or range(split.num_classes)
    with (
        disk.atomic_write(pathlib.Path(path)) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        writer = csv.writer(file, lineterminator="\n")
        best = range(1, min(_BEST, len(classes)) + 1)
        columns = [f"{what}_{i}" for i in best for what in ("class", "probability")]
        writer.writerow(["image", "label", *columns])

        def add(
            labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
        ) -> None:
            labels, probabilities = labels[weights > 0], probabilities[weights > 0]
            order = np.argsort(-probabilities, axis=1, kind="stable")[:, :_BEST]
            for label, row, best in zip(labels, probabilities, order, strict=True):
                pairs = [(classes[i], f"{row[i]:.6g}") for i in best]
                known = itertools.chain([classes[label]], *pairs)
                writer.writerow([next(names), *known])

        yield add


def _names(records: Records, batch_size: int) -> Iterator[str]:
    """The images' names: their records once more, in the same order, undecoded."""
    share = lanes.Share.of(batch_size)
    blocks = lanes.evaluation_blocks(records, share).unbatch()
    for tag, serialized in blocks.as_numpy_iterator():
        file, number = reading.place_of(int(tag))
        place = f"{pathlib.Path(records.files[file]).name}:{number}"
        yield schemas.file_name(serialized, records.schema) or place
