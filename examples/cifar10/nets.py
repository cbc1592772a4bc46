"""The CIFAR-10 nets of the 2012 source as Keras models.

The paper reports on "a four-layer CNN" in section 3.1 (Figure 1) and in section 3.3,
and names the source's files only for the second.
"""

import itertools
import zlib

import keras
import tensorflow as tf
from keras import layers

from official.alexnet.modeling.layers import LocalResponseNormalization


def build(
    net: str, *, activation: str = "relu", decays: bool = True, seed: int = 0
) -> keras.Model:
    """Builds a net. Kernels are Gaussian at first, biases 0; only kernels decay.

    Args:
        net: `19pct` (layers-19pct.cfg): four layers with weights and nothing else in
            them, likely Figure 1's; `13pct` (layers-conv-local-13pct.cfg); `11pct`,
            the same with LRN after the ReLU of its first two layers (section 3.3).
        activation: `relu` or `tanh`.
        decays: whether kernels decay as in the source.
        seed: of the initial weights; a layer's are the same whatever is between them.

    Returns:
        A model from images, (batch, side, side, 3) float32 RGB in 0..255 with the mean
        image subtracted, to (batch, 10) logits.
    """

    def weights(name: str, stddev: float, decay: float) -> dict:
        draw = (seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31
        return {
            "name": name,
            "kernel_initializer": keras.initializers.RandomNormal(0, stddev, draw),
            # The gradient of decay / 2 * |w|^2 is decay * w.
            "kernel_regularizer": keras.regularizers.L2(decay / 2 if decays else 0.0),
        }

    def conv(filters: int, *settings):
        return layers.Conv2D(filters, 5, padding="same", **weights(*settings))

    def local(name: str):
        return LocallyConnected((6, 6, 32), **weights(name, 0.04, 0.004))

    def act(number: int):
        return layers.Activation(activation, name=f"{activation}{number}")

    def pool(kind: str, number: int):
        # The last windows reach over the edge; an average is of the pixels there are.
        layer = getattr(layers, f"{kind}Pooling2D")
        return layer(3, 2, "same", name=f"pool{number}")

    def norm(number: int) -> list:
        # `scale=0.001`, which the source divides by the size of the window.
        constants = {"k": 1.0, "n": 5, "alpha": 0.001 / 5, "beta": 0.75}
        layer = LocalResponseNormalization(**constants, name=f"norm{number}")
        return [layer] if net == "11pct" else []

    if net == "19pct":
        rows = [
            *(conv(32, "conv1", 1e-4, 0.004), pool("Max", 1), act(1)),
            *(conv(32, "conv2", 0.01, 0.004), act(2), pool("Average", 2)),
            *(conv(64, "conv3", 0.01, 0.004), act(3), pool("Average", 3)),
        ]
    else:
        rows = [
            *(conv(64, "conv1", 1e-4, 0.0), act(1), *norm(1), pool("Max", 1)),
            *(conv(64, "conv2", 0.01, 0.0), act(2), *norm(2), pool("Max", 2)),
            *(local("local3"), act(3), local("local4"), act(4)),
        ]
    side, decay = (32, 3.0) if net == "19pct" else (24, 0.004)
    fc10 = layers.Dense(10, **weights("fc10", 0.01, decay))
    images = keras.Input((side, side, 3), name="images")
    return keras.Sequential([images, *rows, layers.Flatten(), fc10])


class LocallyConnected(layers.EinsumDense):
    """A 3 x 3 convolution with kernels and biases of its own at every pixel."""

    def __init__(self, shape: tuple[int, int, int], **settings):
        super().__init__("bhwi,hwif->bhwf", shape, bias_axes="hwf", **settings)

    def build(self, input_shape):
        super().build((*input_shape[:-1], 9 * input_shape[-1]))

    def call(self, x):
        _, height, width, _ = x.shape
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        patches = [
            padded[:, i : i + height, j : j + width]
            for i, j in itertools.product(range(3), repeat=2)
        ]
        return super().call(tf.concat(patches, axis=-1))
