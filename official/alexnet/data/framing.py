"""Where the records lie in a TFRecord file, by its headers, without TensorFlow.

A record is its length (8 bytes, little endian), the length's checksum (4 bytes), the
bytes themselves, and their checksum (4 bytes). Checksums are checked by tf.data.
"""

import itertools
import pathlib
from collections.abc import Iterator

import google_crc32c

from official.alexnet.errors import UserError

_HEADER_BYTES, _FOOTER_BYTES = 12, 4


def spans(path: str | pathlib.Path) -> Iterator[tuple[int, int]]:
    """Yields each record's (offset, length); UserError for a file cut or compressed."""
    path = pathlib.Path(path)
    size, offset, number = path.stat().st_size, 0, 0
    with path.open("rb", buffering=0) as file:
        while offset < size:
            file.seek(offset)
            length = int.from_bytes(file.read(_HEADER_BYTES)[:8], "little")
            body = offset + _HEADER_BYTES
            offset = body + length + _FOOTER_BYTES
            if offset > size:
                raise compressed(path) or UserError(
                    f"{path}: cut short or damaged in record {number}, which would end "
                    f"at byte {offset} of {size}; copy or prepare the file again"
                )
            yield body, length
            number += 1


def read(path: str | pathlib.Path, stop: int | None, start: int = 0) -> Iterator[bytes]:
    """Yields records start..stop - 1, checksums unseen; raises as `spans` does."""
    with pathlib.Path(path).open("rb") as file:
        for offset, length in itertools.islice(spans(path), start, stop):
            file.seek(offset)
            yield file.read(length)


def record(path: str | pathlib.Path, number: int) -> bytes:
    """Reads one record of a file; UserError where the file ends before it."""
    for found in read(path, number + 1, number):
        return found
    raise UserError(f"{path} has no record {number} any more")


def count_records(path: str | pathlib.Path) -> int:
    """Counts records by their headers alone; raises as `spans` does."""
    return sum(1 for _ in spans(path))


def framed(record: bytes) -> bytes:
    """A record as it stands in a TFRecord file, with its length and checksums."""
    length = len(record).to_bytes(8, "little")
    return b"".join((length, _checksum(length), record, _checksum(record)))


def _checksum(data: bytes) -> bytes:
    """CRC-32C, turned and shifted so that a checksum of checksums is safe too."""
    value = google_crc32c.value(data)
    masked = (value >> 15 | value << 17) + 0xA282EAD8
    return (masked & 0xFFFFFFFF).to_bytes(4, "little")


def compressed(path: str | pathlib.Path) -> UserError | None:
    """The error for a file that cannot be read since it is compressed.

    A record can begin with the same bytes: ask for a file with damage only.
    """
    with pathlib.Path(path).open("rb") as file:
        start = file.read(3)
    is_zlib = start[:1] == b"\x78" and int.from_bytes(start[:2], "big") % 31 == 0
    if start != b"\x1f\x8b\x08" and not is_zlib:
        return None
    how = "zlib" if is_zlib else "gzip (first bytes 1f 8b)"
    return UserError(
        f"{path} is compressed with {how}: records are read at random, which needs "
        "plain TFRecords; decompress the files of this set"
    )
