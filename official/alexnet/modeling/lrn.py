"""Local response normalisation (section 3.3), the same on any device.

`tf.nn.local_response_normalization` is the reference, and what a GPU runs. Its CPU
kernels are slow, the gradient's most of all, so a CPU takes an equal form with the
gradient written out, where d = k + alpha * window(x^2):

    y = x * d^-beta
    dL/dx = dy * d^-beta - 2 * alpha * beta * x * window(dy * y / d)
"""

import functools
from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from official.alexnet.modeling.variants import LRN

Form = Literal["native", "fused", "band"]


def local_response_normalization(
    x: tf.Tensor, lrn: LRN, *, num_columns: int = 1, form: Form = "band"
) -> tf.Tensor:
    """Normalises each map by its neighbours within its own column.

    Args:
        x: (batch, height, width, channels), any float type; computed in float32.
        lrn: k, n, alpha and beta; alpha multiplies the sum, it is not divided by n.
        num_columns: the channels hold this many columns side by side. A window
            never reaches over a seam: on two GPUs each saw only its own maps.
        form: `native` is TensorFlow's own op, which a GPU runs fastest; `fused` is
            compiled by XLA, one pass over the maps, which a CPU runs fastest; `band`
            sums by a product with a band matrix, in ops that any TensorFlow has.

    Returns:
        A tensor of x's shape and type.
    """
    shape = tf.shape(x)
    batch, height, width, channels = x.shape
    # Read as maps of one column each: the channels of a pixel's columns lie in a row.
    columns = tf.reshape(
        x, [shape[0], height, width * num_columns, channels // num_columns]
    )
    if form == "native":
        y = tf.nn.local_response_normalization(
            tf.cast(columns, tf.float32),
            depth_radius=lrn.n // 2,
            bias=lrn.k,
            alpha=lrn.alpha,
            beta=lrn.beta,
        )
        y = tf.cast(y, x.dtype)
    elif form == "fused":
        y = _fused(lrn)(columns)
    else:
        y = _normalize(columns, lrn, _band_window)
    return tf.ensure_shape(tf.reshape(y, shape), [batch, height, width, channels])


@functools.cache
def _fused(lrn: LRN) -> Callable:
    """The two passes, each compiled by itself: the rest of a step stays as it is."""
    compiled = functools.partial(tf.function, jit_compile=True, autograph=False)
    normalize = compiled(lambda x: _normalize(x, lrn, _slice_window))
    gradient = compiled(lambda x, dy: _gradient(x, dy, lrn))
    return tf.custom_gradient(lambda x: (normalize(x), lambda dy: gradient(x, dy)))


def _normalize(x: tf.Tensor, lrn: LRN, window: Callable) -> tf.Tensor:
    wide = tf.cast(x, tf.float32)
    d = lrn.k + window(tf.square(wide), lrn.n, lrn.alpha)
    return tf.cast(wide * inverse_power(d, lrn.beta), x.dtype)


def _gradient(x: tf.Tensor, dy: tf.Tensor, lrn: LRN) -> tf.Tensor:
    wide, dy = tf.cast(x, tf.float32), tf.cast(dy, tf.float32)
    d = lrn.k + _slice_window(tf.square(wide), lrn.n, lrn.alpha)
    direct = dy * inverse_power(d, lrn.beta)
    through_d = wide * _slice_window(direct * wide / d, lrn.n)
    return tf.cast(direct - 2 * lrn.alpha * lrn.beta * through_d, x.dtype)


def inverse_power(d: tf.Tensor, beta: float) -> tf.Tensor:
    """d^-beta."""
    if beta == 0.75:
        root = tf.math.rsqrt(d)
        return root * tf.sqrt(root)
    return tf.pow(d, -beta)


def _slice_window(values: tf.Tensor, n: int, factor: float = 1.0) -> tf.Tensor:
    """Sums over n neighbouring maps, times a factor: n slices, which XLA fuses."""
    maps = values.shape[-1]
    radius = n // 2
    padded = tf.pad(values, [[0, 0], [0, 0], [0, 0], [radius, radius]])
    shifts = range(2 * radius + 1)
    return factor * tf.add_n([padded[..., shift : shift + maps] for shift in shifts])


def _band_window(values: tf.Tensor, n: int, factor: float = 1.0) -> tf.Tensor:
    """Sums over n neighbouring maps, times a factor, as one matrix product."""
    maps = values.shape[-1]
    i = np.arange(maps)
    band = factor * (abs(i[:, None] - i) <= n // 2).astype(np.float32)
    sums = tf.matmul(tf.reshape(values, [-1, maps]), band)
    return tf.reshape(sums, tf.shape(values))
