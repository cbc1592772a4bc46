"""Records that TFDS itself writes give the same evaluation as this project's own."""

import dataclasses
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from official.alexnet.config import Config, DataConfig, RuntimeConfig
from official.alexnet.training.evaluation import evaluate_run
from official.alexnet.training.trainer import train

PREPARE = pathlib.Path(__file__).parents[2] / "tools" / "prepare_imagenet.py"


@pytest.fixture(scope="module")
def photographs(tmp_path_factory) -> pathlib.Path:
    """A tree train/<class>/*.jpg and val/<class>/*.jpg of pictures of any size."""
    root = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for split, count in (("train", 8), ("val", 7)):
        for label, name in enumerate(("cat", "dog", "eel")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                coarse = rng.integers(0, 256, (4 + 3 * label, 5, 3), np.uint8)
                size = tuple(int(side) for side in rng.integers(200, 400, 2))
                image = Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)
                image.save(folder / f"{i}.jpg", quality=95)
    return root


@pytest.fixture(scope="module")
def prepared(photographs, tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("prepared") / "data"
    subprocess.run(
        [
            *(sys.executable, str(PREPARE), f"--input_dir={photographs}"),
            *(f"--output_dir={folder}", "--train_shards=2", "--validation_shards=2"),
            "--num_workers=1",
        ],
        check=True,
        capture_output=True,
    )
    return folder


def written_by_tfds(tree: pathlib.Path, data_dir: pathlib.Path) -> None:
    """Has TFDS write TFRecords of what its ImageFolder builder reads."""
    folder = tfds.ImageFolder(str(tree))
    as_stored = {"image": tfds.decode.SkipDecoding()}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="photographs",
        version="1.0.0",
        data_dir=str(data_dir),
        split_datasets={
            split: folder.as_dataset(split=split, decoders=as_stored)
            for split in folder.info.splits
        },
        features=folder.info.features,
        disable_shuffling=True,
    )


@pytest.fixture(scope="module")
def run(prepared, tmp_path_factory) -> tuple[Config, str]:
    """A net that has learned a little from the project's records."""
    from official.alexnet.config import ModelConfig, TrainConfig  # noqa: PLC0415

    config = Config(
        model=ModelConfig(
            num_classes=3, width=0.125, input_size=64, init="unit_variance"
        ),
        data=DataConfig(data_dir=str(prepared), input_scale="unit_variance"),
        train=TrainConfig(
            batch_size=8, train_steps=30, schedule="constant", skip_eval=True
        ),
        runtime=RuntimeConfig(num_gpus=0),
    )
    model_dir = str(tmp_path_factory.mktemp("run"))
    train(config, model_dir)
    return config, model_dir


def evaluate(run, **data) -> dict:
    config, model_dir = run
    changed = dataclasses.replace(config, data=dataclasses.replace(config.data, **data))
    found = evaluate_run(changed, model_dir)
    return {name: found[name] for name in ("accuracy", "loss", "num_examples")}


def test_the_stored_pictures_give_the_same_numbers(run, prepared, tmp_path):
    """The project's own 256 x 256 JPEGs, packed by TFDS: equal to the last digit."""
    import tensorflow as tf  # noqa: PLC0415

    for path in sorted(prepared.glob("validation-*")):
        for i, record in enumerate(tf.data.TFRecordDataset(str(path))):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            name = feature["image/class/synset"].bytes_list.value[0].decode()
            folder = tmp_path / "tree" / "validation" / name
            folder.mkdir(parents=True, exist_ok=True)
            encoded = feature["image/encoded"].bytes_list.value[0]
            (folder / f"{path.name}-{i}.jpg").write_bytes(encoded)
    written_by_tfds(tmp_path / "tree", tmp_path / "tfds")
    ours, theirs = evaluate(run), evaluate(run, data_dir=str(tmp_path / "tfds"))
    assert theirs["num_examples"] == ours["num_examples"] == 21
    assert theirs["accuracy"] == ours["accuracy"]
    assert theirs["loss"] == pytest.approx(ours["loss"], rel=1e-6)
    by_name = evaluate(run, data_dir=str(tmp_path / "tfds"), tfds_name="photographs")
    assert by_name == theirs


@pytest.mark.slow
def test_the_photographs_themselves_give_the_same_result(run, photographs, tmp_path):
    """Scaled while reading, where the project's records were scaled beforehand.

    One JPEG compression apart: the loss differs by thousandths.
    """
    written_by_tfds(photographs, tmp_path / "tfds")
    ours, theirs = evaluate(run), evaluate(run, data_dir=str(tmp_path / "tfds"))
    assert theirs["num_examples"] == ours["num_examples"] == 21
    assert theirs["accuracy"] == ours["accuracy"]
    assert theirs["loss"] == pytest.approx(ours["loss"], abs=0.01)
