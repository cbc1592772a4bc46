"""One seed, two processes, the same bits."""

import dataclasses

import child_runs
import numpy as np
import pytest

from official.alexnet.training import checkpoints


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
