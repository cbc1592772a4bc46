"""What is wrong with a record that cannot be used."""

import pathlib

import tensorflow as tf

from official.alexnet.data import framing, pictures, preprocessing, schemas
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError


def fault(serialized: bytes, records: Records) -> str | None:
    """Says what is wrong with a record.

    Args:
        serialized: its bytes, whose checksum is right.
        records: the files it is from.

    Returns:
        Words such as `has label 7, outside 1..3`, or None where it can be used.
    """
    try:
        label = schemas.stored_label(serialized, records.schema)
    except ValueError as error:
        return str(error)
    if not records.first_label <= label <= records.last_label:
        return (
            f"has label {label}, outside {records.first_label}..{records.last_label} "
            f"({records.label_reason})"
        )
    encoded = tf.constant(schemas.encoded_image(serialized, records.schema))
    try:
        preprocessing.decode_image(encoded)
    # TensorFlow's message may quote bytes of the record, which are no text.
    except (tf.errors.OpError, UnicodeDecodeError):
        return f"has an image that {pictures.fault(encoded).numpy().decode()}"
    return None


def read(path: str, number: int) -> bytes:
    """Reads one record of a file by its number, without looking at its checksum.

    Raises:
        UserError: the file ends before it.
    """
    for i, (start, length) in enumerate(framing.spans(path)):
        if i == number:
            with pathlib.Path(path).open("rb") as file:
                file.seek(start)
                return file.read(length)
    raise UserError(f"{path} has no record {number} any more")
