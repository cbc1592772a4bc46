"""One short run, exported in every format, for the tests of each."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from interchange_nets import make_images

from official.alexnet import config as c
from official.alexnet import run_files
from official.alexnet.serving import formats
from official.alexnet.serving.export import export
from official.alexnet.training.trainer import train


@dataclasses.dataclass(frozen=True)
class Exported:
    """An export, and what its SavedModel answers.

    Attributes:
        folder: of the export.
        results: what `export` returned.
        crops: (4, 64, 64, 3) uint8: the centres that the net sees.
        logits: (4, 3), of `image_tensor` for the 256 x 256 images around the crops.
        probabilities: likewise.
    """

    folder: pathlib.Path
    results: dict
    crops: np.ndarray
    logits: np.ndarray
    probabilities: np.ndarray


@pytest.fixture(scope="session")
def all_formats(records_dir, tmp_path_factory) -> Exported:
    """A net that tells images apart: its logits start with variance 1."""
    config = c.Config(
        model=c.ModelConfig(
            num_classes=3, width=0.125, input_size=64, init="unit_variance"
        ),
        data=c.DataConfig(data_dir=str(records_dir), input_scale="unit_variance"),
        train=c.TrainConfig(
            batch_size=8,
            train_steps=1,
            learning_rate=1e-4,
            schedule="constant",
            skip_eval=True,
        ),
    )
    root = tmp_path_factory.mktemp("all_formats")
    run, folder = str(root / "run"), root / "out"
    train(config, run)
    pytest.importorskip("onnx")
    settings = run_files.load_config(run)
    results = export(
        *(settings, run, str(folder)),
        formats=tuple(formats.FILES),
        features=["pool5", "fc6"],
    )
    squares = make_images(4, 256)
    served = tf.saved_model.load(str(folder / "saved_model"))
    answer = served.signatures["image_tensor"](images=tf.constant(squares))
    return Exported(
        folder,
        results,
        squares[:, 96:160, 96:160],
        answer["logits"].numpy(),
        answer["probabilities"].numpy(),
    )
