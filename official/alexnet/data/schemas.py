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
    """Feature keys of one layout.

    Attributes:
        name: `classic` or `tfds`, as said in messages.
        image_key: feature holding the encoded JPEG or PNG bytes.
        label_key: feature holding the int64 label.
        first_label: the smallest label: 1 in the classic layout, 0 in TFDS's.
        name_key: feature holding the picture's file name.
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
    """Serializes one image as the classic ImageNet `tf.train.Example`.

    Args:
        jpeg: an RGB JPEG.
        height: its height in pixels.
        width: its width in pixels.
        label: 0-based class index; stored 1-based, as the classic layout has it.
        synset: WordNet id of the class, such as `n01440764`.
        text: the class in words.
        filename: base name of the image, such as `n01440764_10026.JPEG`.

    Returns:
        The serialized example.
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
    """The label a record holds, as it is stored.

    Raises:
        ValueError: it is not a record of this layout; the text says why, such as `has
            no feature 'image'`.
    """
    try:
        features = _features(serialized)
    except Exception:  # protobuf's DecodeError moves between its versions
        raise ValueError("is not a tf.train.Example") from None
    for key in (schema.image_key, schema.label_key):
        if key not in features:
            raise ValueError(
                f"has no feature {key!r} of the {schema.name} layout; it has "
                f"{', '.join(sorted(features)) or 'none'}"
            )
    images = features[schema.image_key].bytes_list.value
    if len(images) != 1:
        raise ValueError(
            f"has {len(images)} byte strings in {schema.image_key!r}, not one image"
        )
    labels = features[schema.label_key].int64_list.value
    if len(labels) != 1:
        raise ValueError(
            f"has {len(labels)} integers in {schema.label_key!r}, not one label"
        )
    return labels[0]


def encoded_image(serialized: bytes, schema: Schema) -> bytes:
    """The encoded image of a record that `stored_label` accepts."""
    features = _features(serialized)
    return features[schema.image_key].bytes_list.value[0]


def file_name(serialized: bytes, schema: Schema) -> str | None:
    """The file name that a record has of its picture; None where it has none."""
    feature = _features(serialized).get(schema.name_key)
    names = feature.bytes_list.value if feature else ()
    return names[0].decode("utf-8", "backslashreplace") if names else None


def synset(serialized: bytes) -> str | None:
    """The WordNet id that a classic record has of its class; None where it has none."""
    feature = _features(serialized).get("image/class/synset")
    found = feature.bytes_list.value if feature else ()
    return found[0].decode("utf-8", "replace") if found else None


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
