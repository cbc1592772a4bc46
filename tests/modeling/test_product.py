"""The dense product's gradient against TensorFlow's own."""

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.modeling.product import product


@pytest.mark.parametrize("dtype", [tf.float32, tf.bfloat16])
def test_value_and_gradients_equal_matmuls(dtype):
    random = np.random.default_rng(0)
    x = tf.cast(random.normal(size=(4, 7)), dtype)
    kernel = tf.cast(random.normal(size=(7, 5)), dtype)
    upstream = tf.cast(random.normal(size=(4, 5)), dtype)

    def run(function):
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            y = function(x, kernel)
        return [y, *tape.gradient(y, [x, kernel], upstream)]

    tolerance = 1e-6 if dtype == tf.float32 else 2**-7
    for got, expected in zip(run(product), run(tf.matmul), strict=True):
        assert got.dtype == dtype
        np.testing.assert_allclose(
            tf.cast(got, tf.float32), tf.cast(expected, tf.float32), rtol=tolerance
        )
