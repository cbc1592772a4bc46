"""Reads CIFAR-10 into memory: the published binary files, or what TFDS has prepared."""

import pathlib
import typing

import numpy as np
import tensorflow as tf

from official.alexnet import paths
from official.alexnet.errors import UserError

CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)
FILES = (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin")
SIDE = 32
# A label, and the red, green and blue planes, row by row.
_RECORD_BYTES = 1 + 3 * SIDE**2
_RECORDS = 10_000  # in a file


class Split(typing.NamedTuple):
    """Images (n, 32, 32, 3) uint8 RGB, and labels (n,) int32, 0..9."""

    images: np.ndarray
    labels: np.ndarray


def read(data_dir: str, tfds_name: str | None = None) -> tuple[Split, Split]:
    """The training and the test images.

    Args:
        data_dir: directory of data_batch_1.bin to test_batch.bin, or the one that
            holds `cifar-10-batches-bin`; with `tfds_name`, TFDS's.
        tfds_name: name of a TFDS data set that is on disk, such as `cifar10`.

    Raises:
        UserError: files are missing, cut short, or of another kind.
    """
    root = paths.local(data_dir, "--data_dir")
    if tfds_name:
        return _read_tfds(tfds_name, root, "train"), _read_tfds(tfds_name, root, "test")
    inner = root / "cifar-10-batches-bin"
    folder = inner if inner.is_dir() else root
    for name in FILES:
        if not (folder / name).is_file():
            raise UserError(
                f"{folder} has no {name}: --data_dir takes the binary version of "
                "CIFAR-10 (not the Python version), or TFDS's with --tfds_name=cifar10"
            )
    *train, test = (_read_file(folder / name) for name in FILES)
    return Split(*map(np.concatenate, zip(*train, strict=True))), test


def _read_file(path: pathlib.Path) -> Split:
    expected, size = _RECORDS * _RECORD_BYTES, path.stat().st_size
    if size != expected:
        raise UserError(
            f"{path} has {size:,} bytes, not the {expected:,} of {_RECORDS:,} CIFAR-10 "
            "records: unpack it again"
        )
    stored = np.fromfile(path, np.uint8).reshape(-1, _RECORD_BYTES)
    labels = stored[:, 0].astype(np.int32)
    if labels.max() > 9:
        record = int(np.argmax(labels > 9))
        raise UserError(
            f"{path}: record {record} has label {labels[record]}, outside 0..9: it is "
            "no CIFAR-10 file"
        )
    planes = stored[:, 1:].reshape(-1, 3, SIDE, SIDE)
    return Split(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels)


def _read_tfds(name: str, root: pathlib.Path, split: str) -> Split:
    import tensorflow_datasets as tfds  # noqa: PLC0415 (slow, and seldom needed)

    if ":" in name:  # Of another namespace: TFDS would fetch and run its code.
        raise UserError(f"--tfds_name={name}: give the name of a prepared data set")
    try:
        builder = tfds.builder(name, data_dir=str(root), try_gcs=False)
        examples = builder.as_dataset(split, batch_size=-1)
    except (tf.errors.OpError, ValueError, AssertionError, OSError) as error:
        raise UserError(f"--tfds_name={name}: {str(error).splitlines()[0]}") from error
    for found in builder.info.features["label"].names:
        # Classes without names are numbered.
        if found not in (*CLASSES, *map(str, range(10))):
            raise UserError(f"--tfds_name={name}: {found!r} is no class of CIFAR-10")
    images, labels = examples["image"], examples["label"]
    if images.shape[1:] != (SIDE, SIDE, 3):
        raise UserError(f"--tfds_name={name} holds images of {images.shape[1:]}")
    return Split(images.numpy(), labels.numpy().astype(np.int32))
