"""From pixels to what the network sees: TensorFlow functions for step and serving.

`decode_image` and `resize_to_square` make the 256x256 image of the paper's section 2;
the others run on the training device, on whole batches, as sections 3.1 and 4.1 and
the source released for the 2012 network have them.
"""

import typing

import numpy as np
import tensorflow as tf

from official.alexnet.data import pictures
from official.alexnet.data.statistics import TORCHVISION_STD, Statistics

# libjpeg's own default, which Pillow and the 2012 code decode with. TensorFlow's
# default is INTEGER_FAST, one to two grey levels off.
DCT_METHOD = "INTEGER_ACCURATE"

# A picture whose longer side is more than this many times the shorter is a long one.
_LONG = 4
# Source pixels that bicubic interpolation reads beyond the window, and some more.
_BICUBIC_MARGIN = 4


def decode_image(
    encoded: tf.Tensor, max_pixels: int = pictures.MAX_PIXELS
) -> tf.Tensor:
    """Decodes a JPEG (RGB, grey or Adobe's CMYK) or PNG (of any kind) to 8-bit RGB.

    An alpha channel is dropped, of 16 bits the upper 8 are kept, and of an animation
    the first picture: as Pillow does. From a string scalar to uint8 (height, width, 3).
    Raises tf.errors.InvalidArgumentError where the bytes are not a whole image, or not
    one that `pictures.check` lets through.
    """
    with tf.control_dependencies([pictures.check(encoded, max_pixels)]):
        # It decodes PNG, too.
        image = tf.io.decode_jpeg(encoded, channels=3, dct_method=DCT_METHOD)
    return tf.ensure_shape(image, (None, None, 3))


def resize_to_square(image: tf.Tensor, image_size: int = 256) -> tf.Tensor:
    """Scales the shorter side to `image_size` and cuts out the central square.

    Shrinking averages areas and enlarging is bicubic, as in the author's own data
    preparation; an image that has the size already is returned as it is. From uint8
    (height, width, 3) to uint8 (image_size, image_size, 3).
    """
    source = tf.shape(image)[:2]
    shorter = tf.reduce_min(source)
    # float64, rounded half to even: the same sizes as Python's round() gives.
    sides = tf.cast(source, tf.float64) * image_size
    size = tf.cast(tf.round(sides / tf.cast(shorter, tf.float64)), tf.int32)
    offset = (size - image_size) // 2
    # Of a picture of 20,000x300 only what the square needs is scaled.
    is_long = tf.reduce_max(source) > _LONG * shorter
    ratio = source / size
    start = tf.cast(offset, tf.float64) * ratio
    end = tf.cast(offset + image_size, tf.float64) * ratio

    def window(margin: int) -> tuple[tf.Tensor, tf.Tensor]:
        """The source pixels from `start` to `end` and a margin, and the first."""
        first = tf.maximum(tf.cast(start, tf.int32) - margin, 0)
        last = tf.minimum(tf.cast(tf.math.ceil(end), tf.int32) + margin, source)
        return image[first[0] : last[0], first[1] : last[1]], first

    def shrink() -> tf.Tensor:
        top, left = tf.unstack(offset)
        resized = tf.image.resize(image, size, tf.image.ResizeMethod.AREA)
        return resized[top : top + image_size, left : left + image_size]

    def shrink_long() -> tf.Tensor:
        pixels, first = window(0)
        edges = tf.linspace(start, end, image_size + 1) - tf.cast(first, tf.float64)
        rows, columns = (
            _area_weights(edges[:, i], tf.shape(pixels)[i]) for i in range(2)
        )
        scaled = tf.einsum("ik,klc->ilc", rows, tf.cast(pixels, tf.float32))
        return tf.einsum("ilc,jl->ijc", scaled, columns)

    def enlarge() -> tf.Tensor:
        pixels, first = tf.cond(
            is_long,
            lambda: window(_BICUBIC_MARGIN),
            lambda: (image, tf.zeros_like(size)),
        )
        # What tf.image.resize calls for bicubic, but only the square is computed: a
        # picture one pixel high would become gigabytes.
        return tf.raw_ops.ScaleAndTranslate(
            images=pixels[tf.newaxis],
            size=(image_size, image_size),
            scale=tf.cast(1 / ratio, tf.float32),
            translation=tf.cast(
                (tf.cast(first, ratio.dtype) - start) / ratio, tf.float32
            ),
            kernel_type="keyscubic",
            antialias=False,
        )[0]

    # Area averaging leaves an image of the right size as it is.
    square = tf.cond(
        shorter >= image_size, lambda: tf.cond(is_long, shrink_long, shrink), enlarge
    )
    square = tf.cast(tf.clip_by_value(tf.round(square), 0, 255), tf.uint8)
    return tf.ensure_shape(square, (image_size, image_size, 3))


def _area_weights(edges: tf.Tensor, source: tf.Tensor) -> tf.Tensor:
    """(edges - 1, source) float32: each source pixel's share in what lies between."""
    pixels = tf.cast(tf.range(source), tf.float64)
    left = tf.maximum(edges[:-1, None], pixels)
    weights = tf.maximum(tf.minimum(edges[1:, None], pixels + 1) - left, 0)
    return tf.cast(weights / tf.reduce_sum(weights, 1, keepdims=True), tf.float32)


def center_crop(images: tf.Tensor, size: int) -> tf.Tensor:
    """Cuts the central (B, size, size, 3), offset rounded down, out of (B, S, S, 3)."""
    border = (images.shape[1] - size) // 2
    return images[:, border : border + size, border : border + size]


def ten_crops(images: tf.Tensor, size: int) -> list[tf.Tensor]:
    """Cuts out the ten views of section 4.1: corners, centre, and their mirrors.

    In the order of the 2012 source, with b = (S - size) / 2: (top, left) = (0, 0),
    (0, 2b), (b, b), (2b, 0), (2b, 2b), then the same five mirrored left to right. From
    (B, S, S, 3) to ten tensors (B, size, size, 3) of the same dtype.
    """
    far = images.shape[1] - size
    middle = far // 2
    offsets = ((0, 0), (0, far), (middle, middle), (far, 0), (far, far))
    crops = [images[:, top : top + size, left : left + size] for top, left in offsets]
    return crops + [crop[:, :, ::-1] for crop in crops]


def color_noise(
    statistics: Statistics,
    gaussians: tf.Tensor,
    *,
    sigma: float = 0.1,
    scale: typing.Literal["eigenvalues", "standard_deviations"],
) -> tf.Tensor:
    """The random colour offset of each image (section 4.1), one for all its pixels.

    The offset is `P (alpha * s)`: P holds the eigenvectors of the covariance of RGB
    pixels as columns, and alpha = sigma * gaussians.

    - `eigenvalues` is the paper's formula, s = the eigenvalues. That depends on the
      unit of a pixel and makes sense on [0, 1]: the covariance is taken there and the
      offset brought back to grey levels, s = eigenvalues / 255.
    - `standard_deviations` is the 2012 source, s = sqrt(eigenvalues): about twice as
      strong along ImageNet's brightness, and much stronger along the other two. The
      source then divides the noisy image by 1.1: see `normalize`.

    From standard normal draws, float32 (B, 3), to float32 (B, 1, 1, 3), grey levels to
    add to every pixel. Raises ValueError where `scale` is neither of the two.
    """
    formulas = {"eigenvalues": lambda x: x / 255, "standard_deviations": np.sqrt}
    if scale not in formulas:
        raise ValueError(f"scale must be {' or '.join(formulas)}, not {scale!r}")
    strengths = formulas[scale](statistics.covariance_eigenvalues)
    # Row b of gaussians @ basis is P (sigma * gaussians[b] * strengths).
    basis = (sigma * strengths[:, None] * statistics.covariance_eigenvectors.T).astype(
        np.float32
    )
    # A sum of three products in float32 on any device: a matmul may round to TF32.
    offsets = tf.reduce_sum(gaussians[:, :, None] * basis, axis=1)
    return offsets[:, None, None, :]


def central_mean(statistics: Statistics, size: int) -> np.ndarray:
    """Cuts the centre out of the mean image: float32 (size, size, 3), grey levels.

    The 2012 source subtracts this from every crop, whatever the crop's own position,
    and does not mirror it.
    """
    return np.float32(center_crop(statistics.mean_image[None], size)[0])


def normalize(
    images: tf.Tensor,
    mean_crop: tf.Tensor,
    *,
    noise: tf.Tensor | None = None,
    input_scale: float | np.ndarray = 1.0,
    dtype: tf.DType = tf.float32,
) -> tf.Tensor:
    """Turns pixels into the network's input: (images + noise - mean) * input_scale.

    The paper subtracts the mean and nothing more (section 2). The 2012 source, while
    colour noise is on, divides by 1 + sigma: input_scale=1/1.1.

    Images are uint8 (B, size, size, 3), the mean float32 (size, size, 3) or whatever
    broadcasts to it, noise float32 (B, 1, 1, 3), grey levels, and the scale one factor
    or one a channel. The arithmetic is float32.
    """
    pixels = tf.cast(images, tf.float32) - mean_crop
    if noise is not None:
        pixels += noise
    if np.any(input_scale != 1.0):
        pixels *= input_scale
    return tf.cast(pixels, dtype)


def input_scale(statistics: Statistics, name: str) -> float | np.ndarray:
    """The factor of `normalize`: `none` is 1, `unit_variance` 1 / pixel_std.

    `torchvision` is one a channel, so that (pixels - 255 * mean) * factor is
    torchvision's (pixels / 255 - mean) / std.
    """
    if name == "torchvision":
        return np.float32(1 / (255 * np.array(TORCHVISION_STD)))
    return 1 / statistics.pixel_std if name == "unit_variance" else 1.0
