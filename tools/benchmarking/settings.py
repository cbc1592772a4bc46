"""The settings of a benchmark, and the machine it ran on."""

import dataclasses
import importlib.metadata
import os
import pathlib
import platform
import re
import subprocess
import sys
import time

DTYPES = ("fp32", "bf16")
POLICIES = {"fp32": "float32", "bf16": "mixed_bfloat16"}
NUM_CLASSES = 1000
# Name of a peer: how tables call it, and the packages it needs.
PEERS = {
    "keras": ("plain Keras", ()),
    "torch": ("PyTorch", ("torch",)),
    "onnxruntime": ("ONNX Runtime", ("onnx", "onnxruntime")),
    "openvino": ("OpenVINO", ("onnx", "openvino")),
    "simplejpeg": ("libjpeg-turbo", ("simplejpeg",)),
}
_PACKAGES = ("tensorflow", "keras", "numpy", "Pillow", "torch", "onnx", "onnxruntime")
_PACKAGES += ("openvino", "simplejpeg", "opencv-python-headless")
_ISA_PROBE = (
    "import tensorflow as tf; tf.config.set_visible_devices([], 'GPU'); "
    "tf.nn.conv2d(tf.ones((1, 8, 8, 8)), tf.ones((3, 3, 8, 8)), 1, 'SAME')"
)


@dataclasses.dataclass(frozen=True)
class Settings:
    """What is measured, and how often.

    Attributes:
        batch_size: images a step.
        rounds: samples of each contender.
        warmup: rounds before those, not counted.
        peers: names out of `PEERS`.
        dtypes: `fp32`, `bf16` or both.
        threads: threads of every contender; the process is bound to as many cores.
        data_dir: records to read; None: pictures are drawn.
        originals: a folder of pictures to prepare; None: they are drawn.
        against: another checkout of this repository to compare with.
        small: a narrow net on small crops and few images, to try the benchmark out.
        gpu: steps run on a GPU split in two of 3,072 MB, the cards of 2012.
    """

    batch_size: int = 128
    rounds: int = 5
    warmup: int = 2
    peers: tuple[str, ...] = ()
    dtypes: tuple[str, ...] = DTYPES
    threads: int = 1
    data_dir: str | None = None
    originals: str | None = None
    against: str | None = None
    small: bool = False
    gpu: bool = False

    @property
    def width(self) -> float:
        """Of the net: 1 is the published one."""
        return 0.125 if self.small else 1.0

    @property
    def input_size(self) -> int:
        """Side of a crop in pixels."""
        return 64 if self.small else 224

    @property
    def batches(self) -> int:
        """Batches in a sample of an input pipeline: over 2,000 images."""
        return 4 if self.small else -(-4096 // self.batch_size)

    @property
    def drawn_pictures(self) -> int:
        """Pictures drawn where no records are given."""
        return 64 if self.small else 1024

    @property
    def record_counts(self) -> tuple[int, int]:
        """Records of the small and of the large set of the suite `scaling`."""
        return (128, 1024) if self.small else (10_000, 1_000_000)


def bind_to_cores(threads: int) -> None:
    """Binds this process, and those it starts, to its first so many cores.

    Where the system has no such call every library still gets its number of threads.
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def wait_until_idle() -> None:
    """Waits, 10 s at most, until this process's threads rest: buffers are full."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        before = time.process_time()
        time.sleep(0.02)
        if time.process_time() - before < 0.002:
            return


def machine() -> dict:
    """Date, commit, processor and versions; None for what is not known."""
    info = pathlib.Path("/proc/cpuinfo")
    model = re.search(r"model name\s*: (.*)", info.read_text() if info.exists() else "")
    # What oneDNN says of itself when TensorFlow first calls it.
    said = _output([sys.executable, "-c", _ISA_PROBE], ONEDNN_VERBOSE="1") or ""
    isa = re.search(r"onednn_verbose.*info,cpu,isa:(.*)", said)
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime()),
        "git_commit": git_commit(pathlib.Path(__file__).parent),
        "cpu": model[1] if model else platform.processor(),
        "cores": os.cpu_count(),
        "onednn_isa": isa[1].strip() if isa else None,
        "system": platform.platform(),
        "versions": {"python": platform.python_version()}
        | {package: _version(package) for package in _PACKAGES},
    }


def git_commit(folder: str | pathlib.Path) -> str | None:
    """The commit of a checkout, with `+` if files differ from it."""
    how = ["describe", "--always", "--exclude=*", "--dirty=+", "--abbrev=12"]
    return _output(["git", "-C", str(folder), *how])


def _output(command: list[str], **environment: str) -> str | None:
    try:
        return subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=os.environ | environment,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
