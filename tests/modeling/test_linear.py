"""Convolution, product and bias against TensorFlow's own, and their gradients."""

import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.distribution.capabilities import grouped_kernels_run_here
from official.alexnet.modeling.linear import add_bias, grouped_conv2d, product


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
    if groups > 1 and split is False and not grouped_kernels_run_here():
        pytest.skip("this TensorFlow refuses grouped kernels on this CPU")
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


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize(
    ("groups", "size", "stride", "padding", "side"),
    [(1, 11, 4, (0, 3), 5), (2, 5, 1, (2, 2), 24), (1, 3, 1, (0, 0), 22)],
)
def test_an_empty_batch(groups, size, stride, padding, side, dtype):
    x, kernel = tf.zeros((0, 24, 24, 8), dtype), tf.ones((size, size, 8 // groups, 12))

    def run():
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = grouped_conv2d(
                x,
                tf.cast(kernel, dtype),
                groups=groups,
                stride=stride,
                padding=padding,
                split=not grouped_kernels_run_here(dtype),
            )
        return y, *tape.gradient(y, [x, kernel])

    for y, dx, dkernel in (run(), tf.function(run)()):
        assert y.shape == (0, side, side, 12)
        assert dx.shape == x.shape
        np.testing.assert_array_equal(dkernel, tf.zeros_like(kernel))


_FUSED_STEP = """
import tensorflow as tf
from official.alexnet.modeling.linear import grouped_conv2d

kernel, x = tf.ones((3, 3, 2, 4)), tf.ones((1, 6, 6, 4))

@tf.function
def step():
    with tf.GradientTape() as tape:
        tape.watch(kernel)
        y = grouped_conv2d(x, kernel, groups=2, padding=(1, 1))
        y = tf.nn.relu(tf.nn.bias_add(y, tf.ones(4)))
    return tape.gradient(y, kernel)

print(float(tf.reduce_sum(step())))
"""


@pytest.mark.parametrize("one_dnn", ["0", "1"])
def test_trains_with_and_without_one_dnn(one_dnn):
    """Without it a CPU refuses grouped kernels, fused ones and their gradients."""
    child = subprocess.run(
        [sys.executable, "-c", _FUSED_STEP],
        capture_output=True,
        text=True,
        env=os.environ | {"TF_ENABLE_ONEDNN_OPTS": one_dnn},
        check=False,
    )
    assert child.returncode == 0, child.stderr
    # Each of 3 x 3 x 2 x 4 weights sees 36 pixels, less those beyond the border.
    assert float(child.stdout) == 8 * (36 + 4 * 30 + 4 * 25)


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
@pytest.mark.parametrize(
    ("ours", "reference", "shapes"),
    [
        (product, tf.matmul, [(4, 7), (7, 5), (4, 5)]),
        (add_bias, tf.nn.bias_add, [(4, 5), (5,), (4, 5)]),
        (add_bias, tf.nn.bias_add, [(2, 3, 3, 5), (5,), (2, 3, 3, 5)]),
    ],
)
def test_product_and_bias_equal_tensorflows(ours, reference, shapes, dtype):
    random = np.random.default_rng(0)
    x, weight, upstream = (tf.cast(random.normal(size=s), dtype) for s in shapes)

    def run(function):
        with tf.GradientTape() as tape:
            tape.watch([x, weight])
            y = function(x, weight)
        return [y, *tape.gradient(y, [x, weight], upstream)]

    tolerance = 1e-6 if dtype == tf.float32 else 2**-6
    for got, expected in zip(run(ours), run(reference), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(
            *(tf.cast(values, tf.float32) for values in (got, expected)),
            rtol=tolerance,
            atol=tolerance,
        )
