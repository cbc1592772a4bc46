"""Training on a grid of devices: the same weights anywhere, ops where they belong."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from worker_processes import free_hosts, started

from official.alexnet import AlexNet
from official.alexnet.config import Config, RuntimeConfig
from official.alexnet.distribution.grid import DeviceGrid, devices_of
from official.alexnet.distribution.strategy import place
from official.alexnet.errors import UserError
from official.alexnet.training import checkpoints
from official.alexnet.training import trainer as trainer_lib

GRIDS = {
    "off 1x2": ("off", 2, 2),
    "one_device 1x1": ("one_device", 1, 1),
    "one_device 1x2": ("one_device", 2, 2),
    "mirrored 1x2": ("mirrored", 2, 2),
    "mirrored 2x1": ("mirrored", 2, 1),
    "mirrored 2x2": ("mirrored", 4, 2),
}
QUICK = ("mirrored 2x2",)


def on_grid(config: Config, strategy: str, logical_cpus: int, columns: int) -> Config:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_columns=columns),
        runtime=RuntimeConfig(
            distribution_strategy=strategy, logical_cpus=logical_cpus, num_gpus=0
        ),
    )


def train(config: Config, model_dir: pathlib.Path) -> checkpoints.Contents:
    placement = place(config.runtime, config.model.num_columns)
    trainer_lib.train(config, str(model_dir), placement=placement)
    return checkpoints.read(checkpoints.latest(model_dir))


@pytest.fixture(scope="module")
def expected() -> dict:
    """Weights after no step and after five on one device, by dropout rate."""
    return {}


def reference(expected: dict, config: Config, folder: pathlib.Path):
    key = config.model.dropout
    if key not in expected:
        expected[key] = train(on_grid(config, "off", 1, 1), folder / "reference")
    return expected[key]


def assert_same(contents, wanted) -> None:
    assert contents.step == wanted.step == 5
    for name, array in wanted.weights.items():
        np.testing.assert_allclose(contents.weights[name], array, atol=1e-5)
        np.testing.assert_allclose(
            contents.velocity[name], wanted.velocity[name], atol=1e-5
        )
        # Five steps go further than the tolerance, or this would say nothing.
        assert np.abs(wanted.velocity[name]).max() > 1e-4, name


@pytest.mark.parametrize(
    "grid",
    [
        grid if grid in QUICK else pytest.param(grid, marks=pytest.mark.slow)
        for grid in GRIDS
    ],
)
@pytest.mark.parametrize("dropout", [0.5, pytest.param(0.0, marks=pytest.mark.slow)])
def test_five_steps_give_the_same_weights(
    tiny_config, expected, tmp_path, grid, dropout
):
    model = dataclasses.replace(tiny_config.model, dropout=dropout)
    config = dataclasses.replace(tiny_config, model=model)
    wanted = reference(expected, config, tmp_path)
    assert_same(train(on_grid(config, *GRIDS[grid]), tmp_path / "grid"), wanted)


@pytest.mark.slow
def test_two_processes_of_two_columns_give_the_same_weights(
    tiny_config, expected, tmp_path
):
    wanted = reference(expected, tiny_config, tmp_path)
    hosts = ",".join(free_hosts(2))
    settings = tmp_path / "settings.yaml"
    settings.write_text(on_grid(tiny_config, "multi_worker_mirrored", 2, 2).to_yaml())
    command = [sys.executable, "-m", "official.alexnet.train"]
    command += [f"--config_file={settings}", f"--model_dir={tmp_path / 'run'}"]
    command.append(f"--worker_hosts={hosts}")
    with started([[*command, f"--task_index={i}"] for i in range(2)]) as processes:
        outputs = [process.communicate(timeout=240) for process in processes]
    for process, (_, stderr) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, stderr
    results = [json.loads(stdout.splitlines()[-1]) for stdout, _ in outputs]
    assert results[0]["loss"] == results[1]["loss"]
    assert_same(checkpoints.read(checkpoints.latest(tmp_path / "run")), wanted)


COMPUTE = {
    *("Conv2D", "Conv2DBackpropFilter", "Conv2DBackpropInput", "MatMul"),
    *("MaxPool", "Relu", "ReluGrad", "BiasAdd", "BiasAddGrad"),
    # LRN and the update, which are compiled by themselves, and pooling's gradient.
    *("PartitionedCall", "StatefulPartitionedCall"),
}


def graphs_of(function) -> list[tf.Graph]:
    """The graph of a traced function, and those of the functions it calls."""
    graph = function.graph
    inner = [f.graph for f in graph._functions.values() if hasattr(f, "graph")]
    return [graph, *inner]


@pytest.mark.parametrize(
    ("strategy", "replicas"), [("off", 1), ("one_device", 1), ("mirrored", 2)]
)
def test_every_op_of_a_column_is_on_its_device(
    tiny_config, tmp_path, strategy, replicas
):
    """Reads the device of every variable and op in the traced train step.

    Which column an op belongs to is found from the weights it works on, not from its
    name or device: a gradient op belongs where the kernel it differentiates is.
    """
    config = on_grid(tiny_config, strategy, 2 * replicas, 2)
    placement = place(config.runtime, 2)
    trainer = trainer_lib.Trainer(config, tmp_path, placement, clean=False)
    cpus = [f"/job:localhost/replica:0/task:0/device:CPU:{i}" for i in range(4)]
    device_of = {
        (column, replica): cpus[column * replicas + replica]
        for column in range(2)
        for replica in range(replicas)
    }
    # Variables and slots.
    for layer in trainer.model.layers:
        for variable in layer.trainable_weights:
            for v in (variable, trainer.optimizer.velocity_of(variable)):
                column = int(layer.name.endswith("b"))
                assert list(devices_of(v.value)) == [
                    device_of[column, r] for r in range(replicas)
                ]
    # Ops.
    batches = iter(trainer.batches(0))
    step = tf.function(lambda: trainer.step.train_step(next(batches)))
    (graph,) = [
        g
        for g in graphs_of(step.get_concrete_function())
        if any(op.type == "Conv2D" for op in g.get_operations())
    ]
    counts = {device: {} for device in device_of.values()}
    for op in graph.get_operations():
        if op.type in COMPUTE:
            assert op.device in counts, f"{op.name} is on {op.device!r}"
            ops = counts[op.device]
            ops[op.type] = ops.get(op.type, 0) + 1
    for replica in range(replicas):
        first = counts[device_of[0, replica]]
        second = counts[device_of[1, replica]]
        # Five convolutions a column. (conv1's gradient for the images is in the trace,
        # but nothing reads it: it is pruned before the graph runs.)
        for ops in (first, second):
            assert ops["Conv2D"] == 5
            assert ops["Conv2DBackpropFilter"] == ops["Conv2DBackpropInput"] == 5
            assert ops["MaxPool"] == 3
            assert ops["Relu"] == ops["ReluGrad"] == 7
        # fc6, fc7 three each; fc8 on column 0.
        assert second["MatMul"] == 6
        assert first["MatMul"] == 6 + 3
        # LRN: two forward and two backward; max pooling: three backward; and one
        # update a variable.
        assert second["PartitionedCall"] == first["PartitionedCall"] == 4 + 3
        assert second["StatefulPartitionedCall"] == 14
        assert first["StatefulPartitionedCall"] == 16
    home_of = {inner.op: outer.device for outer, inner in graph.captures}
    readers = 0
    for op in graph.get_operations():
        for handle in weights_read(op) if op.type in COMPUTE else ():
            readers += 1
            assert op.device == home_of[handle], f"{op.name} reads {handle.name}"
    # Seven kernels a column and fc8's: each forward and for the input's gradient;
    # and an update takes the handles of 15 kernels and 15 biases and their slots.
    assert readers == replicas * (2 * 15 + 2 * 2 * 15)


def weights_read(op: tf.Operation) -> set[tf.Operation]:
    """Handles an op takes, or whose kernels it reads, through casts and identities."""
    found, waiting = set(), list(op.inputs)
    while waiting:
        tensor = waiting.pop()
        source = tensor.op
        if tensor.dtype == tf.resource:
            found.add(source)
        elif source.type == "ReadVariableOp" and tensor.shape.rank > 1:
            found.add(source.inputs[0].op)
        elif source.type in ("Identity", "Cast"):
            waiting.append(source.inputs[0])
        elif source.type == "IdentityN":
            waiting.append(source.inputs[tensor.value_index])
    return found


def test_grid_notices_a_variable_elsewhere():
    cpus = [f"/job:localhost/replica:0/task:0/device:CPU:{i}" for i in range(2)]
    grid = DeviceGrid(((cpus[0],), (cpus[1],)))
    with tf.device(cpus[0]):
        variable = tf.Variable(0.0)
    grid.check(0, [variable])
    with pytest.raises(UserError, match="column 1"):
        grid.check(1, [variable])


@pytest.mark.filterwarnings("ignore:Model doesn't support")
@pytest.mark.parametrize("num_columns", [1, 2])
def test_compile_leaves_a_net_on_two_devices_without_xla(num_columns):
    """XLA compiles both columns for one device, and Keras chooses it on GPUs."""
    cpus = [f"/job:localhost/replica:0/task:0/device:CPU:{i}" for i in range(2)]
    grid = DeviceGrid(tuple((cpu,) for cpu in cpus[:num_columns]))
    model = AlexNet(num_classes=2, width=1 / 16, num_columns=num_columns, grid=grid)
    model.compile(jit_compile=True)
    assert model.jit_compile == (num_columns == 1)


@pytest.mark.parametrize(
    ("runtime", "columns", "words"),
    [
        (RuntimeConfig(num_gpus=2), 2, ["--num_gpus=2", "0 GPU"]),
        (RuntimeConfig(), 2, ["2 devices", "--logical_cpus=2"]),
        (RuntimeConfig("mirrored", logical_cpus=3), 2, ["--logical_cpus", "even"]),
        (RuntimeConfig("multi_worker_mirrored"), 2, ["2 devices", "--logical_cpus=2"]),
        (
            RuntimeConfig("multi_worker_mirrored", worker_hosts="a:1", task_index=1),
            1,
            ["--task_index and --worker_hosts: 1 is not"],
        ),
    ],
)
def test_too_few_devices_is_one_clear_line(monkeypatch, runtime, columns, words):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError) as error:
        place(runtime, columns)
    for word in words:
        assert word in str(error.value)
    assert "\n" not in str(error.value)
