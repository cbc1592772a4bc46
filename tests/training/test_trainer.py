"""The loop: exact resume, checkpoints of either form, what it writes."""

import dataclasses
import json
import math
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import run_files
from official.alexnet.config import Config, RuntimeConfig
from official.alexnet.distribution.strategy import place
from official.alexnet.errors import UserError
from official.alexnet.training import checkpoints
from official.alexnet.training.checkpoints import Progress
from official.alexnet.training.pace import said
from official.alexnet.training.step import Steps
from official.alexnet.training.trainer import Trainer, train

ONE_COLUMN = RuntimeConfig(num_gpus=0)
TWO_COLUMNS = RuntimeConfig(num_gpus=0, logical_cpus=2)


def replaced(config: Config, *, columns: int = 1, **train_settings) -> Config:
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_columns=columns),
        train=dataclasses.replace(config.train, **train_settings),
        runtime=TWO_COLUMNS if columns == 2 else ONE_COLUMN,
    )


def state(model_dir: pathlib.Path) -> checkpoints.Contents:
    return checkpoints.read(checkpoints.latest(model_dir))


def lines(model_dir: pathlib.Path) -> list[dict]:
    text = (model_dir / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def assert_equal(a: checkpoints.Contents, b: checkpoints.Contents) -> None:
    assert a.step == b.step
    assert a.progress == b.progress
    differences = {}
    for kind in ("weights", "velocity", "dropout"):
        ours, theirs = getattr(a, kind), getattr(b, kind)
        assert ours.keys() == theirs.keys()
        for name in ours:
            if not np.array_equal(ours[name], theirs[name]):
                far = np.abs(ours[name].astype(float) - theirs[name]).max()
                differences[kind, name] = float(far)
    assert differences == {}


@pytest.mark.parametrize("columns", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_run_stopped_in_an_epoch_and_a_loop_ends_with_the_same_bits(
    tiny_config, tmp_path, columns
):
    # 6 steps an epoch; stopped at 4, between two lines of the log.
    config = replaced(
        tiny_config, columns=columns, train_steps=10, log_steps=5, checkpoint_steps=4
    )
    train(config, str(tmp_path / "whole"))
    train(replaced(config, columns=columns, train_steps=4), str(tmp_path / "parts"))
    # The end of a run is logged, which an interruption is not.
    stopped = state(tmp_path / "parts")
    on_the_way = checkpoints.read(str(tmp_path / "whole/ckpt-4"))
    assert_equal(dataclasses.replace(on_the_way, progress=stopped.progress), stopped)
    train(config, str(tmp_path / "parts"))
    a, b = state(tmp_path / "whole"), state(tmp_path / "parts")
    assert_equal(a, b)


@pytest.mark.slow
def test_a_checkpoint_between_two_log_lines_keeps_the_running_sums(
    tiny_config, tmp_path
):
    config = replaced(tiny_config, train_steps=6, log_steps=6, checkpoint_steps=4)
    train(config, str(tmp_path))
    whole = lines(tmp_path)[-1]
    # As if it had been killed after step 4: that checkpoint is the latest.
    for path in tmp_path.glob("ckpt-6*"):
        path.unlink()
    (tmp_path / "checkpoint").write_text('model_checkpoint_path: "ckpt-4"\n')
    train(config, str(tmp_path))
    again = lines(tmp_path)[-1]
    assert len(lines(tmp_path)) == 1
    for name in ("step", "loss", "accuracy", "top_5_accuracy"):
        assert again[name] == whole[name]


@pytest.mark.slow
@pytest.mark.parametrize("columns", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_a_run_goes_on_in_the_other_form(tiny_config, tmp_path, columns):
    other = 3 - columns
    train(replaced(tiny_config, columns=columns, train_steps=3), str(tmp_path))
    train(replaced(tiny_config, columns=other, train_steps=6), str(tmp_path))
    train(replaced(tiny_config, columns=columns, train_steps=6), str(tmp_path / "same"))
    a, b = state(tmp_path), state(tmp_path / "same")
    assert a.step == b.step == 6
    for name in a.weights:
        np.testing.assert_allclose(a.weights[name], b.weights[name], atol=1e-5)
        np.testing.assert_allclose(a.velocity[name], b.velocity[name], atol=1e-5)


def test_learns_and_writes_what_it_should(tiny_config, tmp_path):
    config = replaced(
        tiny_config,
        columns=2,
        train_steps=150,
        skip_eval=False,
        log_steps=10,
        epochs_between_evals=5,
    )
    model = dataclasses.replace(config.model, dropout=0.0)
    config = dataclasses.replace(config, model=model)
    results = train(config, str(tmp_path))
    assert results["accuracy"] > 0.6  # One of three classes by chance
    assert results["step"] == 150
    rows = lines(tmp_path)
    assert [r["step"] for r in rows if r["split"] == "train"] == [*range(10, 151, 10)]
    assert [r["step"] for r in rows if r["split"] == "validation"] == [
        *range(30, 151, 30)
    ]
    for row in rows:
        assert {"loss", "accuracy", "top_5_accuracy"} <= row.keys()
    assert all(
        {"learning_rate", "images_per_second"} <= row.keys()
        for row in rows
        if row["split"] == "train"
    )
    train_tags = tags(tmp_path / "train")
    assert {"loss", "accuracy", "top_5_accuracy"} < train_tags
    assert {"learning_rate", "images_per_second"} < train_tags
    assert {"conv1_kernels", "input_images"} < train_tags
    assert {"loss", "accuracy", "top_5_accuracy"} <= tags(tmp_path / "validation")
    assert run_files.load_config(str(tmp_path)).train == config.train
    assert (tmp_path / "labels.txt").read_text().startswith("n00000000 class 0\n")


def tags(folder: pathlib.Path) -> set[str]:
    found = set()
    for path in folder.glob("events*"):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            found |= {value.tag for value in event.summary.value}
    return found


def test_learning_rate_follows_the_steps(tiny_config, tmp_path):
    config = replaced(
        tiny_config,
        train_steps=8,
        log_steps=1,
        schedule="constant",
        rates=("0.5 all 0.001", "1 all 0.0001"),
    )
    train(config, str(tmp_path))
    rates = [row["learning_rate"] for row in lines(tmp_path)]
    assert rates == pytest.approx([1e-2] * 3 + [1e-3] * 3 + [1e-4] * 2)


@pytest.mark.slow
def test_plateau_divides_by_ten_where_the_error_stands_still(tiny_config, tmp_path):
    # At this rate no answer changes; evaluated after every step.
    config = replaced(
        tiny_config,
        train_steps=6,
        log_steps=1,
        skip_eval=False,
        epochs_between_evals=1 / 6,
        learning_rate=1e-12,
        schedule="plateau",
        plateau_patience=1,
        plateau_reductions=2,
    )
    train(config, str(tmp_path))
    rates = [row["learning_rate"] for row in lines(tmp_path) if row["split"] == "train"]
    assert rates == pytest.approx([1e-12] * 2 + [1e-13] + [1e-14] * 3, rel=1e-5, abs=0)


def test_the_gradient_is_the_mean_over_the_batch(tiny_config, tmp_path):
    """Of softmax's cross-entropy; that of fc8's biases is probability - label."""
    config = replaced(
        tiny_config, train_steps=1, decay_biases=False, rates=("0 biases x2",)
    )
    config = dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, dropout=0.0, init="published"),
        data=dataclasses.replace(config.data, color_noise="none"),
    )
    placement = place(config.runtime, 1)
    trainer = Trainer(config, tmp_path, placement, clean=False)
    batch = next(iter(trainer.batches(0)))
    logits = trainer.model(trainer.normalize(batch["image"])).numpy()
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponents / exponents.sum(1, keepdims=True)
    gradient = (probabilities - np.eye(3)[batch["label"]]).sum(0) / 8
    train(config, str(tmp_path), placement=placement)
    velocity = state(tmp_path).velocity["fc8/bias"]
    np.testing.assert_allclose(velocity, -0.02 * gradient, rtol=1e-4)


def test_the_loop_ends_inside_its_call_when_it_is_told_to_stop(quick_config, tmp_path):
    placement = place(ONE_COLUMN, 1)
    config = replaced(quick_config, train_steps=2000)
    trainer = Trainer(config, tmp_path / "run", placement, clean=False)
    batches = iter(trainer.batches(0))
    trainer.step.loop.get_concrete_function(batches, tf.constant(1))
    assert Steps.of(trainer.step.loop(batches, tf.constant(2))).count == 2
    trainer.step.stop.assign(1.0)
    steps = Steps.of(trainer.step.loop(batches, tf.constant(1000)))
    assert (steps.count, steps.stopped) == (1, True)


@pytest.mark.slow
def test_a_profile_goes_on_where_the_run_does(tiny_config, tmp_path):
    config = replaced(tiny_config, profile_steps=(2, 6), train_steps=4)
    for count, steps in enumerate((4, 8), 1):
        train(replaced(config, profile_steps=(2, 6), train_steps=steps), str(tmp_path))
        assert len(list(tmp_path.glob("train/plugins/profile/*"))) == count
    assert state(tmp_path).step == 8


def test_older_checkpoints_go(quick_config, tmp_path):
    config = replaced(quick_config, train_steps=4, checkpoint_steps=1, max_to_keep=2)
    assert math.isfinite(train(config, str(tmp_path))["loss"])
    assert sorted(p.name for p in tmp_path.glob("ckpt-*.index")) == [
        "ckpt-3.index",
        "ckpt-4.index",
    ]


def test_clean_starts_anew_and_leaves_other_files(quick_config, tmp_path):
    mine = [tmp_path / name for name in ("notes.txt", "train/1.jpg", "best/1.jpg")]
    for path in mine:
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
    train(replaced(quick_config, train_steps=2), str(tmp_path))
    train(replaced(quick_config, train_steps=1), str(tmp_path), clean=True)
    assert state(tmp_path).step == 1
    assert [path.read_text() for path in mine] == ["mine"] * 3
    run_files.delete(tmp_path)
    assert {path for path in tmp_path.rglob("*") if path.is_file()} == {
        *mine,
        tmp_path / ".lock",
    }


def test_what_a_new_run_would_take_is_not_taken(quick_config, tiny_config, tmp_path):
    train(replaced(quick_config, train_steps=1, skip_eval=False), str(tmp_path))
    for path in tmp_path.glob("ckpt-*"):
        path.unlink()
    with pytest.raises(UserError, match="no checkpoint but in best/, which a new run"):
        train(quick_config, str(tmp_path))
    assert [*(tmp_path / "best").glob("ckpt-1.index")]
    folder = shutil.copytree(tiny_config.data.data_dir, tmp_path / "records")
    data = dataclasses.replace(tiny_config.data, data_dir=str(folder))
    before = {path.name for path in folder.iterdir()}
    with pytest.raises(UserError, match=r"--clean: .* is --data_dir: name another"):
        train(dataclasses.replace(tiny_config, data=data), str(folder), clean=True)
    assert {path.name for path in folder.iterdir()} - {".lock"} == before


@pytest.mark.slow
def test_xla_takes_the_same_steps(quick_config, tmp_path):
    # From one seed XLA draws other numbers than the kernels do: nothing random here.
    config = dataclasses.replace(
        replaced(quick_config, train_steps=2, steps_per_loop=1),
        model=dataclasses.replace(quick_config.model, dropout=0.0),
        data=dataclasses.replace(quick_config.data, color_noise="none"),
    )
    train(config, str(tmp_path / "graph"))
    runtime = dataclasses.replace(config.runtime, enable_xla=True)
    train(dataclasses.replace(config, runtime=runtime), str(tmp_path / "other"))
    a, b = state(tmp_path / "graph"), state(tmp_path / "other")
    for name in a.weights:
        np.testing.assert_allclose(a.weights[name], b.weights[name], atol=1e-5)


@pytest.mark.slow
def test_bfloat16_learns(tiny_config, tmp_path):
    runtime = dataclasses.replace(TWO_COLUMNS, dtype="bf16")
    config = replaced(tiny_config, columns=2, train_steps=30, log_steps=10)
    train(dataclasses.replace(config, runtime=runtime), str(tmp_path))
    losses = [row["loss"] for row in lines(tmp_path)]
    assert losses[-1] < 0.9 * losses[0]


def test_divergence_is_an_error_that_saves_nothing(quick_config, tmp_path):
    config = replaced(quick_config, train_steps=30, learning_rate=1e6, log_steps=1)
    line = r"the loss was .* at a learning rate of 1e\+06: there is no checkpoint yet"
    with pytest.raises(UserError, match=line):
        train(config, str(tmp_path))
    assert not list(tmp_path.glob("ckpt-*"))


def test_a_run_of_another_batch_size_reads_each_batch_once(
    quick_config, tmp_path, monkeypatch
):
    """Its first batch is as far on as it may be, wherever it is resumed."""
    trainer = Trainer(quick_config, tmp_path, place(ONE_COLUMN, 1), clean=False)
    schedule = dataclasses.replace(trainer.pace.schedule, offset=-1.5)
    monkeypatch.setattr(trainer.pace, "schedule", schedule)
    starts = []
    training = type(trainer.train_split).training

    def noted(split, data, batch_size, size, seed, start, context):
        starts.append(start)
        return training(split, data, batch_size, size, seed, start, context)

    monkeypatch.setattr(type(trainer.train_split), "training", noted)
    for step in range(3, 7):
        trainer.batches(step)
    assert starts == [2, 3, 4, 5]


def test_evaluations_of_other_images_are_not_compared_with():
    progress = Progress()
    progress.change_measure([1, 50])
    progress.plateau = progress.plateau.after(0.5, 3, 3).after(0.6, 3, 3)
    progress.best = {"step": 1}
    again = Progress()
    again.deserialize(progress.serialize())
    again.change_measure([1, 50])
    assert (again.plateau, again.best) == (progress.plateau, {"step": 1})
    again.change_measure([10, 50])
    assert (again.plateau.best, again.plateau.waited, again.best) == (math.inf, 0, None)
    assert again.plateau.reductions == progress.plateau.reductions


def test_the_largest_seed_draws_noise(tiny_config, tmp_path):
    config = replaced(tiny_config, train_steps=1, seed=2**32 - 1)
    assert math.isfinite(train(config, str(tmp_path))["loss"])
    with pytest.raises(UserError, match="--seed should be at most 4294967295"):
        train(replaced(tiny_config, seed=2**32), str(tmp_path / "other"))


def test_progress_survives_its_json():
    progress = Progress()
    progress.plateau = progress.plateau.after(0.5, 1, 3).after(0.6, 1, 3)
    progress.sums = [0.1, 2.0, 3.0, 4.0]
    other = Progress()
    other.deserialize(progress.serialize())
    assert (other.plateau, other.sums) == (progress.plateau, progress.sums)
    fresh = Progress()
    fresh.deserialize(Progress().serialize())
    assert fresh.plateau.best == float("inf")


def test_the_days_that_are_left_are_said_in_hours():
    assert [said(s) for s in (0, 59.6, 5 * 86400 + 3723)] == [
        *("00:00:00", "00:01:00", "121:02:03")
    ]
