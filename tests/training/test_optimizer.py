"""The update rule against NumPy, and against Keras's SGD with L2 in the loss."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.training.optimizer import PaperSGD


def variables(rng) -> list[keras.Variable]:
    return [
        keras.Variable(rng.normal(size=(3, 4)).astype("f4"), name="kernel"),
        keras.Variable(rng.normal(size=4).astype("f4"), name="bias"),
    ]


@pytest.mark.parametrize(
    ("bias_learning_rate", "decay_biases"), [(1.0, True), (2.0, False)]
)
def test_equals_the_papers_rule(bias_learning_rate, decay_biases):
    rng = np.random.default_rng(0)
    weights = variables(rng)
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


def test_is_not_keras_decoupled_weight_decay():
    rng = np.random.default_rng(0)
    ours, theirs = variables(rng), variables(np.random.default_rng(0))
    a = PaperSGD(0.1, 0.9, 0.05)
    b = keras.optimizers.SGD(0.1, momentum=0.9, weight_decay=0.05)
    for _ in range(3):
        a.apply([tf.zeros_like(v) for v in ours], ours)
        b.apply([tf.zeros_like(v) for v in theirs], theirs)
    assert np.abs(np.array(ours[0]) - np.array(theirs[0])).max() > 1e-3


def test_config_round_trip():
    optimizer = PaperSGD(0.02, 0.8, 0.001, bias_learning_rate=2, decay_biases=False)
    config = keras.optimizers.serialize(optimizer)
    assert keras.optimizers.deserialize(config).get_config() == optimizer.get_config()
