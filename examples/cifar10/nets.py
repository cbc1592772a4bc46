"""The CIFAR-10 nets of the 2012 source as functional Keras models.

The paper reports on "a four-layer CNN" in section 3.1 (Figure 1) and in section 3.3,
and names the source's files only for the second.
"""

import itertools
import zlib

import keras
import tensorflow as tf

from official.alexnet.modeling.layers import LocalResponseNormalization

NUM_CLASSES = 10
# Side of the input by net.
NETS = {"19pct": 32, "13pct": 24, "11pct": 24}


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

    def conv(filters: int, name: str, stddev: float, decay: float):
        same = {"padding": "same", **weights(name, stddev, decay)}
        return keras.layers.Conv2D(filters, 5, **same)

    def local(name: str):
        return LocallyConnected(32, **weights(name, 0.04, 0.004))

    def nonlinearity(number: int):
        return keras.layers.Activation(activation, name=f"{activation}{number}")

    def pool(kind: type, number: int):
        # The last windows reach over the edge; an average is of the pixels there are.
        return kind(3, 2, "same", name=f"pool{number}")

    def norm(number: int) -> list:
        # `scale=0.001`, which the source divides by the size of the window.
        constants = {"k": 1.0, "n": 5, "alpha": 0.001 / 5, "beta": 0.75}
        layer = LocalResponseNormalization(**constants, name=f"norm{number}")
        return [layer] if net == "11pct" else []

    highest, mean = keras.layers.MaxPooling2D, keras.layers.AveragePooling2D
    if net == "19pct":
        layers = [
            *(conv(32, "conv1", 1e-4, 0.004), pool(highest, 1), nonlinearity(1)),
            *(conv(32, "conv2", 0.01, 0.004), nonlinearity(2), pool(mean, 2)),
            *(conv(64, "conv3", 0.01, 0.004), nonlinearity(3), pool(mean, 3)),
        ]
    else:
        layers = [
            *(conv(64, "conv1", 1e-4, 0.0), nonlinearity(1), *norm(1)),
            *(pool(highest, 1), conv(64, "conv2", 0.01, 0.0), nonlinearity(2)),
            *(*norm(2), pool(highest, 2)),
            *(local("local3"), nonlinearity(3), local("local4"), nonlinearity(4)),
        ]
    output_decay = 3.0 if net == "19pct" else 0.004
    images = x = keras.Input((NETS[net], NETS[net], 3), name="images")
    for layer in [*layers, keras.layers.Flatten()]:
        x = layer(x)
    fc10 = keras.layers.Dense(NUM_CLASSES, **weights("fc10", 0.01, output_decay))
    return keras.Model(images, fc10(x), name=f"cifar_{net}")


class LocallyConnected(keras.layers.Layer):
    """A 3 x 3 convolution with kernels and biases of its own at every pixel.

    Args:
        filters: number of kernels at a pixel.
        kernel_initializer: of the kernels.
        kernel_regularizer: of the kernels.
    """

    def __init__(self, filters: int, *, kernel_initializer, kernel_regularizer, name):
        super().__init__(name=name)
        self.filters = filters
        self.kernel_settings = {
            "initializer": kernel_initializer,
            "regularizer": kernel_regularizer,
        }

    def build(self, input_shape):
        _, *sides, channels = input_shape
        shape = (*sides, 9 * channels, self.filters)
        self.kernel = self.add_weight(
            name="kernel", shape=shape, **self.kernel_settings
        )
        self.bias = self.add_weight((*sides, self.filters), "zeros", name="bias")

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def call(self, x):
        _, height, width, _ = x.shape
        padded = tf.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]])
        patches = [
            padded[:, i : i + height, j : j + width]
            for i, j in itertools.product(range(3), repeat=2)
        ]
        kernel = tf.convert_to_tensor(self.kernel)
        y = tf.einsum("bhwi,hwif->bhwf", tf.concat(patches, axis=-1), kernel)
        return y + tf.convert_to_tensor(self.bias)
