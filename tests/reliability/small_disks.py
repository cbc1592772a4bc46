"""Binaries as processes, on disks that are full or read-only, and what they leave."""

import contextlib
import os
import pathlib
import resource
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = ROOT / "tools"
NO_SPACE = "No space left on device; free some and run the same command again"
TOO_LARGE = "raise the limit on the size of files (ulimit -f)"
READ_ONLY = "Read-only file system; make it writable, or name another place"


@contextlib.contextmanager
def disk(folder: pathlib.Path, size: int | None = None):
    """A file system of its own in a folder; skips where mounting is not allowed."""
    folder.mkdir(exist_ok=True)
    options = "size=1g" if size is None else f"size={size}"
    mount(folder, "-t", "tmpfs", "-o", options, "none")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def mount(folder: pathlib.Path, *arguments: str) -> None:
    try:
        done = subprocess.run(
            ["mount", *arguments, str(folder)],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if done.returncode:
        pytest.skip(f"mounting is not allowed here: {done.stderr.strip()}")


def resize(folder: pathlib.Path, size: int) -> None:
    mount(folder, "-o", f"remount,size={size}")


def make_read_only(folder: pathlib.Path) -> None:
    mount(folder, "-o", "remount,ro")


def fill(folder: pathlib.Path, leaving: int = 0) -> pathlib.Path:
    """Fills a file system; the file it returns can be deleted to free it."""
    ballast = folder / "ballast"
    free = os.statvfs(folder)
    ballast.write_bytes(bytes(free.f_bavail * free.f_frsize - leaving))
    return ballast


def run(*command, limit: int | None = None, stdout=subprocess.PIPE, cwd=None):
    """Runs a binary; `limit` is the most bytes that a file of its may have."""

    def set_limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    return subprocess.run(
        [sys.executable, *map(str, command)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        timeout=600,
        check=False,
        cwd=cwd,
        preexec_fn=None if limit is None else set_limit,
    )


def check_refused(done, name: str, *words) -> None:
    """Status 2, and one line that holds the words."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    assert "Exception ignored" not in done.stderr, done.stderr
    line = done.stderr.splitlines()[-1]
    assert line.startswith(f"{name}: "), done.stderr
    assert done.stderr.count(f"{name}: ") == 1, done.stderr
    for word in words:
        assert str(word) in line


def contents(folder: pathlib.Path, *without: str) -> dict[str, bytes]:
    """The bytes of all files, but those of names that match the patterns."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not any(path.match(pattern) for pattern in without)
    }


def size_of(folder: pathlib.Path, *without: str) -> int:
    """What the files take on a disk, in pages of 4 KiB."""
    files = contents(folder, *without).values()
    return sum(-(-len(data) // 4096) * 4096 for data in files)
