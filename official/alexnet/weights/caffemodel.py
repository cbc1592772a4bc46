"""Caffe's .caffemodel (a NetParameter), .prototxt and mean files (a BlobProto)."""

import dataclasses
import math
import re
import zlib

import numpy as np

from official.alexnet.weights import protobuf
from official.alexnet.weights.caffe_layers import (
    KINDS,
    V1_TYPES,
    Kind,
    Layer,
    Setting,
    Value,
)
from official.alexnet.weights.protobuf import BYTES, FIXED32, FIXED64, VARINT, WireError

# Fields of NetParameter, LayerParameter, BlobProto and BlobShape in caffe.proto.
_NET_NAME, _NET_V1_LAYERS, _NET_LAYERS = 1, 2, 100
_BLOB_LEGACY_SHAPE = (1, 2, 3, 4)
_BLOB_DATA, _BLOB_DIFF, _BLOB_SHAPE, _BLOB_DOUBLES, _BLOB_DOUBLE_DIFF = 5, 6, 7, 8, 9
_SHAPE_DIM = 1
# Ends the name of a net written here: Caffe's format has no checksum of the numbers.
_CHECKSUM = re.compile(r" crc32:([0-9a-f]{8})$")
_MOST_LAYERS = 1000
_MOST_BLOBS = 8


@dataclasses.dataclass(frozen=True)
class _LayerFields:
    """Numbers of a layer's own fields."""

    name: int
    type: int
    bottom: int
    top: int
    blobs: int


_LAYER = _LayerFields(name=1, type=2, bottom=3, top=4, blobs=7)
_V1_LAYER = _LayerFields(name=4, type=5, bottom=2, top=3, blobs=6)
_V0_LAYER = 1


def read(data: bytes) -> list[Layer]:
    """Reads a .caffemodel, of the present form or V1.

    Args:
        data: the whole file.

    Returns:
        Its layers, in order, with their weights.

    Raises:
        WireError: it is damaged, or something else.
    """
    layers, name = [], ""
    for field in protobuf.fields(memoryview(data)):
        if field.number == _NET_NAME:
            name = _text(field)
        is_v1 = field.number == _NET_V1_LAYERS
        if field.number not in (_NET_LAYERS, _NET_V1_LAYERS):
            # Net-wide settings are numbered up to 8.
            if field.number > 8:
                raise WireError(f"a net has no field {field.number}")
            continue
        if len(layers) == _MOST_LAYERS:
            raise WireError(f"more than {_MOST_LAYERS} layers")
        layers.append(_read_layer(_message(field, "a layer"), is_v1))
    if not any(layer.blobs for layer in layers):
        raise WireError("it holds no layer with weights")
    noted = _CHECKSUM.search(name)
    if noted and noted[1] != _checksum(layers):
        raise WireError("its checksum is another: it is damaged")
    return layers


def _checksum(layers: list[Layer]) -> str:
    checksum = 0
    for blob in (blob for layer in layers for blob in layer.blobs):
        checksum = zlib.crc32(np.ascontiguousarray(blob), checksum)
    return f"{checksum:08x}"


def read_blob(data: bytes) -> np.ndarray:
    """Reads a BlobProto, such as the mean image in imagenet_mean.binaryproto.

    Raises:
        WireError: it is damaged, or something else.
    """
    return _read_blob(memoryview(data), "the blob")


def _read_layer(message: memoryview, is_v1: bool) -> Layer:
    numbers = _V1_LAYER if is_v1 else _LAYER
    name, type_, bottoms, tops, blobs = "", "", [], [], []
    parameters: dict[int, memoryview] = {}
    for field in protobuf.fields(message):
        if field.number == numbers.name:
            name = _text(field)
        elif field.number == numbers.type:
            type_ = _v1_type(field) if is_v1 else _text(field)
        elif field.number == numbers.bottom:
            bottoms.append(_text(field))
        elif field.number == numbers.top:
            tops.append(_text(field))
        elif field.number == numbers.blobs:
            what = f"a blob of layer {name}"
            blobs.append(_read_blob(_message(field, what), what))
            if len(blobs) > _MOST_BLOBS:
                raise WireError(f"layer {name} has more than {_MOST_BLOBS} blobs")
        elif is_v1 and field.number == _V0_LAYER:
            raise WireError(
                "it is of Caffe's first form (V0): upgrade it with Caffe's "
                "upgrade_net_proto_binary"
            )
        elif field.kind == BYTES:
            parameters[field.number] = field.value
    settings = {}
    if kind := KINDS.get(type_):
        number = kind.v1_number if is_v1 else kind.number
        settings = _read_settings(kind, parameters.get(number, b""), name)
    return Layer(name, type_, tuple(bottoms), tuple(tops), settings, tuple(blobs))


def _v1_type(field: protobuf.Field) -> str:
    if field.kind != VARINT:
        raise WireError("a layer's type is not a number")
    return V1_TYPES.get(field.value, f"number {field.value}")


def _read_settings(kind: Kind, message: memoryview, layer: str) -> dict[str, Value]:
    known = {setting.number: setting for setting in kind.settings}
    found: dict[str, list] = {}
    for field in protobuf.fields(message):
        if field.number in kind.harmless:
            continue
        if field.number not in known:
            raise WireError(
                f"layer {layer} has a setting that no AlexNet has, number "
                f"{field.number} of {kind.message}"
            )
        setting = known[field.number]
        found.setdefault(setting.name, []).extend(_numbers(field, setting, layer))
    settings = {}
    for setting in kind.settings:
        if setting.name in found:
            value = _setting(setting, found[setting.name], layer)
            if value != setting.default:
                settings[setting.name] = value
    return settings


def _numbers(field: protobuf.Field, setting: Setting, layer: str) -> list:
    if setting.kind == "float" and field.kind == FIXED32:
        return [float(np.frombuffer(field.value, "<f4")[-1])]
    if setting.kind != "float" and field.kind == VARINT:
        return [protobuf.signed(field.value)]
    if setting.kind != "float" and field.kind == BYTES:
        return [protobuf.signed(value) for value in protobuf.varints(field.value)]
    raise WireError(f"layer {layer}: {setting.name} is not a number")


def _setting(setting: Setting, values: list, layer: str) -> Value:
    if setting.kind == "ints":
        return tuple(values)
    # Repeated where the axes may differ; in these nets they do not.
    if len(set(values)) != 1:
        raise WireError(f"layer {layer}: {setting.name} is not one number")
    if setting.kind != "enum":
        return values[0]
    if not 0 <= values[0] < len(setting.names):
        raise WireError(f"layer {layer}: {setting.name} is {values[0]}")
    return setting.names[values[0]]


def _read_blob(message: memoryview, what: str) -> np.ndarray:
    legacy, shape, floats, doubles = {}, None, [], []
    for field in protobuf.fields(message):
        if field.number in _BLOB_LEGACY_SHAPE and field.kind == VARINT:
            legacy[field.number] = protobuf.signed(field.value)
        elif field.number == _BLOB_SHAPE:
            shape = _read_shape(_message(field, what), what)
        elif field.number == _BLOB_DATA and field.kind in (BYTES, FIXED32):
            floats.append(field.value)
        elif field.number == _BLOB_DOUBLES and field.kind in (BYTES, FIXED64):
            doubles.append(field.value)
        elif field.number not in (_BLOB_DIFF, _BLOB_DOUBLE_DIFF):
            raise WireError(f"{what} has an unknown field {field.number}")
    if shape is None:
        shape = tuple(legacy.get(number, 0) for number in _BLOB_LEGACY_SHAPE)
    if bool(floats) == bool(doubles):
        raise WireError(f"{what} holds no numbers, or both floats and doubles")
    parts, dtype = (floats, "<f4") if floats else (doubles, "<f8")
    content = parts[0] if len(parts) == 1 else b"".join(parts)
    size, count = np.dtype(dtype).itemsize, math.prod(shape)
    if min(shape, default=0) < 1 or len(content) != count * size:
        raise WireError(
            f"{what} of shape {shape} should have {count} numbers of {size} bytes, "
            f"but has {len(content)} bytes"
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _read_shape(message: memoryview, what: str) -> tuple[int, ...]:
    dims = []
    for field in protobuf.fields(message):
        if field.number != _SHAPE_DIM or field.kind not in (VARINT, BYTES):
            raise WireError(f"{what} has an unknown field in its shape")
        packed = field.kind == BYTES
        dims += protobuf.varints(field.value) if packed else [field.value]
        if len(dims) > 8:
            raise WireError(f"{what} has more than 8 axes")
    return tuple(protobuf.signed(dim) for dim in dims)


def _message(field: protobuf.Field, what: str) -> memoryview:
    if field.kind != BYTES:
        raise WireError(f"{what} is not a message")
    return field.value


def _text(field: protobuf.Field) -> str:
    if field.kind != BYTES:
        raise WireError("a name is not text")
    try:
        return str(field.value, "utf-8")
    except UnicodeDecodeError:
        raise WireError("a name is not UTF-8") from None


def write(layers: list[Layer], name: str) -> bytes:
    """The bytes of a .caffemodel in the present form, a checksum in the net's name."""
    name += f" crc32:{_checksum(layers)}"
    parts = [protobuf.write_bytes(_NET_NAME, name.encode())]
    parts += [protobuf.write_bytes(_NET_LAYERS, _write_layer(la)) for la in layers]
    return b"".join(parts)


def _write_layer(layer: Layer) -> bytes:
    texts = [(_LAYER.name, layer.name), (_LAYER.type, layer.type)]
    texts += [(_LAYER.bottom, bottom) for bottom in layer.bottoms]
    texts += [(_LAYER.top, top) for top in layer.tops]
    parts = [protobuf.write_bytes(number, text.encode()) for number, text in texts]
    parts += [
        protobuf.write_bytes(_LAYER.blobs, _write_blob(blob)) for blob in layer.blobs
    ]
    kind = KINDS[layer.type]
    if layer.settings:
        settings = b"".join(
            _write_setting(setting, layer.settings[setting.name])
            for setting in kind.settings
            if setting.name in layer.settings
        )
        parts.append(protobuf.write_bytes(kind.number, settings))
    return b"".join(parts)


def _write_setting(setting: Setting, value: Value) -> bytes:
    match setting.kind:
        case "float":
            return protobuf.write_float(setting.number, value)
        case "ints":
            return b"".join(protobuf.write_varint(setting.number, n) for n in value)
        case "enum":
            return protobuf.write_varint(setting.number, setting.names.index(value))
        case _:
            return protobuf.write_varint(setting.number, value)


def _write_blob(blob: np.ndarray) -> bytes:
    dims = protobuf.write_bytes(_SHAPE_DIM, protobuf.pack_varints(list(blob.shape)))
    content = np.ascontiguousarray(blob, "<f4").tobytes()
    return protobuf.write_bytes(_BLOB_DATA, content) + protobuf.write_bytes(
        _BLOB_SHAPE, dims
    )


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
