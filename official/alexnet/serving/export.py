"""Writes a trained net for others: in the formats asked for, labels and settings."""

import contextlib
import dataclasses
import pathlib
import secrets
import shutil
from collections.abc import Iterator, Sequence

import tensorflow as tf

from official.alexnet import disk, paths
from official.alexnet.backend import keras
from official.alexnet.config import Config, ModelConfig, RuntimeConfig
from official.alexnet.data import preprocessing
from official.alexnet.data.classes import read_labels, write_labels
from official.alexnet.data.statistics import STATISTICS_FILE, Statistics
from official.alexnet.errors import UserError
from official.alexnet.modeling.columns import portable as portable_ops
from official.alexnet.modeling.weights import copy_weights
from official.alexnet.run_files import LABELS_FILE, PARAMS_FILE
from official.alexnet.serving import formats as formats_lib
from official.alexnet.serving.litert import Quantization, write_litert
from official.alexnet.serving.onnx import write_onnx
from official.alexnet.serving.signatures import ServedAlexNet
from official.alexnet.training import checkpoints
from official.alexnet.training.building import build_model


def export(
    config: Config,
    model_dir: str,
    export_dir: str,
    checkpoint_path: str | None = None,
    *,
    formats: Sequence[str] = formats_lib.DEFAULT,
    litert_quantization: Quantization = "none",
    portable: bool = True,
    features: Sequence[str] = (),
) -> dict:
    """Exports a run's net, free of device names.

    Writes the files of the formats, `labels.txt`, `statistics.npz` and `params.yaml`;
    the directory appears only when it is whole.

    No format reads EXIF's orientation: turn a phone's photograph upright first, with
    `PIL.ImageOps.exif_transpose`.

    Args:
        config: settings of the run, with `num_columns` 1.
        model_dir: directory of the run.
        export_dir: where to write; must not exist yet, or be empty.
        checkpoint_path: such as `model_dir/ckpt-300`; the latest by default.
        formats: what to write, out of `formats.FILES`: `saved_model`, from bytes or
            images of any size; `keras`, the bare net; `onnx` and `litert`, from
            pixels of the net's input size.
        litert_quantization: see `litert.write_litert`.
        portable: the SavedModel uses ops that any TensorFlow runs on any device;
            otherwise those that are fastest here.
        features: layers whose outputs the SavedModel gives; see `ServedAlexNet`.

    Returns:
        What was written, from which step.

    Raises:
        UserError: no checkpoint, one of another net, export_dir is taken, a format
            that cannot be written, or a disk that is full or read-only.
    """
    formats_lib.check_formats(formats, litert_quantization, features)
    source = paths.of_checkpoints(model_dir, "--model_dir")
    check = paths.of_checkpoints if "saved_model" in formats else paths.local
    target = check(export_dir, "--export_dir")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UserError(f"--export_dir={target} exists: name a new directory")
    if target.exists():  # The new one is put in its place.
        is_mount = target.resolve().is_mount()
        if is_mount or target.samefile("."):
            what = "a mounted volume" if is_mount else "the current folder"
            raise UserError(f"--export_dir={target} is {what}: name a new one in it")
    path, contents = checkpoints.find(source, checkpoint_path)
    model = build_model(config.model, config.runtime)
    step = checkpoints.set_weights(model, path, contents)
    statistics = Statistics.load(source / STATISTICS_FILE)
    labels = read_labels(source / LABELS_FILE, config.model.num_classes)
    mean = preprocessing.central_mean(statistics, config.model.image_size)
    scale = preprocessing.input_scale(statistics, config.data.input_scale)
    inputs = {"mean": mean, "input_scale": scale}
    files = {name: formats_lib.FILES[name] for name in formats}
    with _appearing_whole(target) as folder:
        for name, file in files.items():
            if name == "saved_model":
                net = model
                if portable:
                    net = _in_columns(model, config.model, config.runtime)
                served = ServedAlexNet(net, mean, scale, features)
                with portable_ops() if portable else contextlib.nullcontext():
                    tf.saved_model.save(served, str(folder / file), served.signatures())
            elif name == "keras":
                _with_softmax(model).save(folder / file)
            elif name == "onnx":
                write_onnx(model, folder / file, **inputs)
            elif name == "litert":
                quantization = litert_quantization
                write_litert(model, folder / file, **inputs, quantization=quantization)
        statistics.save(folder / STATISTICS_FILE)
        write_labels(labels, folder / LABELS_FILE)
        (folder / PARAMS_FILE).write_text(config.to_yaml(), "utf-8")
    return {
        "export_dir": str(target),
        "checkpoint": path,
        "step": step,
        "files": {name: str(target / file) for name, file in files.items()},
    }


def _in_columns(
    model: keras.Model, settings: ModelConfig, runtime: RuntimeConfig
) -> keras.Model:
    """The columns form: without grouped ops, groups need not be split and joined."""
    num_columns = settings.net().num_columns
    settings = dataclasses.replace(settings, num_columns=num_columns)
    columns = build_model(settings, runtime)
    copy_weights(model, columns)
    return columns


def _with_softmax(model: keras.Model) -> keras.Model:
    softmax = keras.layers.Activation("softmax", dtype="float32", name="probabilities")
    return keras.Model(model.input, softmax(model.output), name="alexnet")


@contextlib.contextmanager
def _appearing_whole(target: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that takes the target's name when everything in it is written.

    A process that is killed leaves it behind, as `.NAME.*.partial`.
    """
    target = target.resolve()  # What is behind a link.
    # Of this call alone: another may be at work.
    folder = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    with disk.saying_where(target):
        folder.mkdir(parents=True)
        try:
            yield folder
            if target.exists():
                target.rmdir()
            folder.rename(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
