"""On a card, split in two of 3,072 MB: placement, forms, bits, types, LRN, speed."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from official.alexnet import AlexNet
from official.alexnet.config import Config, RuntimeConfig
from official.alexnet.distribution.grid import devices_of
from official.alexnet.distribution.strategy import place
from official.alexnet.modeling.lrn import local_response_normalization
from official.alexnet.modeling.variants import LRN
from official.alexnet.modeling.weights import copy_weights
from official.alexnet.training import checkpoints
from official.alexnet.training.step import Steps
from official.alexnet.training.trainer import Trainer, train

KIND = "GPU"
COMPUTE = {
    *("Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput", "MatMul"),
    *("MaxPool", "MaxPoolGrad", "Relu", "ReluGrad", "LRN", "LRNGrad"),
}
ROOT = pathlib.Path(__file__).parents[2]

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        not tf.config.list_physical_devices(KIND), reason="there is no GPU here"
    ),
]


@pytest.fixture(autouse=True)
def _exact_products():
    """Without the 10 bits of TF32."""
    tf.config.experimental.enable_tensor_float_32_execution(False)


def machine(columns: int, replicas: int = 1, dtype: str = "fp32") -> RuntimeConfig:
    strategy = "one_device" if replicas == 1 else "mirrored"
    split = {"logical_gpus": 2, "gpu_memory_mb": 3072}
    return RuntimeConfig(strategy, num_gpus=columns * replicas, dtype=dtype, **split)


def on_gpus(config: Config, columns: int, dtype: str = "fp32", **settings) -> Config:
    model = dataclasses.replace(config.model, num_columns=columns)
    steps = dataclasses.replace(config.train, **settings)
    runtime = machine(columns, dtype=dtype)
    return dataclasses.replace(config, model=model, train=steps, runtime=runtime)


def test_each_column_is_on_its_gpu(quick_config, tmp_path):
    """Variables, and the ops of a step that ran."""
    config = on_gpus(quick_config, 2)
    trainer = Trainer(config, tmp_path, place(config.runtime, 2), clean=False)
    for layer in trainer.model.layers:
        for variable in layer.trainable_weights:
            for v in (variable, trainer.optimizer.velocity_of(variable)):
                (device,) = devices_of(v.value)
                assert device.endswith(f"{KIND}:{int(layer.name.endswith('b'))}")
    trainer.set_rates(0)
    batches = iter(trainer.batches(0))
    context.enable_run_metadata()
    try:
        trainer.step.loop(batches, tf.constant(1))
        graphs = context.export_run_metadata().partition_graphs
    finally:
        context.disable_run_metadata()
    ran: dict[str, set] = {}
    for graph in graphs:
        functions = [node for f in graph.library.function for node in f.node_def]
        for node in (*graph.node, *functions):
            device = node.device.rpartition("device:")[-1]
            # Fused ones have longer names.
            for kind in (kind for kind in COMPUTE if kind in node.op):
                ran.setdefault(device, set()).add(kind)
    assert ran.keys() == {f"{KIND}:0", f"{KIND}:1"}
    for kinds in ran.values():
        assert {"Conv2D", "Conv2DBackpropFilter", "MatMul", "MaxPoolGrad"} <= kinds


@pytest.mark.parametrize("variant", ["paper", "original", "caffe"])
def test_both_forms_compute_the_same(variant):
    options = {"num_classes": 10, "classifier_activation": None, "dropout": 0.0}
    grid = place(machine(2), 2).grid
    with tf.device(f"{KIND}:0"):
        grouped = AlexNet(variant, **options)
        images = tf.random.stateless_normal((8, *grouped.input_shape[1:]), (0, 1)) * 60
    columns = AlexNet(variant, num_columns=2, grid=grid, **options)
    copy_weights(grouped, columns)
    gradients = []
    for model in (grouped, columns):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(model(images, training=True) ** 2)
        gradients.append((loss, tape.gradient(loss, model.trainable_variables[0])))
    (loss, kernel), (other_loss, other_kernel) = gradients
    np.testing.assert_allclose(loss, other_loss, rtol=1e-4)
    half, scale = other_kernel.shape[-1], np.abs(kernel).max()
    np.testing.assert_allclose(kernel[..., :half], other_kernel, atol=1e-4 * scale)


def test_a_resumed_run_has_the_same_bits(tmp_path):
    """In processes: enable_op_determinism is for good."""
    flags = [
        *(
            "--use_synthetic_data",
            "--width=0.25",
            "--num_classes=10",
            "--batch_size=16",
        ),
        *("--schedule=constant", "--skip_eval", "--enable_op_determinism"),
        *("--distribution_strategy=one_device", "--num_columns=2", "--num_gpus=2"),
        *("--logical_gpus=2", "--gpu_memory_mb=3072"),
    ]
    for folder, steps in (("whole", 8), ("parts", 3), ("parts", 8)):
        command = [sys.executable, "-m", "official.alexnet.train", *flags]
        command += [f"--model_dir={tmp_path / folder}", f"--train_steps={steps}"]
        subprocess.run(command, check=True, cwd=ROOT, timeout=600)
    whole, parts = (
        checkpoints.read(checkpoints.latest(tmp_path / folder))
        for folder in ("whole", "parts")
    )
    for kind in ("weights", "velocity"):
        for name, array in getattr(whole, kind).items():
            np.testing.assert_array_equal(array, getattr(parts, kind)[name], name)


def test_halves_train_as_float32(tiny_config, tmp_path):
    losses = {}
    for dtype in ("fp32", "fp16", "bf16"):
        config = on_gpus(tiny_config, 2, dtype, train_steps=3, log_steps=3)
        losses[dtype] = train(config, str(tmp_path / dtype))["loss"]
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.05)


def test_the_gradient_of_tensorflows_lrn():
    """Against the form that a CPU runs, in float32."""
    lrn = LRN()
    x = tf.random.stateless_normal((4, 9, 9, 32), (0, 1)) * 60
    upstream = tf.random.stateless_normal(x.shape, (1, 2))
    found = []
    for device, form in ((f"{KIND}:0", "native"), ("CPU:0", "band")):
        with tf.device(device), tf.GradientTape() as tape:
            tape.watch(x)
            y = local_response_normalization(x, lrn, num_columns=2, form=form)
        found += [y, tape.gradient(y, x, upstream)]
    np.testing.assert_allclose(found[0], found[2], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(found[1], found[3], rtol=1e-3, atol=1e-4)


def test_replicas_of_columns_sum_without_nccl(quick_config, tmp_path):
    if len(tf.config.list_logical_devices(KIND)) < 4:
        pytest.skip("two replicas of two columns need two GPUs, split in two")
    config = dataclasses.replace(on_gpus(quick_config, 2), runtime=machine(2, 2))
    trainer = Trainer(config, tmp_path, place(config.runtime, 2), clean=False)
    trainer.set_rates(0)
    batches = iter(trainer.batches(0))
    graph = trainer.step.loop.get_concrete_function(batches, tf.constant(1)).graph
    inner = [f.graph for f in graph._functions.values() if hasattr(f, "graph")]
    ops = {op.type for each in (graph, *inner) for op in each.get_operations()}
    assert not [kind for kind in ops if "Nccl" in kind or "Collective" in kind]
    assert Steps.of(trainer.step.loop(batches, tf.constant(2))).count == 2


def test_images_a_second_with_one_and_two_logical_gpus(tmp_path):
    path = tmp_path / "speed.json"
    command = [sys.executable, str(ROOT / "tools/benchmark.py"), "--gpu"]
    command += ["--suites=train_step", "--peers=none", f"--json={path}"]
    subprocess.run(
        command, check=True, timeout=1800, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    (suite,) = json.loads(path.read_text())["suites"].values()
    names = {row["name"] for row in suite["rows"]}
    assert {"ours", "ours, two columns"} <= names
