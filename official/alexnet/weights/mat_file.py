"""MATLAB's .mat files of version 5 to 7, as nets and the devkit's meta.mat are.

They are read here: scipy.io ends the process where some of them are damaged.
"""

import itertools
import math
import struct
import zlib
from collections.abc import Iterator

import numpy as np

# Types of elements, and classes of arrays; the others are left out.
_MATRIX, _COMPRESSED = 14, 15
_CELL, _STRUCT, _CHAR = 1, 2, 4
_HEADS = 6, 5, 1  # Types of an array's flags, sides and name.
_NUMBERS = {
    **{1: "i1", 2: "u1", 3: "<i2", 4: "<u2", 5: "<i4", 6: "<u4"},
    **{7: "<f4", 9: "<f8", 12: "<i8", 13: "<u8"},
}
_TEXT = {2: "latin-1", 4: "utf-16-le", 16: "utf-8", 17: "utf-16-le", 18: "utf-32-le"}
# Weights hardly shrink; what grows more than this is made to fill the memory.
_MOST_TIMES, _HEADER = 8, 128


def read(data: bytes) -> dict[str, object]:
    """The variables of a file by their names.

    Numbers are arrays, of float64 or float32 where the class is double or single; a
    text is a string, a cell the list of its values, a struct a list of dictionaries.
    What is of another class is None.

    Raises:
        ValueError: it is no such file, is cut off, or grows more than weights do.
        Exception: of other kinds, where it is damaged.
    """
    elements = _elements(memoryview(_inflated(data))[_HEADER:])
    return dict([_matrix(body) for kind, body in elements if kind == _MATRIX])


def _inflated(data: bytes) -> bytes:
    """The file without compression, so that no part of it grows without limit."""
    if data[126:_HEADER] != b"IM":
        raise ValueError("it is no MATLAB file of version 5 to 7")
    parts, at, left = [data[:_HEADER]], _HEADER, _MOST_TIMES * len(data)
    while at < len(data):
        kind, size = struct.unpack_from("<II", data, at)
        part = data[at : at + 8 + size]
        if len(part) != 8 + size:
            raise ValueError("it is cut off")
        if kind == _COMPRESSED:
            machine = zlib.decompressobj()
            part = machine.decompress(part[8:], left)
            if not machine.eof:
                raise ValueError("it is cut off, or grows more than weights do")
        parts.append(part)
        at, left = at + 8 + size, left - len(part)
        if left <= 0:
            raise ValueError("it grows more than weights do")
    return b"".join(parts)


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """The elements of a part of the file, by their types."""
    at = 0
    while at + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, at)
        start, after = at + 8, at + 8 + size + -size % 8
        if kind >> 16:  # A small one has its bytes in place of its size.
            kind, size, start, after = kind & 0xFFFF, min(kind >> 16, 4), at + 4, at + 8
        if start + size > len(data):
            raise ValueError("it is cut off")
        yield kind, data[start : start + size]
        at = after


def _matrix(data: memoryview) -> tuple[str, object]:
    """Name and value: numbers, a text, a list of a cell's values or of structs."""
    if not data:
        return "", np.zeros(0, np.float32)
    parts = _elements(data)
    heads = [next(parts, (0, b"")) for _ in _HEADS]
    for (kind, _), wanted in zip(heads, _HEADS, strict=True):
        if kind != wanted:
            raise ValueError(f"an element of type {kind} in it has no place there")
    flags, sides, name = (body for _, body in heads)
    kind, shape = flags[0], np.frombuffer(sides, "<i4").tolist()
    count, name = math.prod(shape), bytes(name).decode("ascii")
    if kind == _CELL:
        return name, _values(parts, count)
    if kind == _STRUCT:
        length = int.from_bytes(next(parts)[1], "little")
        names = bytes(next(parts)[1])
        starts = range(0, len(names), length)
        keys = [names[i : i + length].split(b"\0")[0].decode("ascii") for i in starts]
        values = _values(parts, count * len(keys))
        rows = zip(*[iter(values)] * len(keys), strict=True)
        return name, [dict(zip(keys, row, strict=True)) for row in rows]
    stored, body = next(parts, (0, b""))
    if kind == _CHAR:
        return name, bytes(body).decode(_TEXT[stored]) if body else ""
    if stored not in _NUMBERS:
        return name, None
    numbers = np.frombuffer(body, _NUMBERS[stored]).reshape(shape, order="F")
    # Whole numbers are stored in as few bytes as they need.
    return name, numbers.astype({6: np.float64, 7: np.float32}.get(kind, numbers.dtype))


def _values(parts: Iterator[tuple[int, memoryview]], count: int) -> list:
    found = [_matrix(body)[1] for _, body in itertools.islice(parts, count)]
    if len(found) != count:
        raise ValueError(f"it holds {len(found)} of {count} values")
    return found
