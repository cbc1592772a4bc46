"""The CIFAR-10 nets of the 2012 source as Keras models.

Figure 1 and section 3.3 are of "a four-layer CNN"; only the second names its files.
"""

import zlib

import keras
import tensorflow as tf
from keras import layers

from official.alexnet.modeling.layers import LocalResponseNormalization


def build(
    net: str, *, activation: str = "relu", decays: bool = True, seed: int = 0
) -> keras.Model:
    """A model from (batch, side, side, 3) images, 0..255 minus their mean, to logits.

    Nets: `19pct` (layers-19pct.cfg): four layers with weights and nothing else in
    them, likely Figure 1's; `13pct` (layers-conv-local-13pct.cfg); `11pct`, the same
    with LRN after the ReLU of its first two layers (section 3.3). Kernels are Gaussian
    at first, the same for one `seed` whatever is between the layers, and biases 0. If
    it `decays`, kernels do, as in the source. The `activation` is `relu` or `tanh`.
    """

    def weights(name: str, stddev: float, decay: float) -> dict:
        draw = (seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31
        initial = keras.initializers.RandomNormal(0, stddev, draw)
        # The gradient of decay / 2 * |w|^2 is decay * w.
        l2 = keras.regularizers.L2(decay / 2 if decays else 0.0)
        return {"name": name, "kernel_initializer": initial, "kernel_regularizer": l2}

    def conv(filters: int, *settings):
        return layers.Conv2D(filters, 5, padding="same", **weights(*settings))

    def local(name: str):
        return LocallyConnected((6, 6, 32), **weights(name, 0.04, 0.004))

    def act(number: int):
        return layers.Activation(activation, name=f"{activation}{number}")

    # The last windows reach over the edge; an average is of the pixels there are.
    def pool(kind: type, number: int):
        return kind(3, 2, "same", name=f"pool{number}")

    def norm(number: int) -> list:
        if net != "11pct":
            return []
        # `scale=0.001`, which the source divides by the size of the window.
        lrn = {"k": 1.0, "n": 5, "alpha": 0.001 / 5, "beta": 0.75}
        return [LocalResponseNormalization(**lrn, name=f"norm{number}")]

    most, average = layers.MaxPooling2D, layers.AveragePooling2D
    if net == "19pct":
        side, decay = 32, 3.0
        rows = [
            *(conv(32, "conv1", 1e-4, 0.004), pool(most, 1), act(1)),
            *(conv(32, "conv2", 0.01, 0.004), act(2), pool(average, 2)),
            *(conv(64, "conv3", 0.01, 0.004), act(3), pool(average, 3)),
        ]
    else:
        side, decay = 24, 0.004
        rows = [
            *(conv(64, "conv1", 1e-4, 0.0), act(1), *norm(1), pool(most, 1)),
            *(conv(64, "conv2", 0.01, 0.0), act(2), *norm(2), pool(most, 2)),
            *(local("local3"), act(3), local("local4"), act(4)),
        ]
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
        ones = [1, 1, 1, 1]
        return super().call(
            tf.image.extract_patches(x, [1, 3, 3, 1], ones, ones, "SAME")
        )
