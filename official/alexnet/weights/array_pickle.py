"""Pickles of NumPy arrays in dictionaries and lists, read without calling anything."""

import io
import math
import pickle
import pickletools
import types

import numpy as np

# Longer than names, which need not be remembered.
_LONG = 16
_DTYPES = {"f2": "<f2", "f4": "<f4", "f8": "<f8", "O8": "O", "O": "O"}


class _DType:
    """A dtype, as its pickle describes it."""

    def __init__(self, kind: str, *_: object):
        if kind not in _DTYPES:
            raise pickle.UnpicklingError(f"an array in it is of dtype {kind!r:.20}")
        self.dtype = np.dtype(_DTYPES[kind])

    def __setstate__(self, state: tuple) -> None:
        if state[1] not in ("<", "|"):
            raise pickle.UnpicklingError("an array in it is not little-endian")


class _Array:
    """An array, as its pickle describes it."""

    def __setstate__(self, state: tuple) -> None:
        _, shape, described, is_fortran, content = state
        if not isinstance(described, _DType):
            raise pickle.UnpicklingError("an array in it is of an unknown form")
        if isinstance(content, str):  # Bytes of Python 2, read as Latin-1.
            content = content.encode("latin-1")
        if described.dtype == object:
            if shape != () or len(content) != 1:
                raise pickle.UnpicklingError("an array in it holds objects")
            self.content = content[0]
            return
        if math.prod(shape) * described.dtype.itemsize != len(content):
            raise pickle.UnpicklingError(f"an array in it does not have {shape}")
        array = np.frombuffer(content, described.dtype)
        self.content = array.reshape(shape, order="F" if is_fortran else "C")


def _reconstruct(*_: object) -> _Array:
    return _Array()


def _encode(text: str, encoding: str) -> bytes:
    # How Python 3 writes bytes for Python 2.
    if encoding != "latin1":
        raise pickle.UnpicklingError("an array in it is of an unknown form")
    return text.encode("latin-1")


_STANDS_FOR = {
    "numpy.core.multiarray._reconstruct": _reconstruct,
    "numpy._core.multiarray._reconstruct": _reconstruct,
    # Only handed to `_reconstruct`.
    "numpy.ndarray": types.SimpleNamespace(),
    "numpy.dtype": _DType,
    "_codecs.encode": _encode,
}


# Python's own machine, not C's: a damaged file cannot make it take memory.
class _Unpickler(pickle._Unpickler):
    def find_class(self, module: str, name: str) -> object:
        """The stand-in for what the file names; nothing of the file's is called."""
        if f"{module}.{name}" not in _STANDS_FOR:
            raise pickle.UnpicklingError(
                f"it asks for {module}.{name}, which no array needs; nothing in it "
                "was run"
            )
        return _STANDS_FOR[f"{module}.{name}"]


def read(data: bytes) -> object:
    """What a pickle holds: dictionaries, lists, texts, numbers and float arrays.

    It may stand in an .npy file, as `np.save` of a dictionary writes it.

    Raises:
        UnpicklingError: it asks for anything else.
        Exception: what Python's unpickler raises, where it is damaged.
    """
    stream = io.BytesIO(data)
    if data.startswith(b"\x93NUMPY"):
        if np.lib.format.read_magic(stream) != (1, 0):
            raise ValueError("it is an .npy file of another version")
        # NumPy would compile the header, which says nothing that the pickle does not.
        stream.seek(int.from_bytes(stream.read(2), "little"), io.SEEK_CUR)
    start, is_text = stream.tell(), False
    for opcode, content, _ in pickletools.genops(stream):
        if opcode.name == "FRAME":
            continue
        # A byte more or less in front of it would go unseen otherwise.
        if is_text and opcode.name not in ("MEMOIZE", "BINPUT", "LONG_BINPUT", "PUT"):
            raise pickle.UnpicklingError("an array in it has another size")
        is_text = isinstance(content, str | bytes) and len(content) > _LONG
        is_text = is_text and opcode.name != "GLOBAL"
    stream.seek(start)
    return _plain(_Unpickler(stream, encoding="latin-1").load())


def _plain(found: object, depth: int = 0) -> object:
    """The same with arrays in place of their descriptions."""
    if depth > 8:
        raise ValueError("it is nested too deeply")
    if isinstance(found, _Array):
        content = found.content
        is_array = isinstance(content, np.ndarray)
        return content if is_array else _plain(content, depth + 1)
    if isinstance(found, dict):
        return {key: _plain(value, depth + 1) for key, value in found.items()}
    if isinstance(found, list | tuple):
        return [_plain(value, depth + 1) for value in found]
    return found
