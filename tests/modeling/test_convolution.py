"""Grouped convolution against separate convolutions, and their gradients."""

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.modeling.convolution import grouped_conv2d


def reference(x, kernel, groups, stride, padding):
    """TensorFlow's own convolution, one a group, on an explicitly padded input."""
    x = tf.pad(x, [[0, 0], padding, padding, [0, 0]])
    pairs = zip(tf.split(x, groups, -1), tf.split(kernel, groups, -1), strict=True)
    return tf.concat([tf.nn.conv2d(a, b, stride, "VALID") for a, b in pairs], -1)


@pytest.mark.parametrize("split", [None, True, False])
@pytest.mark.parametrize(
    ("groups", "size", "stride", "padding"),
    [(1, 11, 4, (0, 3)), (2, 5, 1, (2, 2)), (1, 3, 1, (1, 1)), (2, 3, 1, (0, 0))],
)
def test_values_and_gradients(groups, size, stride, padding, split):
    rng = np.random.default_rng(0)
    x = tf.constant(rng.normal(size=(2, 24, 24, 8)), tf.float32)
    kernel = tf.constant(rng.normal(size=(size, size, 8 // groups, 12)), tf.float32)

    def run(function):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function()
            loss = tf.reduce_sum(tf.sin(y / 10))
        return [y, *tape.gradient(loss, [x, kernel])]

    expected = run(lambda: reference(x, kernel, groups, stride, padding))
    got = run(
        lambda: grouped_conv2d(
            x, kernel, groups=groups, stride=stride, padding=padding, split=split
        )
    )
    for a, b in zip(got, expected, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=2e-5)


def test_a_224_image_gives_55_by_55_maps():
    x, kernel = tf.zeros((1, 224, 224, 3)), tf.zeros((11, 11, 3, 4))
    y = grouped_conv2d(x, kernel, stride=4, padding=(0, 3))
    assert y.shape == (1, 55, 55, 4)
