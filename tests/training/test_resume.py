"""A run that is resumed with other settings: what is refused, taken, and said."""

import dataclasses
import logging
import math

import numpy as np
import pytest
import tensorflow as tf
from test_trainer import lines, replaced

from official.alexnet import config_files, run_files
from official.alexnet.config import Config, DataConfig
from official.alexnet.data import dataset
from official.alexnet.data.statistics import Statistics
from official.alexnet.distribution.strategy import place
from official.alexnet.errors import UserError
from official.alexnet.training import checkpoints
from official.alexnet.training.checkpoints import Progress
from official.alexnet.training.trainer import Trainer, train


def test_a_run_goes_on_with_its_own_net_and_input_only(quick_config, tmp_path):
    train(replaced(quick_config, train_steps=1), str(tmp_path))
    before = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    data = dataclasses.replace(quick_config.data, input_scale="none")
    other = dataclasses.replace(quick_config, data=data)
    refused = pytest.raises(UserError, match="--input_scale: unit_variance -> none")
    with refused:
        train(other, str(tmp_path))
    params = tmp_path / "params.yaml"
    text = params.read_text()
    for wrong in ("train: [", text.replace("momentum", "old_momentum")):
        params.write_text(wrong)
        with pytest.raises(
            UserError, match=r"params\.yaml right, or name another"
        ) as error:
            train(quick_config, str(tmp_path))
        assert len(str(error.value).splitlines()) == 1
    params.unlink()
    with pytest.raises(UserError, match=r"has no params\.yaml"):
        train(quick_config, str(tmp_path))
    params.write_text(text)
    del before["params.yaml"]
    after = {p.name: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    assert after.items() >= before.items()
    train(replaced(other, train_steps=1), str(tmp_path), clean=True)


def resumed(tmp_path, caplog, before: dict, now: dict) -> str:
    """What the log says of a run that is resumed with other settings."""
    before, now = (
        config_files.override(Config(), settings, "") for settings in (before, now)
    )
    (tmp_path / "params.yaml").write_text(before.to_yaml())
    with caplog.at_level(logging.INFO, logger="absl"):
        run_files.resume(now, tmp_path)
    return caplog.text


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        ({}, {"model": {"variant": "owt"}}, "--variant: paper -> owt"),
        ({}, {"model": {"num_classes": 7}}, "--num_classes: 1000 -> 7"),
        ({}, {"model": {"input_size": 225}}, "--input_size: not given -> 225"),
        ({}, {"model": {"activation": "tanh"}}, "--activation: not given -> tanh"),
        (
            {},
            {"model": {"normalization": "none"}},
            "--normalization: not given -> none",
        ),
        # As published it multiplies by 1 - rate after training.
        ({}, {"model": {"dropout": 0.25}}, "--dropout: not given -> 0.25"),
        ({}, {"model": {"pool_stride": 1}}, "--pool_stride: not given -> 1"),
        ({"model": {"remove": ["conv3"]}}, {}, "--remove: conv3 -> none"),
        ({}, {"data": {"input_scale": "torchvision"}}, "--input_scale: none -> torch"),
        # The initial weights and the masks of dropout are of the first.
        ({"train": {"seed": 3}}, {}, "--seed: 3 -> 0"),
    ],
    ids=str,
)
def test_what_a_run_cannot_go_on_with(tmp_path, caplog, before, now, message):
    with pytest.raises(UserError, match=f"{message}.*--init_from") as error:
        resumed(tmp_path, caplog, before, now)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("before", "now", "message"),
    [
        (
            {"train": {"batch_size": 8}},
            {"data": {"data_dir": "b"}, "train": {"learning_rate": 0.1}},
            "changed: --data_dir: not given -> b, --batch_size: 8 -> 128, "
            "--learning_rate: 0.01 -> 0.1",
        ),
        (
            {"train": {"init_from": "a"}},
            {},
            "step 0 reads them: --init_from: a -> not given",
        ),
        # The same net in other words, and dropout that is training's alone.
        ({}, {"model": {"dropout": 0.5}}, "changed: --dropout: not given -> 0.5"),
        (
            {"model": {"variant": "no_lrn"}},
            {"model": {"normalization": "none"}},
            "changed: --variant: no_lrn -> paper, --normalization: not given -> none",
        ),
        (
            {"model": {"variant": "owt"}},
            {"model": {"variant": "owt", "dropout": 0.1}},
            "changed: --dropout: not given -> 0.1",
        ),
        ({"runtime": {"dtype": "bf16"}}, {}, "changed: --dtype: bf16 -> fp32"),
    ],
    ids=str,
)
def test_what_a_run_goes_on_with_is_said(tmp_path, caplog, before, now, message):
    assert message in resumed(tmp_path, caplog, before, now)
    assert resumed(tmp_path, caplog, before, before).count("\n") == 1


STEPS = {
    "schedule": "constant",
    "rates": ("1 all 0.001", "1.5 all 0.0001"),
    "log_steps": 1,
}


@pytest.fixture
def half_an_epoch(tiny_config, tmp_path):
    """Three steps of 8, whose checkpoint does not say of how many steps an epoch is."""
    with pytest.MonkeyPatch.context() as patch:
        write = Progress.serialize
        patch.setattr(
            Progress, "serialize", lambda self: write(self).replace(b"pace", b"other")
        )
        train(replaced(tiny_config, train_steps=3, **STEPS), str(tmp_path))
    return replaced(
        tiny_config, train_steps=None, train_epochs=2, batch_size=16, **STEPS
    )


def test_epochs_are_counted_on_with_another_batch_size(half_an_epoch, tmp_path):
    """Six steps an epoch, then three: the rest is 1.5 epochs."""
    config = half_an_epoch
    trainer = Trainer(config, tmp_path, place(config.runtime, 1), clean=False)
    trainer.pace.start_at(trainer.checkpoints.restore())
    assert trainer.pace.total_steps == 3 + math.ceil(1.5 * 3)
    assert [trainer.pace.schedule.epoch_of(step) for step in (3, 6)] == [0.5, 1.5]
    assert trainer.pace.schedule.changes() == [3 + math.ceil(0.5 * 3), 3 + 3]
    # 24 images are passed, or nearly: a batch's place is a multiple of its size.
    split, context = trainer.train_split, tf.distribute.InputContext()
    wanted = split.training(config.data, 16, 64, config.train.seed, 2, context)
    for name, value in next(iter(wanted)).items():
        np.testing.assert_array_equal(next(iter(trainer.batches(3)))[name], value)


@pytest.mark.slow
def test_batch_sizes_that_change_twice(half_an_epoch, tmp_path, caplog):
    longer = half_an_epoch
    with caplog.at_level(logging.INFO, logger="absl"):
        assert train(longer, str(tmp_path))["step"] == 8
    assert "Settings that are changed: --batch_size: 8 -> 16, " in caplog.text
    assert "step 4/8 | epoch 0.83 |" in caplog.text
    assert run_files.load_config(str(tmp_path)).train == longer.train
    rates = [row["learning_rate"] for row in lines(tmp_path)]
    assert rates == pytest.approx([1e-2] * 5 + [1e-3] + [1e-4] * 2)
    shorter = replaced(
        longer, train_steps=None, train_epochs=2.5, batch_size=4, **STEPS
    )
    with caplog.at_level(logging.INFO, logger="absl"):
        assert train(shorter, str(tmp_path))["step"] == 8 + 4  # 2.1667 + 4/12
    assert "step 9/12 | epoch 2.25 |" in caplog.text


@pytest.fixture
def runs(tmp_path):
    """Files of two runs: b's weights are for pixels of another scale and mean."""
    for name, scale, gray in (("a", "none", 100.0), ("b", "torchvision", 101.0)):
        data = DataConfig(
            use_synthetic_data=True, input_scale=scale, statistics="where it was"
        )
        (tmp_path / name / "best").mkdir(parents=True)
        (tmp_path / name / "params.yaml").write_text(Config(data=data).to_yaml())
        mean = np.full((256, 256, 3), gray, np.float32)
        Statistics(mean, np.ones(3), np.eye(3), 1).save(
            tmp_path / name / "statistics.npz"
        )
    return tmp_path


def test_a_run_keeps_its_own_mean_image(runs):
    """Also where the file that it was copied from is gone, or another."""
    data, own = run_files.load_config(str(runs / "a")).data, runs / "a"
    assert dataset.find_statistics(data, own).mean_image.mean() == 100
    for name, fits in (("a", True), ("b", False)):
        path = str(runs / name / "statistics.npz")
        given = dataclasses.replace(data, statistics=path)
        if fits:
            assert dataset.find_statistics(given, own).mean_image.mean() == 100
        else:
            with pytest.raises(UserError, match="leave --statistics out"):
                dataset.find_statistics(given, own)
            assert dataset.find_statistics(given, None).mean_image.mean() == 101


def test_a_checkpoint_of_a_run_with_another_input_is_refused(runs):
    for name in ("ckpt-1", "best/ckpt-1"):
        run_files.check_checkpoint(runs / "a", str(runs / "a" / name))
        with pytest.raises(UserError, match=r"is a checkpoint of .*/b, not of") as e:
            checkpoints.find(runs / "a", str(runs / "b" / name))
        assert str(e.value).endswith(f"give --model_dir={runs / 'b'}")
