"""What training and evaluation say of bad records, and that they stop."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import tensorflow as tf

from official.alexnet.errors import UserError
from official.alexnet.training.evaluation import evaluate_run
from official.alexnet.training.trainer import train

ROOT = pathlib.Path(__file__).parents[2]


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


def of(config, data_dir):
    data = dataclasses.replace(config.data, data_dir=str(data_dir))
    return dataclasses.replace(config, data=data)


def test_a_bad_record_is_named_and_stops_training_and_evaluation(
    tiny_config, records_dir, tmp_path
):
    spoil(records_dir, tmp_path / "records", {4: "image"})
    bad, run = of(tiny_config, tmp_path / "records"), str(tmp_path / "run")
    words = r"-00000-of-00002: record 4 has an image that is damaged or cut short"
    with pytest.raises(UserError, match=f"train{words}"):
        train(bad, run)
    train(of(tiny_config, records_dir), run)
    with pytest.raises(UserError, match=f"validation{words}"):
        evaluate_run(bad, run)


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
        train(of(tiny_config, data), str(tmp_path / "run"))


@pytest.mark.slow
@pytest.mark.reliability
def test_an_empty_file_among_others_is_fine(tiny_config, records_dir, tmp_path):
    for path in records_dir.iterdir():
        name = path.name.replace("-of-00002", "-of-00003")
        (tmp_path / name).write_bytes(path.read_bytes())
    for split in ("train", "validation"):
        (tmp_path / f"{split}-00002-of-00003").write_bytes(b"")
    results = train(of(tiny_config, tmp_path), str(tmp_path / "run"))
    assert results["step"] == 5
    assert json.dumps(results)
