"""A run of an earlier version, and its settings, are read and the run resumed.

goldens/earlier_run.tar.xz was written at commit de3be9b:

  alexnet-train --model_dir=run --use_synthetic_data --num_columns=2 --logical_cpus=2 \
      --num_gpus=0 --width=0.01 --input_size=64 --num_classes=3 --batch_size=4 \
      --remove=conv2,conv4 --schedule=steps --learning_rate_steps=0.5 \
      --learning_rates=0.002 --bias_learning_rate=2 --skip_eval --log_steps=1 \
      --train_epochs=1 --train_steps=2
"""

import dataclasses
import json
import pathlib
import tarfile

import pytest

from official.alexnet import run_files
from official.alexnet.training.trainer import train

GOLDEN = pathlib.Path(__file__).with_name("goldens") / "earlier_run.tar.xz"
# What that version logged of steps 3 and 4.
LOSSES = [1.0793057680130005, 1.0667632818222046]


def test_it_is_resumed(tmp_path):
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    config = run_files.read_config(str(tmp_path))
    assert config.train.rates == ("0.5 all 0.002", "0 biases x2")
    longer = dataclasses.replace(config.train, train_steps=4)
    train(dataclasses.replace(config, train=longer), str(tmp_path))
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").open()]
    assert [row["step"] for row in rows] == [1, 2, 3, 4]
    assert [row["loss"] for row in rows[2:]] == pytest.approx(LOSSES, rel=1e-5)
