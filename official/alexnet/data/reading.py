"""Reads records, undecoded, and says which one cannot be used and why."""

import re

import tensorflow as tf
from absl import logging

from official.alexnet.data import framing, pictures, preprocessing, schemas
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError

READ_BYTES = 1 << 20  # At once, of a file.

# A record's tag is the index of its file times this, plus its number in the file.
_RECORDS_A_FILE = 1 << 32

_BAD_RECORD = "cannot use the record of tag"
_BAD_RECORD_ERROR = re.compile(rf"\[{_BAD_RECORD}\]\s*\[(\d+)\]")
_COUNT_ERROR = re.compile(r"expected to contain \d+ elements? but contained")


def read_pieces(pieces: tf.data.Dataset, records: Records) -> tf.data.Dataset:
    """Reads parts of files, (index of a file, first record, the one after the last).

    A dataset of (tag, serialized example); see `place_of`.
    """
    paths = tf.constant(records.files)
    sizes = tf.constant(records.file_sizes, tf.int64)

    def read_piece(index, first, last) -> tf.data.Dataset:
        # Up to the end if it should be there: a file that has grown is noticed.
        count = tf.where(last == tf.gather(sizes, index), tf.int64.max, last - first)
        piece = tf.data.TFRecordDataset(tf.gather(paths, index), buffer_size=READ_BYTES)
        piece = piece.skip(first).take(count)
        # Every example's number depends on each file being as long as was counted.
        piece = piece.apply(tf.data.experimental.assert_cardinality(last - first))
        # Dataset.enumerate would have its graph rewritten for every piece.
        tag = tf.cast(index, tf.int64) * _RECORDS_A_FILE + first
        return tf.data.Dataset.zip(tf.data.Dataset.range(tag, tf.int64.max), piece)

    return pieces.flat_map(read_piece)


def read_files(files: tf.data.Dataset, records: Records) -> tf.data.Dataset:
    """Reads the files of the given indices whole, as `read_pieces` does."""
    sizes = tf.constant(records.file_sizes, tf.int64)
    first = tf.constant(0, tf.int64)
    return read_pieces(files.map(lambda i: (i, first, tf.gather(sizes, i))), records)


def place_of(tag: int) -> tuple[int, int]:
    """Index of a record's file, and its number in it."""
    return divmod(tag, _RECORDS_A_FILE)


def parse_records(
    serialized: tf.Tensor, records: Records
) -> tuple[tf.Tensor, tf.Tensor]:
    """Encoded images and 0-based int32 labels of a batch; an OpError if one is bad."""
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
    """An op whose error tells `as_user_error` the first record that is not good."""
    first = tags[tf.argmin(tf.cast(is_good, tf.int32))]
    return tf.debugging.Assert(tf.reduce_all(is_good), [_BAD_RECORD, first])


def fault(serialized: bytes, records: Records) -> str | None:
    """Says what is wrong with a record: `has label 7, outside 1..3`; None: nothing."""
    try:
        label = schemas.stored_label(serialized, records.schema)
    except ValueError as error:
        return str(error)
    first, last = records.first_label, records.last_label
    if not first <= label <= last:
        return f"has label {label}, outside {first}..{last} ({records.label_reason})"
    return image_fault(schemas.encoded_image(serialized, records.schema))


def image_fault(encoded: bytes) -> str | None:
    """Says what is wrong with a record's picture: `has an image that is empty`, ..."""
    try:
        _decode(tf.constant(encoded))
    # TensorFlow's message may quote bytes of the record, which are no text.
    except (tf.errors.InvalidArgumentError, UnicodeDecodeError):
        return f"has an image that {pictures.fault(encoded).numpy().decode()}"
    return None


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _decode(encoded: tf.Tensor) -> tf.Tensor:
    return preprocessing.decode_image(encoded)


def as_user_error(error: tf.errors.OpError, records: Records) -> UserError | None:
    """Puts an error of these datasets in one line; None if it is not one of theirs.

    TensorFlow does not say in which file it found a wrong checksum or number of
    records, so the files are looked at again, in their order, up to that one.
    """
    if bad := _BAD_RECORD_ERROR.search(error.message):
        file, number = place_of(int(bad[1]))
        path = records.files[file]
        reason = fault(framing.record(path, number), records)
        return UserError(
            f"{path}: record {number} {reason or 'could not be read'}; pass another "
            "--num_classes if its label is right, or make the file again; "
            "tools/validate_records.py --decode lists all such records"
        )
    if _COUNT_ERROR.search(error.message):
        found = map(_miscount, records.files, records.file_sizes)
    elif isinstance(error, tf.errors.DataLossError):
        logging.warning("A file is damaged: looking for it.")
        found = map(_damage, records.files)
    else:
        found = (_unreadable(path, error.message) for path in records.files)
    return next(filter(None, found), None)


def _unreadable(path: str, message: str) -> UserError | None:
    """A file that is gone, or that the disk does not give: TensorFlow names it."""
    _, found, reason = message.partition(f"{path}; ")
    reason = re.split(r"[\[\n]", reason)[0].strip()
    advice = "put it back, or see to the disk, and run the same command again"
    return UserError(f"{path}: {reason}; {advice}") if found else None


def _miscount(path: str, counted: int) -> UserError | None:
    try:
        found = framing.count_records(path)
    except UserError as error:
        return error
    if found == counted:
        return None
    return UserError(
        f"{path} holds {found} records and not the {counted} it is said to hold; "
        "tools/validate_records.py says which of the two is wrong"
    )


def _damage(path: str) -> UserError | None:
    number = 0
    try:
        for _ in tf.data.TFRecordDataset(path, buffer_size=READ_BYTES):
            number += 1
    except tf.errors.OpError as error:
        return framing.compressed(path) or UserError(
            f"{path}: record {number} cannot be read ({reason_of(error)}): the file is "
            "damaged; copy it again, or remake it: tools/validate_records.py says how"
        )
    return None


def reason_of(error: tf.errors.OpError) -> str:
    """TensorFlow's words for what it could not read, without those around them."""
    # "{{function_node ...}} <reason> [Op:...] name: "
    return error.message.splitlines()[0].split(" [Op:")[0].split("}} ")[-1]
