"""Reads CIFAR-10 into memory: the published binary files, or what TFDS has prepared."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from official.alexnet import paths
from official.alexnet.cifar.nets import NUM_CLASSES
from official.alexnet.data import preprocessing, reading
from official.alexnet.data import records as records_lib
from official.alexnet.errors import UserError

IMAGE_SIZE = 32
BINARY_DIR = "cifar-10-batches-bin"
TRAIN_FILES = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
TEST_FILE = "test_batch.bin"

# A record is a label and the red, green and blue planes, row by row.
RECORD_BYTES = 1 + 3 * IMAGE_SIZE**2
RECORDS_A_FILE = 10_000


CLASSES = (
    *("airplane", "automobile", "bird", "cat", "deer"),
    *("dog", "frog", "horse", "ship", "truck"),
)


@dataclasses.dataclass(frozen=True)
class Cifar10:
    """The whole data set.

    Attributes:
        train_images: (50000, 32, 32, 3) uint8, RGB.
        train_labels: (50000,) int32, 0..9.
        test_images: (10000, 32, 32, 3) uint8, RGB.
        test_labels: (10000,) int32, 0..9.
    """

    train_images: np.ndarray
    train_labels: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray


def read(data_dir: str | None, tfds_name: str | None = None) -> Cifar10:
    """Reads CIFAR-10.

    Args:
        data_dir: directory of `data_batch_1.bin` to `data_batch_5.bin` and
            `test_batch.bin`, or the one that holds `cifar-10-batches-bin`; with
            `tfds_name`, TFDS's data directory.
        tfds_name: name of a TFDS data set that is on disk, such as `cifar10`.

    Raises:
        UserError: files are missing, cut short, or of another kind.
    """
    if tfds_name:
        train = _read_tfds(tfds_name, data_dir, "train")
        test = _read_tfds(tfds_name, data_dir, "validation")
        return Cifar10(*train, *test)
    folder = _binary_folder(data_dir)
    parts = [_read_file(folder / name) for name in TRAIN_FILES]
    images, labels = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return Cifar10(images, labels, *_read_file(folder / TEST_FILE))


def _binary_folder(data_dir: str | None) -> pathlib.Path:
    root = paths.local(data_dir or "", "--data_dir")
    if not data_dir or not root.is_dir():
        raise UserError(
            f"--data_dir={data_dir}: no such directory; name the one that holds "
            f"{BINARY_DIR}, the binary version of CIFAR-10"
        )
    folder = root / BINARY_DIR if (root / BINARY_DIR).is_dir() else root
    missing = [n for n in (*TRAIN_FILES, TEST_FILE) if not (folder / n).is_file()]
    if not missing:
        return folder
    if (folder / "data_batch_1").is_file() or (root / "cifar-10-batches-py").is_dir():
        raise UserError(
            f"{folder} holds the Python version of CIFAR-10: get the binary version, "
            "or name one that TFDS prepared with --tfds_name=cifar10"
        )
    raise UserError(
        f"{folder} has no {missing[0]}: --data_dir takes the binary version of "
        f"CIFAR-10, {TRAIN_FILES[0]} to {TRAIN_FILES[-1]} and {TEST_FILE}"
    )


def _read_file(path: pathlib.Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 32, 32, 3) uint8 and labels (n,) int32 of one file."""
    expected, size = RECORDS_A_FILE * RECORD_BYTES, path.stat().st_size
    if size != expected:
        raise UserError(
            f"{path} has {size:,} bytes, not the {expected:,} of {RECORDS_A_FILE:,} "
            "CIFAR-10 records: it is cut or another file; unpack it again"
        )
    stored = np.fromfile(path, np.uint8).reshape(-1, RECORD_BYTES)
    labels = stored[:, 0].astype(np.int32)
    if labels.max() >= NUM_CLASSES:
        record = int(np.argmax(labels >= NUM_CLASSES))
        raise UserError(
            f"{path}: record {record} has label {labels[record]}, outside 0..9: it is "
            "not a CIFAR-10 file; unpack it again"
        )
    planes = stored[:, 1:].reshape(-1, 3, IMAGE_SIZE, IMAGE_SIZE)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), labels


def _read_tfds(
    name: str, data_dir: str | None, split: str
) -> tuple[np.ndarray, np.ndarray]:
    records = records_lib.tfds_records(
        name, data_dir, split, NUM_CLASSES, classes=CLASSES
    )

    def parse(_: tf.Tensor, serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        encoded, labels = reading.parse_records(serialized[None], records)
        return preprocessing.decode_image(encoded[0]), labels[0]

    files = tf.data.Dataset.range(len(records.files))
    examples = reading.read_files(files, records).map(parse, tf.data.AUTOTUNE)
    try:
        images, labels = zip(*examples.as_numpy_iterator(), strict=True)
    except tf.errors.OpError as error:
        raise reading.as_user_error(error, records) or error from error
    shapes = {image.shape for image in images} - {(IMAGE_SIZE, IMAGE_SIZE, 3)}
    if shapes:
        height, width, _ = min(shapes)
        raise UserError(
            f"--tfds_name={name} holds an image of {width} x {height} pixels: "
            "CIFAR-10's have 32 x 32"
        )
    return np.stack(images), np.array(labels, np.int32)
