"""state_dicts in .pth and .safetensors files, by the libraries that own the formats."""

import importlib
import io
import json
import zipfile
import zlib
from collections.abc import Mapping

import numpy as np
import safetensors
import safetensors.numpy

from official.alexnet.errors import UserError

# Where notes stand that others do not look at: a member of the .pth archive, and keys
# of the .safetensors metadata.
_MEMBER = "official_alexnet.json"
_NOTES, _CHECKSUM = "official_alexnet", "official_alexnet_crc32"
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}


def _torch():
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise UserError(
            "PyTorch reads and writes .pth files: pip install 'official-alexnet"
            "[torch]', or use a .safetensors file"
        ) from None


def read_torch(data: bytes) -> tuple[dict[str, np.ndarray], str]:
    """Reads what `torch.save(model.state_dict(), path)` wrote; runs nothing in it.

    The file is an archive, or the single stream of PyTorch before 1.6. Returns its
    tensors by name, float16, float32 or float64 (bfloat16 as float32), and the notes
    that `write_torch` was given; none for files of others.

    Raises:
        UserError: PyTorch is not installed.
        Exception: PyTorch's own errors, where the file is damaged or asks for a call.
        ValueError: it holds something else than floating-point tensors by name.
    """
    torch, notes = _torch(), ""
    if data[:2] == b"PK":
        notes = _check_archive(data)
    stream = io.BytesIO(data)
    found = torch.load(stream, map_location="cpu", weights_only=True)
    # PyTorch passes over what is left of a single stream, where bytes were put in.
    if data[:2] != b"PK" and stream.read(1):
        raise ValueError("bytes are left at its end")
    if isinstance(found, dict) and isinstance(found.get("state_dict"), dict):
        found = found["state_dict"]
    if not isinstance(found, dict) or not found:
        raise ValueError("it holds no state_dict")
    floats = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
    size = 0
    for name, tensor in found.items():
        if not isinstance(name, str) or not isinstance(tensor, torch.Tensor):
            raise ValueError("it holds no state_dict")
        is_plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not is_plain or tensor.dtype not in floats:
            raise ValueError(f"{name} in it is of {tensor.dtype}")
        size += tensor.numel() * tensor.element_size()
    # A view may claim any size.
    if size > len(data):
        raise ValueError(f"its tensors claim {size} bytes, but it has {len(data)}")
    arrays = {}
    for name, tensor in found.items():
        is_bfloat16 = tensor.dtype == torch.bfloat16
        arrays[name] = (tensor.float() if is_bfloat16 else tensor).detach().numpy()
    return arrays, notes


def _check_archive(data: bytes) -> str:
    """Checks sizes and checksums, which PyTorch does not; returns our notes."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise ValueError("it is a TorchScript program, not a state_dict")
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED or info.file_size > len(data):
                raise ValueError(f"{info.filename} in the archive is compressed")
        if damaged := archive.testzip():
            raise ValueError(f"{damaged} in the archive has another checksum")
        ours = [name for name in archive.namelist() if name.endswith(f"/{_MEMBER}")]
        return archive.read(ours[0]).decode() if ours else ""


def write_torch(arrays: Mapping[str, np.ndarray], notes: str) -> bytes:
    """The file that `torch.save` makes of a state_dict, and notes beside it.

    PyTorch passes the notes over, which are for `read_torch`. The same float32 arrays
    by name make the same bytes.

    Raises:
        UserError: PyTorch is not installed.
    """
    torch, output = _torch(), io.BytesIO()
    tensors = {
        name: torch.from_numpy(np.array(array, np.float32))
        for name, array in arrays.items()
    }
    torch.save(tensors, output)
    with zipfile.ZipFile(output, "a", zipfile.ZIP_STORED) as archive:
        root = archive.namelist()[0].partition("/")[0]
        # A ZipInfo has a fixed date: the same weights make the same bytes.
        archive.writestr(zipfile.ZipInfo(f"{root}/{_MEMBER}"), notes)
    return output.getvalue()


def read_safetensors(data: bytes) -> tuple[dict[str, np.ndarray], str]:
    """Reads a .safetensors file; as `read_torch`.

    Raises:
        SafetensorError: it is damaged.
        ValueError: its tensors are not floating-point, or its checksum is another.
    """
    arrays = {}
    # The library gives them in any order.
    for name, found in sorted(safetensors.deserialize(data), key=lambda item: item[0]):
        if found["dtype"] not in _DTYPES:
            raise ValueError(f"{name} in it is of dtype {found['dtype']}")
        array = np.frombuffer(found["data"], _DTYPES[found["dtype"]])
        array = array.reshape(found["shape"])
        if found["dtype"] == "BF16":
            # The upper half of a float32.
            array = (array.astype(np.uint32) << 16).view(np.float32)
        arrays[name] = array
    header, content = _parts(data)
    metadata = json.loads(header).get("__metadata__") or {}
    notes = metadata.get(_NOTES, "")
    checksum = _crc32(notes, content)
    if metadata.get(_CHECKSUM, checksum) != checksum:
        raise ValueError("its checksum is another: it is damaged")
    return arrays, notes


def write_safetensors(arrays: Mapping[str, np.ndarray], notes: str) -> bytes:
    """The bytes of a .safetensors file with notes and a checksum; as `write_torch`."""
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    _, content = _parts(safetensors.numpy.save(arrays))
    metadata = {"format": "pt", _NOTES: notes, _CHECKSUM: _crc32(notes, content)}
    data = safetensors.numpy.save(arrays, metadata)
    header, content = _parts(data)
    # The library puts metadata in any order: the same weights make the same bytes.
    text = json.dumps(json.loads(header), sort_keys=True, separators=(",", ":"))
    return b"".join([data[:8], text.encode().ljust(len(header)), content])


def _parts(data: bytes) -> tuple[bytes, memoryview]:
    """The header and the bytes of the tensors."""
    end = 8 + int.from_bytes(data[:8], "little")
    return data[8:end], memoryview(data)[end:]


def _crc32(notes: str, content: memoryview) -> str:
    return f"{zlib.crc32(content, zlib.crc32(notes.encode())):08x}"
