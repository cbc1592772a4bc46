"""A run is evaluated beside its training: each checkpoint once, until the last."""

import dataclasses
import json
import re
import shutil
import threading
import time

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import run_files
from official.alexnet.errors import UserError
from official.alexnet.training import checkpoint_files, checkpoints, following
from official.alexnet.training.following import follow
from official.alexnet.training.trainer import train

STEPS = [2, 4, 6]


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(following, "_POLL_SECONDS", 0.02)


@pytest.fixture(scope="module")
def run(records_dir, tmp_path_factory):
    """A run of six steps in the making: evaluated after each second one."""
    return tmp_path_factory.mktemp("followed") / "run"


@pytest.fixture
def trained(run, tiny_config):
    """The run, complete, and the settings to follow it with."""
    if not run.exists():
        config = dataclasses.replace(
            tiny_config,
            train=dataclasses.replace(
                tiny_config.train,
                train_steps=STEPS[-1],
                checkpoint_steps=2,
                steps_per_loop=2,
                epochs_between_evals=2 / 6,
                skip_eval=False,
            ),
        )
        train(config, str(run))
    return run, run_files.load_config(str(run))


def start_of(run, folder):
    """What is there of a run before its first checkpoint."""
    folder.mkdir()
    for name in ("params.yaml", "statistics.npz", "labels.txt"):
        shutil.copy(run / name, folder)
    return folder


def add(run, step, folder):
    for path in sorted(run.glob(f"ckpt-{step}.*"), key=lambda p: p.suffix == ".index"):
        shutil.copy(path, folder)


def lines(folder):
    text = (folder / "evaluation" / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def shown(folder):
    """Step and value of each accuracy that TensorBoard finds."""
    found = []
    for path in (folder / "evaluation").glob("*tfevents*"):
        for record in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
            event = tf.compat.v1.Event.FromString(record)
            for value in event.summary.value:
                if value.tag == "accuracy":
                    found.append((event.step, float(tf.make_ndarray(value.tensor))))
    return sorted(found)


def test_the_results_are_those_of_the_training_and_come_once(trained, tmp_path):
    run, config = trained
    folder = shutil.copytree(run, tmp_path / "run")
    results = follow(config, str(folder), 60)
    assert (results["evaluated"], results["complete"]) == (STEPS, True)
    metrics = (run / "metrics.jsonl").read_text().splitlines()
    own = [row for row in map(json.loads, metrics) if row["split"] == "validation"]
    assert [row["step"] for row in own] == STEPS
    for row, wanted in zip(lines(folder), own, strict=True):
        assert row.pop("split") == "evaluation"
        assert (row.pop("num_examples"), row.pop("eval_crops")) == (13, 1)
        assert row.pop("data_dir") == config.data.data_dir
        assert row.pop("tfds_name") is None
        wanted.pop("split")
        assert row == pytest.approx(wanted, rel=1e-6)
    assert shown(folder) == [(r["step"], np.float32(r["accuracy"])) for r in own]
    assert results["best"] in lines(folder)
    # Started again there is nothing to do; what a kill cut short is written anew.
    metrics = folder / "evaluation" / "metrics.jsonl"
    whole = metrics.read_text()
    assert follow(config, str(folder), 60) == results
    metrics.write_text(whole[:-9])
    assert follow(config, str(folder), 60)["evaluated"] == STEPS
    assert metrics.read_text() == whole
    # A new start of the run deletes it.
    run_files.delete(folder)
    assert not (folder / "evaluation").exists()


def test_results_of_other_crops_or_images_are_not_given(trained, tmp_path):
    run, config = trained
    folder = start_of(run, tmp_path / "run")
    add(run, 2, folder)
    assert follow(config, str(folder), 0.5)["eval_crops"] == 1
    ten = dataclasses.replace(config.train, eval_crops=10)
    with pytest.raises(UserError, match=r"--eval_crops=10, but .* move it away first"):
        follow(dataclasses.replace(config, train=ten), str(folder), 0.5)
    elsewhere = dataclasses.replace(config.data, data_dir="/elsewhere")
    with pytest.raises(UserError, match=r"--data_dir=/elsewhere, but .* results of"):
        follow(dataclasses.replace(config, data=elsewhere), str(folder), 0.5)
    other = dataclasses.replace(config.data, tfds_name="other")
    with pytest.raises(UserError, match=r"--tfds_name=other, but .* has results of"):
        follow(dataclasses.replace(config, data=other), str(folder), 0.5)


def test_a_run_that_starts_anew_meanwhile(trained, tmp_path, monkeypatch):
    """What was being evaluated is of the run before."""
    run, config = trained
    folder = start_of(run, tmp_path / "run")
    add(run, 2, folder)
    evaluate = following._Follower._evaluate

    def evaluate_slowly(*given):
        result = evaluate(*given)
        if checkpoint_files.steps(folder) == [2]:
            run_files.delete(folder)
            shutil.copytree(run, folder, dirs_exist_ok=True)
            return dataclasses.replace(result, accuracy=2.0)
        return result

    monkeypatch.setattr(following._Follower, "_evaluate", evaluate_slowly)
    results = follow(config, str(folder), 60)
    assert (results["evaluated"], results["complete"]) == (STEPS, True)
    assert [row["step"] for row in lines(folder)] == STEPS
    assert results["best"]["accuracy"] <= 1


def test_checkpoints_that_come_and_go(trained, tmp_path, monkeypatch):
    """One is deleted between being seen and being read; another is damaged."""
    run, config = trained
    folder = start_of(run, tmp_path / "run")
    read = checkpoints.read

    def read_late(path):
        if path.endswith("ckpt-4"):
            checkpoint_files._remove(folder, 4)
        return read(path)

    monkeypatch.setattr(checkpoints, "read", read_late)

    def write():
        for step in (2, 4, 5, 6):
            if step == 5:
                (folder / "ckpt-5.index").write_bytes(b"damaged")
            else:
                add(run, step, folder)
            time.sleep(0.1)

    writer = threading.Thread(target=write)
    writer.start()
    results = follow(config, str(folder), 60)
    writer.join()
    assert (results["evaluated"], results["complete"]) == ([2, 6], True)
    assert [row["step"] for row in lines(folder)] == [2, 6]


def test_it_gives_a_run_up_that_does_not_move(trained, tmp_path):
    run, config = trained
    folder = tmp_path / "run"
    with pytest.raises(UserError, match="no checkpoint came within"):
        follow(config, str(folder), 0.1)
    start_of(run, folder)
    add(run, 2, folder)
    results = follow(config, str(folder), 0.5)
    assert (results["evaluated"], results["complete"]) == ([2], False)


def test_a_run_may_be_made_longer(trained, tmp_path):
    run, config = trained
    folder = start_of(run, tmp_path / "run")
    contents = checkpoints.read(checkpoint_files.prefix(run, 6))
    for epochs, is_complete in ((2, False), (1, True)):  # Of six steps.
        longer = dataclasses.replace(
            config.train, train_steps=None, train_epochs=epochs
        )
        text = dataclasses.replace(config, train=longer).to_yaml()
        (folder / "params.yaml").write_text(text)
        follower = following._Follower(config, folder)
        assert follower._is_last(contents) == is_complete
    # The workers that this process is told of have not written theirs yet.
    told = dataclasses.replace(config.train, train_steps=None, train_epochs=2)
    told = dataclasses.replace(config, train=told)
    assert not following._Follower(told, folder, is_told=True)._is_last(contents)
    # Made shorter: what was read of the run itself does not count.
    (folder / "params.yaml").write_text(told.to_yaml())
    follower = following._Follower(told, folder)
    shorter = dataclasses.replace(config.train, train_steps=None, train_epochs=1)
    text = dataclasses.replace(config, train=shorter).to_yaml()
    (folder / "params.yaml").write_text(text)
    assert follower._is_last(contents)


def test_a_run_that_starts_anew_with_another_input(trained, tmp_path, monkeypatch):
    run, config = trained
    folder = start_of(run, tmp_path / "run")
    add(run, 2, folder)
    follower = following._Follower(config, folder)
    follower.take(2)
    run_files.delete(folder)
    shutil.copytree(run, folder, dirs_exist_ok=True)
    text = (folder / "params.yaml").read_text()
    scale = re.search("input_scale: (.*)", text)[1]
    text = text.replace(f"input_scale: {scale}", "input_scale: torchvision")
    (folder / "params.yaml").write_text(text)
    with pytest.raises(
        UserError, match=r"is a run with other settings \(--input_scale"
    ):
        follower.take(2)


def test_it_waits_for_a_run_to_start(tmp_path):
    with pytest.raises(UserError, match="no run started there within 0 s"):
        run_files.wait_for(str(tmp_path), 0)
    (tmp_path / "params.yaml").touch()
    run_files.wait_for(str(tmp_path), 0)
