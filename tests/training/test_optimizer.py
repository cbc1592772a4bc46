"""The update rule against NumPy, and against Keras's SGD with L2 in the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.training.optimizer import PaperSGD


def variables(rng, shape=(3, 4)) -> list[keras.Variable]:
    return [
        keras.Variable(rng.normal(size=shape).astype("f4"), name="kernel"),
        keras.Variable(rng.normal(size=4).astype("f4"), name="bias"),
    ]


# A large kernel's update is compiled.
@pytest.mark.parametrize("shape", [(3, 4), (512, 256)])
@pytest.mark.parametrize(
    ("bias_learning_rate", "decay_biases"), [(1.0, True), (2.0, False)]
)
def test_equals_the_papers_rule(bias_learning_rate, decay_biases, shape):
    rng = np.random.default_rng(0)
    weights = variables(rng, shape)
    optimizer = PaperSGD(
        0.1, 0.9, 0.05, bias_learning_rate=bias_learning_rate, decay_biases=decay_biases
    )
    w = [np.array(v, np.float64) for v in weights]
    v = [np.zeros_like(array) for array in w]
    for step in range(6):
        rate = 0.1 if step < 3 else 0.01
        optimizer.learning_rate.assign(rate)
        gradients = [rng.normal(size=array.shape) for array in w]
        optimizer.apply([tf.constant(g, tf.float32) for g in gradients], weights)
        for i, gradient in enumerate(gradients):
            epsilon = rate * (bias_learning_rate if i else 1)
            decay = 0.05 if decay_biases or not i else 0.0
            v[i] = 0.9 * v[i] - decay * epsilon * w[i] - epsilon * gradient
            w[i] = w[i] + v[i]
        for variable, expected in zip(weights, w, strict=True):
            np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)
    assert int(optimizer.iterations.numpy()) == 6


def test_equals_keras_sgd_with_l2_in_the_loss():
    """The gradient of L2 with half the decay is decay * w."""
    rng = np.random.default_rng(0)
    ours, theirs = variables(rng), variables(np.random.default_rng(0))
    a, b = PaperSGD(0.1, 0.9, 0.05), keras.optimizers.SGD(0.1, momentum=0.9)
    for rate in (0.1, 0.1, 0.01, 0.01):
        gradients = [tf.constant(rng.normal(size=v.shape), tf.float32) for v in ours]
        with tf.GradientTape() as tape:
            loss = sum(
                tf.reduce_sum(g * v) for g, v in zip(gradients, theirs, strict=True)
            )
            loss += sum(keras.regularizers.L2(0.05 / 2)(v.value) for v in theirs)
        found = tape.gradient(loss, [v.value for v in theirs])
        for optimizer in (a, b):
            optimizer.learning_rate.assign(rate)
        a.apply(gradients, ours)
        b.apply(found, theirs)
        for x, y in zip(ours, theirs, strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-6)


def test_is_not_keras_decoupled_weight_decay():
    rng = np.random.default_rng(0)
    ours, theirs = variables(rng), variables(np.random.default_rng(0))
    a = PaperSGD(0.1, 0.9, 0.05)
    b = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.05)
    for _ in range(3):
        a.apply([tf.zeros_like(v) for v in ours], ours)
        b.apply([tf.zeros_like(v) for v in theirs], theirs)
    assert np.abs(np.array(ours[0]) - np.array(theirs[0])).max() > 1e-3


def test_another_rate_needs_no_other_trace():
    weights = layers(np.random.default_rng(0), "conv1", "fc8")
    optimizer = PaperSGD(0.1, momentum=0.0, decay=0.0)
    optimizer.build(weights)

    @tf.function
    def step():
        optimizer.apply([tf.ones_like(weight.value) for weight in weights], weights)

    for multiple in (1.0, 3.0):
        optimizer.set_multiples(lambda name, m=multiple: m if "bias" in name else 0.5)
        before = [np.array(weight) for weight in weights]
        step()
        moved = [b - np.array(w) for b, w in zip(before, weights, strict=True)]
        for i, change in enumerate(moved):
            rate = 0.1 * (multiple if i % 2 else 0.5)
            np.testing.assert_allclose(change, rate, rtol=1e-4)
    assert step.experimental_get_tracing_count() == 1


def test_config_round_trip():
    optimizer = PaperSGD(
        0.02,
        0.8,
        0.001,
        bias_learning_rate=2,
        decay_biases=False,
        layer_learning_rates={"conv1": 0.1},
    )
    assert optimizer.get_config()["layer_learning_rates"] == {"conv1": 0.1}
    config = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.deserialize(config).get_config() == optimizer.get_config()


def layers(rng, *names: str) -> list[keras.Variable]:
    """Kernel and bias of each layer, as a model has them."""
    found = []
    for name in names:
        layer = keras.layers.Dense(4, name=name)
        layer.build((None, 3))
        for variable in layer.weights:
            variable.assign(rng.normal(size=variable.shape))
            found.append(variable)
    return found


def test_layers_learn_at_multiples_and_frozen_ones_not_at_all():
    rng = np.random.default_rng(0)
    weights = layers(rng, "conv1a", "conv1b", "conv2", "fc6", "fc8")
    # conv1: both columns. Of several that fit conv2's kernel the last holds.
    rates = {"conv1": 0.1, "conv2/kernel": 3.0, "conv2": 0.5, "fc6/bias": 0, "fc8": 0}
    multiples = [0.1, 0.1, 0.1, 0.1, 0.5, 0.5, 1.0, 0.0, 0.0, 0.0]
    optimizer = PaperSGD(
        0.1, 0.9, 0.05, bias_learning_rate=2, layer_learning_rates=rates
    )
    w = [np.array(v, np.float64) for v in weights]
    v = [np.zeros_like(array) for array in w]
    for step in range(6):
        if step == 3:
            # From here on conv1 is frozen in full flight: its momentum stops too.
            pairs = zip(optimizer.names, weights, strict=True)
            now = {name: optimizer.multiple(weight) for name, weight in pairs}
            frozen = {"conv1/kernel": 0.0, "conv1/bias": 0.0}
            optimizer.set_multiples((now | frozen).__getitem__)
            multiples[:4] = [0.0] * 4
            before = [np.array(x) for x in [*weights[:4], *optimizer.velocities[:4]]]
        gradients = [rng.normal(size=array.shape) for array in w]
        optimizer.apply([tf.constant(g, tf.float32) for g in gradients], weights)
        for i, gradient in enumerate(gradients):
            if multiples[i] == 0:
                continue
            epsilon = 0.1 * multiples[i] * (2 if i % 2 else 1)
            v[i] = 0.9 * v[i] - 0.05 * epsilon * w[i] - epsilon * gradient
            w[i] = w[i] + v[i]
        for variable, expected in zip(weights, w, strict=True):
            np.testing.assert_allclose(variable, expected, rtol=1e-5, atol=1e-6)
    assert all(np.any(x) for x in before), "there was momentum to stop"
    after = [*weights[:4], *optimizer.velocities[:4]]
    for x, y in zip(before, after, strict=True):
        np.testing.assert_array_equal(x, y)


def test_a_frozen_layer_stays_in_compile_and_fit():
    model = keras.Sequential(
        [keras.layers.Dense(4, name="fc7"), keras.layers.Dense(1, name="fc8")]
    )
    model.compile(PaperSGD(0.1, layer_learning_rates={"fc7": 0}), "mse")
    x = np.random.default_rng(0).normal(size=(8, 3)).astype("f4")
    model.build(x.shape)
    before = [np.array(variable) for variable in model.weights]
    model.fit(x, x[:, :1], epochs=2, verbose=0)
    changed = [
        bool(np.any(np.array(variable) != old))
        for variable, old in zip(model.weights, before, strict=True)
    ]
    assert changed == [False, False, True, True]


def test_rates_of_biases_and_layers_count_in_compile_and_fit():
    """`fit` builds the optimizer while it traces."""
    inputs = keras.Input((3,))
    model = keras.Model(inputs, keras.layers.Dense(2, name="fc8")(inputs))
    optimizer = PaperSGD(
        *(0.1, 0.0, 0.0), bias_learning_rate=2.0, layer_learning_rates={"fc8": 3}
    )
    model.compile(optimizer, "mse", jit_compile=False)
    x, y = np.ones((4, 3), "f4"), np.zeros((4, 2), "f4")
    before = [np.array(variable) for variable in model.weights]
    # The gradient of the mean of both squares, to the logits.
    gradient = model.predict(x, verbose=0)[0]
    model.fit(x, y, verbose=0)
    kernel, bias = (
        np.array(v) - old for v, old in zip(model.weights, before, strict=True)
    )
    np.testing.assert_allclose(kernel, [-0.3 * gradient] * 3, rtol=1e-4)
    np.testing.assert_allclose(bias, -0.6 * gradient, rtol=1e-4)
