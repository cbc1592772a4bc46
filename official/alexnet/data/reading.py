"""Reads records, undecoded, and says which one could not be read."""

import functools
import re

import tensorflow as tf
from absl import logging

from official.alexnet.data import preprocessing
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError

# Files read side by side. A constant: the order of the examples depends on it.
_INTERLEAVED_FILES = 16
_READ_BUFFER_BYTES = 1 << 20

_LABEL_ERROR = re.compile(
    r"\[stored label outside \S+ at file, record, label:\]"
    r"\s*\[(\d+)\]\s*\[(\d+)\]\s*\[(-?\d+)\]"
)
_COUNT_ERROR = re.compile(r"expected to contain (\d+) elements? but contained")
_READING_OPS = re.compile(r"\{\{node [^}]*(Decode|ExtractJpegShape|ParseSingleExample)")


def read_files(files: tf.data.Dataset, records: Records) -> tf.data.Dataset:
    """Reads the files of the given indices as (file, (record in it, bytes))."""
    paths = tf.constant(records.files)

    def read_file(index: tf.Tensor) -> tf.data.Dataset:
        serialized = tf.data.TFRecordDataset(
            tf.gather(paths, index), buffer_size=_READ_BUFFER_BYTES
        )
        of_file = tf.data.Dataset.from_tensors(index).repeat()
        return tf.data.Dataset.zip(of_file, serialized.enumerate())

    dataset = files.interleave(
        read_file,
        cycle_length=min(_INTERLEAVED_FILES, len(records.files)),
        num_parallel_calls=tf.data.AUTOTUNE,
        deterministic=True,
    )
    # Numbering examples across epochs needs each epoch to be as long as was counted.
    return dataset.apply(tf.data.experimental.assert_cardinality(records.num_examples))


def parse_record(record: tuple, records: Records) -> tuple[tf.Tensor, tf.Tensor]:
    """Takes the encoded image and the 0-based int32 label out of a record."""
    file, (number, serialized) = record
    schema = records.schema
    features = tf.io.parse_single_example(
        serialized,
        {
            schema.image_key: tf.io.FixedLenFeature((), tf.string),
            schema.label_key: tf.io.FixedLenFeature((), tf.int64),
        },
    )
    stored = features[schema.label_key]
    first, last = records.first_label, records.last_label
    message = f"stored label outside {first}..{last} at file, record, label:"
    in_range = tf.debugging.Assert(
        (stored >= first) & (stored <= last), [message, file, number, stored]
    )
    with tf.control_dependencies([in_range]):
        label = tf.cast(stored - first, tf.int32)
    return features[schema.image_key], label


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
        file, number, value = (int(group) for group in label.groups())
        return UserError(
            f"{records.files[file]}: record {number} has label {value}, outside "
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
    for index, path in enumerate(records.files):

        def decode(number: tf.Tensor, serialized: tf.Tensor, file: int) -> tf.Tensor:
            encoded, _ = parse_record((file, (number, serialized)), records)
            return tf.shape(preprocessing.decode_image(encoded))

        number = 0
        try:
            for _ in (
                tf.data.TFRecordDataset(path)
                .enumerate()
                .map(functools.partial(decode, file=index), tf.data.AUTOTUNE)
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
