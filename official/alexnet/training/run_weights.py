"""Weights of runs: read, given to a model, and a directory written that is a run's."""

import dataclasses
import functools
import os
import pathlib
import tempfile
from collections.abc import Sequence

import numpy as np

from official.alexnet import disk, paths, run_files
from official.alexnet.backend import keras
from official.alexnet.config import Config, DataConfig, ModelConfig
from official.alexnet.data import classes
from official.alexnet.data.statistics import IMAGE_SHAPE, STATISTICS_FILE, Statistics
from official.alexnet.errors import UserError
from official.alexnet.modeling import alexnet, structure
from official.alexnet.modeling.variants import Variant
from official.alexnet.modeling.weights import (
    set_weights,
    variables_by_name,
    whole_shapes,
)
from official.alexnet.training import building, checkpoints
from official.alexnet.training.checkpoints import Checkpoints, Progress
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.weights import (
    files,
    formats,
    inspection,
    layouts,
    slim_checkpoint,
)
from official.alexnet.weights.files import WeightFile
from official.alexnet.weights.preprocessing import Preprocessing

# Colour PCA of ILSVRC-2012's training images (input_meta of cuda-convnet2, 2014):
# standard deviations in grey levels, and the direction of each.
_COLOR_STD = np.array([121.7801, 37.0939, 19.7208])
_COLOR_DIRECTIONS = np.array(
    [[0.5635, 0.5762, 0.5920], [0.7126, 0.0235, -0.7012], [-0.4180, 0.8170, -0.3973]]
)


def read(
    path: str,
    net: Variant,
    *,
    sha256: str | None = None,
    channel_order: str | None = None,
    allow_nan: bool = False,
) -> WeightFile:
    """Reads weights of a run as well as those of a file, and what their input is.

    The path is the directory of a run, in which damaged checkpoints are passed over, a
    checkpoint such as `runs/paper/ckpt-300`, or what `weights.files.read` takes, as the
    rest. Beside an export's .keras file stand the settings and the mean image.

    Raises:
        UserError: there is no checkpoint, it is damaged, or the file cannot be read.
    """
    source = paths.local(path)
    is_folder, is_old = source.is_dir(), source.is_file() and source.suffix == ".ckpt"
    if is_folder or is_old or source.with_name(source.name + ".index").is_file():
        if sha256 or channel_order == "bgr":
            raise UserError(f"--sha256 and --channel_order=bgr are for files: {path}")
        if is_old or (not is_folder and slim_checkpoint.is_one(str(source))):
            found = files.read_slim(str(source), net)
        else:
            home = run_files.folder_of(source)
            place = (source, None) if is_folder else (home, str(source))
            _, contents = checkpoints.find(*place)
            lines = preprocessing = None
            if (home / run_files.PARAMS_FILE).is_file():
                lines = structure.lines(run_files.load_config(str(home)).model.net())
                preprocessing = run_files.preprocessing(home)
            weights = layouts.for_dropout_of(net, contents.weights, lines)
            found = WeightFile(str(source), weights, preprocessing, lines)
        return found if allow_nan else files.finite(found)
    options = {"sha256": sha256, "channel_order": channel_order}
    found = files.read(path, net, allow_nan=allow_nan, **options)
    if source.suffix == formats.KERAS:
        preprocessing = run_files.preprocessing(source.parent)
        found = dataclasses.replace(found, preprocessing=preprocessing)
    return found


def load_into(
    model: keras.Model, net: Variant, path: str, *, sha256: str | None = None
) -> None:
    """Gives a model of either form of `net` the weights that `read` reads.

    Raises UserError, and changes nothing, where they are not those of the net.
    """
    found = read(path, net, sha256=sha256)
    files.check(found, net, whole_shapes(variables_by_name(model)))
    inspection.warn(path, found.weights, net)
    set_weights(model, found.weights)


@functools.wraps(alexnet.AlexNet)
def AlexNet(*args, weights=None, **options) -> keras.Model:
    """`modeling.alexnet.AlexNet`, with weights by their path."""
    if weights is not None and not callable(weights):
        weights = functools.partial(load_into, path=os.fspath(weights))
    return alexnet.AlexNet(*args, weights=weights, **options)


def write(
    folder: pathlib.Path,
    weights: dict[str, np.ndarray],
    model: ModelConfig,
    preprocessing: Preprocessing,
    statistics: Statistics | None,
    labels: Sequence[str] | None,
) -> list[str]:
    """Writes what the binaries take for the directory of a run, at step 0.

    Args:
        folder: where; must not exist yet, or be empty.
        weights: float32 by name, in this package's layout; they fit the model.
        model: the net.
        preprocessing: of its images.
        statistics: to keep as they are; None to make them of the preprocessing, with
            the colour PCA of ILSVRC-2012.
        labels: names of the classes.

    Returns the files that were written; UserError: the folder is taken, or there is no
    setting for such an input.
    """
    paths.of_checkpoints(folder, "--output")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"--output={folder} exists: name a new directory")
    data = DataConfig(input_scale=_input_scale(preprocessing, statistics))
    config = Config(model=model, data=data)
    statistics = statistics or _statistics(preprocessing)
    folder.mkdir(parents=True, exist_ok=True)
    net = building.build_model(config.model, config.runtime)
    set_weights(net, weights)
    optimizer = PaperSGD()
    optimizer.build(net.trainable_variables)
    statistics.save(folder / STATISTICS_FILE)
    disk.write_text(folder / run_files.PARAMS_FILE, config.to_yaml())
    classes.write_labels(labels, folder / run_files.LABELS_FILE)
    # Last: what has a checkpoint is a run.
    Checkpoints(folder, net, optimizer, Progress(), max_to_keep=1).save()
    return sorted(str(path) for path in folder.iterdir())


def _input_scale(preprocessing: Preprocessing, statistics: Statistics | None) -> str:
    """The setting that divides as the preprocessing does."""
    scale, std = preprocessing.input_scale(), preprocessing.std[0]
    if scale == "unit_variance" and not (
        statistics and np.isclose(std, statistics.pixel_std, rtol=1e-6)
    ):
        scale = None
    if scale is None:
        raise UserError(
            "a run divides its pixels by nothing, as torchvision does, or by the "
            "standard deviation in its --statistics; these weights were trained on "
            + preprocessing.formula()
        )
    return scale


def _statistics(preprocessing: Preprocessing) -> Statistics:
    image = preprocessing.mean_image
    if image is None:
        image = np.broadcast_to(np.array(preprocessing.mean), IMAGE_SHAPE)
    return Statistics(
        np.asarray(image / preprocessing.scale, np.float32),
        _COLOR_STD**2,
        _COLOR_DIRECTIONS.T,
        # Not taken from images here.
        num_images=0,
    )


def save_keras(
    path: pathlib.Path, weights: dict[str, np.ndarray], model: ModelConfig
) -> None:
    """Writes the grouped form, with probabilities, as a .keras file."""
    net = alexnet.AlexNet(model.net(), model.num_classes)
    set_weights(net, weights)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        whole = pathlib.Path(folder) / path.name
        net.save(whole)
        disk.move_into_place(whole, path)
