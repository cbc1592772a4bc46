"""Reads CIFAR-10's published binary files into memory."""

import pathlib
import typing

import numpy as np

from official.alexnet import paths
from official.alexnet.errors import UserError

FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
SIDE = 32
# A label, and the red, green and blue planes, row by row.
_RECORD_BYTES = 1 + 3 * SIDE**2
_RECORDS = 10_000  # in a file


class Split(typing.NamedTuple):
    """Images (n, 32, 32, 3) uint8 RGB, and labels (n,) int32, 0..9."""

    images: np.ndarray
    labels: np.ndarray


def read(data_dir: str) -> tuple[Split, Split]:
    """The training and the test images.

    `data_dir` holds data_batch_1.bin to test_batch.bin, or `cifar-10-batches-bin`.

    Raises:
        UserError: files are missing, cut short, or of another kind.
    """
    folder = paths.local(data_dir, "--data_dir")
    if (folder / "cifar-10-batches-bin").is_dir():
        folder /= "cifar-10-batches-bin"
    *train, test = (_read_file(folder / name) for name in FILES)
    return Split(*map(np.concatenate, zip(*train, strict=True))), test


def _read_file(path: pathlib.Path) -> Split:
    if not path.is_file():
        raise UserError(
            f"{path.parent} has no {path.name}: --data_dir takes the binary version of "
            "CIFAR-10 (not the Python version)"
        )
    stored, expected = np.fromfile(path, np.uint8), _RECORDS * _RECORD_BYTES
    if len(stored) != expected:
        raise UserError(
            f"{path} has {len(stored):,} bytes, not the {expected:,} of {_RECORDS:,} "
            "CIFAR-10 records: unpack it again"
        )
    stored = stored.reshape(-1, _RECORD_BYTES)
    labels = stored[:, 0].astype(np.int32)
    for record in np.flatnonzero(labels > 9):
        wrong = f"record {record} has label {labels[record]}, outside 0..9"
        raise UserError(f"{path}: {wrong}: it is no CIFAR-10 file")
    planes = stored[:, 1:].reshape(-1, 3, SIDE, SIDE)
    return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)
