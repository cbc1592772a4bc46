"""A trained net and photographs, for what draws them; a small tree and its records."""

import pathlib
import sys

import numpy as np
import pytest
from imagenet_inputs import files_of, prepare_here, write_tree
from PIL import Image

from official.alexnet import run_files
from official.alexnet.config import (
    Config,
    DataConfig,
    ModelConfig,
    RuntimeConfig,
    TrainConfig,
)
from official.alexnet.serving.export import export
from official.alexnet.training.trainer import train

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))

from visualizing import trained


@pytest.fixture(scope="session")
def run_dir(records_dir, tmp_path_factory) -> pathlib.Path:
    """A narrow net, trained for two epochs, with an evaluation after each."""
    config = Config(
        model=ModelConfig(
            num_classes=3, width=0.125, input_size=64, init="unit_variance"
        ),
        data=DataConfig(data_dir=str(records_dir), input_scale="unit_variance"),
        train=TrainConfig(
            batch_size=8,
            train_steps=12,
            schedule="constant",
            rates=("1 all 0.001",),
            log_steps=2,
        ),
        runtime=RuntimeConfig(num_gpus=0),
    )
    folder = tmp_path_factory.mktemp("visualize") / "run"
    train(config, str(folder))
    return folder


@pytest.fixture(scope="session")
def net(run_dir) -> trained.Trained:
    config = run_files.load_config(str(run_dir))
    return trained.find(config, str(run_dir))


@pytest.fixture(scope="session")
def exported(run_dir, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("visualize") / "exported"
    export(run_files.load_config(str(run_dir)), str(run_dir), str(folder))
    return folder


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> pathlib.Path:
    """Photographs of odd sizes in folders that tell the class, or do not."""
    root = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(5)
    for folder in ("n00000000", "n00000002", "holiday"):
        (root / folder).mkdir()
        for i in range(2):
            coarse = rng.integers(0, 256, (4, 5, 3), np.uint8)
            size = tuple(int(side) for side in rng.integers(200, 400, 2))
            image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
            image.save(root / folder / f"{i}.jpg", quality=95)
    return root


@pytest.fixture(scope="module")
def tree(tmp_path_factory) -> pathlib.Path:
    return write_tree(tmp_path_factory.mktemp("tree") / "in")


@pytest.fixture(scope="module")
def whole(tree, tmp_path_factory) -> dict[str, bytes]:
    """The files that one worker makes of the tree."""
    output = tmp_path_factory.mktemp("whole")
    prepare_here(tree, output, shards=(5, 2))
    return files_of(output)
