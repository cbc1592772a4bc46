"""MatConvNet's .mat files, such as imagenet-caffe-alex.mat, by scipy.io."""

import io
import math
import re
import struct
import zlib

import numpy as np
import scipy.io

from official.alexnet.data.statistics import IMAGE_SHAPE
from official.alexnet.weights.preprocessing import Preprocessing

_MATRIX, _COMPRESSED = 14, 15
# Types of elements; scipy follows a null pointer where it reads another.
_TYPES = {*range(1, 8), 9, 12, 13, _MATRIX, 16, 17, 18}
# The head of a cell, a struct or an object, up to its dimensions: scipy would make
# room for as many as it claims.
_CELLS = re.compile(rb"\x06\0\0\0\x08\0\0\0[\1-\3].{7}\x05\0\0\0\x08\0\0\0(.{8})", re.S)
# Weights hardly shrink; what grows more than this is made to fill the memory.
_MOST_TIMES, _HEADER = 8, 128


def read(
    data: bytes,
) -> tuple[dict[str, list[np.ndarray]], Preprocessing | None, tuple[str, ...] | None]:
    """Reads a net of either form: `filters` and `biases`, or `weights`.

    Args:
        data: the whole file, of MATLAB's version 5 to 7.

    Returns:
        For each layer its kernel, (height, width, in, out), and biases; how images
        become its input, RGB; and the names of the classes. None where it says neither.

    Raises:
        Exception: what scipy raises where it is damaged.
        ValueError: it is no net, or grows more than weights do.
    """
    names = ["layers", "normalization", "classes", "meta"]
    found = scipy.io.loadmat(io.BytesIO(inflated(data)), variable_names=names)
    layers = {}
    for layer in np.ravel(found.get("layers", ())):
        pair = _field(layer, "weights")
        pair = (
            [_field(layer, "filters"), _field(layer, "biases")]
            if pair is None
            else [*pair.ravel()]
        )
        pair = [array for array in pair if array is not None and array.size]
        if not pair:
            continue
        if len(pair) != 2 or any(array.dtype.kind != "f" for array in pair):
            raise ValueError("a layer in it does not have weights and biases")
        if len(layers) > 99:
            raise ValueError("it has too many layers")
        name = str(_field(layer, "name").item())
        layers[name] = [np.asarray(pair[0], "=f4"), np.ravel(pair[1])]
    meta = found.get("meta")
    normalization = found.get("normalization", _field(meta, "normalization"))
    classes = found.get("classes", _field(meta, "classes"))
    labels = _field(classes, "description")
    if labels is not None:
        labels = tuple(str(np.ravel(label)[0]) for label in labels.ravel())
        if not all(label.isprintable() and label.strip() for label in labels):
            raise ValueError("the names of its classes are not printable")
    return layers, _preprocessing(normalization), labels


def _field(array: np.ndarray | None, name: str) -> np.ndarray | None:
    """A field of a struct, as scipy holds it; None where there is none."""
    if array is None or name not in (array.dtype.names or ()):
        return None
    return array[name].ravel()[0]


def _preprocessing(normalization: np.ndarray | None) -> Preprocessing | None:
    size, mean = (_field(normalization, n) for n in ("imageSize", "averageImage"))
    if size is None or mean is None:
        return None
    side, mean = int(np.ravel(size)[0]), np.asarray(mean, np.float32)
    image = None
    if mean.shape == (side, side, 3) and side <= IMAGE_SHAPE[0]:
        before = (IMAGE_SHAPE[0] - side) // 2
        after = IMAGE_SHAPE[0] - side - before
        image = np.pad(mean, [(before, after), (before, after), (0, 0)], mode="edge")
    elif mean.size != 3:
        raise ValueError(f"its averageImage is of {mean.shape}")
    if not np.all((mean >= 0) & (mean <= 255)):
        raise ValueError("its averageImage holds what is not in 0 to 255")
    keeps = _field(normalization, "keepAspect")
    resize = "shorter_side" if keeps is not None and keeps.any() else "warp"
    colors = tuple(float(m) for m in mean.reshape(-1, 3).mean(0, dtype=np.float64))
    return Preprocessing(side, mean=colors, mean_image=image, resize=resize)


def inflated(data: bytes) -> bytes:
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
    whole = b"".join(parts)
    for claim in _CELLS.finditer(whole):
        if math.prod(struct.unpack("<2i", claim[1])) > len(whole):
            raise ValueError("it claims more cells than it has bytes")
    _check_types(whole, _HEADER, len(whole))
    return whole


def _check_types(data: bytes, at: int, end: int) -> None:
    while at + 8 <= end:
        kind, size = struct.unpack_from("<II", data, at)
        if kind >> 16:  # A small element, with its bytes in place of its size.
            kind, size = kind & 0xFFFF, 0
        if kind not in _TYPES or at + 8 + size > end:
            raise ValueError(f"an element of type {kind} in it has no place there")
        if kind == _MATRIX:
            _check_types(data, at + 8, min(end, at + 8 + size))
        at += 8 + size + -size % 8
