"""One seed, many processes, the same bits; and what is told where they differ."""

import concurrent.futures
import dataclasses
import json
import pathlib
import tempfile

import child_runs
import numpy as np
import pytest

from official.alexnet.training import checkpoints

RUNS, AT_ONCE = 40, 4


# In short by test_kill.py, whose whole run and whose parts have this flag.
@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("columns", [1, 2])
def test_the_same_bits_twice(tiny_config, tmp_path, columns, deterministic):
    config = child_runs.small_run(tiny_config, columns, train_steps=12)
    runtime = dataclasses.replace(config.runtime, enable_op_determinism=deterministic)
    config = dataclasses.replace(config, runtime=runtime)
    child_runs.train(config, tmp_path / "a")
    child_runs.train(config, tmp_path / "b")
    child_runs.assert_same_run(tmp_path / "a", tmp_path / "b")


@pytest.mark.slow
@pytest.mark.reliability
def test_another_seed_gives_others(tiny_config, tmp_path):
    config = child_runs.small_run(tiny_config, train_steps=6)
    child_runs.train(config, tmp_path / "a")
    child_runs.train(config, tmp_path / "b", "--seed=4")
    a, b = (checkpoints.find(tmp_path / name)[1].weights for name in "ab")
    for name, array in a.items():
        assert not np.array_equal(array, b[name]), name


@pytest.mark.slow
@pytest.mark.reliability
def test_two_columns_beside_a_load(tiny_config, tmp_path):
    """40 fresh processes, four at once on whatever cores there are, step by step."""
    settings = {"train_steps": 12, "skip_eval": True, "schedule": "constant"}

    def train(number: int) -> pathlib.Path:
        # Every second one looks up after each step; the others' loops are longer.
        every = {"steps_per_loop": 1} if number % 2 == 0 else {}
        config = child_runs.small_run(tiny_config, 2, **settings | every)
        run = tmp_path / f"run{number}"
        child_runs.train(config, run)
        return run

    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        first, *others = pool.map(train, range(RUNS))
    assert len((first.with_suffix(".bits")).read_text().splitlines()) == 12
    for run in others:
        child_runs.assert_same_bits(first, run)


def test_a_difference_names_step_and_tensor_and_keeps_both_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    plan = "onednn_verbose,v1,primitive,create:cache_miss,cpu,convolution,{},0.{}\n"
    for run, value, algorithm in (("a", 1, "jit"), ("b", 2, "gemm")):
        (tmp_path / run).mkdir()
        (tmp_path / run / "ckpt-2.index").touch()
        rows = [
            {"step": 1, "bits": {"weight conv1a/kernel": 0, "velocity conv2b/bias": 0}},
            {"step": 2, "bits": {"weight conv1a/kernel": 3, "velocity conv2b/bias": 0}},
            {"step": 3, "bits": {"weight conv1a/kernel": 3, "velocity conv2b/bias": 9}},
        ]
        rows[1]["bits"]["velocity conv2b/bias"] = value
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{run}.bits").write_text(lines)
        plans = plan.format("jit", value) + plan.format(algorithm, value)
        (tmp_path / f"{run}.plans").write_text(plans)
    with pytest.raises(AssertionError) as raised:
        child_runs.assert_same_bits(tmp_path / "a", tmp_path / "b")
    message = str(raised.value)
    assert message.startswith(
        "step 2 is the first that differs, in velocity conv2b/bias; oneDNN's plans "
    )
    assert "convolution,gemm" in message
    assert "convolution,jit" not in message
    kept = pathlib.Path(message.rpartition(" ")[2])
    assert {path.name for path in kept.iterdir()} == {
        *("a-a", "a-a.bits", "a-a.plans", "b-b", "b-b.bits", "b-b.plans")
    }
    assert (kept / "b-b/ckpt-2.index").exists()
