"""The files of a run's directory, and the settings it was started with."""

import contextlib
import dataclasses
import pathlib
import shutil
import time
from collections.abc import Sequence

import numpy as np
from absl import logging

from official.alexnet import config_files
from official.alexnet.config import Config, ModelConfig
from official.alexnet.data import classes
from official.alexnet.data.statistics import (
    STATISTICS_FILE,
    TORCHVISION_STD,
    Statistics,
)
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.weights.preprocessing import Preprocessing

PARAMS_FILE = "params.yaml"
LABELS_FILE = "labels.txt"
METRICS_FILE = "metrics.jsonl"
BEST_DIR = "best"
EVALUATION_DIR = "evaluation"

# What a run writes. `best/` first: without it, what is left can be resumed.
_FOLDERS = (BEST_DIR, EVALUATION_DIR, "validation", "train/plugins", "train")
_WRITTEN = [f"{BEST_DIR}/ckpt-*", f"{BEST_DIR}/info.json", "train/plugins/profile"]
_WRITTEN += [f"{x}/{name}" for x in _FOLDERS for name in ("*tfevents*", ".*.tmp")]
_WRITTEN += [f"{EVALUATION_DIR}/{METRICS_FILE}", "checkpoint", "ckpt-*", ".ckpt-*"]
_WRITTEN += [PARAMS_FILE, LABELS_FILE, METRICS_FILE, STATISTICS_FILE]


def read_config(model_dir: str) -> Config:
    """Settings of an earlier run, as it wrote them.

    Raises UserError where `model_dir` is not the directory of a run or of an export of
    it, or its params.yaml is malformed or of a version with other settings.
    """
    file = pathlib.Path(model_dir) / PARAMS_FILE
    if not file.is_file():
        raise UserError(
            f"--model_dir={model_dir} has no {PARAMS_FILE}: name the directory of a run"
        )
    return config_files.override(Config(), config_files.load(str(file)), str(file))


def load_config(model_dir: str) -> Config:
    """As `read_config`, for the grouped form on any machine, with its own mean."""
    run = read_config(model_dir).replace(num_columns=1)
    if (pathlib.Path(model_dir) / STATISTICS_FILE).is_file():
        run = run.replace(statistics=None)
    return dataclasses.replace(run, runtime=Config().runtime)


def wait_for(model_dir: str, seconds: float) -> None:
    """Waits until a run has written its settings; UserError if it takes longer."""
    deadline = time.monotonic() + seconds
    while not (pathlib.Path(model_dir) / PARAMS_FILE).is_file():
        if time.monotonic() > deadline:
            raise UserError(
                f"--model_dir={model_dir}: no run started there within {seconds:g} s"
            )
        time.sleep(min(1, seconds))


def folder_of(path: str | pathlib.Path) -> pathlib.Path:
    """The folder of the run or export that a path is of: itself, or a file in it."""
    path = pathlib.Path(path)
    folder = path if path.is_dir() else path.parent
    is_best = folder.name == BEST_DIR and not (folder / PARAMS_FILE).is_file()
    return folder.parent if is_best else folder


def class_names(path: str | pathlib.Path) -> tuple[str, ...] | None:
    """The classes of the run or export that a path is of; None: not known."""
    folder = folder_of(path)
    is_known = (folder / PARAMS_FILE).is_file()
    names = classes.read_names(folder / LABELS_FILE) if is_known else None
    # An export of a net whose classes have no names numbers them.
    return None if names == tuple(map(str, range(len(names or ())))) else names


def check_classes(model_dir: pathlib.Path, names: Sequence[str] | None) -> None:
    """Checks that a run that is resumed has the classes of its data, in their order."""
    classes.check_same(
        class_names(model_dir),
        names,
        f"--model_dir={model_dir}",
        "give its own data, or another --model_dir, with --init_from for its weights",
    )


def check_checkpoint(model_dir: str | pathlib.Path, checkpoint_path: str) -> None:
    """Refuses a checkpoint of another run: its settings would be others."""
    folder = folder_of(checkpoint_path)
    is_other = folder.resolve() != pathlib.Path(model_dir).resolve()
    if is_other and (folder / PARAMS_FILE).is_file():
        raise UserError(
            f"--checkpoint_path={checkpoint_path} is a checkpoint of {folder}, not of "
            f"--model_dir={model_dir}: give --model_dir={folder}"
        )


def preprocessing(model_dir: pathlib.Path) -> Preprocessing | None:
    """How images become the input of a run's or export's net; None: not known."""
    if not all((model_dir / name).is_file() for name in (PARAMS_FILE, STATISTICS_FILE)):
        return None
    config = load_config(str(model_dir))
    statistics = Statistics.load(model_dir / STATISTICS_FILE)
    mean = statistics.mean_image.mean(axis=(0, 1), dtype=np.float64)
    scale, std = 1.0, np.ones(3)
    if config.data.input_scale == "torchvision":
        scale, std = 1 / 255, np.array(TORCHVISION_STD)
    elif config.data.input_scale == "unit_variance":
        std = np.full(3, statistics.pixel_std)
    same = np.ptp(statistics.mean_image, axis=(0, 1)).max() < 1e-3
    return Preprocessing(
        config.model.image_size,
        scale=scale,
        mean=tuple((mean * scale).tolist()),
        std=tuple(std.tolist()),
        mean_image=None if same else statistics.mean_image * np.float32(scale),
    )


def other_net(run: Config, now: Config, *kinds: str) -> list[str]:
    """Settings of `now`, and of `kinds`, that give weights of `run` another meaning."""

    def meaning(model: ModelConfig) -> tuple:
        shapes = structure.weight_shapes(model.net(), model.num_classes)
        return structure.lines(model.net()), shapes, model.image_size

    # The net has --dropout=0.5 in any case, and that of inverted dropout is training's.
    if meaning(run.model) == meaning(now.model):
        run = dataclasses.replace(run, model=now.model)
    return config_files.differences(run, now, "net", *kinds)


def resume(config: Config, model_dir: pathlib.Path) -> tuple[Config, Config]:
    """The earlier settings of a run with a checkpoint, and those to resume it with.

    `config` is given now; the log says what is changed. Raises UserError where what the
    checkpoint's weights mean is not known, or would change.
    """
    advice = "or name another --model_dir (--init_from takes weights over)"
    try:
        before = read_config(str(model_dir))
        others = other_net(before, config, "run")
    except UserError as error:
        raise UserError(
            f"{model_dir} holds checkpoints, but not the settings that they were made "
            f"with ({error}): put its {PARAMS_FILE} right, {advice}"
        ) from error
    if others:
        raise UserError(
            f"{model_dir} was trained with other settings ({', '.join(others)}): give "
            f"its own, {advice}"
        )
    if taken := config_files.differences(before, config, "net", "free"):
        logging.info("Settings that are changed: %s", ", ".join(taken))
    if stay := config_files.differences(before, config, "start"):
        logging.info("Not changed, as only step 0 reads them: %s", ", ".join(stay))
        config = config_files.with_start_of(config, before)
    return before, config


def check_new(model_dir: pathlib.Path, data_dir: str | None, clean: bool) -> None:
    """Refuses to start anew where that would take what is somebody else's, or best.

    Raises UserError where the records are in `model_dir`, which `clean` would empty, or
    a run there has lost its checkpoints, but not its best one.
    """
    if clean and data_dir and pathlib.Path(data_dir).resolve() == model_dir.resolve():
        raise UserError(f"--clean: --model_dir={model_dir} is --data_dir: name another")
    if not clean and any((model_dir / BEST_DIR).glob("ckpt-*.index")):
        raise UserError(
            f"{model_dir} has no checkpoint but in {BEST_DIR}/, which a new run would "
            f"replace: copy those files into {model_dir} to resume there, give "
            "another --model_dir, or --clean to delete them"
        )


def delete(model_dir: pathlib.Path) -> None:
    """Deletes what a run wrote in `model_dir`, and nothing else."""
    for pattern in _WRITTEN:
        for path in model_dir.glob(pattern):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()
    for name in _FOLDERS:
        with contextlib.suppress(OSError):  # Not there, or others' files are in it.
            (model_dir / name).rmdir()
