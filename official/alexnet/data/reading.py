"""Reads records, undecoded, and says which one could not be read."""

import re

import tensorflow as tf
from absl import logging

from official.alexnet.data import framing, preprocessing
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError

_READ_BUFFER_BYTES = 1 << 20

# A record's tag is the index of its file times this, plus its number in the file.
_RECORDS_A_FILE = 1 << 32

_LABEL_ERROR = re.compile(
    r"\[stored label outside \S+ at record, label:\]\s*\[(\d+)\]\s*\[(-?\d+)\]"
)
_COUNT_ERROR = re.compile(r"expected to contain \d+ elements? but contained")
_READING_OPS = re.compile(r"\{\{node [^}]*(Decode|ExtractJpegShape|ParseExample)")


def read_pieces(pieces: tf.data.Dataset, records: Records) -> tf.data.Dataset:
    """Reads parts of files one after the other.

    Args:
        pieces: (index of a file, number of the first record, number after the last).
        records: what there is.

    Returns:
        A dataset of (tag, serialized example); see `place_of`.
    """
    paths = tf.constant(records.files)
    sizes = tf.constant(records.file_sizes, tf.int64)

    def read_piece(
        index: tf.Tensor, first: tf.Tensor, last: tf.Tensor
    ) -> tf.data.Dataset:
        # Up to the end if it should be there: a file that has grown is noticed.
        count = tf.where(last == tf.gather(sizes, index), tf.int64.max, last - first)
        serialized = tf.data.TFRecordDataset(
            tf.gather(paths, index), buffer_size=_READ_BUFFER_BYTES
        )
        # Every example's number hangs on each file being as long as was counted.
        piece = serialized.skip(first).take(count)
        piece = piece.apply(tf.data.experimental.assert_cardinality(last - first))
        return piece.enumerate(tf.cast(index, tf.int64) * _RECORDS_A_FILE + first)

    return pieces.flat_map(read_piece)


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
    if _COUNT_ERROR.search(error.message):
        return _find_miscount(records)
    data_loss = isinstance(error, tf.errors.DataLossError)
    if data_loss or _READING_OPS.search(error.message):
        return _find_damage(records)
    return None


def _find_miscount(records: Records) -> UserError | None:
    for path, counted in zip(records.files, records.file_sizes, strict=True):
        found = framing.count_records(path)
        if found != counted:
            return UserError(
                f"{path} holds {found} records and not the {counted} it is said to "
                "hold; prepare the records again or remove manifest.json"
            )
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
