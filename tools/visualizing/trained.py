"""The net that is looked at: out of a run's checkpoint, or out of an export."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from official.alexnet import config as config_lib
from official.alexnet import run_files
from official.alexnet.backend import keras
from official.alexnet.config import Config
from official.alexnet.data import classes, dataset
from official.alexnet.errors import UserError
from official.alexnet.modeling.weights import set_weights
from official.alexnet.serving import formats
from official.alexnet.training import building, checkpoints
from official.alexnet.weights import files


@dataclasses.dataclass(frozen=True)
class Trained:
    """A trained net.

    Attributes:
        config: its settings; `num_columns` is 1.
        folder: the directory of the run or of the export.
        source: the checkpoint or file of the weights.
        step: steps it was trained for; 0 for an export, which does not say.
        weights: by name, such as `conv1/kernel`, as the grouped form holds them.
    """

    config: Config
    folder: pathlib.Path
    source: str
    step: int
    weights: dict[str, np.ndarray]

    @functools.cached_property
    def labels(self) -> list[str]:
        """Names of the classes, or their numbers."""
        path = self.folder / run_files.LABELS_FILE
        return classes.read_labels(path, self.config.model.num_classes)

    @functools.cached_property
    def model(self) -> keras.Model:
        """The grouped form, with logits as its output.

        Raises:
            UserError: the weights are those of another net.
        """
        model = building.build_model(self.config.model, self.config.runtime)
        try:
            set_weights(model, self.weights)
        except UserError as error:
            params = self.folder / run_files.PARAMS_FILE
            raise UserError(f"{self.source} does not fit {params}: {error}") from error
        return model

    def normalize(self) -> Callable[..., tf.Tensor]:
        """The function from uint8 crops to the model's input."""
        statistics = dataset.find_statistics(self.config.data, self.folder)
        size = self.config.model.image_size
        return building.make_normalize(self.config.data, size, statistics)

    def split(self, name: str) -> dataset.Split:
        """The split `train` or `validation` of the run's records.

        Raises:
            UserError: there is none, its images are random, or its classes others.
        """
        config_lib.check(self.config)
        if self.config.data.use_synthetic_data:
            raise UserError(
                f"{self.folder} was trained on random images: name others with "
                "--images and --search_images"
            )
        count, names = self.config.model.num_classes, run_files.class_names(self.folder)
        return dataset.find_split(self.config.data, name, count, names)


def find(config: Config, model_dir: str, checkpoint_path: str | None = None) -> Trained:
    """The net of a run's checkpoint of either form, or of an export's .keras file.

    Args:
        config: its settings.
        model_dir: directory of the run, or what `alexnet-export` wrote.
        checkpoint_path: of the run; None: the latest.

    Raises:
        UserError: there is no checkpoint, or it cannot be read.
    """
    folder = pathlib.Path(model_dir)
    path = folder / formats.FILES["keras"]
    if path.is_file() and not checkpoint_path:
        weights = files.read(str(path), config.model.net()).weights
        return Trained(config, folder, str(path), 0, weights)
    path, contents = checkpoints.find(folder, checkpoint_path)
    return Trained(config, folder, path, contents.step, contents.weights)
