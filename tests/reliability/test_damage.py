"""Damaged checkpoints, divergence, and the best checkpoint."""

import json
import logging
import pathlib
import random
import shutil

import child_runs
import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.config import Config
from official.alexnet.errors import UserError
from official.alexnet.serving import export
from official.alexnet.training import checkpoint_files, checkpoints, evaluation
from official.alexnet.training.trainer import train


def cut(path: pathlib.Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: pathlib.Path) -> None:
    path.write_bytes(b"")


def flip(path: pathlib.Path) -> None:
    content = bytearray(path.read_bytes())
    content[random.Random(0).randrange(len(content))] ^= 0x10
    path.write_bytes(content)


def remove(path: pathlib.Path) -> None:
    path.unlink()


def without_evaluation(config: Config, **train_settings) -> Config:
    return child_runs.small_run(
        config, skip_eval=True, schedule="constant", **train_settings
    )


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> pathlib.Path:
    """A run of 12 steps that nothing happened to; filled by the first test."""
    return tmp_path_factory.mktemp("runs") / "whole"


@pytest.fixture(autouse=True)
def _train_whole(tiny_config, whole):
    if not whole.exists():
        train(without_evaluation(tiny_config, train_steps=12), str(whole))


# Without its index it is no checkpoint.
DAMAGES = [(damage, "index") for damage in (cut, empty, flip)] + [
    (damage, "data-00000-of-00001") for damage in (cut, empty, flip, remove)
]


@pytest.mark.parametrize(("damage", "file"), DAMAGES)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    whole, tmp_path, caplog, file, damage
):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    damage(run / f"ckpt-12.{file}")
    with caplog.at_level(logging.WARNING):
        path, contents = checkpoints.find(run)
    assert (pathlib.Path(path).name, contents.step) == ("ckpt-8", 8)
    assert "ckpt-12 is damaged: taking" in caplog.text


def test_from_the_one_before_it_ends_with_the_same_bits(tiny_config, whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    flip(run / "ckpt-12.data-00000-of-00001")
    train(without_evaluation(tiny_config, train_steps=12), str(run))
    ours, theirs = (checkpoints.find(folder)[1] for folder in (run, whole))
    assert ours.step == theirs.step == 12
    for name, array in theirs.weights.items():
        np.testing.assert_array_equal(ours.weights[name], array)
        np.testing.assert_array_equal(ours.velocity[name], theirs.velocity[name])
    assert child_runs.rows(run) == child_runs.rows(whole)


def test_evaluation_and_export_take_the_one_before_too(tiny_config, tmp_path, caplog):
    config = child_runs.small_run(tiny_config, train_steps=8)
    train(config, str(tmp_path / "run"))
    cut(tmp_path / "run/ckpt-8.data-00000-of-00001")
    with caplog.at_level(logging.WARNING):
        evaluated = evaluation.evaluate_run(config, str(tmp_path / "run"))
        exported = export.export(
            config,
            str(tmp_path / "run"),
            str(tmp_path / "exported"),
            formats=("keras",),
        )
    assert evaluated["step"] == exported["step"] == 6
    assert caplog.text.count("ckpt-8 is damaged: taking") == 2
    with pytest.raises(UserError, match="ckpt-8"):
        path = str(tmp_path / "run/ckpt-8")
        evaluation.evaluate_run(config, str(tmp_path / "run"), path)


def test_where_all_are_damaged_nothing_is_started_anew(tiny_config, tmp_path):
    config = child_runs.small_run(tiny_config, train_steps=8)
    train(config, str(tmp_path))
    for path in tmp_path.glob("ckpt-*.data-*"):
        cut(path)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"no checkpoint in .*ckpt-8 .*--clean"):
        train(config, str(tmp_path))
    assert before == {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}


def test_a_lost_state_file_loses_nothing(tiny_config, tmp_path):
    """TensorFlow would see no checkpoint, and training would start anew over them."""
    config = child_runs.small_run(tiny_config, train_steps=8)
    train(config, str(tmp_path))
    (tmp_path / "checkpoint").unlink()
    assert tf.train.latest_checkpoint(str(tmp_path)) is None
    assert train(config, str(tmp_path))["step"] == 8
    longer = child_runs.small_run(tiny_config, train_steps=10)
    train(longer, str(tmp_path))
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "ckpt-10")


def test_the_best_is_kept_apart(tiny_config, tmp_path):
    config = child_runs.small_run(tiny_config, max_to_keep=1)
    results = train(config, str(tmp_path))
    evaluated = [row for row in child_runs.rows(tmp_path) if "validation" in str(row)]
    best = max(evaluated, key=lambda row: row["accuracy"])
    info = json.loads((tmp_path / "best/info.json").read_text())
    assert info == {k: v for k, v in best.items() if k != "split"}
    assert best["accuracy"] >= results["eval_accuracy"]
    assert checkpoint_files.steps(tmp_path) == [60]
    assert checkpoint_files.steps(tmp_path / "best") == [best["step"]]
    path = str(tmp_path / f"best/ckpt-{best['step']}")
    again = evaluation.evaluate_run(config, str(tmp_path), path)
    assert again["accuracy"] == best["accuracy"]


def test_divergence_names_step_rate_and_checkpoint(tiny_config, tmp_path):
    config = child_runs.small_run(tiny_config, train_steps=8)
    train(config, str(tmp_path))
    before = {p.name: p.read_bytes() for p in tmp_path.glob("ckpt-*")}
    wild = child_runs.small_run(tiny_config, learning_rate=1e9)
    with pytest.raises(UserError) as raised:
        train(wild, str(tmp_path))
    message = str(raised.value)
    assert "the loss was" in message
    assert "at a learning rate of 1e+09" in message
    assert f"the last good checkpoint is {tmp_path}/ckpt-8" in message
    assert {p.name: p.read_bytes() for p in tmp_path.glob("ckpt-*")} == before
    # From there it goes on at the old rate.
    longer = child_runs.small_run(tiny_config, train_steps=10)
    assert train(longer, str(tmp_path))["step"] == 10


def test_a_loss_above_the_bound_stops_at_its_step(tiny_config, tmp_path):
    config = child_runs.small_run(tiny_config, loss_upper_bound=1e-3)
    with pytest.raises(UserError, match=r"above 0\.001 at step 1, .*no checkpoint yet"):
        train(config, str(tmp_path))
    assert not list(tmp_path.glob("ckpt-*"))


def test_weights_that_are_no_numbers_are_not_saved(tiny_config, tmp_path, monkeypatch):
    """The loss of a step is of the weights before it: they may be bad and it not."""
    train(without_evaluation(tiny_config, train_steps=4), str(tmp_path))
    longer = without_evaluation(tiny_config, train_steps=8)
    real = checkpoints.Checkpoints.are_numbers

    def spoilt(self):
        self._model.weights[0].assign(self._model.weights[0] * float("nan"))
        return real(self)

    monkeypatch.setattr(checkpoints.Checkpoints, "are_numbers", spoilt)
    with pytest.raises(UserError, match=r"no number at step 8, .*ckpt-4"):
        train(longer, str(tmp_path))
    assert checkpoint_files.steps(tmp_path) == [4]
