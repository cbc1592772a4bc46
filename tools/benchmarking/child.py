"""A process of its own, that works only when it is told to.

For a peer that starts processes, for what only a fresh process shows (its peak of
memory, its way to the first batch), and for another checkout. `Child` is the end of
the benchmark; the other end is this file run as a program. A task is a function that
returns a function from a question to the answer, which are lines of JSON.
"""

import contextlib
import importlib
import json
import os
import pathlib
import pickle
import resource
import subprocess
import sys

from official.alexnet.errors import UserError

TOOLS = pathlib.Path(__file__).resolve().parents[1]


class Child(contextlib.AbstractContextManager):
    """A process that answers questions.

    Args:
        task: `module:function` of this package.
        *arguments: of the function.
        checkout: where `official` is imported from, if not from this repository.
    """

    def __init__(self, task: str, *arguments, checkout: str | None = None):
        self._task = task
        given = pickle.dumps((task, arguments)).hex()
        folders = [checkout or "", *map(os.path.abspath, filter(None, sys.path))]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarking.child", given],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # The first place that the process imports from: it has no `official`.
            cwd=TOOLS,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, folders))},
        )

    def ask(self, question: str = "run"):
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

    def __exit__(self, *_) -> None:
        with contextlib.suppress(BrokenPipeError):  # It has ended: `ask` says so.
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


def main() -> None:
    """Answers questions from stdin until it is closed."""
    # Whatever else prints does it on stderr.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    task, arguments = pickle.loads(bytes.fromhex(sys.argv[1]))
    module, _, function = task.partition(":")
    answer = getattr(importlib.import_module(f"benchmarking.{module}"), function)
    answer = answer(*arguments)
    for question in sys.stdin:
        print(json.dumps(answer(question.strip())), file=answers, flush=True)


if __name__ == "__main__":
    main()
