"""The files of a run's directory, and the settings it was started with."""

import contextlib
import dataclasses
import fcntl
import os
import pathlib
import shutil
from collections.abc import Iterator, Sequence

from official.alexnet import config_files
from official.alexnet.config import Config
from official.alexnet.data import atomic, classes
from official.alexnet.data.statistics import STATISTICS_FILE
from official.alexnet.errors import UserError

PARAMS_FILE = "params.yaml"
LABELS_FILE = "labels.txt"
METRICS_FILE = "metrics.jsonl"
_LOCK_FILE = ".lock"

_WRITTEN = (
    "checkpoint",
    "ckpt-*",
    ".ckpt-*",
    "best",
    "train",
    "validation",
    PARAMS_FILE,
    LABELS_FILE,
    METRICS_FILE,
    STATISTICS_FILE,
)


def load_config(model_dir: str, flag: str = "model_dir") -> Config:
    """Settings of an earlier run, for the grouped form on any machine.

    Args:
        model_dir: directory of the run, with its params.yaml, or of an export of it.
        flag: that it was given with, for messages.

    Raises:
        UserError: `model_dir` is not the directory of a run.
    """
    file = pathlib.Path(model_dir) / PARAMS_FILE
    if not file.is_file():
        raise UserError(
            f"--{flag}={model_dir} has no {PARAMS_FILE}: name the directory of a run"
        )
    settings = config_files.load(str(file))
    run = config_files.override(Config(), settings, str(file))
    model = dataclasses.replace(run.model, num_columns=1)
    # Its own statistics are in its directory.
    data = dataclasses.replace(run.data, statistics=None)
    return dataclasses.replace(run, model=model, data=data, runtime=Config().runtime)


def folder_of(path: str | pathlib.Path) -> pathlib.Path:
    """The folder of the run or export that a path is of: itself, or a file in it."""
    path = pathlib.Path(path)
    folder = path if path.is_dir() else path.parent
    return folder.parent if folder.name == "best" else folder


def class_names(path: str | pathlib.Path) -> tuple[str, ...] | None:
    """The classes of the run or export that a path is of; None: not known.

    Raises:
        UserError: its labels.txt is not a text file.
    """
    folder = folder_of(path)
    is_known = (folder / PARAMS_FILE).is_file()
    return classes.read_names(folder / LABELS_FILE) if is_known else None


def check_classes(model_dir: pathlib.Path, names: Sequence[str] | None) -> None:
    """Checks that a run that is resumed has the classes of its data, in their order.

    Raises:
        UserError: both are known, and differ.
    """
    classes.check_same(
        class_names(model_dir),
        names,
        f"--model_dir={model_dir}",
        "give its own data, or another --model_dir, with --init_from for its weights",
    )


def check_checkpoint(model_dir: str | pathlib.Path, checkpoint_path: str) -> None:
    """Checks that a checkpoint is not another run's: its settings would be others.

    Raises:
        UserError: it is.
    """
    folder = folder_of(checkpoint_path)
    if (folder / PARAMS_FILE).is_file() and not folder.samefile(model_dir):
        raise UserError(
            f"--checkpoint_path={checkpoint_path} is a checkpoint of {folder}, not of "
            f"--model_dir={model_dir}: give --model_dir={folder}"
        )


@contextlib.contextmanager
def locked(model_dir: pathlib.Path, is_chief: bool) -> Iterator[None]:
    """Keeps a second process out of a run's directory: each would delete what it finds.

    Args:
        model_dir: made if it is not there, and removed if nothing was written there.
        is_chief: whether this process writes at all.

    Raises:
        UserError: another process trains there, or it cannot be written.
    """
    if not is_chief:
        yield
        return
    is_new = not model_dir.exists()
    taken = UserError(
        f"--model_dir={model_dir}: another process trains there; end it, or name "
        "another directory"
    )
    try:
        with atomic.saying_where(model_dir):
            model_dir.mkdir(parents=True, exist_ok=True)
            # Open for writing: NFS has no other exclusive locks.
            lock = (model_dir / _LOCK_FILE).open("a")
    except OSError as error:
        raise UserError(
            f"--model_dir={model_dir}: {error.strerror}; name another directory"
        ) from error
    with lock:
        with contextlib.suppress(OSError):  # Not every file system has locks.
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise taken from None
        # A process that made the folder and failed removes it: this lock would be none.
        if os.fstat(lock.fileno()).st_nlink == 0:
            raise taken
        try:
            yield
        finally:
            if is_new and [p.name for p in model_dir.iterdir()] == [_LOCK_FILE]:
                shutil.rmtree(model_dir)


def delete(model_dir: pathlib.Path) -> None:
    """Deletes what a run wrote in `model_dir`, and nothing else."""
    for pattern in _WRITTEN:
        for path in model_dir.glob(pattern):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
