"""The safetensors format: a JSON header, then the bytes of the tensors."""

import json
import math

import numpy as np

from official.alexnet.weights.torch_files import from_bfloat16

# Sixteen tensors need two thousand bytes.
_LONGEST_HEADER = 2**20
_DTYPES = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype("<u2"),
}
_METADATA = "__metadata__"


class SafetensorsError(ValueError):
    """The bytes are not such a file; the text says why."""


def read(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Reads a file.

    Args:
        data: the whole file.

    Returns:
        Its tensors by name, float16, float32 or float64 (bfloat16 as float32), and
        its metadata.

    Raises:
        SafetensorsError: it is damaged, or its tensors are not floating-point.
    """
    length = int.from_bytes(data[:8], "little")
    if len(data) < 8 or not 2 <= length <= min(_LONGEST_HEADER, len(data) - 8):
        raise SafetensorsError("it does not begin with the length of its header")
    header = _parse(data[8 : 8 + length])
    metadata = header.pop(_METADATA, {})
    if not isinstance(metadata, dict) or not all(
        isinstance(text, str) for text in metadata.values()
    ):
        raise SafetensorsError("its metadata are not texts by name")
    content = memoryview(data)[8 + length :]
    tensors, parts = {}, []
    for name, description in header.items():
        tensors[name], part = _cut(name, description, content)
        parts.append(part)
    # Each byte belongs to one tensor.
    end = 0
    for begin, stop in sorted(parts):
        if begin != end:
            raise SafetensorsError(f"its tensors overlap or leave a gap at byte {end}")
        end = stop
    if end != len(content):
        raise SafetensorsError(
            f"its tensors take {end} bytes, but {len(content)} follow the header"
        )
    return tensors, metadata


def _parse(text: bytes) -> dict:
    def once(pairs: list[tuple[str, object]]) -> dict:
        items = dict(pairs)
        if len(items) != len(pairs):
            raise SafetensorsError("a name stands in its header twice")
        return items

    try:
        header = json.loads(text.decode("utf-8"), object_pairs_hook=once)
    except SafetensorsError:
        raise
    except (ValueError, RecursionError):
        raise SafetensorsError("its header is not JSON") from None
    if not isinstance(header, dict):
        raise SafetensorsError("its header is not a JSON object")
    return header


def _cut(
    name: str, description: object, content: memoryview
) -> tuple[np.ndarray, tuple[int, int]]:
    """A tensor, a view of the file, and where its bytes begin and end."""
    match description:
        case {"dtype": str(kind), "shape": list(shape), "data_offsets": [begin, end]}:
            sizes = (*shape, begin, end)
            if len(sizes) > 10 or not all(type(n) is int and n >= 0 for n in sizes):
                raise SafetensorsError(f"{name} has no shape or place")
            if 0 in shape:
                raise SafetensorsError(f"{name} is empty")
        case _:
            raise SafetensorsError(f"{name} lacks dtype, shape or data_offsets")
    if kind not in _DTYPES:
        raise SafetensorsError(
            f"{name} is of dtype {kind[:20]}, not {', '.join(_DTYPES)}"
        )
    size = math.prod(shape) * _DTYPES[kind].itemsize
    if not begin <= end <= len(content) or end - begin != size:
        raise SafetensorsError(
            f"{name} of shape {tuple(shape)} should have {size} bytes, but is said to "
            f"lie at {begin} to {end} of {len(content)}"
        )
    array = np.frombuffer(content[begin:end], _DTYPES[kind]).reshape(shape)
    return from_bfloat16(array) if kind == "BF16" else array, (begin, end)


def write(tensors: dict[str, np.ndarray], metadata: dict[str, str]) -> bytes:
    """The bytes of a file with float32 tensors; the same for the same tensors."""
    header: dict[str, dict] = {_METADATA: metadata}
    position = 0
    for name, array in tensors.items():
        header[name] = {
            "dtype": "F32",
            "shape": list(array.shape),
            "data_offsets": [position, position + 4 * array.size],
        }
        position += 4 * array.size
    text = json.dumps(header).encode()
    # Eight bytes each, as the format asks, so that the tensors are aligned.
    text += b" " * (-len(text) % 8)
    contents = [np.ascontiguousarray(a, "<f4").tobytes() for a in tensors.values()]
    return b"".join([len(text).to_bytes(8, "little"), text, *contents])
