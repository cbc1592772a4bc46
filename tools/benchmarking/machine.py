"""What a benchmark ran on: processor, versions, and the commit."""

import datetime
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys

_PACKAGES = (
    "tensorflow",
    "keras",
    "numpy",
    "Pillow",
    "torch",
    "onnx",
    "onnxruntime",
    "openvino",
    "simplejpeg",
)
_ISA_PROBE = (
    "import tensorflow as tf; tf.config.set_visible_devices([], 'GPU'); "
    "tf.nn.conv2d(tf.ones((1, 8, 8, 8)), tf.ones((3, 3, 8, 8)), 1, 'SAME')"
)


def bind_to_cores(threads: int) -> None:
    """Binds this process, and those it starts, to its first so many cores.

    Where the system has no such call every library still gets its number of threads.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def cores() -> int:
    """Cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def describe() -> dict:
    """Date, commit, machine and versions; None for what is not known."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(
            timespec="seconds"
        ),
        "git_commit": _git_commit(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "onednn_isa": _onednn_isa(),
        "system": platform.platform(),
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in _PACKAGES},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu() -> str:
    path = pathlib.Path("/proc/cpuinfo")
    text = path.read_text() if path.exists() else ""
    model = re.search(r"model name\s*: (.*)", text)
    return model[1] if model else platform.processor()


def _onednn_isa() -> str | None:
    """What oneDNN says of itself when TensorFlow first calls it."""
    probe = subprocess.run(
        [sys.executable, "-c", _ISA_PROBE],
        capture_output=True,
        text=True,
        env=os.environ | {"ONEDNN_VERBOSE": "1"},
        check=False,
    )
    found = re.search(r"onednn_verbose.*info,cpu,isa:(.*)", probe.stdout)
    return found[1].strip() if found else None


def _git_commit() -> str | None:
    """The commit of the checkout this file is in, with `+` if files differ from it."""
    folder = pathlib.Path(__file__).parent

    def git(*arguments: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "--short=12", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
