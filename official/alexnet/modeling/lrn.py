"""Local response normalisation (section 3.3), the same on any device.

`tf.nn.local_response_normalization` is the reference, and what a GPU runs. Its CPU
kernels are slow, the gradient's most of all, so a CPU takes an equal form: the sum
over neighbouring maps is a product with a band matrix, and the gradient is written
out, with d = k + alpha * window(x^2):

    y = x * d^-beta
    dL/dx = dy * d^-beta - 2 * alpha * beta * x * window(dy * y / d)
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import tensorflow as tf

from official.alexnet.modeling.variants import LRN


def local_response_normalization(
    x: tf.Tensor,
    lrn: LRN,
    *,
    num_columns: int = 1,
    form: Literal["native", "band", "plain"] = "band",
) -> tf.Tensor:
    """Normalises each map by its neighbours within its own column.

    Args:
        x: (batch, height, width, channels), any float type; computed in float32.
        lrn: k, n, alpha and beta; alpha multiplies the sum, it is not divided by n.
        num_columns: the channels hold this many columns side by side. A window
            never reaches over a seam: on two GPUs each saw only its own maps.
        form: `native` is TensorFlow's own op, which a GPU runs fastest; `band` the
            band matrix with the gradient above; `plain` the band matrix with
            TensorFlow's gradients, for graphs that leave this package.

    Returns:
        A tensor of x's shape and type.
    """
    shape = tf.shape(x)
    batch, height, width, channels = x.shape
    maps = channels // num_columns
    # Read as maps of one column each: the channels of a pixel's columns lie in a row.
    columns = tf.reshape(
        tf.cast(x, tf.float32), [shape[0], height, width * num_columns, maps]
    )
    if form == "native":
        y = tf.nn.local_response_normalization(
            columns, depth_radius=lrn.n // 2, bias=lrn.k, alpha=lrn.alpha, beta=lrn.beta
        )
    elif form == "band":
        y = tf.custom_gradient(lambda x: _normalize(x, lrn))(columns)
    else:
        y, _ = _normalize(columns, lrn)
    y = tf.ensure_shape(tf.reshape(y, shape), [batch, height, width, channels])
    return tf.cast(y, x.dtype)


def _normalize(
    x: tf.Tensor, lrn: LRN
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    maps = x.shape[-1]
    i = np.arange(maps)
    band = (abs(i[:, None] - i) <= lrn.n // 2).astype(np.float32)

    def window(values: tf.Tensor) -> tf.Tensor:
        sums = tf.matmul(tf.reshape(values, [-1, maps]), band)
        return tf.reshape(sums, tf.shape(values))

    d = lrn.k + lrn.alpha * window(tf.square(x))
    if lrn.beta == 0.75:
        root = tf.math.rsqrt(d)
        factor = root * tf.sqrt(root)
    else:
        factor = tf.pow(d, -lrn.beta)

    def gradient(dy: tf.Tensor) -> tf.Tensor:
        direct = dy * factor
        return direct - (2 * lrn.alpha * lrn.beta) * x * window(direct * x / d)

    return x * factor, gradient
