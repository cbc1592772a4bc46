"""float16: what is scaled, what an overflow does, and that a run goes on exactly."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.config import Config, RuntimeConfig
from official.alexnet.distribution.strategy import place
from official.alexnet.training import checkpoints
from official.alexnet.training.loss_scale import LossScale
from official.alexnet.training.trainer import Trainer, train


def on_two_columns(config: Config, dtype: str, replicas: int = 1, **train_settings):
    strategy = "mirrored" if replicas > 1 else "off"
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_columns=2),
        train=dataclasses.replace(config.train, **train_settings),
        runtime=RuntimeConfig(
            strategy, num_gpus=0, logical_cpus=2 * replicas, dtype=dtype
        ),
    )


def test_halves_on_an_overflow_and_doubles_after_2000_steps():
    loss_scale = LossScale(enabled=True)
    assert loss_scale.state() == [2.0**15, 0]
    loss_scale.update(tf.constant(2.0))
    assert loss_scale.state() == [2.0**14, 0]
    for step in range(1, 2000):
        loss_scale.update(tf.constant(0.0))
        assert loss_scale.state() == [2.0**14, step]
    loss_scale.update(tf.constant(0.0))
    assert loss_scale.state() == [2.0**15, 0]


@pytest.mark.parametrize("state", [[2.0**14, 7], [1.0, 3]])
def test_it_goes_on_where_it_was(state):
    loss_scale = LossScale(enabled=True)
    loss_scale.restore(state)
    assert loss_scale.state() == state
    # A checkpoint of a run in another type.
    loss_scale.restore(LossScale(enabled=False).state())
    assert loss_scale.state() == state


def test_unscale_divides_or_makes_every_gradient_nan():
    loss_scale = LossScale(enabled=True)
    gradients = [tf.constant([2.0**15, 2.0**16]), tf.constant([3.0])]
    divided, overflow = loss_scale.unscale(gradients)
    np.testing.assert_array_equal(divided[0], [1, 2])
    assert overflow == 0
    poisoned, overflow = loss_scale.unscale([gradients[0], tf.constant([np.inf])])
    assert all(np.isnan(gradient).all() for gradient in poisoned)
    assert overflow == 1


@pytest.mark.slow
def test_a_step_in_float16_is_nearly_one_in_float32(tiny_config, tmp_path):
    states = {}
    for dtype in ("fp32", "fp16"):
        config = on_two_columns(tiny_config, dtype, train_steps=1)
        train(config, str(tmp_path / dtype))
        states[dtype] = checkpoints.read(checkpoints.latest(tmp_path / dtype))
    for name, expected in states["fp32"].velocity.items():
        got = states["fp16"].velocity[name]
        assert got.dtype == np.float32
        difference = np.linalg.norm(got - expected) / np.linalg.norm(expected)

        assert difference < 0.1, name


@pytest.mark.parametrize("replicas", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_an_overflow_changes_nothing_but_the_scale(tiny_config, tmp_path, replicas):
    config = on_two_columns(tiny_config, "fp16", replicas)
    trainer = Trainer(config, tmp_path, place(config.runtime, 2), clean=False)
    batches = iter(trainer.batches(0))
    trainer.step.loop(batches, tf.constant(1))
    variables = [*trainer.model.trainable_variables, *trainer.optimizer.velocities]
    before = [variable.numpy() for variable in variables]
    # Beyond float16's largest number, 65,504, for the gradient of any logit.
    trainer.loss_scale.scale.assign(2.0**30)
    trainer.step.loop(batches, tf.constant(1))
    for variable, value in zip(variables, before, strict=True):
        np.testing.assert_array_equal(variable.numpy(), value, err_msg=variable.path)
    assert trainer.loss_scale.state() == [2.0**24, 0]
    trainer.loss_scale.scale.assign(2.0**10)
    trainer.step.loop(batches, tf.constant(1))
    assert not np.array_equal(variables[0].numpy(), before[0])


@pytest.mark.slow
def test_the_scale_is_in_the_checkpoint(tiny_config, tmp_path):
    config = on_two_columns(tiny_config, "fp16", train_steps=3)
    train(config, str(tmp_path))
    trainer = Trainer(config, tmp_path, place(config.runtime, 2), clean=False)
    trainer.checkpoints.restore()
    assert trainer.loss_scale.state() == [2.0**15, 3]
