"""Variants with more to place than weights: moving statistics, maps of a neighbour."""

import dataclasses
import json
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf
from worker_processes import free_hosts, started

from official.alexnet.config import Config, RuntimeConfig
from official.alexnet.distribution.grid import devices_of
from official.alexnet.distribution.strategy import Placement, place
from official.alexnet.errors import UserError
from official.alexnet.modeling.normalization import BatchNormalization
from official.alexnet.modeling.weights import get_weights
from official.alexnet.training import building, checkpoints
from official.alexnet.training.trainer import Trainer, train

CASES = {
    "batch norm": {"normalization": "batch_norm"},
    "caffe": {"variant": "caffe"},
    "original": {"variant": "original"},
    "without conv3": {"remove": ("conv3",), "activation": "tanh"},
}


def on_grid(config: Config, case: str, strategy: str, cpus: int, columns: int):
    model = dataclasses.replace(config.model, num_columns=columns, **CASES[case])
    runtime = RuntimeConfig(
        distribution_strategy=strategy, logical_cpus=cpus, num_gpus=0
    )
    return dataclasses.replace(config, model=model, runtime=runtime)


def trained(config: Config, folder: pathlib.Path) -> Placement:
    placement = place(config.runtime, config.model.num_columns)
    train(config, str(folder), placement=placement)
    return placement


def contents(folder: pathlib.Path) -> checkpoints.Contents:
    return checkpoints.read(checkpoints.latest(folder))


def assert_same(got: checkpoints.Contents, wanted: checkpoints.Contents) -> None:
    assert got.step == wanted.step
    for kind in ("weights", "velocity"):
        ours, theirs = getattr(got, kind), getattr(wanted, kind)
        assert ours.keys() == theirs.keys()
        for name in theirs:
            np.testing.assert_allclose(
                ours[name], theirs[name], rtol=1e-4, atol=1e-5, err_msg=name
            )


@pytest.mark.slow
@pytest.mark.parametrize("case", ["batch norm", "caffe", "original", "without conv3"])
def test_two_devices_train_as_one(tiny_config, tmp_path, case):
    trained(on_grid(tiny_config, case, "off", 1, 1), tmp_path / "one")
    trained(on_grid(tiny_config, case, "off", 2, 2), tmp_path / "two")
    assert_same(contents(tmp_path / "two"), contents(tmp_path / "one"))


@pytest.mark.slow
@pytest.mark.parametrize("case", ["batch norm", "caffe"])
def test_four_devices_train_as_two_replicas(tiny_config, tmp_path, case):
    trained(on_grid(tiny_config, case, "mirrored", 2, 1), tmp_path / "two")
    trained(on_grid(tiny_config, case, "mirrored", 4, 2), tmp_path / "four")
    assert_same(contents(tmp_path / "four"), contents(tmp_path / "two"))


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        ("batch norm", {"FusedBatchNormV3": 5, "FusedBatchNormGradV3": 5, "AddN": 2}),
        # A layer of LRN takes the edge of its column that the other reads and, out of
        # what it normalises, its own maps; gradients are added where the column is.
        ("caffe", {"StridedSlice": 4, "StridedSliceGrad": 4, "AddN": 4}),
    ],
)
def test_ops_are_on_the_device_of_their_column(tiny_config, tmp_path, case, expected):
    """Counts the ops on maps, forward and backward, in the traced train step."""
    config = on_grid(tiny_config, case, "off", 2, 2)
    placement = place(config.runtime, 2)
    trainer = Trainer(config, tmp_path, placement, clean=False)
    batches = iter(trainer.batches(0))
    step = tf.function(lambda: trainer.step.train_step(next(batches)))
    graph = step.get_concrete_function().graph
    # Not what is inside LRN, which is a function that its column calls.
    (graph,) = [
        graph
        for graph in (graph, *(f.graph for f in graph._functions.values()))
        if any(op.type == "Conv2D" for op in graph.get_operations())
    ]
    counts: dict[str, dict[str, int]] = {}
    for op in graph.get_operations():
        if op.outputs and op.outputs[0].shape.rank == 4:
            ops = counts.setdefault(op.device[-5:], {})
            ops[op.type] = ops.get(op.type, 0) + 1
    # Outside of the columns: the preprocessing, and zeros for gradients nobody reads.
    outside = counts.pop("")
    assert not outside.keys() & {*expected, "Conv2D", "Relu", "MaxPool"} - {
        "StridedSlice"
    }
    assert outside["StridedSlice"] == outside["Sub"] == outside["Mul"] == 1
    counts["CPU:0"].pop("IteratorGetNext")
    assert counts.keys() == {"CPU:0", "CPU:1"}
    assert counts["CPU:0"] == counts["CPU:1"]
    assert counts["CPU:1"].items() >= expected.items()


@pytest.mark.slow
def test_moving_statistics_are_placed_saved_and_alike_in_all_replicas(
    tiny_config, tmp_path
):
    config = on_grid(tiny_config, "batch norm", "mirrored", 4, 2)
    trainer = Trainer(config, tmp_path, trained(config, tmp_path), clean=False)
    trainer.checkpoints.restore()
    cpus = [f"/job:localhost/replica:0/task:0/device:CPU:{i}" for i in range(4)]
    saved = contents(tmp_path).weights
    strategy = trainer.strategy
    for i, kind in ((i, k) for i in range(1, 6) for k in ("mean", "variance")):
        name = f"moving_{kind}"
        assert np.abs(saved[f"norm{i}/{name}"] - (kind == "variance")).max() > 0.01
        parts = []
        for column in range(2):
            layer = trainer.model.get_layer(f"norm{i}{'ab'[column]}")
            value = getattr(layer, name).value
            assert devices_of(value) == tuple(cpus[2 * column : 2 * column + 2])
            one, other = strategy.experimental_local_results(value)
            np.testing.assert_array_equal(one, other)
            parts.append(one.numpy())
        np.testing.assert_array_equal(saved[f"norm{i}/{name}"], np.concatenate(parts))
    assert not [name for name in contents(tmp_path).velocity if "moving" in name]


def test_moving_statistics_are_the_mean_of_the_replicas():
    rng = np.random.default_rng(0)
    halves = rng.normal([[[[1]]], [[[5]]]], 2, (2, 6, 6, 4)).astype(np.float32)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        layer = BatchNormalization(momentum=0.75)
        layer.build((None, 6, 6, 4))

    @tf.function
    def step(x):
        return strategy.run(lambda x: layer(x, training=True), args=(x,))

    step(
        strategy.experimental_distribute_values_from_function(
            lambda context: tf.constant(halves[None, context.replica_id_in_sync_group])
        )
    )
    means = halves.mean((1, 2)).mean(0)
    variances = halves.var((1, 2), ddof=1).mean(0)
    np.testing.assert_allclose(layer.moving_mean.value, 0.25 * means, rtol=1e-5)
    np.testing.assert_allclose(
        layer.moving_variance.value, 0.75 + 0.25 * variances, rtol=1e-5
    )


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_stopped_run_with_batch_norm_ends_with_the_same_bits(
    tiny_config, tmp_path, columns
):
    config = on_grid(tiny_config, "batch norm", "off", columns, columns)

    def steps(count: int) -> Config:
        train = dataclasses.replace(config.train, train_steps=count)
        return dataclasses.replace(config, train=train)

    trained(steps(5), tmp_path / "whole")
    trained(steps(2), tmp_path / "parts")
    trained(steps(5), tmp_path / "parts")
    whole, parts = contents(tmp_path / "whole"), contents(tmp_path / "parts")
    for name, array in whole.weights.items():
        np.testing.assert_array_equal(parts.weights[name], array, err_msg=name)


@pytest.mark.slow
def test_a_checkpoint_of_columns_with_batch_norm_fits_the_grouped_form(
    tiny_config, tmp_path
):
    trained(on_grid(tiny_config, "batch norm", "off", 2, 2), tmp_path)
    config = on_grid(tiny_config, "batch norm", "off", 1, 1)
    grouped = building.build_model(config.model, config.runtime)
    checkpoints.set_weights(grouped, *checkpoints.find(tmp_path))
    saved = contents(tmp_path).weights
    for name, array in get_weights(grouped).items():
        np.testing.assert_array_equal(array, saved[name])
    plain = building.build_model(tiny_config.model, tiny_config.runtime)
    with pytest.raises(UserError, match=r"the weights hold norm1/beta"):
        checkpoints.set_weights(plain, *checkpoints.find(tmp_path))


@pytest.mark.slow
def test_two_processes_with_batch_norm_train_as_two_replicas(tiny_config, tmp_path):
    trained(on_grid(tiny_config, "batch norm", "mirrored", 4, 2), tmp_path / "one")
    config = on_grid(tiny_config, "batch norm", "multi_worker_mirrored", 2, 2)
    settings = tmp_path / "settings.yaml"
    settings.write_text(config.to_yaml())
    command = [sys.executable, "-m", "official.alexnet.train"]
    command += [f"--config_file={settings}", f"--model_dir={tmp_path / 'two'}"]
    command.append(f"--worker_hosts={','.join(free_hosts(2))}")
    with started([[*command, f"--task_index={i}"] for i in range(2)]) as processes:
        outputs = [process.communicate(timeout=240) for process in processes]
    for process, (_, stderr) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, stderr
    losses = [json.loads(stdout.splitlines()[-1])["loss"] for stdout, _ in outputs]
    assert losses[0] == losses[1]
    assert_same(contents(tmp_path / "two"), contents(tmp_path / "one"))
