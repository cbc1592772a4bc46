"""Paths as people write them, checked before anything is done with them."""

import pathlib
import re

from official.alexnet.errors import UserError

# gs://bucket, name=s3://bucket in a list, and gs:/bucket, which pathlib makes of it.
_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]+:/|.*://", re.IGNORECASE | re.DOTALL)


def local(path: str | pathlib.Path, flag: str = "") -> pathlib.Path:
    """A path of this machine; the shell leaves the ~ of --flag=~/x to us.

    Raises:
        UserError: it is an address such as gs://bucket/run, or in the home of nobody;
            it names the `flag` that the path was given with, such as `--model_dir`.
    """
    what = f"{flag}={path}" if flag else str(path)
    if _ADDRESS.match(str(path)):
        raise UserError(
            f"{what} is an address, and files are read and written by paths alone: "
            "mount what it names, and give the path, such as /mnt/bucket/run"
        )
    try:
        return pathlib.Path(path).expanduser()
    except RuntimeError:
        raise UserError(
            f"{what}: there is no such user; a name that begins with ~ is written ./~"
        ) from None


def of_checkpoints(path: str | pathlib.Path, flag: str = "") -> pathlib.Path:
    r"""A path where TensorFlow finds a checkpoint or SavedModel again.

    It writes them anywhere, but looks for them with a pattern.

    Raises:
        UserError: as in `local`, or [ or \ is in it, which mean more in a pattern.
    """
    found = local(path, flag)
    if {"[", "\\"} & set(str(found)):
        raise UserError(
            f"{flag}{'=' if flag else ''}{found}: TensorFlow finds no checkpoint and "
            "no SavedModel in a path with [ or \\ in it: take another name, or rename "
            "the folder"
        )
    return found
