"""A process of its own, that works only when it is told to.

For a peer that starts processes, and for what only a fresh process shows: its peak
of memory and its way to the first batch. `Child` is the end of the benchmark; the
other end is this file run as a program. Questions and answers are lines of JSON.
"""

import dataclasses
import json
import os
import pathlib
import resource
import subprocess
import sys
from collections.abc import Callable

from benchmarking.settings import Settings
from benchmarking.timing import wait_until_idle
from official.alexnet import cli
from official.alexnet.errors import UserError


class Child:
    """A process that answers questions.

    Args:
        task: one of `TASKS`.
        settings: of the benchmark.
        **arguments: of the task.
    """

    def __init__(self, task: str, settings: Settings, **arguments):
        self._task = task
        given = {"settings": dataclasses.asdict(settings), "arguments": arguments}
        path = os.pathsep.join(filter(None, sys.path))
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarking.child", task, json.dumps(given)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": path},
        )

    def ask(self, question: str) -> dict:
        """Waits for the answer.

        Raises:
            UserError: the process has ended.
        """
        try:
            self._process.stdin.write(f"{question}\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise UserError(f"the process that measures {self._task} ended; see above")
        return json.loads(answer)

    def __enter__(self) -> "Child":
        return self

    def __exit__(self, *_) -> None:
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def peak_memory() -> float:
    """The most memory this process has held so far, in MB."""
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        # getrusage would count the parent's memory from before the exec.
        (line,) = [line for line in status.read_text().splitlines() if "VmHWM" in line]
        return int(line.split()[1]) / 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1024**2 if sys.platform == "darwin" else 1024)


# Each task returns a function from a question to the answer.


def _training_memory(settings: Settings, dtype: str) -> Callable[[str], dict]:
    cli.start_tensorflow()
    import tempfile  # noqa: PLC0415

    from benchmarking import ours  # noqa: PLC0415

    def answer(_: str) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            step = ours.stepper(ours.config(settings, dtype), pathlib.Path(folder))
            before = peak_memory()
            step(3)
            peaks = {
                "before the first step": before,
                "of a training step": peak_memory(),
            }
        return {
            "facts": [
                {"name": f"peak memory {when} {dtype}", "value": value, "unit": "MB"}
                for when, value in peaks.items()
            ]
        }

    return answer


def _pipeline(settings: Settings, data_dir: str) -> Callable[[str], dict]:
    cli.start_tensorflow()
    from benchmarking.records import TrainingBatches  # noqa: PLC0415

    batches = None

    def answer(question: str) -> dict:
        nonlocal batches
        if question == "start":
            batches = TrainingBatches(settings, data_dir)
            batches.take(1)
        elif question == "drain":
            batches.drain()
        elif question == "run":
            batches.take(settings.batches)
        elif question == "rest":
            wait_until_idle()
        return {"peak_mb": peak_memory()}

    return answer


def _loader(settings: Settings, jpegs: str) -> Callable[[str], dict]:
    from benchmarking.torch_loader import make_loader  # noqa: PLC0415

    loader = make_loader(settings, pathlib.Path(jpegs))

    def answer(_: str) -> dict:
        return {"images": sum(len(images) for images, _ in loader)}

    return answer


TASKS = {
    "training_memory": _training_memory,
    "pipeline": _pipeline,
    "loader": _loader,
}


def main() -> None:
    """Answers questions from stdin until it is closed."""
    # Whatever else prints does it on stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task, given = sys.argv[1], json.loads(sys.argv[2])
    values = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in given["settings"].items()
    }
    answer = TASKS[task](Settings(**values), **given["arguments"])
    for question in sys.stdin:
        print(json.dumps(answer(question.strip())), file=answers, flush=True)


if __name__ == "__main__":
    main()
