"""Caffe's .caffemodel (a NetParameter), .prototxt and mean files (a BlobProto)."""

import math
import re
import zlib

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from official.alexnet.modeling.variants import Variant
from official.alexnet.weights import caffe_layers
from official.alexnet.weights.caffe_messages import (
    HARMLESS,
    PARAMETERS,
    V1_TYPES,
    message,
)

# Numbers of `diff` and `double_diff`, which only training reads.
_DIFFS = (6, 9)
# Net-wide settings are numbered up to 8.
_LAST_OF_NET = 8
# Unpacked numbers, as files of 2013 have them: field, wire type and dtype.
_UNPACKED = {"data": (5, 5, "<u4", "<f4"), "double_data": (8, 1, "<u8", "<f8")}
# Ends the name of a net written here: Caffe's format has no checksum of the numbers.
_CHECKSUM = re.compile(r" crc32:([0-9a-f]{8})$")


def read(data: bytes) -> tuple[list[Message], dict[str, np.ndarray]]:
    """Reads a .caffemodel, of the present form or V1.

    Returns its layers, in order, as LayerParameter messages; and their blobs by
    PyTorch's names, without axes of length 1 in front.

    Raises:
        ValueError, DecodeError: it is damaged, or something else.
    """
    net = message("NetParameter").FromString(data)
    for field in UnknownFieldSet(net):
        if field.field_number > _LAST_OF_NET:
            raise ValueError(f"a net has no field {field.field_number}")
    layers, arrays = [], {}
    for given in (*net.layer, *net.layers):
        layer = _checked(given)
        if given.blobs:
            arrays |= _arrays(layer, given.blobs, arrays)
        layers.append(layer)
    if not arrays:
        raise ValueError("it holds no layer with weights")
    noted = _CHECKSUM.search(net.name)
    if noted and noted[1] != _checksum(arrays):
        raise ValueError("its checksum is another: it is damaged")
    return layers, arrays


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    checksum = 0
    for array in arrays.values():
        checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
    return f"{checksum:08x}"


def read_blob(data: bytes) -> np.ndarray:
    """Reads a BlobProto, such as the mean image in imagenet_mean.binaryproto.

    Raises:
        ValueError, DecodeError: it is damaged, or something else.
    """
    return _read_blob(message("BlobProto").FromString(data), "the blob")


def _checked(given: Message) -> Message:
    """A layer of either form in the present one, without its blobs."""
    kind = given.type
    if given.DESCRIPTOR.name == "V1LayerParameter":
        if given.HasField("layer"):
            raise ValueError(
                "it is of Caffe's first form (V0): upgrade it with Caffe's "
                "upgrade_net_proto_binary"
            )
        kind = V1_TYPES.get(kind, f"number {kind}")
    layer = message("LayerParameter")(
        name=given.name, type=kind, bottom=given.bottom, top=given.top
    )
    if name := PARAMETERS.get(kind):
        for field in UnknownFieldSet(getattr(given, name)):
            if field.field_number not in HARMLESS[name]:
                raise ValueError(
                    f"layer {given.name} has a setting that no AlexNet has, number "
                    f"{field.field_number} of {name}"
                )
        getattr(layer, name).CopyFrom(getattr(given, name))
        caffe_layers.settings(layer)
    return layer


def _read_blob(blob: Message, what: str) -> np.ndarray:
    unknown = UnknownFieldSet(blob)
    parts = {name: list(getattr(blob, name)) for name in _UNPACKED}
    for name, (number, wire_type, bits, _) in _UNPACKED.items():
        alone = [
            field.data
            for field in unknown
            if (field.field_number, field.wire_type) == (number, wire_type)
        ]
        parts[name] += [np.array(alone, bits).tobytes()] if alone else []
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
        unknown = [*unknown, *UnknownFieldSet(blob.shape)]
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    kinds = {(number, wire_type) for number, wire_type, _, _ in _UNPACKED.values()}
    for field in unknown:
        number = field.field_number
        if number not in _DIFFS and (number, field.wire_type) not in kinds:
            raise ValueError(f"{what} has an unknown field {number}")
    if bool(parts["data"]) == bool(parts["double_data"]):
        raise ValueError(f"{what} holds no numbers, or both floats and doubles")
    name = "data" if parts["data"] else "double_data"
    dtype = np.dtype(_UNPACKED[name][-1])
    content, count = b"".join(parts[name]), math.prod(shape)
    if min(shape, default=0) < 1 or len(content) != count * dtype.itemsize:
        raise ValueError(
            f"{what} of shape {shape} should have {count} numbers of {dtype.itemsize} "
            f"bytes, but has {len(content)} bytes"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _arrays(layer: Message, blobs, known: dict) -> dict[str, np.ndarray]:
    """A layer's kernel and biases by PyTorch's names."""
    read = [_read_blob(blob, f"a blob of layer {layer.name}") for blob in blobs]
    if f"{layer.name}.weight" in known:
        raise ValueError(f"layer {layer.name} stands in it twice")
    if layer.type not in ("Convolution", "InnerProduct") or len(read) != 2:
        raise ValueError(
            f"layer {layer.name} ({layer.type}) holds {len(read)} blobs, not weights "
            "and biases"
        )
    arrays, ranks = {}, (4 if layer.type == "Convolution" else 2, 1)
    for name, array, rank in zip(("weight", "bias"), read, ranks, strict=True):
        extra = array.shape[: max(0, array.ndim - rank)]
        if array.ndim < rank or set(extra) - {1}:
            raise ValueError(f"{name} of layer {layer.name} is of {array.shape}")
        arrays[f"{layer.name}.{name}"] = array.reshape(array.shape[len(extra) :])
    return arrays


def write(
    arrays: dict[str, np.ndarray], net: Variant, file_name: str, formula: str
) -> tuple[bytes, str]:
    """A .caffemodel, with a checksum in the net's name, and the .prototxt that runs it.

    The arrays are by PyTorch's names, for BGR images. The .prototxt says `file_name`,
    of the .caffemodel, and `formula`, what the net's input is, for people.

    Raises:
        UserError: Caffe has no such layers.
    """
    size, side = net.input_size, caffe_layers.input_side(net)
    layers = caffe_layers.describe(net, len(arrays["fc8.bias"]))
    comments = [f"AlexNet, variant {net.name}, for the weights in {file_name}."]
    comments.append(f"Input: {formula}.")
    if side != size:
        comments.append(
            f"The image of {size} x {size} has {side - size} zeros at its bottom and "
            "right, after the mean."
        )
    if any(layer.lrn_param.k != 1 for layer in layers):
        comments.append("OpenCV ignores k of lrn_param; Caffe does not.")
    whole = message("NetParameter")(name=net.name, layer=layers)
    text = "".join(f"# {line}\n" for line in comments)
    text += text_format.MessageToString(whole)
    ordered = {}
    for layer in whole.layer:
        for name in (f"{layer.name}.weight", f"{layer.name}.bias"):
            if name in arrays:
                ordered[name] = np.ascontiguousarray(arrays[name], "<f4")
                content = [ordered[name].tobytes()]
                layer.blobs.add(data=content, shape={"dim": ordered[name].shape})
    whole.name += f" crc32:{_checksum(ordered)}"
    return whole.SerializeToString(), text
