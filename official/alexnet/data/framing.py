"""Where the records lie in a TFRecord file, by its headers, without TensorFlow.

A record is its length (8 bytes, little endian), the length's checksum (4 bytes), the
bytes themselves, and their checksum (4 bytes). Checksums are left to tf.data.
"""

import pathlib
from collections.abc import Iterator

from official.alexnet.errors import UserError

_HEADER_BYTES = 12
FOOTER_BYTES = 4


def spans(path: str | pathlib.Path, start: int = 0) -> Iterator[tuple[int, int]]:
    """Yields (offset in the file, length) of each record's bytes.

    Args:
        path: the file.
        start: where a record begins that is the first to be looked at.

    Raises:
        UserError: the file ends inside a record.
    """
    path = pathlib.Path(path)
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        offset, number = start, 0
        while offset < size:
            file.seek(offset)
            header = file.read(_HEADER_BYTES)
            length = int.from_bytes(header[:8], "little")
            body = offset + _HEADER_BYTES
            offset = body + length + FOOTER_BYTES
            if offset > size:
                raise UserError(
                    f"{path}: cut short or damaged in record {number}, which would end "
                    f"at byte {offset} of {size}; copy or prepare the file again"
                )
            yield body, length
            number += 1


def count_records(path: str | pathlib.Path) -> int:
    """Counts the records of a file, reading nothing but their headers.

    Raises:
        UserError: the file ends inside a record.
    """
    return sum(1 for _ in spans(path))
