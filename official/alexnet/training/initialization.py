"""Initial weights measured on data: every layer's output has unit variance."""

import keras
import numpy as np
import tensorflow as tf


def unit_variance(model: keras.Model, images: tf.Tensor) -> None:
    """Scales each layer's weights so that its output has variance 1 on `images`.

    The published initialisation keeps the loss at chance for long: with raw pixels
    the signal dies out in some layers, and the biases of 1 hide what is left. Here
    biases are 0 and each kernel, drawn from a Gaussian, is divided by the standard
    deviation of its output, layer after layer (Mishkin and Matas, "All you need is a
    good init", 2016). The inputs should have unit variance as well, so that conv1's
    gradients have the size of the others: `--input_scale=unit_variance`.

    Args:
        model: the grouped form, whose layers are a chain.
        images: (batch, size, size, 3) float32, as the model reads them.
    """
    x = images
    for layer in model.layers[1:]:
        if layer.weights:
            layer.bias.assign(tf.zeros_like(layer.bias))
            fan_in = np.prod(layer.kernel.shape[:-1])
            layer.kernel.assign(
                layer.kernel / tf.math.reduce_std(layer.kernel) / np.sqrt(fan_in)
            )
            deviation = tf.math.reduce_std(tf.cast(layer(x), tf.float32))
            layer.kernel.assign(layer.kernel / deviation)
        x = layer(x)
