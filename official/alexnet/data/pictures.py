"""Which encoded pictures are decoded, and what is wrong with the others.

Looked at before a pixel is decoded: format, size and colours, by the picture's header.
"""

from collections.abc import Callable

import tensorflow as tf

# Pillow's own limit (a 256 MB picture), which preparation has too; the largest picture
# of ILSVRC is below it.
MAX_PIXELS = 89_478_485
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Width and height, the first fields of IHDR, which has to come first.
_PNG_SIZE_START, _PNG_SIZE_END = 16, 24
# \C is any byte: the bytes of a picture are no UTF-8.
# The segment APP14: its length, 14 bytes, and its name; the word alone is in texts too.
_ADOBE = r"\C*\x00\x0EAdobe\C*"


def attempt(function: Callable, elements, instead: Callable):
    """`function(*elements)`, or `instead(*elements)` where that raises an error.

    Both go from tensors in any structure to tensors of the same shapes and dtypes.
    TensorFlow's ops have no try: a data set of one element has. It works in any graph,
    a SavedModel's too. Nothing is copied, and `instead` runs only where it is needed.
    """
    element = tf.data.Dataset.from_tensors(elements)
    tried = element.map(function).ignore_errors()
    return tried.concatenate(element.map(instead)).take(1).get_single_element()


def check(encoded: tf.Tensor, max_pixels: int) -> tf.Operation:
    """An op that raises where bytes, a string scalar, are no picture that is decoded.

    Raises tf.errors.InvalidArgumentError where they are neither JPEG nor PNG, of more
    than `max_pixels`, CMYK that could mean two pictures, or the header is damaged.
    """
    size = _size(encoded)
    is_taken = _is_small(size, max_pixels) & _has_known_colors(encoded, size)
    # tf.debugging.Assert would add a branch to the graph.
    return tf.raw_ops.Assert(
        condition=_is_known(encoded) & is_taken,
        data=[tf.constant("not a JPEG or PNG of this size or colours")],
    )


def fault(encoded: tf.Tensor, max_pixels: int = MAX_PIXELS) -> tf.Tensor:
    """Says what is wrong with an undecodable picture: `is neither JPEG nor PNG`, ..."""
    size = attempt(_size, encoded, lambda _: tf.constant([-1, -1, -1], tf.int64))
    height, width, _ = tf.unstack(tf.strings.as_string(size))
    limit = f" pixels, not 1 to {max_pixels:,}"
    too_large = tf.strings.join(["has ", width, "x", height, limit])
    cmyk = "is CMYK without Adobe's marker, which could mean two pictures"
    # The last that holds is said.
    words = tf.constant("is damaged or cut short")
    words = tf.where(_has_known_colors(encoded, size), words, cmyk)
    words = tf.where(_is_small(size, max_pixels), words, too_large)
    words = tf.where(size[0] >= 0, words, "has a damaged header")
    words = tf.where(_is_known(encoded), words, "is neither JPEG nor PNG")
    return tf.where(tf.strings.length(encoded) > 0, words, "is empty")


def _is_known(encoded: tf.Tensor) -> tf.Tensor:
    """Whether bytes begin as a JPEG, or as a PNG up to its size."""
    begins = tf.strings.substr(encoded, 0, len(_PNG_SIGNATURE)) == _PNG_SIGNATURE
    is_png = begins & (tf.strings.length(encoded) >= _PNG_SIZE_END)
    return tf.io.is_jpeg(encoded) | is_png


def _size(encoded: tf.Tensor) -> tf.Tensor:
    """Height, width and channels, int64 (3,); a PNG's channels are given as 0."""

    def of_jpeg() -> tf.Tensor:
        return tf.ensure_shape(tf.io.extract_jpeg_shape(encoded, tf.int64), [3])

    def of_png() -> tf.Tensor:
        header = tf.strings.substr(encoded, _PNG_SIZE_START, 8)
        size = tf.io.decode_raw(header, tf.int32, little_endian=False)
        # More than 2^31 - 1, which the format does not allow, shows as less than 0.
        width, height = tf.unstack(tf.cast(tf.ensure_shape(size, [2]), tf.int64))
        return tf.stack([height, width, 0])

    return tf.cond(tf.io.is_jpeg(encoded), of_jpeg, of_png)


def _is_small(size: tf.Tensor, max_pixels: int) -> tf.Tensor:
    height, width, _ = tf.unstack(size)
    return (height > 0) & (width > 0) & (height * width <= max_pixels)


def _has_known_colors(encoded: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """CMYK is stored inverted by Adobe's programs, which say so, and not by others."""
    is_cmyk = size[2] == 4
    looked_at = tf.where(is_cmyk, encoded, "")
    return ~is_cmyk | tf.strings.regex_full_match(looked_at, _ADOBE)
