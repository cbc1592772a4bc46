"""Reads records, undecoded, and says which one could not be read."""

import re

import tensorflow as tf
from absl import logging

from official.alexnet.data import faults, framing
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError

_READ_BUFFER_BYTES = 1 << 20

# A record's tag is the index of its file times this, plus its number in the file.
_RECORDS_A_FILE = 1 << 32

_BAD_RECORD = "cannot use the record of tag"
_BAD_RECORD_ERROR = re.compile(rf"\[{_BAD_RECORD}\]\s*\[(\d+)\]")
_COUNT_ERROR = re.compile(r"expected to contain \d+ elements? but contained")


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


def read_files(files: tf.data.Dataset, records: Records) -> tf.data.Dataset:
    """Reads the files of the given indices whole, one after the other.

    Returns:
        A dataset as of `read_pieces`.
    """
    sizes = tf.constant(records.file_sizes, tf.int64)
    first = tf.constant(0, tf.int64)
    return read_pieces(files.map(lambda i: (i, first, tf.gather(sizes, i))), records)


def tag_of(file: int, number: int) -> int:
    """Tag of a record by the index of its file and its number in it."""
    return file * _RECORDS_A_FILE + number


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
    if records.label_map is not None:
        labels = tf.gather(tf.constant(records.label_map, tf.int32), labels)
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
    if _COUNT_ERROR.search(error.message):
        return _find_miscount(records)
    if isinstance(error, tf.errors.DataLossError):
        return _find_damage(records)
    return _find_unreadable(error, records)


def _find_unreadable(error: tf.errors.OpError, records: Records) -> UserError | None:
    """A file that is gone, or that the disk does not give: TensorFlow names it."""
    for path in records.files:
        _, found, reason = error.message.partition(f"{path}; ")
        if found:
            reason = re.split(r"[\[\n]", reason)[0].strip()
            return UserError(
                f"{path}: {reason}; put it back, or see to the disk, and run the same "
                "command again"
            )
    return None


def _find_miscount(records: Records) -> UserError | None:
    for path, counted in zip(records.files, records.file_sizes, strict=True):
        try:
            found = framing.count_records(path)
        except UserError as error:
            return error
        if found != counted:
            return UserError(
                f"{path} holds {found} records and not the {counted} it is said to "
                "hold; prepare the records again or remove manifest.json"
            )
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
            return framing.compressed(path) or UserError(
                f"{path}: record {number} cannot be read ({reason}): the file is "
                "damaged; copy it again, or remake it: tools/validate_records.py "
                "says how"
            )
    return None
