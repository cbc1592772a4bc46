"""Max pooling's gradient against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.modeling.columns import portable
from official.alexnet.modeling.layers import MaxPool


def expected(x, dy, size, stride):
    """Each window hands its gradient to its greatest value; borders are never that."""
    dx = np.zeros_like(x)
    for n, i, j, channel in np.ndindex(*dy.shape):
        rows, columns = (slice(k * stride, k * stride + size) for k in (i, j))
        window = x[n, rows, columns, channel]
        place = np.unravel_index(window.argmax(), window.shape)
        dx[n, rows, columns, channel][place] += dy[n, i, j, channel]
    return dx


@pytest.mark.parametrize("is_portable", [False, True])
@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(
    ("size", "stride", "ceil", "side", "out"),
    [
        (3, 2, False, 13, 6),
        (3, 2, True, 14, 7),
        (2, 2, False, 7, 3),
        (3, 1, False, 5, 3),
    ],
)
def test_gradient(size, stride, ceil, side, out, compiled, is_portable):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, side, side, 8)).astype(np.float32)
    dy = rng.normal(size=(2, out, out, 8)).astype(np.float32)
    layer = MaxPool(size=size, stride=stride, ceil=ceil)

    def gradient(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = layer(x)
        return tape.gradient(y, x, dy)

    run = tf.function(gradient) if compiled else gradient
    if is_portable:
        with portable():
            got = run(tf.constant(x), tf.constant(dy))
    else:
        got = run(tf.constant(x), tf.constant(dy))
    np.testing.assert_allclose(got, expected(x, dy, size, stride), atol=1e-6)
