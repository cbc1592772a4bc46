"""What is kept beside a checkpoint, and what of a run stays when it starts anew."""

import dataclasses
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import run_files
from official.alexnet.data import dataset
from official.alexnet.data.statistics import Statistics
from official.alexnet.errors import UserError
from official.alexnet.training import (
    agreement,
    checkpoint_files,
    checkpoints,
    initialization,
    recorder,
    run_weights,
)
from official.alexnet.training.trainer import train


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("trained") / "run"


@pytest.fixture
def run(folder, tiny_config):
    """Two steps, with a checkpoint after each."""
    steps = dataclasses.replace(tiny_config.train, train_steps=2, checkpoint_steps=1)
    config = dataclasses.replace(tiny_config, train=steps)
    if not folder.exists():
        train(config, str(folder))
    return config, folder


def test_progress_that_is_damaged_damages_its_checkpoint(run, tmp_path):
    copy = shutil.copytree(run[1], tmp_path / "run")
    checkpoint_files.write_progress(copy, 2, b'{"plateau": {"re')
    with pytest.raises(checkpoints.Damaged, match="ckpt-2 cannot be read"):
        checkpoints.read(str(copy / "ckpt-2"))
    path, contents = checkpoints.find(copy)
    assert (path, contents.step) == (str(copy / "ckpt-1"), 1)


def test_a_checkpoint_that_is_made_anew_has_no_old_progress(tmp_path):
    checkpoint = tf.train.Checkpoint(x=tf.Variable(1.0))
    checkpoint_files.write(checkpoint, tmp_path, 3)
    checkpoint_files.write_progress(tmp_path, 3, b"{}")
    path = checkpoint_files.prefix(tmp_path, 3)
    assert checkpoint_files.read_progress(path) == b"{}"
    checkpoint_files.write(checkpoint, tmp_path, 3)
    assert checkpoint_files.read_progress(path) is None


def test_a_path_below_home(run, monkeypatch):
    _, folder = run
    monkeypatch.setenv("HOME", str(folder.parent))
    path, contents = checkpoints.find(folder, "~/run/ckpt-1.index")
    assert (path, contents.step) == (str(folder / "ckpt-1"), 1)


@pytest.mark.parametrize("statistics", ["nowhere.npz", "own"])
def test_clean_deletes_nothing_where_the_statistics_are_missing(
    run, tmp_path, statistics
):
    config, folder = run
    copy = shutil.copytree(folder, tmp_path / "run")
    own = copy / "statistics.npz"
    path = str(own) if statistics == "own" else str(tmp_path / statistics)
    data = dataclasses.replace(config.data, statistics=path)
    config = dataclasses.replace(config, data=data)
    if statistics == "own":  # It is read before it goes.
        train(config, str(copy), clean=True)
        assert own.read_bytes() == (folder / "statistics.npz").read_bytes()
        return
    with pytest.raises(UserError, match="no statistics file"):
        train(config, str(copy), clean=True)
    assert checkpoint_files.steps(copy) == [1, 2]


def test_clean_deletes_nothing_where_a_record_is_bad(run, tmp_path, monkeypatch):
    config, folder = run
    copy = shutil.copytree(folder, tmp_path / "run")

    def refuse(*_):
        raise UserError("record 7 has an image that is empty")

    monkeypatch.setattr(dataset.Split, "first_images", refuse)
    with pytest.raises(UserError, match="record 7"):
        train(config, str(copy), clean=True)
    assert checkpoint_files.steps(copy) == [1, 2]


def test_a_run_may_be_called_best(run, tmp_path):
    copy = shutil.copytree(run[1], tmp_path / "best")
    names = tuple(f"n0000000{i} class {i}" for i in range(3))
    for path in (copy, copy / "ckpt-2", copy / "best"):
        assert run_files.class_names(path) == names


def test_a_converted_run_keeps_its_weights_and_names(run, tmp_path, monkeypatch):
    """It has a checkpoint of step 0, and the data may name no classes."""
    config, folder = run
    copy, data = tmp_path / "run", tmp_path / "data"
    weights = checkpoints.read(str(folder / "ckpt-2")).weights
    statistics = Statistics.load(folder / "statistics.npz")
    given = run_files.preprocessing(folder), statistics, run_files.class_names(folder)
    run_weights.write(copy, weights, config.model, *given)
    assert checkpoint_files.steps(copy) == [0]
    shutil.copytree(config.data.data_dir, data)
    (data / "labels.txt").unlink()
    own = dataclasses.replace(config.data, data_dir=str(data))
    seed = dataclasses.replace(config.train, seed=0)
    drawn = []
    monkeypatch.setattr(initialization, "initialize", lambda *given: drawn.append(1))
    train(dataclasses.replace(config, data=own, train=seed), str(copy))
    assert not drawn
    assert (copy / "labels.txt").read_text() == (folder / "labels.txt").read_text()


def test_workers_tell_a_converted_run_from_none(run):
    statistics = Statistics.load(run[1] / "statistics.npz")
    weights = [np.ones(2, np.float32)]
    some, none = (agreement.state(0, x, {}, statistics) for x in (weights, []))
    assert some["--model_dir"] == "at step 0"
    assert none["--model_dir"] == "without a checkpoint"
    assert some["the weights"] != none["the weights"]


def test_events_of_several_threads_are_whole():
    events = [recorder._scalar(step, "loss", 0.5) for step in range(20)]
    wanted = recorder._framed(events)
    found: list[bytes] = []

    def write():
        found.extend(recorder._framed(events) for _ in range(50))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 200
    assert {*found} == {wanted}
