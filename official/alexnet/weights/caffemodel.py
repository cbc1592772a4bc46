"""Caffe's .caffemodel (a NetParameter), .prototxt and mean files (a BlobProto).

google.protobuf reads and writes them by the few fields of `caffe.proto` that these
nets have. Floats stand here as bytes: that is how a packed field lies in the file.
"""

import dataclasses
import functools
import math
import re
import zlib

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from official.alexnet.modeling.variants import Variant
from official.alexnet.weights import caffe_layers
from official.alexnet.weights.caffe_layers import (
    KINDS,
    V1_TYPES,
    Layer,
    Setting,
    Value,
)

_PACKAGE = "official_alexnet_caffe"
# Name, number and type of each field; `*` where it is repeated.
_FIELDS = {
    "BlobShape": (("dim", 1, "int64*"),),
    "BlobProto": (
        *(("num", 1, "int64"), ("channels", 2, "int64")),
        *(("height", 3, "int64"), ("width", 4, "int64")),
        *(("data", 5, "bytes*"), ("shape", 7, "BlobShape")),
        ("double_data", 8, "bytes*"),
    ),
    "LayerParameter": (
        *(("name", 1, "string"), ("type", 2, "string")),
        *(("bottom", 3, "string*"), ("top", 4, "string*")),
        ("blobs", 7, "BlobProto*"),
        *((kind.message, kind.number, kind.message) for kind in KINDS.values()),
    ),
    "V1LayerParameter": (
        # A layer of the first form (V0).
        *(("layer", 1, "bytes"), ("name", 4, "string"), ("type", 5, "int64")),
        *(("bottom", 2, "string*"), ("top", 3, "string*")),
        ("blobs", 6, "BlobProto*"),
        *((kind.message, kind.v1_number, kind.message) for kind in KINDS.values()),
    ),
    "NetParameter": (
        *(("name", 1, "string"), ("layers", 2, "V1LayerParameter*")),
        ("layer", 100, "LayerParameter*"),
    ),
}
_WIRE_TYPES = {"float": "float*", "int": "int64*", "ints": "int64*", "enum": "int64*"}
# Numbers of `diff` and `double_diff`, which only training reads.
_DIFFS = (6, 9)
# Net-wide settings are numbered up to 8.
_LAST_OF_NET = 8
# Unpacked numbers, as files of 2013 have them: field, wire type and dtype.
_UNPACKED = {"data": (5, 5, "<u4", "<f4"), "double_data": (8, 1, "<u8", "<f8")}
# Ends the name of a net written here: Caffe's format has no checksum of the numbers.
_CHECKSUM = re.compile(r" crc32:([0-9a-f]{8})$")


@functools.cache
def _message(name: str) -> type[Message]:
    """The class of one of Caffe's messages."""
    return message_factory.GetMessageClass(
        _descriptors().FindMessageTypeByName(f"{_PACKAGE}.{name}")
    )


@functools.cache
def _descriptors() -> descriptor_pool.DescriptorPool:
    fields = dict(_FIELDS)
    for kind in KINDS.values():
        fields[kind.message] = tuple(
            (setting.name, setting.number, _WIRE_TYPES[setting.kind])
            for setting in kind.settings
        )
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2"
    )
    constants = descriptor_pb2.FieldDescriptorProto
    for name, entries in fields.items():
        if not name:
            continue
        message = file.message_type.add(name=name)
        for field, number, text in entries:
            if not field or not number:
                continue
            kind = text.removesuffix("*")
            added = message.field.add(name=field, number=number)
            is_repeated = text.endswith("*")
            added.label = (
                constants.LABEL_REPEATED if is_repeated else constants.LABEL_OPTIONAL
            )
            if kind in fields:
                added.type = constants.TYPE_MESSAGE
                added.type_name = f".{_PACKAGE}.{kind}"
            else:
                added.type = getattr(constants, f"TYPE_{kind.upper()}")
            added.options.packed = field == "dim"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool


def read(data: bytes) -> list[Layer]:
    """Reads a .caffemodel, of the present form or V1.

    Args:
        data: the whole file.

    Returns:
        Its layers, in order, with their weights.

    Raises:
        ValueError, DecodeError: it is damaged, or something else.
    """
    net = _message("NetParameter").FromString(data)
    for field in UnknownFieldSet(net):
        if field.field_number > _LAST_OF_NET:
            raise ValueError(f"a net has no field {field.field_number}")
    layers = [_read_layer(layer, is_v1=False) for layer in net.layer]
    layers += [_read_layer(layer, is_v1=True) for layer in net.layers]
    if not any(layer.blobs for layer in layers):
        raise ValueError("it holds no layer with weights")
    noted = _CHECKSUM.search(net.name)
    if noted and noted[1] != _checksum(layers):
        raise ValueError("its checksum is another: it is damaged")
    return layers


def _checksum(layers: list[Layer]) -> str:
    checksum = 0
    for blob in (blob for layer in layers for blob in layer.blobs):
        checksum = zlib.crc32(np.ascontiguousarray(blob), checksum)
    return f"{checksum:08x}"


def read_blob(data: bytes) -> np.ndarray:
    """Reads a BlobProto, such as the mean image in imagenet_mean.binaryproto.

    Raises:
        ValueError, DecodeError: it is damaged, or something else.
    """
    return _read_blob(_message("BlobProto").FromString(data), "the blob")


def _read_layer(message: Message, is_v1: bool) -> Layer:
    name, type_ = message.name, message.type
    if is_v1:
        if message.HasField("layer"):
            raise ValueError(
                "it is of Caffe's first form (V0): upgrade it with Caffe's "
                "upgrade_net_proto_binary"
            )
        type_ = V1_TYPES.get(type_, f"number {type_}")
    kind, settings = KINDS.get(type_), {}
    if kind and kind.message:
        given = getattr(message, kind.message)
        for field in UnknownFieldSet(given):
            if field.field_number not in kind.harmless:
                raise ValueError(
                    f"layer {name} has a setting that no AlexNet has, number "
                    f"{field.field_number} of {kind.message}"
                )
        for setting in kind.settings:
            values = tuple(getattr(given, setting.name))
            value = _setting(setting, values, name) if values else setting.default
            if value != setting.default:
                settings[setting.name] = value
    blobs = tuple(_read_blob(blob, f"a blob of layer {name}") for blob in message.blobs)
    return Layer(
        name, type_, tuple(message.bottom), tuple(message.top), settings, blobs
    )


def _setting(setting: Setting, values: tuple, layer: str) -> Value:
    if setting.kind == "ints":
        return values
    # Repeated where the axes may differ; in these nets they do not.
    if len(set(values)) != 1:
        raise ValueError(f"layer {layer}: {setting.name} is not one number")
    if setting.kind != "enum":
        return values[0]
    if not 0 <= values[0] < len(setting.names):
        raise ValueError(f"layer {layer}: {setting.name} is {values[0]}")
    return setting.names[values[0]]


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


def arrays_of(layers: list[Layer]) -> dict[str, np.ndarray]:
    """Caffe's blobs by PyTorch's names, without axes of length 1 in front.

    Raises:
        ValueError: a layer holds other blobs than a kernel and biases.
    """
    arrays: dict[str, np.ndarray] = {}
    for layer in layers:
        if not layer.blobs:
            continue
        if f"{layer.name}.weight" in arrays:
            raise ValueError(f"layer {layer.name} stands in it twice")
        if layer.type not in ("Convolution", "InnerProduct") or len(layer.blobs) != 2:
            raise ValueError(
                f"layer {layer.name} ({layer.type}) holds {len(layer.blobs)} blobs, "
                "not weights and biases"
            )
        ranks = (4 if layer.type == "Convolution" else 2, 1)
        for name, blob, rank in zip(
            ("weight", "bias"), layer.blobs, ranks, strict=True
        ):
            extra = blob.shape[: max(0, blob.ndim - rank)]
            if blob.ndim < rank or set(extra) - {1}:
                raise ValueError(f"{name} of layer {layer.name} is of {blob.shape}")
            arrays[f"{layer.name}.{name}"] = blob.reshape(blob.shape[len(extra) :])
    return arrays


def write_net(
    arrays: dict[str, np.ndarray], net: Variant, file_name: str, formula: str
) -> tuple[bytes, str]:
    """A net with its weights for Caffe.

    Args:
        arrays: by PyTorch's names, for BGR images.
        net: the net, with its options.
        file_name: of the .caffemodel.
        formula: what the net's input is, for people.

    Returns:
        The .caffemodel and the .prototxt that runs it.

    Raises:
        UserError: Caffe has no such layers.
    """
    layers = []
    size = net.input_size
    for layer in caffe_layers.describe(net, len(arrays["fc8.bias"]), size):
        names = (f"{layer.name}.weight", f"{layer.name}.bias")
        blobs = tuple(arrays[name] for name in names if name in arrays)
        layers.append(dataclasses.replace(layer, blobs=blobs))
    side = caffe_layers.input_side(net, size)
    comments = [f"AlexNet, variant {net.name}, for the weights in {file_name}."]
    comments.append(f"Input: {formula}.")
    if side != size:
        comments.append(
            f"The image of {size} x {size} has {side - size} zeros at its bottom and "
            "right, after the mean."
        )
    if any(layer.settings.get("k") for layer in layers):
        comments.append("OpenCV ignores k of lrn_param; Caffe does not.")
    return write(layers, net.name), prototxt(layers, net.name, side, comments)


def write(layers: list[Layer], name: str) -> bytes:
    """The bytes of a .caffemodel in the present form, a checksum in the net's name."""
    net = _message("NetParameter")(name=f"{name} crc32:{_checksum(layers)}")
    for layer in layers:
        message = net.layer.add(name=layer.name, type=layer.type)
        message.bottom.extend(layer.bottoms)
        message.top.extend(layer.tops)
        for array in layer.blobs:
            blob = message.blobs.add()
            blob.data.append(np.ascontiguousarray(array, "<f4").tobytes())
            blob.shape.dim.extend(array.shape)
        kind = KINDS[layer.type]
        for setting in kind.settings:
            if setting.name not in layer.settings:
                continue
            value = layer.settings[setting.name]
            if setting.kind == "enum":
                value = setting.names.index(value)
            values = value if isinstance(value, tuple) else (value,)
            getattr(getattr(message, kind.message), setting.name).extend(values)
    return net.SerializeToString()


def prototxt(layers: list[Layer], name: str, side: int, comments: list[str]) -> str:
    """The text of a deploy .prototxt that goes with the weights.

    Args:
        layers: as `caffe_layers.describe` gives them.
        name: of the net.
        side: of the square image that the net reads.
        comments: lines for its head.
    """
    lines = [*(f"# {comment}" for comment in comments), f'name: "{name}"']
    for layer in layers:
        lines += ["layer {", f'  name: "{layer.name}"', f'  type: "{layer.type}"']
        lines += [f'  bottom: "{bottom}"' for bottom in layer.bottoms]
        lines += [f'  top: "{top}"' for top in layer.tops]
        if layer.type == "Input":
            dims = " ".join(f"dim: {size}" for size in (1, 3, side, side))
            lines.append(f"  input_param {{ shape {{ {dims} }} }}")
        elif layer.settings:
            lines.append(f"  {KINDS[layer.type].message} {{")
            for setting, value in layer.settings.items():
                values = value if isinstance(value, tuple) else (value,)
                lines += [f"    {setting}: {_as_text(v)}" for v in values]
            lines.append("  }")
        lines.append("}")
    return "\n".join([*lines, ""])


def _as_text(value: Value) -> str:
    return f"{value:.9g}" if isinstance(value, float) else str(value)
