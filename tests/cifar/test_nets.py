"""The nets: parameters, order of operations, options, and PyTorch-free forward."""

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.cifar.nets import CifarNet, find_net
from official.alexnet.errors import UserError


@pytest.mark.parametrize(
    ("name", "parameters"),
    [("cifar_19pct", 89_578), ("cifar_13pct", 1_116_490), ("cifar_11pct", 1_116_490)],
)
def test_parameters_are_the_sources(name, parameters):
    model = CifarNet(find_net(name))
    assert model.count_params() == parameters
    assert model.output_shape == (None, 10)


@pytest.mark.parametrize("name", ["cifar_19pct", "cifar_11pct"])
def test_no_image_gives_an_empty_answer(name):
    net = find_net(name)
    images = tf.zeros((0, net.input_size, net.input_size, 3))
    assert CifarNet(net)(images).shape == (0, 10)


def layer_names(net) -> list[str]:
    return [layer.name for layer in CifarNet(net).layers[1:]]


def test_operations_are_in_the_sources_order():
    assert " ".join(layer_names(find_net("cifar_19pct"))) == (
        "conv1 pool1 relu1 conv2 relu2 pool2 conv3 relu3 pool3 fc10"
    )
    assert " ".join(layer_names(find_net("cifar_11pct"))) == (
        "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 local3 relu3 local4 relu4 fc10"
    )


def test_only_lrn_differs_between_13_and_11_percent():
    assert layer_names(find_net("cifar_13pct")) == [
        name for name in layer_names(find_net("cifar_11pct")) if "norm" not in name
    ]
    with_lrn, without = (
        CifarNet(find_net(name), seed=5) for name in ("cifar_11pct", "cifar_13pct")
    )
    for a, b in zip(with_lrn.weights, without.weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_options():
    assert find_net("cifar_13pct", lrn=True).layers == find_net("cifar_11pct").layers
    assert find_net("cifar_11pct", lrn=False).layers == find_net("cifar_13pct").layers
    names = layer_names(find_net("cifar_19pct", activation="tanh", lrn=True))
    assert names[:6] == ["conv1", "pool1", "tanh1", "norm1", "conv2", "tanh2"]
    small = CifarNet(find_net("cifar_19pct", input_size=24))
    assert small.input_shape == (None, 24, 24, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cifar_12pct"}, "--net takes cifar_19pct, cifar_13pct, cifar_11pct"),
        ({"name": "cifar_19pct", "activation": "gelu"}, "it is relu or tanh"),
        ({"name": "cifar_19pct", "input_size": 28}, "a multiple of 8"),
        ({"name": "cifar_13pct", "input_size": 36}, "8 to 32 pixels, a multiple of 4"),
    ],
)
def test_mistakes(arguments, message):
    with pytest.raises(UserError, match=message):
        find_net(**arguments)


def test_initial_weights_and_decays_are_the_sources():
    net = find_net("cifar_13pct")
    model = CifarNet(net, seed=1)
    stddevs = {
        "conv1": 1e-4,
        "conv2": 0.01,
        "local3": 0.04,
        "local4": 0.04,
        "fc10": 0.01,
    }
    for name, stddev in stddevs.items():
        layer = model.get_layer(name)
        assert np.std(layer.kernel) == pytest.approx(stddev, rel=0.05)
        assert not np.any(layer.bias)
    assert net.decays() == {
        "conv1/kernel": 0.0,
        "conv2/kernel": 0.0,
        "local3/kernel": 0.004,
        "local4/kernel": 0.004,
        "fc10/kernel": 0.004,
    }
    assert find_net("cifar_19pct").decays()["fc10/kernel"] == 3.0


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_net_of_figure_1_equals_tensorflows_ops(activation):
    model = CifarNet(find_net("cifar_19pct", activation=activation), seed=2)
    images = np.random.default_rng(0).normal(0, 60, (2, 32, 32, 3)).astype("f4")
    f = getattr(tf.nn, activation)
    conv1, conv2, conv3, fc10 = (
        (tf.constant(layer.kernel), tf.constant(layer.bias))
        for layer in (model.get_layer(n) for n in ("conv1", "conv2", "conv3", "fc10"))
    )

    def convolve(x, weights):
        return tf.nn.conv2d(x, weights[0], 1, "SAME") + weights[1]

    x = f(tf.nn.max_pool2d(convolve(images, conv1), 3, 2, "SAME"))
    x = tf.nn.avg_pool2d(f(convolve(x, conv2)), 3, 2, "SAME")
    x = tf.nn.avg_pool2d(f(convolve(x, conv3)), 3, 2, "SAME")
    logits = tf.reshape(x, [2, -1]) @ fc10[0] + fc10[1]
    np.testing.assert_allclose(model(images), logits, rtol=1e-4, atol=1e-7)


def test_lrn_is_the_sources():
    """x / (1 + 0.001/5 * sum of x^2 over 5 maps)^0.75."""
    model = CifarNet(find_net("cifar_11pct"))
    x = np.random.default_rng(0).normal(0, 30, (1, 2, 2, 64)).astype("f4")
    padded = np.pad(x.astype("f8") ** 2, [(0, 0)] * 3 + [(2, 2)])
    sums = sum(padded[..., i : i + 64] for i in range(5))
    expected = x / (1 + 0.001 / 5 * sums) ** 0.75
    np.testing.assert_allclose(model.get_layer("norm1")(x), expected, rtol=1e-5)
