"""What the CIFAR-10 nets need besides AlexNet's layers: pooling, and unshared kernels.

Both run anywhere; under XLA, as the trainer compiles them, they are one pass.
"""

import itertools
from typing import Literal

import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.modeling.columns import register

Kind = Literal["max", "avg"]


def pool(x: tf.Tensor, kind: Kind) -> tf.Tensor:
    """Pools windows of 3 x 3 that are 2 apart, the last ones reaching over the edge.

    What is over the edge does not count: an average is over the pixels there are. The
    gradient is written out, since XLA's own is slow on a CPU: pixel 2k is in the
    windows k - 1 and k, pixel 2k + 1 in window k. Where several pixels are a window's
    maximum each gets the gradient, as in the 2012 source.

    Args:
        x: (batch, height, width, channels), both sides even.
        kind: `max` or `avg`.

    Returns:
        (batch, height / 2, width / 2, channels), in x's type.

    Raises:
        ValueError: a side is odd.
    """
    _, height, width, channels = x.shape
    if height % 2 or width % 2:
        raise ValueError(f"pool takes maps with even sides, not {height} x {width}")
    sides = height // 2, width // 2
    outside = x.dtype.min if kind == "max" else 0

    def forward(x: tf.Tensor) -> tf.Tensor:
        padded = tf.pad(x, [[0, 0], [0, 2], [0, 2], [0, 0]], constant_values=outside)
        pixels = [
            padded[:, i : i + height : 2, j : j + width : 2]
            for i, j in itertools.product(range(3), repeat=2)
        ]
        if kind == "avg":
            return tf.add_n(pixels) / _window_sizes(sides, x.dtype)
        y = pixels[0]
        for pixel in pixels[1:]:
            y = tf.maximum(y, pixel)
        return y

    def backward(x: tf.Tensor, y: tf.Tensor, dy: tf.Tensor) -> tf.Tensor:
        if kind == "avg":
            dy = dy / _window_sizes(sides, x.dtype)
        quarters = tf.reshape(x, [-1, sides[0], 2, sides[1], 2, channels])

        def share(i: int, j: int) -> tf.Tensor:
            """The gradient of the pixels (2k + i, 2l + j)."""
            total = 0.0
            for up, left in itertools.product(range(2 - i), range(2 - j)):
                part = _shift(dy, up, left)
                if kind == "max":
                    is_max = quarters[:, :, i, :, j] == _shift(y, up, left)
                    part = tf.where(is_max, part, 0)
                total += part
            return total

        rows = [tf.stack([share(i, 0), share(i, 1)], axis=3) for i in range(2)]
        return tf.reshape(tf.stack(rows, axis=2), tf.shape(x))

    @tf.custom_gradient
    def pooled(x):
        y = forward(x)
        return y, lambda dy: backward(x, y, dy)

    return pooled(x)


def _shift(maps: tf.Tensor, up: int, left: int) -> tf.Tensor:
    """Maps whose pixel k is pixel k - 1 of the given ones, 0 where there is none."""
    rows, columns = maps.shape[1] - up, maps.shape[2] - left
    borders = [[0, 0], [up, 0], [left, 0], [0, 0]]
    return tf.pad(maps[:, :rows, :columns], borders)


def _window_sizes(sides: tuple[int, int], dtype: tf.DType) -> tf.Tensor:
    """How many pixels each window has: the last of a row or column lack a third."""
    down, across = (tf.constant([3] * (side - 1) + [2], dtype) for side in sides)
    return down[:, None, None] * across[None, :, None]


@register
class Pool(keras.layers.Layer):
    """`pool` as a layer.

    Args:
        kind: `max` or `avg`.
    """

    def __init__(self, kind: Kind = "max", **kwargs):
        super().__init__(**kwargs)
        self.kind = kind

    def compute_output_shape(self, input_shape):
        batch, height, width, channels = input_shape
        return (batch, height // 2, width // 2, channels)

    def call(self, x):
        return pool(x, self.kind)

    def get_config(self) -> dict:
        return super().get_config() | {"kind": self.kind}


def locally_connected(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
    """A convolution with kernels of their own at every pixel.

    Args:
        x: (batch, height, width, channels).
        kernel: (height, width, size, size, channels, filters), size odd; outside the
            maps there are zeros.

    Returns:
        (batch, height, width, filters), in x's type.
    """
    height, width, size, _, channels, filters = kernel.shape
    border = [size // 2] * 2
    padded = tf.pad(x, [[0, 0], border, border, [0, 0]])
    patches = tf.concat(
        [
            padded[:, i : i + height, j : j + width]
            for i, j in itertools.product(range(size), repeat=2)
        ],
        axis=-1,
    )
    matrices = tf.reshape(kernel, [height, width, size * size * channels, filters])
    return tf.einsum("bhwi,hwif->bhwf", patches, matrices)


@register
class LocallyConnected(keras.layers.Layer):
    """`locally_connected` and a bias for each pixel and filter; maps keep their size.

    Args:
        filters: number of kernels at a pixel.
        size: side of the square kernels, odd.
        kernel_initializer: of the kernels.
        bias_initializer: of the biases.
    """

    def __init__(
        self,
        filters: int,
        size: int,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.size = size
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        _, height, width, channels = input_shape
        self.kernel = self.add_weight(
            name="kernel",
            shape=(height, width, self.size, self.size, channels, self.filters),
            initializer=self.kernel_initializer,
        )
        self.bias = self.add_weight(
            name="bias",
            shape=(height, width, self.filters),
            initializer=self.bias_initializer,
        )

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def call(self, x):
        kernel = tf.convert_to_tensor(self.kernel)
        return locally_connected(x, kernel) + tf.convert_to_tensor(self.bias)

    def get_config(self) -> dict:
        return super().get_config() | {
            "filters": self.filters,
            "size": self.size,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }
