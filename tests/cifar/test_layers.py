"""Pooling against TensorFlow's ops, unshared kernels against loops in NumPy."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.cifar.layers import LocallyConnected, locally_connected, pool
from official.alexnet.cifar.nets import CifarNet, find_net


def value_and_gradients(function, weights, *inputs):
    """The function, and its gradients for the sum of its outputs times `weights`."""
    with tf.GradientTape() as tape:
        tape.watch(inputs)
        y = function(*inputs)
        loss = tf.reduce_sum(y * weights)
    return [np.array(array) for array in (y, *tape.gradient(loss, inputs))]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("kind", ["max", "avg"])
def test_pool_equals_tensorflows(kind, compiled):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 8, 6, 3)), tf.float32)
    dy = rng.normal(size=(2, 4, 3, 3)).astype("f4")
    theirs = tf.nn.max_pool2d if kind == "max" else tf.nn.avg_pool2d
    expected = value_and_gradients(lambda x: theirs(x, 3, 2, "SAME"), dy, x)
    ours = tf.function(lambda x: pool(x, kind), jit_compile=compiled)
    for a, b in zip(value_and_gradients(ours, dy, x), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_every_maximum_of_a_window_gets_the_gradient():
    """As in the 2012 source; TensorFlow gives it to the first."""
    x = tf.zeros((1, 2, 2, 1))
    _, gradient = value_and_gradients(lambda x: pool(x, "max"), 1.0, x)
    assert gradient.sum() == 4


def test_pool_refuses_odd_sides():
    with pytest.raises(ValueError, match="even sides, not 5 x 4"):
        pool(tf.zeros((1, 5, 4, 1)), "max")


def loops(x, kernel, dy):
    """Locally connected layer and its gradients, number by number."""
    height, width, size, _, channels, filters = kernel.shape
    y, dx, dk = np.zeros_like(dy), np.zeros_like(x), np.zeros_like(kernel)
    for b, i, j, u, v, c, f in np.ndindex(
        len(x), height, width, size, size, channels, filters
    ):
        row, column = i + u - size // 2, j + v - size // 2
        if 0 <= row < height and 0 <= column < width:
            weight, pixel = kernel[i, j, u, v, c, f], x[b, row, column, c]
            y[b, i, j, f] += weight * pixel
            dx[b, row, column, c] += weight * dy[b, i, j, f]
            dk[i, j, u, v, c, f] += pixel * dy[b, i, j, f]
    return y, dx, dk


def test_locally_connected_equals_numpy():
    rng = np.random.default_rng(0)
    x, kernel, dy = (
        rng.normal(size=shape)
        for shape in ((2, 4, 3, 2), (4, 3, 3, 3, 2, 5), (2, 4, 3, 5))
    )
    found = value_and_gradients(
        locally_connected, dy, tf.constant(x), tf.constant(kernel)
    )
    for a, b in zip(found, loops(x, kernel, dy), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)


def test_with_one_kernel_everywhere_it_is_a_convolution():
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 6, 6, 3)), tf.float32)
    kernel = tf.constant(rng.normal(size=(3, 3, 3, 4)), tf.float32)
    everywhere = tf.tile(kernel[None, None], [6, 6, 1, 1, 1, 1])
    np.testing.assert_allclose(
        locally_connected(x, everywhere),
        tf.nn.conv2d(x, kernel, 1, "SAME"),
        rtol=1e-4,
        atol=1e-5,
    )


def test_its_biases_belong_to_a_pixel_and_a_filter():
    layer = LocallyConnected(2, 3, kernel_initializer="zeros")
    layer.build((None, 4, 3, 2))
    bias = np.random.default_rng(0).normal(size=(4, 3, 2)).astype("f4")
    layer.bias.assign(bias)
    np.testing.assert_array_equal(layer(np.ones((1, 4, 3, 2), "f4"))[0], bias)


def test_a_saved_net_computes_the_same(tmp_path):
    model = CifarNet(find_net("cifar_11pct"), seed=3)
    images = np.random.default_rng(0).normal(0, 60, (2, 24, 24, 3)).astype("f4")
    model.save(tmp_path / "net.keras")
    loaded = keras.models.load_model(tmp_path / "net.keras")
    np.testing.assert_array_equal(model(images), loaded(images))
