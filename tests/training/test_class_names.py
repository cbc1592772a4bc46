"""A run's classes and those of the data it meets, by name."""

import dataclasses
import logging
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet import run_files
from official.alexnet.config import Config
from official.alexnet.data.statistics import STATISTICS_FILE, Statistics
from official.alexnet.errors import UserError
from official.alexnet.serving.export import export
from official.alexnet.training import checkpoints
from official.alexnet.training.evaluation import Run, evaluate_run, evaluate_runs
from official.alexnet.training.trainer import train

KEY = "image/class/label"
SLOW_ORDERS = ([2, 0, 1], [1, 0])


def relabel(
    records_dir: pathlib.Path, folder: pathlib.Path, order: list[int], names=None
) -> pathlib.Path:
    """The records of some classes, counted in another order, and their names."""
    folder.mkdir()
    for source in sorted(records_dir.glob("*-of-*")):
        with tf.io.TFRecordWriter(str(folder / source.name)) as writer:
            for record in tf.data.TFRecordDataset(str(source)):
                example = tf.train.Example.FromString(record.numpy())
                label = example.features.feature[KEY].int64_list.value[0] - 1
                if label in order:
                    stored = order.index(label) + 1
                    example.features.feature[KEY].int64_list.value[:] = [stored]
                    writer.write(example.SerializeToString())
    lines = (records_dir / "labels.txt").read_text().splitlines()
    names = names or [lines[label] for label in order]
    (folder / "labels.txt").write_text("\n".join(names))
    return folder


def on(config: Config, data_dir: pathlib.Path, **train) -> Config:
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, data_dir=str(data_dir)),
        train=dataclasses.replace(config.train, **train),
    )


@pytest.fixture(scope="module")
def trained(records_dir, tmp_path_factory) -> tuple[Config, pathlib.Path]:
    from official.alexnet.config import (  # noqa: PLC0415
        DataConfig,
        ModelConfig,
        RuntimeConfig,
        TrainConfig,
    )

    config = Config(
        ModelConfig(num_classes=3, width=0.125, input_size=64, init="unit_variance"),
        DataConfig(data_dir=str(records_dir), input_scale="unit_variance"),
        TrainConfig(batch_size=8, train_steps=20, schedule="constant", skip_eval=True),
        RuntimeConfig(num_gpus=0, logical_cpus=4),
    )
    folder = tmp_path_factory.mktemp("trained") / "run"
    train(config, str(folder))
    return config, folder


def score(config: Config, data_dir: pathlib.Path, folder: pathlib.Path) -> tuple:
    found = evaluate_run(on(config, data_dir), str(folder))
    return found["num_examples"], found["accuracy"], round(found["loss"], 4)


@pytest.mark.parametrize(
    "order", [[0, 2], *(pytest.param(x, marks=pytest.mark.slow) for x in SLOW_ORDERS)]
)
def test_evaluation_maps_classes_by_name(trained, records_dir, tmp_path, order, caplog):
    config, folder = trained
    other = relabel(records_dir, tmp_path / "other", order)
    # The same pictures under the run's own numbers.
    same = relabel(records_dir, tmp_path / "same", [0, 1, 2])
    if len(order) < 3:
        dropped = ({0, 1, 2} - set(order)).pop()
        order_kept = [c if c != dropped else -1 for c in range(3)]
        lines = (records_dir / "labels.txt").read_text().splitlines()
        same = relabel(records_dir, tmp_path / "part", order_kept, lines)
        config = dataclasses.replace(
            config, data=dataclasses.replace(config.data, label_base="1")
        )
    wanted = score(config, same, folder)
    with caplog.at_level(logging.INFO, logger="absl"):
        assert score(config, other, folder) == wanted
    assert f"{len(order)} of the net's 3 classes, matched by name" in caplog.text
    (other / "labels.txt").unlink()
    assert score(config, other, folder) != wanted, "without the names it is wrong"


def test_a_class_that_the_run_does_not_have_is_refused(trained, records_dir, tmp_path):
    config, folder = trained
    names = ["n00000000 class 0", "n00000009 zebra", "n00000002 class 2"]
    other = relabel(records_dir, tmp_path / "zebra", [0, 1, 2], names)
    with pytest.raises(UserError, match=r"its class 'n00000009 zebra' is not one of"):
        evaluate_run(on(config, other), str(folder))


@pytest.mark.parametrize("order", [[2, 0, 1], [0, 1]])
def test_training_keeps_to_its_classes(trained, records_dir, tmp_path, order):
    config, folder = trained
    other = relabel(records_dir, tmp_path / "other", order)
    before = (folder / run_files.LABELS_FILE).read_bytes()
    model = dataclasses.replace(config.model, num_classes=len(order))
    config = dataclasses.replace(on(config, other, train_steps=25), model=model)
    message = "class 0 was" if len(order) == 3 else "num_classes: 3 -> 2"
    with pytest.raises(UserError, match=message) as caught:
        train(config, str(folder))
    assert "--clean" not in str(caught.value)
    assert (folder / run_files.LABELS_FILE).read_bytes() == before
    assert checkpoints.find(folder)[1].step == 20
    index = f"{folder}/ckpt-20.index"  # As a shell completes it.
    assert checkpoints.find(folder, index)[1].step == 20


@pytest.mark.slow
def test_runs_of_other_orders_are_not_averaged(trained, records_dir, tmp_path):
    config, folder = trained
    other = relabel(records_dir, tmp_path / "other", [2, 0, 1])
    train(on(config, other, train_steps=1), str(tmp_path / "b"))
    runs = [Run(config, str(folder)), Run(config, str(tmp_path / "b"))]
    with pytest.raises(UserError, match="other classes, or in another order"):
        evaluate_runs(runs)


@pytest.mark.parametrize("layers", [(), ("fc8",)])
def test_the_last_layer_of_other_classes_is_not_taken(
    trained, records_dir, tmp_path, layers, caplog
):
    config, folder = trained
    other = relabel(records_dir, tmp_path / "other", [2, 0, 1])
    new = on(config, other, train_steps=1, init_from=str(folder), init_layers=layers)
    if layers:
        with pytest.raises(UserError, match=r"the classes of --init_from"):
            train(new, str(tmp_path / "new"))
        return
    with caplog.at_level(logging.INFO, logger="absl"):
        train(new, str(tmp_path / "new"))
    assert "fc7. New: fc8." in caplog.text


def test_what_a_run_that_never_saved_left_is_not_taken(trained, records_dir, tmp_path):
    config, _ = trained
    run = tmp_path / "run"
    run.mkdir()
    (run / run_files.LABELS_FILE).write_text("a\nb\nc\n")
    Statistics(np.zeros((256, 256, 3), "f4"), np.ones(3), np.eye(3), 1).save(
        run / STATISTICS_FILE
    )
    other = relabel(records_dir, tmp_path / "other", [0, 1, 2])
    shutil.copy(records_dir / STATISTICS_FILE, other)
    (other / "labels.txt").unlink()
    train(on(config, other, train_steps=1), str(run))
    assert not (run / run_files.LABELS_FILE).exists()
    found, own = (Statistics.load(x / STATISTICS_FILE) for x in (run, records_dir))
    np.testing.assert_array_equal(found.mean_image, own.mean_image)


def test_a_run_without_its_mean_image_does_not_take_the_datas(trained, tmp_path):
    config, folder = trained
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / STATISTICS_FILE).unlink()
    with pytest.raises(UserError, match="has lost its statistics"):
        evaluate_run(config, str(copy))
    with pytest.raises(UserError, match="has lost its statistics"):
        train(dataclasses.replace(config), str(copy))


def test_another_runs_checkpoint_is_refused(trained, records_dir, tmp_path):
    config, folder = trained
    train(on(config, records_dir, train_steps=1), str(tmp_path / "b"))
    path = str(folder / "ckpt-20")
    message = f"is a checkpoint of {folder}, not of --model_dir={tmp_path / 'b'}"
    with pytest.raises(UserError, match=message):
        evaluate_run(config, str(tmp_path / "b"), path)
    with pytest.raises(UserError, match=message):
        export(config, str(tmp_path / "b"), str(tmp_path / "out"), path)
