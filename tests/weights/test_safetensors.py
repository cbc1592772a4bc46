"""The safetensors format against its own package, and headers that lie."""

import json

import numpy as np
import pytest
from weight_nets import assert_same_bits

from official.alexnet.weights import safetensors
from official.alexnet.weights.safetensors import SafetensorsError

ARRAYS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv1.bias": np.float32([-0.0, 1e-45]),
}


def file_of(header, content=b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + content


def one(**changes) -> bytes:
    """A file of one tensor of two float32."""
    tensor = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | changes
    return file_of({"a": tensor}, bytes(8))


def test_the_package_reads_what_is_written(tmp_path):
    numpy = pytest.importorskip("safetensors.numpy")
    written = safetensors.write(ARRAYS, {"format": "pt"})
    assert_same_bits(
        dict(sorted(numpy.load(written).items())), dict(sorted(ARRAYS.items()))
    )
    (tmp_path / "x.safetensors").write_bytes(written)
    opened = pytest.importorskip("safetensors").safe_open
    with opened(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}
    assert (int.from_bytes(written[:8], "little") + 8) % 8 == 0


def test_what_the_package_writes():
    numpy = pytest.importorskip("safetensors.numpy")
    arrays = ARRAYS | {
        "half": np.float16([1, 2, 3]),
        "double": np.array([[0.1, 0.2]]),
    }
    found, metadata = safetensors.read(numpy.save(arrays, {"a": "b"}))
    assert_same_bits(dict(sorted(found.items())), dict(sorted(arrays.items())))
    assert metadata == {"a": "b"}


def test_bfloat16():
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save
    tensor = torch.randn(3, 5).bfloat16()
    found, _ = safetensors.read(save({"a": tensor}))
    np.testing.assert_array_equal(found["a"], tensor.float().numpy())


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "length of its header"),
        (b"\x02\x00\x00", "length of its header"),
        ((2**63).to_bytes(8, "little") + b"{}", "length of its header"),
        (file_of(b"{}"), "^$"),
        (file_of(b"[]"), "not a JSON object"),
        (file_of(b"{nonsense"), "not JSON"),
        (file_of(b"\xff\xfe"), "not JSON"),
        (file_of(b"[" * 100_000), "not JSON"),
        (file_of(b'{"a":' + b"9" * 5000 + b"}"), "not JSON|lacks dtype"),
        (file_of(b'{"a": {}, "a": {}}'), "twice"),
        (file_of({"a": [1]}), "lacks dtype"),
        (file_of({"a": {"dtype": "F32", "shape": [2]}}), "lacks dtype"),
        (file_of({"__metadata__": {"a": 1}}), "metadata"),
        (file_of({"__metadata__": "text"}), "metadata"),
        (one(dtype="I64"), "dtype I64"),
        (one(dtype=3), "lacks dtype"),
        (one(dtype="F64"), "should have 16 bytes"),
        (one(shape=[3]), "should have 12 bytes"),
        (one(shape=[2_500_000_000]), "should have 10000000000 bytes"),
        (one(shape=[10**9] * 50), "no shape or place"),
        (one(shape=[2.0]), "no shape or place"),
        (one(shape=[True]), "no shape or place"),
        (one(shape=[-2]), "no shape or place"),
        (one(shape=[0]), "empty"),
        (one(shape="2"), "lacks dtype"),
        (one(data_offsets=[1, 9]), "lie at 1 to 9 of 8"),
        (one(data_offsets=[8, 0]), "lie at 8 to 0"),
        (one(data_offsets=[0]), "lacks dtype"),
        (one() + b"x", "take 8 bytes, but 9"),
        (
            file_of(
                {
                    "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
                    "b": {"dtype": "F32", "shape": [2], "data_offsets": [4, 12]},
                },
                bytes(12),
            ),
            "overlap or leave a gap at byte 8",
        ),
    ],
)
def test_headers_that_lie(data, text):
    if text == "^$":
        assert safetensors.read(data) == ({}, {})
        return
    with pytest.raises(SafetensorsError, match=text):
        safetensors.read(data)
