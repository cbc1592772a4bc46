"""Columns with equal weights and inputs have equal gradients, to the bit."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from official.alexnet.config import RuntimeConfig
from official.alexnet.distribution.strategy import place
from official.alexnet.training.step import Steps
from official.alexnet.training.trainer import Trainer


@pytest.fixture
def trainer(quick_config, tmp_path) -> Trainer:
    """A net of two columns without dropout: masks of two columns differ."""
    model = dataclasses.replace(
        quick_config.model, num_classes=16, num_columns=2, dropout=0.0
    )
    runtime = RuntimeConfig("one_device", logical_cpus=2, num_gpus=0)
    config = dataclasses.replace(quick_config, model=model, runtime=runtime)
    return Trainer(config, tmp_path, place(runtime, 2), clean=False)


def make_alike(model) -> None:
    """Gives both columns column a's weights, and each reader equal halves."""
    layers = {layer.name: layer for layer in model.layers if layer.weights}
    maps = model.get_layer("pool5a").output.shape[-1]
    for name, layer in layers.items():
        kernel, bias = layers[name.replace("b", "a")].get_weights()
        if name.startswith(("conv3", "fc")):  # These read [column a, column b].
            half = maps if name[:3] == "fc6" else kernel.shape[-2] // 2
            halves = kernel.reshape(-1, 2, half, bias.size)
            halves[:, 1] = halves[:, 0]
            kernel = halves.reshape(kernel.shape)
        layer.set_weights([kernel, bias])


def test_gradients_and_updates_are_equal_to_the_bit(trainer):
    make_alike(trainer.model)
    before = {v.path: v.numpy() for v in trainer.model.trainable_variables}
    trainer.set_rates(0)
    batches = iter(trainer.batches(0))
    context.enable_run_metadata()
    try:
        steps = Steps.of(trainer.step.loop(batches, tf.constant(4)))
        ran = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    assert steps.count == 4
    states = {}
    variables, velocities = (
        trainer.model.trainable_variables,
        trainer.optimizer.velocities,
    )
    for variable, velocity in zip(variables, velocities, strict=True):
        states[variable.path] = [variable.numpy(), velocity.numpy()]
    names = [name for name in states if "b/" in name]
    assert len(names) == 14
    for name in names:
        for b, a in zip(states[name], states[name.replace("b/", "a/")], strict=True):
            np.testing.assert_array_equal(b, a, name)
        assert np.any(before[name] != states[name][0]), name
    # No op is left whose kernel TensorFlow chooses by the ops around it, for it chooses
    # differently from column to column and process to process: some sums of a bias's
    # gradient it fuses, some of pooling's gradients have a kernel of another order.
    graphs = max(ran, key=lambda each: each.ByteSize()).partition_graphs
    ops = {node.op for graph in graphs for node in graph.node}
    assert any("Conv2DBackpropFilter" in op for op in ops)
    chosen = ("BiasAddGrad", "FilterWithBias", "MaxPoolGrad")
    assert [op for op in ops if any(name in op for name in chosen)] == []
