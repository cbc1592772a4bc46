"""The files `ckpt-N` of a run: which there are, how one appears, and which go.

A checkpoint is `ckpt-N.index` and `ckpt-N.data-?????-of-?????`. The index comes last
and goes first, so a checkpoint that is seen is complete, wherever the process was
killed. None but a damaged one is replaced: what an evaluation changes after step N was
saved is in `ckpt-N.progress` beside it.
"""

import contextlib
import json
import os
import pathlib
import re
import shutil
import tempfile
from collections.abc import Iterator

import tensorflow as tf
from absl import logging

from official.alexnet import disk
from official.alexnet.errors import UserError
from official.alexnet.run_files import BEST_DIR

BEST_FILE = "info.json"

_INDEX = re.compile(r"ckpt-(\d+)\.index")
_UNFINISHED = ".ckpt-unfinished-"


def steps(model_dir: pathlib.Path) -> list[int]:
    """Steps of the checkpoints in a folder, rising."""
    matches = [_INDEX.fullmatch(path.name) for path in model_dir.glob("ckpt-*.index")]
    return sorted(int(match[1]) for match in matches if match)


def prefix(model_dir: pathlib.Path, step: int) -> str:
    """What TensorFlow calls the path of a checkpoint."""
    return str(model_dir / f"ckpt-{step}")


def exists(model_dir: pathlib.Path) -> bool:
    """Whether there is a checkpoint in a folder."""
    return bool(steps(model_dir))


def latest(model_dir: pathlib.Path) -> str:
    """Path of the latest checkpoint; UserError where there is none."""
    if found := steps(model_dir):
        return prefix(model_dir, found[-1])
    raise UserError(
        f"--model_dir={model_dir} holds no checkpoint: train there first, or name the "
        "directory of a run"
    )


def write(checkpoint: tf.train.Checkpoint, model_dir: pathlib.Path, step: int) -> None:
    """Writes a checkpoint that appears when it is whole and on the disk.

    The folder is made if it is not there; only a damaged one of this step is replaced.
    UserError: the disk is full or read-only, and the earlier ones are intact.
    """
    with disk.saying_where(prefix(model_dir, step)):
        model_dir.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=model_dir) as aside:
            checkpoint.write(f"{aside}/ckpt-{step}")
            written = [*_index_last(pathlib.Path(aside), step)]
            # A disk that is full after all says so here, before anything has its name.
            for path in written:
                disk.sync(path)
            # Of the damaged one: what changed after that was saved.
            _progress_file(prefix(model_dir, step)).unlink(missing_ok=True)
            for path in written:
                disk.move_into_place(path, model_dir / path.name)


def write_progress(model_dir: pathlib.Path, step: int, progress: bytes) -> None:
    """Keeps beside a checkpoint what has changed since, other than its tensors."""
    disk.write_text(_progress_file(prefix(model_dir, step)), progress.decode())


def read_progress(path: str) -> bytes | None:
    """What has changed since a checkpoint was written; None where nothing has."""
    with contextlib.suppress(FileNotFoundError):
        return _progress_file(path).read_bytes()
    return None


def _progress_file(path: str) -> pathlib.Path:
    return pathlib.Path(f"{path}.progress")


def check_readable(model_dir: pathlib.Path, step: int) -> None:
    """Raises UserError where a checkpoint's bytes are there, but the disk fails."""
    for path in _index_last(model_dir, step):
        try:
            with path.open("rb") as file:
                while file.read(1 << 24):
                    pass
        except FileNotFoundError:
            continue
        except OSError as error:
            raise UserError(
                f"{path}: {error.strerror}; the checkpoint may be whole: see to the "
                "disk and run the same command again"
            ) from error


def remove_unfinished(model_dir: pathlib.Path) -> None:
    """Clears up after a process that was killed while writing or deleting."""
    for unfinished in model_dir.glob(f"{_UNFINISHED}*"):
        shutil.rmtree(unfinished, ignore_errors=True)
    for folder in (model_dir, model_dir / BEST_DIR):
        disk.remove_unfinished(folder)
        for path in (*folder.glob("ckpt-*.data-*"), *folder.glob("ckpt-*.progress")):
            if not path.with_suffix(".index").exists():
                path.unlink(missing_ok=True)


def keep(model_dir: pathlib.Path, step: int, max_to_keep: int) -> None:
    """Deletes what is not among the last checkpoints up to `step`.

    Later ones are of a run that could not be resumed from: they are damaged.
    """
    earlier = [other for other in steps(model_dir) if other <= step]
    kept = earlier[-max_to_keep:]
    # What `tf.train.latest_checkpoint` and other tools of TensorFlow's look into.
    state = f'model_checkpoint_path: "ckpt-{step}"\n'
    state += "".join(f'all_model_checkpoint_paths: "ckpt-{n}"\n' for n in kept)
    disk.write_text(model_dir / "checkpoint", state)
    for other in steps(model_dir):
        if other > step:
            logging.warning("Deleting %s: damaged.", prefix(model_dir, other))
        if other not in kept:
            _remove(model_dir, other)


def keep_best(model_dir: pathlib.Path, values: dict) -> None:
    """Keeps a checkpoint apart, in `best/`, where no later one takes its place.

    `values` are its step and the results there, for `best/info.json`.
    """
    best, step = model_dir / BEST_DIR, values["step"]
    with disk.saying_where(best):
        best.mkdir(exist_ok=True)
        for path in _index_last(model_dir, step):
            if not _is_kept(path, best / path.name):
                _link(path, best / path.name)
    disk.write_text(best / BEST_FILE, json.dumps(values) + "\n")
    for other in steps(best):
        if other != step:
            _remove(best, other)


def _is_kept(path: pathlib.Path, kept: pathlib.Path) -> bool:
    """Whether `kept` is the same file, or a copy made of it as it is now."""
    if not kept.exists():
        return False
    here, there = path.stat(), kept.stat()
    is_copy = here.st_size == there.st_size and here.st_mtime_ns <= there.st_mtime_ns
    return here.st_ino == there.st_ino or is_copy


def _link(source: pathlib.Path, target: pathlib.Path) -> None:
    """A second name for a file, or a copy where the file system has none."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        with disk.atomic_write(target) as temporary:
            shutil.copyfile(source, temporary)


def _index_last(folder: pathlib.Path, step: int) -> Iterator[pathlib.Path]:
    yield from sorted(folder.glob(f"ckpt-{step}.data-*"))
    yield from folder.glob(f"ckpt-{step}.progress")
    yield folder / f"ckpt-{step}.index"


def _remove(folder: pathlib.Path, step: int) -> None:
    for path in reversed([*_index_last(folder, step)]):
        path.unlink(missing_ok=True)
