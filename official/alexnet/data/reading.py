"""Reads records, undecoded, and says which one could not be read."""

import re

import tensorflow as tf
from absl import logging

from official.alexnet.data import preprocessing
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError

# Files read side by side. A constant: the order of the examples depends on it.
_INTERLEAVED_FILES = 16
_READ_BUFFER_BYTES = 1 << 20

# A record's tag is the index of its file times this, plus its number in the file.
_RECORDS_A_FILE = 1 << 32

_LABEL_ERROR = re.compile(
    r"\[stored label outside \S+ at record, label:\]\s*\[(\d+)\]\s*\[(-?\d+)\]"
)
_COUNT_ERROR = re.compile(r"expected to contain (\d+) elements? but contained")
_READING_OPS = re.compile(r"\{\{node [^}]*(Decode|ExtractJpegShape|ParseExample)")


def read_files(files: tf.data.Dataset, records: Records) -> tf.data.Dataset:
    """Reads the files of the given indices as (tag, bytes); see `place_of`."""
    paths = tf.constant(records.files)

    def read_file(index: tf.Tensor) -> tf.data.Dataset:
        serialized = tf.data.TFRecordDataset(
            tf.gather(paths, index), buffer_size=_READ_BUFFER_BYTES
        )
        return serialized.enumerate(tf.cast(index, tf.int64) * _RECORDS_A_FILE)

    dataset = files.interleave(
        read_file,
        cycle_length=min(_INTERLEAVED_FILES, len(records.files)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # Numbering examples across epochs needs each epoch to be as long as was counted.
    return dataset.apply(tf.data.experimental.assert_cardinality(records.num_examples))


def tag_of(file: int, number: int) -> int:
    """Tag of a record by the index of its file and its number in it."""
    return file * _RECORDS_A_FILE + number


def place_of(tag: int) -> tuple[int, int]:
    """Index of a record's file, and its number in it."""
    return divmod(tag, _RECORDS_A_FILE)


def parse_records(
    tags: tf.Tensor, serialized: tf.Tensor, records: Records
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes encoded images and 0-based int32 labels out of a batch of records."""
    schema = records.schema
    features = tf.io.parse_example(
        serialized,
        {
            schema.image_key: tf.io.FixedLenFeature((), tf.string),
            schema.label_key: tf.io.FixedLenFeature((), tf.int64),
        },
    )
    stored = features[schema.label_key]
    first, last = records.first_label, records.last_label
    message = f"stored label outside {first}..{last} at record, label:"
    in_range = (stored >= first) & (stored <= last)
    worst = tf.argmin(tf.cast(in_range, tf.int32))
    check = tf.debugging.Assert(
        tf.reduce_all(in_range), [message, tags[worst], stored[worst]]
    )
    with tf.control_dependencies([check]):
        labels = tf.cast(stored - first, tf.int32)
    return features[schema.image_key], labels


def as_user_error(error: tf.errors.OpError, records: Records) -> UserError | None:
    """Puts an error of these datasets in one line; None if it is not one of theirs.

    TensorFlow does not say which record it could not read, so for such an error the
    records are read again, in the order of the files, up to the damaged one.

    Args:
        error: what iterating over a dataset, or a step fed by it, raised.
        records: what the dataset read.

    Returns:
        The error to raise in its place, or None.
    """
    label = _LABEL_ERROR.search(error.message)
    if label:
        file, number = place_of(int(label[1]))
        return UserError(
            f"{records.files[file]}: record {number} has label {label[2]}, outside "
            f"{records.first_label}..{records.last_label} ({records.label_reason}); "
            "pass another --num_classes or mend the records"
        )
    count = _COUNT_ERROR.search(error.message)
    if count:
        return UserError(
            f"{records.files[0]} and its fellows no longer hold the {count[1]} records "
            "they are said to hold; prepare them again or remove manifest.json"
        )
    data_loss = isinstance(error, tf.errors.DataLossError)
    if data_loss or _READING_OPS.search(error.message):
        return _find_damage(records)
    return None


def _find_damage(records: Records) -> UserError | None:
    logging.warning("A record could not be read: looking for it.")
    for path in records.files:

        def decode(number: tf.Tensor, serialized: tf.Tensor) -> tf.Tensor:
            encoded, _ = parse_records(number[None], serialized[None], records)
            return tf.shape(preprocessing.decode_image(encoded[0]))

        number = 0
        try:
            for _ in (
                tf.data.TFRecordDataset(path).enumerate().map(decode, tf.data.AUTOTUNE)
            ):
                number += 1
        except tf.errors.OpError as error:
            # "{{function_node ...}} Error in ...: <reason> [Op:...] name: "
            first_line = error.message.splitlines()[0].split(" [Op:")[0]
            reason = first_line.split("}} ")[-1].split(": ")[-1]
            return UserError(
                f"{path}: record {number} cannot be read ({reason}); prepare or copy "
                "the file again"
            )
    return None
