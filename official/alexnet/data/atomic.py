"""A file appears under its name only when it is whole and on the disk."""

import contextlib
import os
import pathlib
from collections.abc import Iterator


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path beside `path` and moves it into place at the end.

    If the body fails, the temporary file is removed and `path` is left as it was.

    Args:
        path: the final name; its folder must exist.

    Yields:
        The temporary path to write to.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        move_into_place(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def move_into_place(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Flushes a finished file to the disk and gives it its final name.

    Args:
        temporary: a finished file on the same file system as `path`.
        path: the final name; a file already there is replaced.
    """
    sync(temporary)
    temporary.replace(path)
    # A rename is safe from a power cut only once its folder is on the disk too.
    sync(path.parent)


def sync(path: pathlib.Path) -> None:
    """Waits until a file or folder is on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
