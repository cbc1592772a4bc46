"""The two layouts of TFRecord ImageNet in use: classic and TFDS."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Schema:
    """Feature keys of one layout.

    Attributes:
        name: `classic` or `tfds`, as said in messages.
        image_key: feature holding the encoded JPEG or PNG bytes.
        label_key: feature holding the int64 label.
        first_label: the smallest label: 1 in the classic layout, 0 in TFDS's.
    """

    name: str
    image_key: str
    label_key: str
    first_label: int


CLASSIC = Schema("classic", "image/encoded", "image/class/label", first_label=1)
TFDS = Schema("tfds", "image", "label", first_label=0)


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
        "image/encoded": _bytes(jpeg),
        "image/format": _bytes(b"JPEG"),
        "image/height": _int64(height),
        "image/width": _int64(width),
        "image/colorspace": _bytes(b"RGB"),
        "image/channels": _int64(3),
        "image/filename": _bytes(filename.encode()),
        "image/class/label": _int64(label + CLASSIC.first_label),
        "image/class/synset": _bytes(synset.encode()),
        "image/class/text": _bytes(text.encode()),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def stored_label(serialized: bytes, schema: Schema) -> int:
    """The label a record holds, as it is stored.

    Raises:
        ValueError: it is not a record of this layout; the text says why, such as `has
            no feature 'image'`.
    """
    try:
        features = tf.train.Example.FromString(serialized).features.feature
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
    features = tf.train.Example.FromString(serialized).features.feature
    return features[schema.image_key].bytes_list.value[0]


def _bytes(value: bytes) -> tf.train.Feature:
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def _int64(value: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
