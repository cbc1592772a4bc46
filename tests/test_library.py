"""The commands as functions: in a thread, in a notebook, again and again."""

import json
import pathlib
import signal
import threading
import time

import numpy as np
import pytest
from PIL import Image

import official.alexnet
from official.alexnet import Interrupted, UserError, library
from official.alexnet.config import Config
from official.alexnet.distribution.strategy import place
from official.alexnet.machine import MULTI_WORKER, RuntimeConfig
from official.alexnet.training import checkpoint_files, checkpoints, preemption

SETTINGS = {
    "use_synthetic_data": True,
    "width": 0.125,
    "input_size": 64,
    "num_classes": 3,
    "batch_size": 8,
    "schedule": "constant",
    "skip_eval": True,
    "steps_per_loop": 2,
    "checkpoint_steps": 2,
    "num_gpus": 0,
}


def weights(folder):
    return checkpoints.read(checkpoint_files.latest(pathlib.Path(folder))).weights


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run of four steps that nothing stopped."""
    folder = tmp_path_factory.mktemp("library") / "run"
    official.alexnet.train(SETTINGS | {"train_steps": 4}, folder)
    return folder


def test_in_a_thread_and_twice_in_one_process(whole, tmp_path):
    handlers = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)]
    results = []

    def work(steps):
        settings = SETTINGS | {"train_steps": steps}
        results.append(official.alexnet.train(settings, tmp_path / "run"))
        results.append([signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)])

    for steps in (2, 4):
        thread = threading.Thread(target=work, args=[steps])
        thread.start()
        thread.join()
    assert [result["step"] for result in results[::2]] == [2, 4]
    assert results[1::2] == [handlers, handlers]
    for name, array in weights(tmp_path / "run").items():
        np.testing.assert_array_equal(array, weights(whole)[name])


CELLS = [
    "from official.alexnet import evaluate, export, train",
    "results = train(settings | {'train_steps': 4}, folder)",
    "scores = evaluate(folder, {'eval_crops': 10, 'batch_size': 4})",
    "written = export(folder, folder.with_name('exported'), formats=['keras'])",
]


@pytest.fixture
def _interrupts():
    """As Python has it: a process of pytest-xdist ignores SIGINT."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interrupts")
def test_the_cells_of_a_notebook_after_an_interrupt(whole, tmp_path, monkeypatch):
    kernel = {"settings": SETTINGS, "folder": tmp_path / "run"}
    exec(CELLS[0], kernel)
    write = checkpoint_files.write

    def write_and_interrupt(checkpoint, folder, step):
        path = write(checkpoint, folder, step)
        if step == 2:
            signal.raise_signal(signal.SIGINT)  # As the kernel does.
        return path

    monkeypatch.setattr(checkpoint_files, "write", write_and_interrupt)
    with pytest.raises(KeyboardInterrupt):
        exec(CELLS[1], kernel)
    assert checkpoint_files.steps(tmp_path / "run") == [2]
    for cell in CELLS[1:]:
        exec(cell, kernel)
    assert kernel["results"]["step"] == kernel["scores"]["step"] == 4
    assert kernel["scores"]["num_examples"] == 512
    assert kernel["written"]["files"] == {
        "keras": str(tmp_path / "exported" / "alexnet.keras")
    }
    for name, array in weights(tmp_path / "run").items():
        np.testing.assert_array_equal(array, weights(whole)[name])


def test_signals_are_taken_where_they_are_asked_for(tmp_path, monkeypatch):
    write = checkpoint_files.write

    def write_and_stop(checkpoint, folder, step):
        path = write(checkpoint, folder, step)
        if step == 2:
            signal.raise_signal(signal.SIGTERM)
        return path

    monkeypatch.setattr(checkpoint_files, "write", write_and_stop)
    settings = SETTINGS | {"train_steps": 400, "checkpoint_steps": 2}
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(Interrupted, match="is saved"):
        official.alexnet.train(settings, tmp_path / "run", signals=True)
    assert signal.getsignal(signal.SIGTERM) == before
    errors = []

    def work():
        try:
            official.alexnet.train(settings, tmp_path / "run", signals=True)
        except UserError as error:
            errors.append(str(error))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert "in its main thread only" in errors[0]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"trian_steps": 2}, "no setting 'trian_steps'; did you mean train_steps?"),
        ({"train_steps": "two"}, "--train_steps should be of type int, not 'two'"),
        ({}, "--data_dir"),
        ({"config_file": "papre"}, "no such file"),
        (None, "the settings should be a dictionary, not None"),
        ([("seed", 1)], "the settings should be a dictionary"),
    ],
)
def test_mistakes_are_raised_in_one_line(tmp_path, settings, words):
    with pytest.raises(UserError, match=words.replace("?", r"\?")) as error:
        official.alexnet.train(settings, tmp_path / "run")
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()
    with pytest.raises(UserError, match="name the directory of a run"):
        official.alexnet.evaluate(tmp_path)
    with pytest.raises(UserError, match="name the directory of a run"):
        official.alexnet.export(tmp_path, tmp_path / "exported")


def test_many_workers_come_before_anything_else():
    """TensorFlow would say: Collective ops must be configured at program startup."""
    hosts = "127.0.0.1:2222,127.0.0.1:2223"
    with pytest.raises(UserError, match="TensorFlow has started in this process"):
        place(RuntimeConfig(MULTI_WORKER, worker_hosts=hosts), 1)


def test_the_tasks_beside_the_workers(whole, tmp_path, monkeypatch):
    """With the workers' settings, which are not the task's own."""
    settings = SETTINGS | {"distribution_strategy": MULTI_WORKER, "num_columns": 2}
    settings |= {"train_steps": 4, "exchange_dtype": "bf16"}

    def train_as(kind, **given):
        task = {"type": kind, "index": 0}
        cluster = {"chief": ["a:1"], "worker": ["b:1"]}
        monkeypatch.setenv("TF_CONFIG", json.dumps({"cluster": cluster, "task": task}))
        return official.alexnet.train(settings, whole, **given)

    assert train_as("ps") == {"task": "ps"}
    monkeypatch.setattr(library, "EVALUATOR_SECONDS", 60)
    with pytest.raises(UserError, match="leave --clean out"):
        train_as("evaluator", clean=True)
    results = train_as("evaluator")
    assert (results["evaluated"], results["complete"]) == ([2, 4], True)
    gpu = Config(runtime=RuntimeConfig(gpu_memory_mb=3000, launcher="none"))
    assert library._beside(gpu).runtime == RuntimeConfig(launcher="none")


def test_pictures_become_records(tmp_path):
    for split, count in (("train", 2), ("val", 1)):
        for name in ("cat", "dog"):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (300, 260), (i * 99, 50, 0)).save(folder / f"{i}.png")
    shards = {"train_shards": 2, "validation_shards": 1, "num_workers": 1}
    records = tmp_path / "records"
    results = official.alexnet.prepare(tmp_path / "pictures", records, **shards)
    assert (results["num_train"], results["num_validation"]) == (4, 2)
    assert len([*records.glob("train-*")]) == 2
    with pytest.raises(UserError, match="--task=2/2"):
        official.alexnet.prepare(tmp_path / "pictures", records, task="2/2", **shards)
    mistakes = {"task": 3, "seed": -1, "max_bad_images": -1, "num_workers": 2.5}
    for name, value in (mistakes | {"train_shards": "2"}).items():
        with pytest.raises(UserError, match=f"--{name}[ =]"):
            official.alexnet.prepare(tmp_path, records, **shards | {name: value})


def test_a_signal_that_was_answered_ends_nothing_later(monkeypatch):
    """Before the first step: it is raised, and the caller's process lives on."""
    monkeypatch.setattr(preemption, "_START_SECONDS", 0.2)
    with pytest.raises(Interrupted), preemption.Preemption() as watched:
        signal.raise_signal(signal.SIGTERM)
        while watched.received is None:
            time.sleep(0.01)
        watched.check()
    time.sleep(0.5)
