"""Norms: the spatial one by NumPy, batch norm by PyTorch, Caffe's by ONNX Runtime."""

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import AlexNet
from official.alexnet.modeling.normalization import (
    BatchNormalization,
    SpatialResponseNormalization,
    spatial_response_normalization,
)
from official.alexnet.modeling.variants import LRN


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 60, (2, 7, 9, 4)).astype(np.float32)


def rnorm(a: np.ndarray, norm: LRN) -> np.ndarray:
    """Pixel by pixel in float64; what is outside the map counts as 0."""
    b = np.empty(a.shape)
    half = norm.n // 2
    for i in range(a.shape[1]):
        for j in range(a.shape[2]):
            rows = slice(max(0, i - half), i + half + 1)
            columns = slice(max(0, j - half), j + half + 1)
            total = (a[:, rows, columns].astype(np.float64) ** 2).sum((1, 2))
            b[:, i, j] = a[:, i, j] / (norm.k + norm.alpha * total) ** norm.beta
    return b


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize(
    "norm", [LRN(k=1, alpha=4e-5), LRN(k=2, n=3, alpha=1e-3, beta=0.5)]
)
def test_spatial_norm(x, norm, plain):
    y = spatial_response_normalization(tf.constant(x), norm, plain=plain)
    np.testing.assert_allclose(y, rnorm(x, norm), rtol=5e-6)


@pytest.mark.parametrize(
    "norm", [LRN(k=1, alpha=4e-5), LRN(k=2, n=3, alpha=1e-3, beta=0.5)]
)
def test_gradient_of_the_spatial_norm(x, norm):
    """Against central differences of the float64 formula, and TensorFlow's own."""
    upstream = np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    found = []
    for plain in (False, True):
        inputs = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            y = spatial_response_normalization(inputs, norm, plain=plain)
        found.append(tape.gradient(y, inputs, upstream).numpy())
    np.testing.assert_allclose(found[0], found[1], rtol=1e-4, atol=1e-6)
    direction = np.random.default_rng(2).normal(size=x.shape)
    ends = [rnorm(x + step * direction, norm) for step in (1e-3, -1e-3)]
    slope = ((ends[0] - ends[1]) / 2e-3 * upstream).sum()
    assert (found[0] * direction).sum() == pytest.approx(slope, rel=1e-4)


def test_the_originals_spatial_norm_is_the_sources(x):
    layer = AlexNet("original", width=0.1).get_layer("spatial_norm2")
    assert isinstance(layer, SpatialResponseNormalization)
    source = LRN(k=1, n=5, alpha=0.001 / 25, beta=0.75)
    np.testing.assert_allclose(layer(x), rnorm(x, source), rtol=5e-6)


def test_spatial_norm_of_bfloat16_is_computed_in_float32(x):
    low = tf.cast(x, tf.bfloat16)
    norm = LRN(k=1, alpha=4e-5)
    y = spatial_response_normalization(low, norm)
    assert y.dtype == tf.bfloat16
    expected = rnorm(tf.cast(low, tf.float32).numpy(), norm)
    np.testing.assert_allclose(tf.cast(y, tf.float32), expected, rtol=2**-8)


def test_batch_norm_against_pytorch(x):
    """Outputs, gradients and moving statistics over three steps."""
    torch = pytest.importorskip("torch")
    ours = BatchNormalization()
    theirs = torch.nn.BatchNorm2d(4)
    for step in range(3):
        inputs = x + 100 * step
        upstream = np.cos(inputs)
        a = tf.Variable(inputs)
        with tf.GradientTape() as tape:
            y = ours(a, training=True)
        gradients = tape.gradient(y, [a, ours.gamma.value, ours.beta.value], upstream)
        b = torch.tensor(inputs.transpose(0, 3, 1, 2), requires_grad=True)
        theirs.zero_grad()
        z = theirs(b)
        z.backward(torch.tensor(upstream.transpose(0, 3, 1, 2)))
        pairs = [
            (y, z.detach().numpy().transpose(0, 2, 3, 1)),
            (gradients[0], b.grad.numpy().transpose(0, 2, 3, 1)),
            (gradients[1], theirs.weight.grad),
            (gradients[2], theirs.bias.grad),
            (ours.moving_mean.value, theirs.running_mean),
            (ours.moving_variance.value, theirs.running_var),
        ]
        for got, expected in pairs:
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
    theirs.eval()
    expected = theirs(torch.tensor(x.transpose(0, 3, 1, 2))).detach().numpy()
    np.testing.assert_allclose(
        ours(x, training=False), expected.transpose(0, 2, 3, 1), rtol=1e-4, atol=1e-5
    )
    assert len(ours.trainable_weights) == len(ours.non_trainable_weights) == 2


@pytest.mark.parametrize("training", [False, True])
def test_batch_norm_of_bfloat16_keeps_its_statistics_in_float32(x, training):
    low, full = BatchNormalization(dtype="mixed_bfloat16"), BatchNormalization()
    y = low(tf.cast(x, tf.bfloat16), training=training)
    assert y.dtype == tf.bfloat16
    assert {v.dtype for v in low.weights} == {"float32"}
    z = full(x, training=training)
    np.testing.assert_allclose(tf.cast(y, tf.float32), z, rtol=0.02, atol=0.02)
    np.testing.assert_allclose(
        low.moving_mean.value, full.moving_mean.value, rtol=0.02, atol=0.02
    )


@pytest.mark.parametrize("variant", ["caffe", "caffenet"])
@pytest.mark.parametrize("norm", ["norm1", "norm2"])
def test_caffes_lrn_is_onnx_runtimes(variant, norm):
    """ONNX has Caffe's definition: alpha is divided by n, and k is 1 (`bias`)."""
    onnx = pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    layer = AlexNet(variant, width=0.5).get_layer(norm)
    shape = (2, *layer.input.shape[1:])
    x = np.random.default_rng(0).normal(0, 90, shape).astype(np.float32)
    info = onnx.helper.make_tensor_value_info
    node = onnx.helper.make_node(
        "LRN", ["x"], ["y"], size=5, alpha=1e-4, beta=0.75, bias=1.0
    )
    graph = onnx.helper.make_graph(
        [node],
        "lrn",
        [info("x", onnx.TensorProto.FLOAT, None)],
        [info("y", onnx.TensorProto.FLOAT, None)],
    )
    opset = [onnx.helper.make_opsetid("", 13)]
    model = onnx.helper.make_model(graph, opset_imports=opset, ir_version=8)
    session = runtime.InferenceSession(model.SerializeToString())
    (expected,) = session.run(None, {"x": x.transpose(0, 3, 1, 2)})
    np.testing.assert_allclose(
        layer(x), expected.transpose(0, 2, 3, 1), rtol=1e-5, atol=1e-5
    )


def test_frozen_batch_norm_keeps_its_statistics():
    """As Keras's own layer does."""
    layer = BatchNormalization()
    x = tf.random.stateless_normal((4, 5, 5, 3), (0, 0), mean=3.0)
    before = layer(x, training=False).numpy()
    layer.trainable = False
    np.testing.assert_array_equal(layer(x, training=True), before)
    np.testing.assert_array_equal(layer.moving_mean, np.zeros(3))
