"""--max_bad_records: what a run with bad records ends with, and when it stops."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.config import RuntimeConfig
from official.alexnet.data.records import describe, find_records
from official.alexnet.errors import UserError
from official.alexnet.training import checkpoints
from official.alexnet.training.evaluation import evaluate_run
from official.alexnet.training.trainer import train

ROOT = pathlib.Path(__file__).parents[2]
# The number in its file of each record made bad, and of what kind.
BAD = {1: "no Example", 4: "label", 7: "image"}


def spoil(source: pathlib.Path, target: pathlib.Path, bad: dict[int, str]) -> None:
    """Copies a set; some records of each split's first file are made bad."""
    target.mkdir()
    for path in source.iterdir():
        if not path.name.endswith("-00000-of-00002"):
            (target / path.name).write_bytes(path.read_bytes())
            continue
        records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
        for number in bad.keys() & set(range(len(records))):
            example = tf.train.Example.FromString(records[number])
            features = example.features.feature
            if bad[number] == "label":
                features["image/class/label"].int64_list.value[0] = 4
            jpeg = features["image/encoded"].bytes_list.value
            jpeg[0] = jpeg[0][:-200] if bad[number] == "image" else jpeg[0]
            spoiled = example.SerializeToString()
            records[number] = b"\xff" if bad[number] == "no Example" else spoiled
        with tf.io.TFRecordWriter(str(target / path.name)) as writer:
            for record in records:
                writer.write(record)


@pytest.fixture(scope="module")
def spoiled_dir(records_dir, tmp_path_factory) -> pathlib.Path:
    """Three bad records of 48 in training; two of 13 in validation."""
    folder = tmp_path_factory.mktemp("spoiled") / "records"
    spoil(records_dir, folder, BAD)
    return folder


def of(config, data_dir, limit, **train_settings):
    data = {"data_dir": str(data_dir), "max_bad_records": limit}
    return dataclasses.replace(
        config,
        data=dataclasses.replace(config.data, **data),
        train=dataclasses.replace(config.train, **train_settings),
    )


def weights(run: pathlib.Path) -> dict[str, np.ndarray]:
    return checkpoints.read(checkpoints.latest(run)).weights


def test_bad_records_are_skipped_counted_and_resumed_over(
    tiny_config, spoiled_dir, tmp_path
):
    """Two passes of six steps, never stopped and stopped in the first."""
    every_4 = {"checkpoint_steps": 4, "log_steps": 4}
    whole = of(tiny_config, spoiled_dir, 3, train_steps=12, **every_4)
    results = train(whole, str(tmp_path / "whole"))
    assert results["bad_records"] == 6
    train(of(whole, spoiled_dir, 3, train_steps=4), str(tmp_path / "parts"))
    again = train(whole, str(tmp_path / "parts"))
    assert again["bad_records"] == 6
    assert again["loss"] == results["loss"]
    for name, value in weights(tmp_path / "whole").items():
        np.testing.assert_array_equal(weights(tmp_path / "parts")[name], value, name)
    found = evaluate_run(whole, str(tmp_path / "whole"))
    assert (found["num_examples"], found["bad_records"]) == (11, 2)


@pytest.mark.slow
@pytest.mark.reliability
def test_two_replicas_count_together(tiny_config, spoiled_dir, tmp_path):
    config = dataclasses.replace(
        of(tiny_config, spoiled_dir, 3, train_steps=12),
        runtime=RuntimeConfig(distribution_strategy="mirrored", logical_cpus=2),
    )
    assert train(config, str(tmp_path / "run"))["bad_records"] == 6


def test_more_bad_records_than_allowed_stop_the_run(tiny_config, spoiled_dir, tmp_path):
    few = of(tiny_config, spoiled_dir, 2, train_steps=6)
    with pytest.raises(UserError, match=r"3 bad record\(s\) in 1 pass.*records=2 a"):
        train(few, str(tmp_path / "run"))
    with pytest.raises(UserError, match=r"train-00000-of-00002: record 1 is not a tf"):
        train(of(tiny_config, spoiled_dir, 0), str(tmp_path / "run"))


def write_labels(folder: pathlib.Path, labels: list[int]) -> None:
    features = {
        "image/encoded": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b""]))
    }
    with tf.io.TFRecordWriter(str(folder / "train-00000-of-00001")) as writer:
        for label in labels:
            features["image/class/label"] = tf.train.Feature(
                int64_list=tf.train.Int64List(value=[label])
            )
            features_of = tf.train.Features(feature=features)
            writer.write(tf.train.Example(features=features_of).SerializeToString())


def test_a_bad_label_0_does_not_shift_all_labels(tmp_path):
    write_labels(tmp_path, [1, 2, 3, 0, 1, 2, 3, 3])
    with pytest.raises(UserError, match=r"outside 0\.\.2"):
        find_records(str(tmp_path), "train", 3)
    records = find_records(str(tmp_path), "train", 3, max_bad_records=2)
    assert records.first_label == 1
    assert "labels are 0..3, and 3 would not fit the other way" in describe(records)
    with pytest.raises(UserError, match="cannot be told whether 0 or 1 is class 0"):
        find_records(str(tmp_path), "train", 3, max_bad_records=3)
    write_labels(tmp_path, [0, 1, 2, 0, 3])
    assert find_records(str(tmp_path), "train", 3, max_bad_records=1).first_label == 0


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("label", "record 0 has label 4, outside 1..3"),
        ("no Example", "record 0 is not a tf.train.Example"),
        ("empty files", "the train files hold no records"),
        ("flipped", "record 20 cannot be read (corrupted record at"),
    ],
)
def test_the_command_says_it_in_one_line(records_dir, tmp_path, damage, words):
    data = tmp_path / "records"
    spoil(records_dir, data, {0: damage})
    path = data / "train-00000-of-00002"
    if damage == "empty files":
        path.write_bytes(b"")
        (data / "train-00001-of-00002").write_bytes(b"")
    elif damage == "flipped":
        contents = bytearray(path.read_bytes())
        contents[len(contents) * 20 // 24 + 2000] ^= 1
        path.write_bytes(contents)
    process = subprocess.run(
        [
            *(sys.executable, "-m", "official.alexnet.train", "--train_steps=12"),
            *("--width=0.125", "--input_size=64", "--num_classes=3", "--batch_size=8"),
            *("--skip_eval", "--schedule=constant"),
            *(f"--data_dir={data}", f"--model_dir={tmp_path / 'run'}"),
        ],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.returncode == 2, process.stderr[-2000:]
    last = process.stderr.strip().splitlines()[-1]
    assert last.startswith("alexnet-train: ")
    assert words in last
    if damage != "empty files":
        assert str(path) in last


def test_a_damaged_first_record_is_named(tiny_config, records_dir, tmp_path):
    """Also where the mean image is there, so that no earlier pass meets the record."""
    data = tmp_path / "records"
    shutil.copytree(records_dir, data)
    for path in data.glob("train-*"):
        contents = bytearray(path.read_bytes())
        contents[2000] ^= 1
        path.write_bytes(contents)
    with pytest.raises(UserError, match=r"train-0000.*record 0 cannot be read"):
        train(of(tiny_config, data, 0), str(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.reliability
def test_an_empty_file_among_others_is_fine(tiny_config, records_dir, tmp_path):
    for path in records_dir.iterdir():
        name = path.name.replace("-of-00002", "-of-00003")
        (tmp_path / name).write_bytes(path.read_bytes())
    for split in ("train", "validation"):
        (tmp_path / f"{split}-00002-of-00003").write_bytes(b"")
    results = train(of(tiny_config, tmp_path, 0), str(tmp_path / "run"))
    assert results["step"] == 5
    assert json.dumps(results)
