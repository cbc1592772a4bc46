"""The wire format of protocol buffers: fields out of bytes and into bytes.

Only what is written in the message is believed: every length is checked against the
bytes that are there before anything is cut out, and nothing is copied.
"""

import dataclasses
import struct
from collections.abc import Iterator

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_WIDTHS = {FIXED64: 8, FIXED32: 4}
_LONGEST_VARINT = 10
# A net has some thirty layers, a layer some twenty fields.
_MOST_FIELDS = 2000
_MOST_PACKED = 64


class WireError(ValueError):
    """The bytes are not a message; the text says why and where."""


@dataclasses.dataclass(frozen=True)
class Field:
    """One field of a message.

    Attributes:
        number: of the field, 1 or more.
        kind: `VARINT`, `FIXED64`, `BYTES` or `FIXED32`.
        value: an int below 2^64 for `VARINT`; otherwise the bytes. Fixed fields of
            the same number that follow one another come as one, their bytes joined.
    """

    number: int
    kind: int
    value: int | memoryview | bytes


def fields(message: memoryview) -> Iterator[Field]:
    """The fields of a message, in their order.

    Args:
        message: the bytes of the message and no others.

    Raises:
        WireError: the bytes are not a message, or end too soon.
    """
    position, end = 0, len(message)
    for _ in range(_MOST_FIELDS):
        if position == end:
            return
        start = position
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if not 1 <= number < 2**29:
            raise WireError(f"field number {number} at byte {start}")
        if kind == VARINT:
            value, position = _varint(message, position)
        elif kind == BYTES:
            length, position = _varint(message, position)
            if length > end - position:
                raise WireError(
                    f"a field of {length} bytes at byte {start}, where "
                    f"{end - position} are left"
                )
            value = message[position : position + length]
            position += length
        elif kind in _WIDTHS:
            width = _WIDTHS[kind]
            if width > end - position:
                raise WireError(f"the message ends inside a number at byte {start}")
            stride = position - start + width
            count = _equal_keys(message, start, position - start, stride)
            run = np.frombuffer(message[start : start + count * stride], np.uint8)
            value = run.reshape(count, stride)[:, -width:].tobytes()
            position = start + count * stride
        else:
            raise WireError(f"field {number} at byte {start} is of unknown kind {kind}")
        yield Field(number, kind, value)
    raise WireError(f"a message of more than {_MOST_FIELDS} fields")


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for i in range(_LONGEST_VARINT):
        if position + i >= len(message):
            raise WireError("the message ends inside a number")
        byte = message[position + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            if value >= 2**64:
                break
            return value, position + i + 1
    raise WireError(f"a number of more than 64 bits at byte {position}")


def _equal_keys(message: memoryview, start: int, size: int, stride: int) -> int:
    """How many fields with the same key follow one another, each `stride` long."""
    most = (len(message) - start) // stride
    key = np.frombuffer(message[start : start + size], np.uint8)
    count = 1
    while count < most:
        # Twice as far each time: the cost is that of what is found.
        end = min(2 * count, most)
        rows = np.frombuffer(
            message[start + count * stride : start + end * stride], np.uint8
        ).reshape(end - count, stride)
        same = (rows[:, :size] == key).all(axis=1)
        if not same.all():
            return count + int(np.argmin(same))
        count = end
    return count


def signed(value: int) -> int:
    """A VARINT as int64."""
    return value - 2**64 if value >= 2**63 else value


def varints(packed: memoryview) -> list[int]:
    """The numbers of a packed repeated field of varints."""
    values, position = [], 0
    while position < len(packed):
        value, position = _varint(packed, position)
        values.append(value)
        if len(values) > _MOST_PACKED:
            raise WireError(f"more than {_MOST_PACKED} numbers in one field")
    return values


def write_varint(number: int, value: int) -> bytes:
    """A field of kind `VARINT`, 0 <= value < 2^64."""
    return _key(number, VARINT) + _as_varint(value)


def write_bytes(number: int, value: bytes) -> bytes:
    """A field of kind `BYTES`: a string, a message or packed numbers."""
    return _key(number, BYTES) + _as_varint(len(value)) + value


def write_float(number: int, value: float) -> bytes:
    """A field of kind `FIXED32`."""
    return _key(number, FIXED32) + struct.pack("<f", value)


def pack_varints(values: list[int]) -> bytes:
    """The content of a packed repeated field of varints."""
    return b"".join(_as_varint(value) for value in values)


def _key(number: int, kind: int) -> bytes:
    return _as_varint(number << 3 | kind)


def _as_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)
