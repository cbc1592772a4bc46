"""Suites of two checkouts of this repository in turn, in processes of their own.

Of a checkout nothing is used but what stays from version to version: for inference
`official.alexnet.AlexNet`, for the train step the program `official.alexnet.train`
with its flags, and the images a second that its last line names.
"""

import contextlib
import functools
import json
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Callable

from benchmarking.child import Child
from benchmarking.report import Suite
from benchmarking.settings import NUM_CLASSES, POLICIES, Settings, git_commit
from benchmarking.timing import Row
from official.alexnet.errors import UserError

SUITES = ("train_step", "inference")
# Steps to warm up, and as many that count.
_STEPS = 4


@contextlib.contextmanager
def suite(name: str, settings: Settings, _: pathlib.Path) -> Suite:
    """This checkout and the other one, whose row is what the ratio is taken to."""
    own = str(pathlib.Path(__file__).resolve().parents[2])
    checkouts = {"other checkout": settings.against, "this checkout": own}
    rows = []
    with contextlib.ExitStack() as stack:
        for dtype in settings.dtypes:
            for who, checkout in checkouts.items():
                child = Child(f"against:{name}", settings, dtype, checkout=checkout)
                run = stack.enter_context(child).ask
                row = functools.partial(Row, who, run, settings.batch_size, dtype)
                note = f"commit {git_commit(checkout)}"
                rows.append(row(against="other checkout", note=note))
        yield rows, []


def inference(settings: Settings, dtype: str) -> Callable[[str], float]:
    """Task of a child: seconds of a batch to probabilities, with initial weights."""
    import time  # noqa: PLC0415

    import tensorflow as tf  # noqa: PLC0415

    from official.alexnet import AlexNet  # noqa: PLC0415

    size = settings.input_size
    model = AlexNet(
        "paper",
        NUM_CLASSES,
        input_size=size,
        width=settings.width,
        dtype=POLICIES[dtype],
    )
    shape = (settings.batch_size, size, size, 3)
    images = tf.random.stateless_uniform(shape, (0, 0), -127.5, 127.5)
    infer = tf.function(lambda images: model(images, training=False))

    def answer(_: str) -> float:
        started = time.perf_counter()
        infer(images).numpy()
        return time.perf_counter() - started

    return answer


def train_step(settings: Settings, dtype: str) -> Callable[[str], float]:
    """Task of a child: seconds of a step of the trainer, on synthetic data."""
    flags = {
        "num_classes": NUM_CLASSES,
        "width": settings.width,
        "input_size": settings.input_size,
        "batch_size": settings.batch_size,
        "schedule": "constant",
        "train_steps": 2 * _STEPS,
        "log_steps": _STEPS,
        "num_gpus": 0,
        "dtype": dtype,
    }
    command = [sys.executable, "-m", "official.alexnet.train"]
    command += ["--use_synthetic_data", "--skip_eval"]
    command += [f"--{name}={value}" for name, value in flags.items()]

    def answer(_: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            done = subprocess.run(
                [*command, f"--model_dir={folder}/run"],
                stdout=subprocess.PIPE,
                text=True,
                # Python imports from there first: it holds no `official`.
                cwd=folder,
                check=False,
            )
        if done.returncode:
            raise UserError("training in that checkout failed; see above")
        results = json.loads(done.stdout.splitlines()[-1])
        (speed,) = (v for k, v in results.items() if k.endswith("images_per_second"))
        return settings.batch_size / speed

    return answer
