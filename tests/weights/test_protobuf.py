"""The wire format against protobuf itself, and messages that lie."""

import numpy as np
import pytest
from weight_nets import caffe_messages

from official.alexnet.weights import protobuf
from official.alexnet.weights.protobuf import BYTES, FIXED32, VARINT, WireError


def fields(message: bytes) -> list:
    found = protobuf.fields(memoryview(message))
    return [(f.number, f.kind, f.value) for f in found]


def test_fields_that_protobuf_wrote():
    messages = caffe_messages()
    layer = messages["LayerParameter"](name="conv1", phase=2**31 - 1)
    layer.lrn_param.alpha = 0.5
    found = fields(layer.SerializeToString())
    assert [(number, kind) for number, kind, _ in found] == [
        (1, BYTES),
        (10, VARINT),
        (118, BYTES),
    ]
    assert bytes(found[0][2]) == b"conv1"
    assert found[1][2] == 2**31 - 1
    assert fields(found[2][2]) == [(2, FIXED32, np.float32(0.5).tobytes())]


def test_numbers_of_all_sizes():
    blob = caffe_messages()["BlobProto"](num=-3)
    blob.shape.dim.extend([0, 1, 127, 128, 2**35, 2**63 - 1, -1])
    (_, _, shape), (_, _, num) = sorted(fields(blob.SerializeToString()), reverse=True)
    assert protobuf.signed(num) == -3
    ((_, _, packed),) = fields(shape)
    numbers = [protobuf.signed(value) for value in protobuf.varints(packed)]
    assert numbers == list(blob.shape.dim)


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_unpacked_numbers_come_as_one_run(count):
    values = np.random.default_rng(count).normal(size=count)
    blob = caffe_messages()["UnpackedBlob"](data=values, double_data=values)
    blob.shape.dim.append(count)
    by_number = {n: value for n, _, value in fields(blob.SerializeToString())}
    assert by_number[5] == values.astype("<f4").tobytes()
    assert by_number[8] == values.astype("<f8").tobytes()
    assert len(fields(blob.SerializeToString())) == 3


def test_protobuf_reads_what_is_written():
    blob = caffe_messages()["BlobProto"]
    written = (
        protobuf.write_varint(1, 2**40)
        + protobuf.write_bytes(5, np.float32([1.5, -2]).tobytes())
        + protobuf.write_bytes(7, protobuf.write_bytes(1, protobuf.pack_varints([300])))
    )
    read = blob.FromString(written)
    assert (read.num, list(read.data), list(read.shape.dim)) == (
        2**40,
        [1.5, -2],
        [300],
    )
    lrn = caffe_messages()["LRNParameter"].FromString(protobuf.write_float(5, 0.1))
    assert lrn.k == np.float32(0.1)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"\x0a\x05abcd", "5 bytes"),
        (b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "18446744073709551615 bytes"),
        (b"\x08", "ends inside"),
        (b"\x08\xff\xff", "ends inside"),
        (b"\x08" + b"\xff" * 10, "64 bits"),
        (b"\x08" + b"\xff" * 9 + b"\x02", "64 bits"),
        (b"\x0d\x00\x00\x00", "ends inside"),
        (b"\x09\x00\x00\x00\x00", "ends inside"),
        (b"\x00\x01", "field number 0"),
        (b"\x0b", "unknown kind 3"),
        (b"\x0f", "unknown kind 7"),
        (b"\x08\x01" * 3000, "more than 2000 fields"),
    ],
)
def test_what_is_not_a_message(message, text):
    with pytest.raises(WireError, match=text):
        fields(message)


def test_many_short_runs_take_linear_time():
    # Were each run looked for in all the rest, this would take an hour.
    pair = b"\x0d\x00\x00\x00\x00" * 2 + b"\x15\x00\x00\x00\x00"
    assert len(fields(pair * 900 + b"\x0d\x00\x00\x00\x00" * 2_000_000)) == 1801


def test_packed_numbers_are_few():
    with pytest.raises(WireError, match="64 numbers"):
        protobuf.varints(memoryview(b"\x01" * 10_000_000))
