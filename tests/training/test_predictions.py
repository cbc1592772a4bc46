"""What `--predictions_file` says of each image, against the evaluation's own sums."""

import csv
import dataclasses

import pytest

from official.alexnet.config import RuntimeConfig
from official.alexnet.errors import UserError
from official.alexnet.training.evaluation import evaluate_run
from official.alexnet.training.trainer import train

CLASSES = [f"n0000000{i} class {i}" for i in range(3)]


@pytest.mark.parametrize("crops", [1, pytest.param(10, marks=pytest.mark.slow)])
def test_a_line_an_image_adds_up_to_the_results(tiny_config, tmp_path, crops):
    steps = dataclasses.replace(tiny_config.train, train_steps=2, eval_crops=crops)
    config = dataclasses.replace(tiny_config, train=steps)
    train(config, str(tmp_path / "run"))
    path = tmp_path / "said.csv"
    results = evaluate_run(config, str(tmp_path / "run"), predictions_file=str(path))
    assert results["predictions_file"] == str(path)
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    # Of 13 images in batches of 8 the last is filled up.
    assert sorted(row["image"] for row in rows) == sorted(
        f"{i}.JPEG" for i in range(13)
    )
    right = 0
    for row in rows:
        number = int(row["image"].removesuffix(".JPEG"))
        assert row["label"] == CLASSES[number % 3]
        values = [float(row[f"probability_{i}"]) for i in (1, 2, 3)]
        assert values == sorted(values, reverse=True)
        assert sum(values) == pytest.approx(1, abs=1e-4)
        assert {row[f"class_{i}"] for i in (1, 2, 3)} == {*CLASSES}
        right += row["class_1"] == row["label"]
    assert results["accuracy"] == pytest.approx(right / 13)
    assert results["num_examples"] == 13


def test_several_replicas_write_no_lines(tiny_config, tmp_path):
    runtime = RuntimeConfig("mirrored", logical_cpus=2, num_gpus=0)
    config = dataclasses.replace(tiny_config, runtime=runtime)
    with pytest.raises(UserError, match="--predictions_file is written by one replica"):
        evaluate_run(config, str(tmp_path), predictions_file=str(tmp_path / "x.csv"))
