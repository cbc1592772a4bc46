"""The two layouts of TFRecord ImageNet in use: classic and TFDS."""

import dataclasses

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

# tf.train.Example: message -> field, number and type; * is repeated. A map is a list
# of keys and values.
_PACKAGE = "official.alexnet.example"
_MESSAGES = {
    "BytesList": [("value", 1, "bytes*")],
    "Int64List": [("value", 1, "int64*")],
    "Feature": [("bytes_list", 1, "BytesList"), ("int64_list", 3, "Int64List")],
    "Entry": [("key", 1, "string"), ("value", 2, "Feature")],
    "Features": [("feature", 1, "Entry*")],
    "Example": [("features", 1, "Features")],
}


@dataclasses.dataclass(frozen=True)
class Schema:
    """One layout: its name in messages, its feature keys, and the smallest label.

    Features: encoded JPEG or PNG bytes, int64 label, the picture's file name.
    """

    name: str
    image_key: str
    label_key: str
    first_label: int
    name_key: str


CLASSIC = Schema("classic", "image/encoded", "image/class/label", 1, "image/filename")
TFDS = Schema("tfds", "image", "label", 0, "file_name")


def classic_example(
    jpeg: bytes,
    *,
    height: int,
    width: int,
    label: int,
    synset: str,
    text: str,
    filename: str,
) -> bytes:
    """Serializes an RGB JPEG as the classic ImageNet `tf.train.Example`.

    Height and width are in pixels; `label` is 0-based, and stored 1-based; `synset` is
    the WordNet id of the class, `text` the class in words, `filename` without folder.
    """
    features = {
        "image/channels": 3,
        "image/class/label": label + CLASSIC.first_label,
        "image/class/synset": synset.encode(),
        "image/class/text": text.encode(),
        "image/colorspace": b"RGB",
        "image/encoded": jpeg,
        "image/filename": filename.encode(),
        "image/format": b"JPEG",
        "image/height": height,
        "image/width": width,
    }
    example = _Example()
    for key, value in features.items():
        feature = example.features.feature.add(key=key).value
        kind = feature.int64_list if isinstance(value, int) else feature.bytes_list
        kind.value.append(value)
    return example.SerializeToString()


def stored_label(serialized: bytes, schema: Schema) -> int:
    """The label as it is stored; ValueError says why it is no record of this layout."""
    try:
        features = _features(serialized)
    except Exception:  # protobuf's DecodeError moves between its versions
        raise ValueError("is not a tf.train.Example") from None
    wanted = (
        (schema.image_key, "bytes_list", "byte strings", "image"),
        (schema.label_key, "int64_list", "integers", "label"),
    )
    for key, kind, things, thing in wanted:
        if key not in features:
            raise ValueError(
                f"has no feature {key!r} of the {schema.name} layout; it has "
                f"{', '.join(sorted(features)) or 'none'}"
            )
        values = getattr(features[key], kind).value
        if len(values) != 1:
            raise ValueError(f"has {len(values)} {things} in {key!r}, not one {thing}")
    return values[0]


def encoded_image(serialized: bytes, schema: Schema) -> bytes:
    """The encoded image of a record that `stored_label` accepts."""
    return _features(serialized)[schema.image_key].bytes_list.value[0]


def file_name(serialized: bytes, schema: Schema) -> str | None:
    """The file name that a record has of its picture; None where it has none."""
    return _text(serialized, schema.name_key)


def synset(serialized: bytes) -> str | None:
    """The WordNet id that a classic record has of its class; None where it has none."""
    return _text(serialized, "image/class/synset")


def _text(serialized: bytes, key: str) -> str | None:
    feature = _features(serialized).get(key)
    found = feature.bytes_list.value if feature else ()
    return found[0].decode("utf-8", "backslashreplace") if found else None


def _features(serialized: bytes) -> dict:
    """Key -> feature; of two under one key, the last counts."""
    entries = _Example.FromString(serialized).features.feature
    return {entry.key: entry.value for entry in entries}


def _example_class() -> type:
    """TensorFlow has this class too, but takes seconds to be imported."""
    file = descriptor_pb2.FileDescriptorProto(
        name="example.proto", package=_PACKAGE, syntax="proto3"
    )
    constants = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field, number, text in fields:
            kind = text.removesuffix("*")
            added = message.field.add(name=field, number=number)
            repeated = constants.LABEL_REPEATED
            added.label = repeated if text != kind else constants.LABEL_OPTIONAL
            if kind in _MESSAGES:
                added.type = constants.TYPE_MESSAGE
                added.type_name = f".{_PACKAGE}.{kind}"
            else:
                added.type = getattr(constants, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = pool.FindMessageTypeByName(f"{_PACKAGE}.Example")
    return message_factory.GetMessageClass(found)


_Example = _example_class()
