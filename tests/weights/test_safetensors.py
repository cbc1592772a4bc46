"""The .safetensors files of this package and of others, and headers that lie."""

import json
from dataclasses import replace

import numpy as np
import pytest
import safetensors.numpy
from weight_nets import assert_refused, assert_same_bits, random_weights, small_net

from official.alexnet.modeling.variants import OWT
from official.alexnet.weights import files, tensor_files

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


def test_what_is_written_is_the_same_each_time(tmp_path):
    written = tensor_files.write_safetensors(ARRAYS, "notes")
    path = tmp_path / "x.safetensors"
    path.write_bytes(written)
    with safetensors.safe_open(path, "np") as file:
        assert file.metadata()["format"] == "pt"
    for _ in range(10):
        assert tensor_files.write_safetensors(ARRAYS, "notes") == written
    assert_same_bits(safetensors.numpy.load(written), ARRAYS, any_order=True)
    found, notes = tensor_files.read_safetensors(written)
    assert_same_bits(found, ARRAYS, any_order=True)
    assert notes == "notes"
    for place in (written.index(b"notes"), len(written) - 1):
        damaged = bytearray(written)
        damaged[place] ^= 1
        with pytest.raises(ValueError, match="checksum"):
            tensor_files.read_safetensors(bytes(damaged))


def test_what_the_package_writes():
    others = {"half": np.float16([1, 2, 3]), "double": np.array([[0.1, 0.2]])}
    arrays = ARRAYS | others
    found, notes = tensor_files.read_safetensors(safetensors.numpy.save(arrays))
    assert_same_bits(found, arrays, any_order=True)
    assert notes == ""


def test_torchvisions_convolutions_under_another_layer(tmp_path):
    """The net is not torchvision's, and its layers have their own names."""
    more = replace(OWT.dense[1], name="fc7_1")
    net = small_net("owt")
    net = replace(net, dense=(*net.dense, replace(more, units=net.dense[1].units)))
    weights = random_weights(net)
    path = str(tmp_path / "more.safetensors")
    files.write(path, weights, net)
    assert_same_bits(files.read(path, net).weights, weights, any_order=True)


def test_bfloat16():
    torch = pytest.importorskip("torch")
    save = pytest.importorskip("safetensors.torch").save
    tensor = torch.randn(3, 5).bfloat16()
    found, _ = tensor_files.read_safetensors(save({"a": tensor}))
    np.testing.assert_array_equal(found["a"], tensor.float().numpy())


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"\x02\x00\x00", (2**63).to_bytes(8, "little") + b"{}"),
        *(file_of(b"[]"), file_of(b"{nonsense"), file_of(b"\xff\xfe")),
        *(file_of(b"[" * 100_000), file_of(b'{"a":' + b"9" * 5000 + b"}")),
        *(file_of({"a": [1]}), file_of({"__metadata__": {"a": 1}})),
        *(one(dtype="I64"), one(dtype="F64"), one(shape=[3]), one(shape=[-2])),
        *(one(shape=[2_500_000_000]), one(shape=[10**9] * 50), one(shape=[2.0])),
        *(one(data_offsets=[1, 9]), one(data_offsets=[8, 0]), one() + b"x"),
        file_of(b'{"__metadata__": {"official_alexnet": "[]"}}'),
    ],
)
def test_headers_that_lie(data, tmp_path):
    path = tmp_path / "net.safetensors"
    path.write_bytes(data)
    assert_refused(path, small_net("owt"))
