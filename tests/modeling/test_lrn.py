"""Local response normalisation against the paper's formula and TensorFlow's op."""

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import AlexNet
from official.alexnet.modeling.lrn import local_response_normalization
from official.alexnet.modeling.variants import LRN


def paper_formula(a: np.ndarray, lrn: LRN, num_columns: int) -> np.ndarray:
    """Section 3.3, map by map, in float64."""
    a = a.astype(np.float64)
    b = np.empty_like(a)
    maps = a.shape[-1] // num_columns
    for i in range(a.shape[-1]):
        first, last = i // maps * maps, (i // maps + 1) * maps - 1
        j = slice(max(first, i - lrn.n // 2), min(last, i + lrn.n // 2) + 1)
        total = (a[..., j] ** 2).sum(-1)
        b[..., i] = a[..., i] / (lrn.k + lrn.alpha * total) ** lrn.beta
    return b


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 60, (2, 5, 7, 16)).astype(np.float32)


@pytest.mark.parametrize("form", ["native", "fused", "band"])
@pytest.mark.parametrize("num_columns", [1, 2])
@pytest.mark.parametrize("lrn", [LRN(), LRN(k=1, n=3, alpha=2e-3, beta=0.5)])
def test_equals_the_papers_formula(x, lrn, num_columns, form):
    y = local_response_normalization(
        tf.constant(x), lrn, num_columns=num_columns, form=form
    )
    np.testing.assert_allclose(y, paper_formula(x, lrn, num_columns), rtol=2e-6)


@pytest.mark.parametrize("form", ["fused", "band"])
@pytest.mark.parametrize("lrn", [LRN(), LRN(k=1, n=3, alpha=2e-3, beta=0.5)])
def test_gradient_equals_tensorflows(x, lrn, form):
    upstream = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)

    def gradient(function):
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = function(inputs)
        return tape.gradient(y, inputs, upstream)

    expected = gradient(
        lambda x: tf.nn.local_response_normalization(
            x, lrn.n // 2, lrn.k, lrn.alpha, lrn.beta
        )
    )
    got = gradient(lambda x: local_response_normalization(x, lrn, form=form))
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-6)


def test_a_window_does_not_reach_over_the_seam(x):
    y = local_response_normalization(tf.constant(x), LRN(), num_columns=2)
    other = x.copy()
    other[..., 8:] *= 3
    z = local_response_normalization(tf.constant(other), LRN(), num_columns=2)
    np.testing.assert_array_equal(y[..., :8], z[..., :8])
    full = local_response_normalization(tf.constant(other), LRN(), num_columns=1)
    assert np.abs(full[..., 6:8] - z[..., 6:8]).max() > 1e-3


@pytest.mark.parametrize(
    ("variant", "constants", "columns"),
    [
        ("paper", LRN(k=2, n=5, alpha=1e-4, beta=0.75), 2),
        # layers-145.cfg: scale 0.0001 over a size of 5.
        ("original", LRN(k=2, n=5, alpha=1e-4 / 5, beta=0.75), 2),
        ("one_gpu", LRN(k=2, n=5, alpha=1e-4, beta=0.75), 1),
        ("cuda_convnet2", LRN(k=2, n=5, alpha=1e-4 / 5, beta=0.75), 1),
    ],
)
@pytest.mark.parametrize("norm", ["norm1", "norm2"])
def test_the_nets_have_the_published_constants(variant, constants, columns, norm):
    layer = AlexNet(variant, width=0.25, input_size=80).get_layer(norm)
    shape = (2, *layer.input.shape[1:])
    x = np.random.default_rng(0).normal(0, 90, shape).astype(np.float32)
    np.testing.assert_allclose(
        layer(x), paper_formula(x, constants, columns), rtol=5e-6
    )


@pytest.mark.parametrize("form", ["native", "fused", "band"])
def test_bfloat16_is_computed_in_float32(x, form):
    low = tf.cast(x, tf.bfloat16)
    y = local_response_normalization(low, LRN(), form=form)
    assert y.dtype == tf.bfloat16
    expected = paper_formula(tf.cast(low, tf.float32).numpy(), LRN(), 1)
    np.testing.assert_allclose(tf.cast(y, tf.float32), expected, rtol=2**-8)
