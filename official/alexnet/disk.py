"""A file appears under its name only when it is whole and on the disk.

What a full or read-only disk raises becomes one line that names the place. A folder's
lock keeps other processes out.
"""

import contextlib
import errno
import fcntl
import os
import pathlib
import secrets
import shutil
from collections.abc import Iterator

from official.alexnet.errors import NoRoom, UserError

LOCK_FILE = ".lock"
_AGAIN = "and run the same command again"
_NO_ROOM = {
    errno.ENOSPC: f"free some {_AGAIN}",
    errno.EDQUOT: f"free some {_AGAIN}",
    errno.EFBIG: f"raise the limit on the size of files (ulimit -f) {_AGAIN}",
}
_REMEDIES = {
    **_NO_ROOM,
    errno.EROFS: "make it writable, or name another place",
    errno.EACCES: "allow it, or name another place",
    errno.ENAMETOOLONG: "name a shorter one",
}


@contextlib.contextmanager
def saying_where(path: str | pathlib.Path | None) -> Iterator[None]:
    """Turns what a full or read-only disk raises in the body into a UserError.

    `path` is what the body writes; None stands for what the error names.

    Raises:
        NoRoom: the disk is full, or a file over its limit.
        UserError: it cannot be written; other exceptions pass as they are.
    """
    try:
        yield
    except Exception as error:
        if clear := explained(error, path):
            raise clear from error
        raise


def explained(
    error: Exception, path: str | pathlib.Path | None = None
) -> UserError | None:
    """The line for an error of a full or read-only disk; None for any other error.

    The error is an OSError, or what TensorFlow or HDF5 made of one; `path` is what was
    being written, if that is known. Another place is named where the error does: a
    full folder for temporary files, say.
    """
    code, failed = _reason(error)
    if code is None:
        return None
    beside = pathlib.Path(path or "").absolute().parent
    is_elsewhere = not pathlib.Path(failed).absolute().is_relative_to(beside)
    if path is None or (failed and is_elsewhere):
        path = failed or "a file"
    kind = NoRoom if code in _NO_ROOM else UserError
    return kind(f"{path}: {os.strerror(code)}; {_REMEDIES[code]}")


def _reason(error: Exception) -> tuple[int | None, str]:
    """The error's number, if it is one of ours, and the path that it names."""
    if isinstance(error, OSError) and error.errno in _REMEDIES:
        return error.errno, str(error.filename or "")
    if not isinstance(error, UserError):
        # TensorFlow: `{{node ...}} path; No space left on device [Op:SaveV2]`.
        text = str(error).rpartition("}} ")[2]
        for code in _REMEDIES:
            before, found, _ = text.partition(os.strerror(code))
            if found:
                return code, before[:-2] if before.endswith("; ") else ""
    return None, ""


@contextlib.contextmanager
def atomic_write(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """Gives a temporary path beside `path` and moves it into place at the end.

    If the body fails, the temporary file is removed and `path` is left as it was. A
    process that is killed leaves it behind, see `remove_unfinished`. Raises UserError
    where the disk is full or read-only.
    """
    # TensorBoard reads whatever has "tfevents" in its name.
    name = path.name.replace("tfevents", "events")
    # Containers on one shared folder may all be process 1.
    temporary = path.with_name(f".{name}.{secrets.token_hex(4)}.tmp")
    with saying_where(path):
        try:
            yield temporary
            move_into_place(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def remove_unfinished(folder: pathlib.Path) -> None:
    """Removes what processes killed in `atomic_write` left; nobody else may write."""
    for leftover in folder.glob(".*.tmp"):
        leftover.unlink()


def make_folder(folder: pathlib.Path, name: str) -> None:
    """Makes a folder and its parents, or a UserError of `name`, as `--model_dir=x`."""
    try:
        with saying_where(folder):
            folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{name}: {error.strerror}; name another directory") from error


@contextlib.contextmanager
def locked(
    folder: pathlib.Path, name: str, *, is_shared: bool = False
) -> Iterator[None]:
    """Keeps other processes out of a folder, where its file system has locks.

    It is made if it is not there, and removed if nothing was written there. Messages
    call it `name`; `is_shared` lets those in that say so too. Raises UserError where
    another process is at work there, or it cannot be written.
    """
    is_new = not folder.exists()
    make_folder(folder, name)
    taken = UserError(
        f"{name}: another process is at work there; end it, or name another directory"
    )
    with saying_where(folder):
        # Open for writing: NFS has no other exclusive locks.
        lock = (folder / LOCK_FILE).open("a")
    with lock:
        try:
            kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
            fcntl.flock(lock, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            raise taken from None
        except OSError:
            pass  # Not every file system has locks.
        # A process that made the folder and failed removes it: this lock would be none.
        if os.fstat(lock.fileno()).st_nlink == 0:
            raise taken
        try:
            yield
        finally:
            is_alone = is_new and not is_shared
            if is_alone and [path.name for path in folder.iterdir()] == [LOCK_FILE]:
                shutil.rmtree(folder)


def write_text(path: pathlib.Path, text: str) -> None:
    """As `atomic_write`, of a text; a file that says the same is left alone."""
    if path.is_file() and path.read_bytes() == text.encode():
        return
    with atomic_write(path) as temporary:
        temporary.write_text(text, "utf-8")


def append(path: pathlib.Path, data: bytes) -> None:
    """Adds to a file, on the disk; what does not fit leaves it as it was: UserError."""
    # Without a buffer, which would try once more when the file is closed.
    with saying_where(path), path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            while data:
                data = data[file.write(data) :]
            os.fsync(file.fileno())
        except OSError:
            file.truncate(size)
            raise


def move_into_place(temporary: pathlib.Path, path: pathlib.Path) -> None:
    """Flushes a finished file to the disk and renames it, replacing what is there."""
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
