"""Reads records, undecoded, and says which one could not be read."""

import re

import tensorflow as tf
from absl import logging

from official.alexnet.data import faults
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError

# Files read side by side. A constant: the order of the examples depends on it.
_INTERLEAVED_FILES = 16
_READ_BUFFER_BYTES = 1 << 20

# A record's tag is the index of its file times this, plus its number in the file.
_RECORDS_A_FILE = 1 << 32

_BAD_RECORD = "cannot use the record of tag"
_BAD_RECORD_ERROR = re.compile(rf"\[{_BAD_RECORD}\]\s*\[(\d+)\]")
_COUNT_ERROR = re.compile(r"expected to contain (\d+) elements? but contained")


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


def place_of(tag: int) -> tuple[int, int]:
    """Index of a record's file, and its number in it."""
    return divmod(tag, _RECORDS_A_FILE)


def parse_records(
    serialized: tf.Tensor, records: Records
) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes encoded images and 0-based int32 labels out of a batch of records.

    Raises:
        tf.errors.InvalidArgumentError: one has another schema, or a label out of range.
    """
    schema = records.schema
    features = tf.io.parse_example(
        serialized,
        {
            schema.image_key: tf.io.FixedLenFeature((), tf.string),
            schema.label_key: tf.io.FixedLenFeature((), tf.int64),
        },
    )
    stored = features[schema.label_key]
    in_range = (stored >= records.first_label) & (stored <= records.last_label)
    check = tf.debugging.Assert(tf.reduce_all(in_range), ["label out of range"])
    with tf.control_dependencies([check]):
        labels = tf.cast(stored - records.first_label, tf.int32)
    return features[schema.image_key], labels


def refuse(tags: tf.Tensor, is_good: tf.Tensor) -> tf.Operation:
    """An op that raises an error of which `as_user_error` knows the record.

    Args:
        tags: (batch,) int64.
        is_good: (batch,) bool.
    """
    first = tags[tf.argmin(tf.cast(is_good, tf.int32))]
    return tf.debugging.Assert(tf.reduce_all(is_good), [_BAD_RECORD, first])


def as_user_error(error: tf.errors.OpError, records: Records) -> UserError | None:
    """Puts an error of these datasets in one line; None if it is not one of theirs.

    TensorFlow does not say in which file it found a wrong checksum, so for such an
    error the files are read again, in their order, up to the damaged one.

    Args:
        error: what iterating over a dataset, or a step fed by it, raised.
        records: what the dataset read.

    Returns:
        The error to raise in its place, or None.
    """
    bad = _BAD_RECORD_ERROR.search(error.message)
    if bad:
        file, number = place_of(int(bad[1]))
        path = records.files[file]
        reason = faults.fault(faults.read(path, number), records)
        return UserError(
            f"{path}: record {number} {reason or 'could not be read'}; pass another "
            "--num_classes if its label is right, make the file again, or let such "
            "records be skipped with --max_bad_records"
        )
    count = _COUNT_ERROR.search(error.message)
    if count:
        return UserError(
            f"{records.files[0]} and its fellows no longer hold the {count[1]} records "
            "they are said to hold; prepare them again or remove manifest.json"
        )
    if isinstance(error, tf.errors.DataLossError):
        return _find_damage(records)
    return None


def _find_damage(records: Records) -> UserError | None:
    logging.warning("A file is damaged: looking for it.")
    for path in records.files:
        number = 0
        try:
            for _ in tf.data.TFRecordDataset(path, buffer_size=_READ_BUFFER_BYTES):
                number += 1
        except tf.errors.OpError as error:
            # "{{function_node ...}} <reason> [Op:...] name: "
            first_line = error.message.splitlines()[0].split(" [Op:")[0]
            reason = first_line.split("}} ")[-1]
            return UserError(
                f"{path}: record {number} cannot be read ({reason}): the file is "
                "damaged; copy it again, or remake it: tools/validate_records.py "
                "says how"
            )
    return None
