"""Damaged checkpoints, divergence, and the best checkpoint."""

import fcntl
import json
import logging
import pathlib
import random
import shutil

import child_runs
import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import disk
from official.alexnet.config import Config
from official.alexnet.errors import Interrupted, UserError
from official.alexnet.serving import export
from official.alexnet.training import checkpoint_files, checkpoints, evaluation, trainer
from official.alexnet.training.recorder import Recorder
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


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory) -> pathlib.Path:
    """A run of 8 steps, evaluated after 6 and 8; filled by the first to need it."""
    return tmp_path_factory.mktemp("runs") / "evaluated"


@pytest.fixture
def run(tiny_config, evaluated, tmp_path) -> pathlib.Path:
    """A copy of that run."""
    if not evaluated.exists():
        train(child_runs.small_run(tiny_config, train_steps=8), str(evaluated))
    return shutil.copytree(evaluated, tmp_path / "run")


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


def test_evaluation_and_export_take_the_one_before_too(
    tiny_config, run, tmp_path, caplog
):
    config = child_runs.small_run(tiny_config, train_steps=8)
    cut(run / "ckpt-8.data-00000-of-00001")
    with caplog.at_level(logging.WARNING):
        evaluated = evaluation.evaluate_run(config, str(run))
        exported = export.export(
            config, str(run), str(tmp_path / "exported"), formats=("keras",)
        )
    assert evaluated["step"] == exported["step"] == 6
    assert caplog.text.count("ckpt-8 is damaged: taking") == 2
    with pytest.raises(UserError, match="ckpt-8"):
        evaluation.evaluate_run(config, str(run), str(run / "ckpt-8"))


def test_where_all_are_damaged_nothing_is_started_anew(tiny_config, run):
    for path in run.glob("ckpt-*.data-*"):
        cut(path)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(UserError, match=r"no checkpoint in .*ckpt-8 .*--clean"):
        train(child_runs.small_run(tiny_config, train_steps=8), str(run))
    assert before == {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}


def test_a_lost_state_file_loses_nothing(tiny_config, run):
    """TensorFlow would see no checkpoint, and training would start anew over them."""
    (run / "checkpoint").unlink()
    assert tf.train.latest_checkpoint(str(run)) is None
    config = child_runs.small_run(tiny_config, train_steps=8)
    assert train(config, str(run))["step"] == 8
    longer = child_runs.small_run(tiny_config, train_steps=10)
    train(longer, str(run))
    assert tf.train.latest_checkpoint(str(run)) == str(run / "ckpt-10")


@pytest.mark.slow
@pytest.mark.reliability
def test_the_best_is_kept_apart(tiny_config, tmp_path):
    config = child_runs.small_run(tiny_config, max_to_keep=1, train_steps=24)
    results = train(config, str(tmp_path))
    evaluated = [row for row in child_runs.rows(tmp_path) if "validation" in str(row)]
    best = max(evaluated, key=lambda row: row["accuracy"])
    info = json.loads((tmp_path / "best/info.json").read_text())
    assert info == {k: v for k, v in best.items() if k != "split"}
    assert best["accuracy"] >= results["eval_accuracy"]
    assert checkpoint_files.steps(tmp_path) == [24]
    assert checkpoint_files.steps(tmp_path / "best") == [best["step"]]
    path = str(tmp_path / f"best/ckpt-{best['step']}")
    again = evaluation.evaluate_run(config, str(tmp_path), path)
    assert again["accuracy"] == best["accuracy"]


def test_the_best_is_kept_anew_when_its_checkpoint_was_made_anew(tmp_path):
    first, second = b"damaged later", b"as it should be"
    for content in (first, second):
        for file in ("index", "data-00000-of-00001"):
            (tmp_path / f"new.{file}").write_bytes(content)
            (tmp_path / f"new.{file}").replace(tmp_path / f"ckpt-4.{file}")
        checkpoint_files.keep_best(tmp_path, {"step": 4})
        for file in ("index", "data-00000-of-00001"):
            assert (tmp_path / f"best/ckpt-4.{file}").read_bytes() == content


def test_a_disk_that_cannot_be_read_is_not_damage(whole, tmp_path):
    """The newer checkpoint would be deleted by the run that resumes before it."""
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    remove(run / "ckpt-12.data-00000-of-00001")
    # Reading it is an error of the system's.
    (run / "ckpt-12.data-00000-of-00001").mkdir()
    with pytest.raises(UserError, match=r"ckpt-12\.data.*: Is a directory; .*may be"):
        checkpoints.find(run)


def test_data_without_an_index_goes(whole, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    remove(run / "ckpt-12.index")
    checkpoint_files.remove_unfinished(run)
    assert sorted(p.name for p in run.glob("ckpt-*")) == [
        f"ckpt-{step}.{file}"
        for step in (4, 8)
        for file in ("data-00000-of-00001", "index")
    ]


@pytest.mark.slow
@pytest.mark.reliability
def test_what_an_evaluation_wrote_is_not_there_twice(
    tiny_config, tmp_path, monkeypatch
):
    """Stopped in it, then a full disk after it, then once more."""
    config = child_runs.small_run(tiny_config, train_steps=6)
    real = trainer.Checkpoints, trainer.Evaluator.__call__

    def stopped(*_):
        raise Interrupted("a signal")

    class Full(real[0]):
        def save(self):
            raise UserError("no space")

    monkeypatch.setattr(trainer.Evaluator, "__call__", stopped)
    with pytest.raises(Interrupted):
        train(config, str(tmp_path))
    monkeypatch.setattr(trainer.Evaluator, "__call__", real[1])
    monkeypatch.setattr(trainer, "Checkpoints", Full)
    with pytest.raises(UserError, match="no space"):
        train(config, str(tmp_path))
    monkeypatch.setattr(trainer, "Checkpoints", real[0])
    train(config, str(tmp_path))
    rows = [(row["step"], row["split"]) for row in child_runs.rows(tmp_path)]
    assert rows == [(5, "train"), (6, "train"), (6, "validation")]
    for split in ("train", "validation"):
        found = [(step, tag) for step, tag, _ in child_runs.events(tmp_path / split)]
        assert len(set(found)) == len(found)
        assert (6, "loss") in found
    assert (6, "conv1_kernels") in [
        (step, tag) for step, tag, _ in child_runs.events(tmp_path / "train")
    ]


def test_a_second_process_is_kept_out(tiny_config, whole):
    taken = pytest.raises(UserError, match="another process is at work there")
    with disk.locked(whole, "--model_dir=x"), taken:
        train(without_evaluation(tiny_config, train_steps=12), str(whole))
    assert train(without_evaluation(tiny_config, train_steps=12), str(whole))


def test_the_process_that_makes_the_folder_is_alone_there_too(tmp_path):
    folder = tmp_path / "runs/new"
    first, second = (disk.locked(folder, "--model_dir=x") for _ in range(2))
    taken = pytest.raises(UserError, match="another process is at work there")
    with first, taken, second:
        pass
    assert not folder.exists()
    with disk.locked(folder, f"--model_dir={folder}"):
        (folder / "params.yaml").touch()
    assert (folder / "params.yaml").exists()


def test_a_folder_removed_between_opening_and_locking_is_not_trained_in(
    tmp_path, monkeypatch
):
    """Its first process ends with a mistake, and takes the new folder with it."""
    folder = tmp_path / "run"
    monkeypatch.setattr(fcntl, "flock", lambda *_: shutil.rmtree(folder))
    taken = pytest.raises(UserError, match="another process is at work there")
    with taken, disk.locked(folder, f"--model_dir={folder}"):
        pass


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").touch()
    folder = tmp_path / "file" / "run"
    line = f"^--model_dir={folder}: Not a directory; name another directory$"
    with (
        pytest.raises(UserError, match=line),
        disk.locked(folder, f"--model_dir={folder}"),
    ):
        pass


def test_what_killed_processes_left_goes(whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    left = [
        run / folder / f".{name}.1.tmp"
        for folder, name in (
            (".", "metrics.jsonl"),
            ("best", "ckpt-12.index"),
            ("train", "events.out.events.1"),
            ("validation", "events.out.events.2"),
        )
    ]
    for path in left:
        path.parent.mkdir(exist_ok=True)
        path.touch()
    checkpoint_files.remove_unfinished(run)
    Recorder(run, 12)
    assert [path for path in left if path.exists()] == []


@pytest.mark.slow
@pytest.mark.reliability
def test_a_checkpoint_is_never_replaced(tiny_config, tmp_path, monkeypatch):
    """Stopped in an evaluation, it is written before that; its result goes beside."""
    config = child_runs.small_run(tiny_config, train_steps=6, max_to_keep=1)
    run, whole = tmp_path / "run", tmp_path / "whole"

    def stopped(*_):
        raise Interrupted("a signal")

    with monkeypatch.context() as patch:
        patch.setattr(trainer.Evaluator, "__call__", stopped)
        with pytest.raises(Interrupted):
            train(config, str(run))
    before = {p.name: p.stat().st_mtime_ns for p in run.glob("ckpt-6.*")}
    train(config, str(run))
    beside = run / "ckpt-6.progress"
    assert json.loads(beside.read_text())["evaluated"] == 6
    after = {p.name: p.stat().st_mtime_ns for p in run.glob("ckpt-6.*")}
    assert after == before | {beside.name: beside.stat().st_mtime_ns}
    train(config, str(whole))
    child_runs.assert_same_run(run, whole)
    longer = child_runs.small_run(tiny_config, train_steps=12, max_to_keep=1)
    train(longer, str(run))
    assert not beside.exists()
    assert (run / "best/ckpt-6.progress").exists() == (
        run / "best/ckpt-6.index"
    ).exists()


@pytest.mark.slow
@pytest.mark.reliability
def test_divergence_names_step_rate_and_checkpoint(tiny_config, run):
    before = {p.name: p.read_bytes() for p in run.glob("ckpt-*")}
    wild = child_runs.small_run(tiny_config, learning_rate=1e9)
    with pytest.raises(UserError) as raised:
        train(wild, str(run))
    message = str(raised.value)
    assert "the loss was" in message
    assert "at a learning rate of 1e+09" in message
    assert f"the last good checkpoint is {run}/ckpt-8" in message
    assert {p.name: p.read_bytes() for p in run.glob("ckpt-*")} == before
    # A damaged one is none to go back to.
    flip(run / "ckpt-8.data-00000-of-00001")
    with pytest.raises(UserError, match=f"the last good checkpoint is {run}/ckpt-6"):
        train(wild, str(run))
    # From there it resumes at the old rate.
    longer = child_runs.small_run(tiny_config, train_steps=10)
    assert train(longer, str(run))["step"] == 10


def test_a_loss_above_the_bound_stops_at_its_step(tiny_config, tmp_path):
    config = child_runs.small_run(tiny_config, loss_upper_bound=1e-3)
    with pytest.raises(UserError, match=r"above 0\.001 at step 1, .*no checkpoint yet"):
        train(config, str(tmp_path))
    assert not list(tmp_path.glob("ckpt-*"))


@pytest.mark.slow
def test_weights_that_are_no_numbers_are_not_saved(tiny_config, tmp_path, monkeypatch):
    """The loss of a step is of the weights before it: they may be bad and it not."""
    train(child_runs.small_run(tiny_config, train_steps=4), str(tmp_path))
    longer = child_runs.small_run(tiny_config, train_steps=8)
    real = checkpoints.Checkpoints.are_numbers

    def spoilt(self):
        self._model.weights[0].assign(self._model.weights[0] * float("nan"))
        return real(self)

    monkeypatch.setattr(checkpoints.Checkpoints, "are_numbers", spoilt)
    with pytest.raises(UserError, match=r"NaN or infinite at step 6, .*ckpt-4"):
        train(longer, str(tmp_path))
    assert checkpoint_files.steps(tmp_path) == [4]
    # Nor evaluated.
    assert [row["step"] for row in child_runs.rows(tmp_path)] == [4, 4, 5]
