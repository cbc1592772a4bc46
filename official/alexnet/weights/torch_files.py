"""PyTorch's `torch.save` files of a state_dict, read and written without PyTorch.

A .pth is a zip archive: `NAME/data.pkl` is a pickle that describes the tensors, and
`NAME/data/KEY` are their bytes, uncompressed and with checksums. Before PyTorch 1.6
it was one stream: four pickles, a list of keys, and the bytes. Both are read with
`pickles`, which runs nothing; only the first is written.
"""

import dataclasses
import io
import math
import struct
import zipfile
import zlib

import numpy as np

from official.alexnet.weights import pickles
from official.alexnet.weights.pickles import Global, PickleError

_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    # Its 16 bits; NumPy has no such floating-point type.
    "BFloat16Storage": np.dtype("<u2"),
}
_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_ALIGNMENT = 64
# Where our own notes stand in the archive; PyTorch does not look at it.
_NOTES = "official_alexnet.json"
_DAMAGED_ZIP = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    KeyError,
    ValueError,
    RuntimeError,
    OverflowError,
)


@dataclasses.dataclass
class _Storage:
    """Bytes of the file that one tensor lies in; `users` counts the tensors."""

    kind: str
    key: str
    numel: int
    users: int = 0


@dataclasses.dataclass(frozen=True)
class _Tensor:
    storage: _Storage
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read(data: bytes) -> tuple[dict[str, np.ndarray], bytes]:
    """Reads a state_dict.

    Args:
        data: the whole file.

    Returns:
        Its tensors by name, float16, float32 or float64 (bfloat16 as float32), and
        the notes that `write` was given; none for files of others.

    Raises:
        PickleError: it is damaged, holds something else than a state_dict of
            floating-point tensors, or asks for anything to be run.
    """
    if data[:2] == b"PK":
        try:
            return _read_zip(data)
        except _DAMAGED_ZIP as error:
            if isinstance(error, PickleError):
                raise
            text = " ".join(str(error).split())[:120]
            raise PickleError(f"the archive is damaged ({text})") from None
    return _read_legacy(data), b""


def _read_zip(data: bytes) -> tuple[dict[str, np.ndarray], bytes]:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = {info.filename: info for info in archive.infolist()}
        roots = [name[:-9] for name in members if name.endswith("/data.pkl")]
        if len(roots) != 1:
            raise PickleError("the archive holds no data.pkl of torch.save")
        (root,) = roots
        if f"{root}/constants.pkl" in members:
            raise PickleError("it is a TorchScript program, not a state_dict")

        def member(name: str) -> bytes:
            info = members[f"{root}/{name}"]
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                raise PickleError(f"{name} in the archive is compressed")
            return archive.read(info)

        if f"{root}/byteorder" in members and member("byteorder") != b"little":
            raise PickleError("its bytes are in big-endian order")
        found, storages, _ = _unpickle(member("data.pkl"), 0)
        tensors = {
            name: _cut(tensor, member(f"data/{tensor.storage.key}"))
            for name, tensor in _state_dict(found, storages).items()
        }
        notes = member(_NOTES) if f"{root}/{_NOTES}" in members else b""
        return tensors, notes


def _read_legacy(data: bytes) -> dict[str, np.ndarray]:
    nothing = pickles.Rules({})
    try:
        magic, end = pickles.load(data, nothing)
    except PickleError:
        magic = None
    if magic != _LEGACY_MAGIC:
        raise PickleError("it is not a file of torch.save")
    protocol, end = pickles.load(data, nothing, end)
    system, end = pickles.load(data, nothing, end)
    if protocol != _LEGACY_PROTOCOL or not isinstance(system, dict):
        raise PickleError("it is of a form of torch.save that is not known")
    if system.get("little_endian") is not True:
        raise PickleError("its bytes are in big-endian order")
    found, storages, end = _unpickle(data, end)
    keys, end = pickles.load(data, nothing, end)
    tensors = _state_dict(found, storages)
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys):
        raise PickleError("it has no list of its tensors' bytes")
    if sorted(keys) != sorted(storages):
        raise PickleError("its list of tensors' bytes is another than its tensors'")
    contents = {}
    for key in keys:
        storage = storages[key]
        size = storage.numel * _DTYPES[storage.kind].itemsize
        if len(data) - end < 8 + size:
            raise PickleError(f"it ends too soon, inside the bytes of tensor {key}")
        if int.from_bytes(data[end : end + 8], "little") != storage.numel:
            raise PickleError(f"tensor {key} has two different sizes")
        contents[key] = memoryview(data)[end + 8 : end + 8 + size]
        end += 8 + size
    if end != len(data):
        raise PickleError(f"{len(data) - end} bytes are left at its end")
    return {
        name: _cut(tensor, contents[tensor.storage.key])
        for name, tensor in tensors.items()
    }


def _unpickle(data: bytes, start: int) -> tuple[object, dict[str, _Storage], int]:
    """The object, the storages it refers to, and where the pickle ends."""
    storages: dict[str, _Storage] = {}

    def storage(identity: object) -> _Storage:
        match identity:
            # The legacy form has a sixth entry, for views of storages.
            case ("storage", Global("torch", kind), str(key), _, int(numel), *rest):
                if kind not in _DTYPES or numel < 0 or rest not in ([], [None]):
                    raise PickleError(f"tensor {key} lies in no known storage")
                known = storages.setdefault(key, _Storage(kind, key, numel))
                if (known.kind, known.numel) != (kind, numel):
                    raise PickleError(f"tensor {key} has two different sizes")
                return known
            case _:
                raise PickleError("it refers to something outside of it")

    def tensor(arguments: tuple) -> _Tensor:
        match arguments:
            case (_Storage() as storage, 0, tuple(shape), tuple(strides), bool(), *_):
                sizes = (*shape, *strides)
                if len(sizes) > 16 or not all(type(n) is int for n in sizes):
                    raise PickleError(f"tensor {storage.key} has no shape")
                if len(shape) != len(strides):
                    raise PickleError(f"tensor {storage.key} has no shape")
                storage.users += 1
                return _Tensor(storage, shape, strides)
            case _:
                raise PickleError(
                    "a tensor is only a part of what is stored: save its .clone()"
                )

    def parameter(arguments: tuple) -> _Tensor:
        if not arguments or not isinstance(arguments[0], _Tensor):
            raise PickleError("a parameter is no tensor")
        return arguments[0]

    rules = pickles.Rules(
        globals={
            Global("collections", "OrderedDict"): _empty_dict,
            Global("torch._utils", "_rebuild_tensor_v2"): tensor,
            Global("torch._utils", "_rebuild_parameter"): parameter,
            **{Global("torch", kind): None for kind in _DTYPES},
        },
        persistent=storage,
        # A state_dict's versions of its modules.
        states={dict: lambda target, state: None},
    )
    found, end = pickles.load(data, rules, start)
    return found, storages, end


def _empty_dict(arguments: tuple) -> dict:
    if arguments:
        raise PickleError("a dictionary is made in a way that is not known")
    return {}


def _state_dict(found: object, storages: dict[str, _Storage]) -> dict[str, _Tensor]:
    """The tensors by name: the file's own, or those under its key `state_dict`."""
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if (
        not isinstance(found, dict)
        or not found
        or not all(isinstance(name, str) for name in found)
        or not all(isinstance(value, _Tensor) for value in found.values())
    ):
        raise PickleError("it holds no state_dict: a dictionary of tensors by name")
    keys = {tensor.storage.key for tensor in found.values()}
    if len(keys) != len(found) or any(s.users != 1 for s in storages.values()):
        raise PickleError("tensors in it share their numbers: save a .clone() of each")
    return found


def _cut(tensor: _Tensor, content: bytes | memoryview) -> np.ndarray:
    """The tensor's array, a view of the file where its order allows that."""
    storage, shape = tensor.storage, tensor.shape
    if min(shape, default=1) < 1 or math.prod(shape) != storage.numel:
        raise PickleError(
            f"tensor {storage.key} of shape {shape} does not fill its "
            f"{storage.numel} numbers"
        )
    dtype = _DTYPES[storage.kind]
    if len(content) != storage.numel * dtype.itemsize:
        raise PickleError(f"tensor {storage.key} has {len(content)} bytes")
    # Slowest axis first: what the strides would be if nothing were left out.
    order = sorted(range(len(shape)), key=lambda axis: -tensor.strides[axis])
    dense = math.prod(shape)
    for axis in order:
        dense //= shape[axis]
        if shape[axis] > 1 and tensor.strides[axis] != dense:
            raise PickleError(f"tensor {storage.key} has strides {tensor.strides}")
    array = np.frombuffer(content, dtype).reshape([shape[axis] for axis in order])
    array = array.transpose(np.argsort(order))
    return from_bfloat16(array) if storage.kind == "BFloat16Storage" else array


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """float32 of the same values as bfloat16, given as its 16 bits."""
    return (bits.astype(np.uint32) << 16).view(np.float32)


def write(tensors: dict[str, np.ndarray], notes: bytes) -> bytes:
    """The file that `torch.save` would make of a state_dict, and notes beside it.

    Args:
        tensors: float32 arrays by name.
        notes: UTF-8, for `read`; PyTorch passes them over.

    Returns:
        The bytes of the file; the same for the same tensors.
    """
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_STORED) as archive:

        def add(name: str, content: bytes) -> None:
            info = zipfile.ZipInfo(f"archive/{name}")
            # An extra field of zeros brings the content to a multiple of 64.
            used = output.tell() + 30 + len(info.filename) + 4
            padding = -used % _ALIGNMENT
            info.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)
            archive.writestr(info, content)

        add("data.pkl", _pickle(tensors))
        add("byteorder", b"little")
        for key, array in enumerate(tensors.values()):
            add(f"data/{key}", np.ascontiguousarray(array, "<f4").tobytes())
        add("version", b"3\n")
        add(_NOTES, notes)
    return output.getvalue()


def _pickle(tensors: dict[str, np.ndarray]) -> bytes:
    """data.pkl: an OrderedDict of calls of torch._utils._rebuild_tensor_v2."""
    ordered_dict = b"ccollections\nOrderedDict\n)R"
    parts = [b"\x80\x02", ordered_dict, b"("]
    for key, (name, array) in enumerate(tensors.items()):
        strides = [math.prod(array.shape[axis + 1 :]) for axis in range(array.ndim)]
        parts += [
            _unicode(name),
            b"ctorch._utils\n_rebuild_tensor_v2\n((",
            _unicode("storage"),
            b"ctorch\nFloatStorage\n",
            _unicode(str(key)),
            _unicode("cpu"),
            _integer(array.size),
            b"tQ",
            _integer(0),
            *(b"(", *map(_integer, array.shape), b"t"),
            *(b"(", *map(_integer, strides), b"t"),
            b"\x89" + ordered_dict + b"tR",
        ]
    return b"".join([*parts, b"u."])


def _unicode(text: str) -> bytes:
    encoded = text.encode()
    return b"X" + struct.pack("<I", len(encoded)) + encoded


def _integer(value: int) -> bytes:
    return b"J" + struct.pack("<i", value)
