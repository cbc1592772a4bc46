"""One run of a plan: a child process that trains, one that evaluates, one result.

A run has a folder of its own, `<output_dir>/<row>/seed<seed>`, the model_dir of its
training. `results.json` is written last and at once: where it is, the run is finished;
where it is not, the same commands go on from the latest checkpoint.
"""

import contextlib
import dataclasses
import fcntl
import importlib.metadata
import json
import os
import pathlib
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from ablating import plan as plans
from official.alexnet import config_files, run_files
from official.alexnet.config import Config
from official.alexnet.data.atomic import atomic_write
from official.alexnet.errors import UserError

SETTINGS_FILE = "settings.yaml"
RESULTS_FILE = "results.json"
COMMANDS_FILE = "commands.jsonl"
LOG_FILE = "log.txt"
_SECONDS_TO_STOP = 30


class RunFailed(Exception):
    """A child process failed; the text says how."""


@dataclasses.dataclass(frozen=True)
class Run:
    """A row with one seed."""

    row: str
    seed: int
    folder: pathlib.Path
    config: Config

    @property
    def name(self) -> str:
        return f"{self.row}/seed{self.seed}"

    def results(self) -> dict | None:
        """What the run gave; None where it is not finished."""
        path = self.folder / RESULTS_FILE
        return json.loads(path.read_text("utf-8")) if path.is_file() else None


def runs_of(
    plan: plans.Plan,
    seeds: Sequence[int],
    output_dir: pathlib.Path,
    data_dir: str | None,
) -> list[Run]:
    """All runs, every row with the first seed before any with the second.

    Raises:
        UserError: a row's settings do not go together.
    """
    return [
        Run(
            row.name,
            seed,
            output_dir / row.name / f"seed{seed}",
            plans.run_config(row, seed, data_dir),
        )
        for seed in seeds
        for row in plan.rows
    ]


def commands(run: Run) -> list[list[str]]:
    """Training with an evaluation of one crop at its end; evaluation with ten."""
    module = [sys.executable, "-m"]
    settings = run.folder / SETTINGS_FILE
    model_dir = f"--model_dir={run.folder}"
    dtype = f"--dtype={run.config.runtime.dtype}"
    return [
        [*module, "official.alexnet.train", f"--config_file={settings}", model_dir],
        [*module, "official.alexnet.eval", model_dir, "--eval_crops=10", dtype],
    ]


def prepare(run: Run) -> None:
    """Writes the run's settings, or finds that they are those of an earlier start.

    Raises:
        UserError: the folder holds a run with other settings.
    """
    run.folder.mkdir(parents=True, exist_ok=True)
    path = run.folder / SETTINGS_FILE
    is_started = any(file != path for file in run.folder.iterdir())
    if is_started and path.is_file():
        check_same(run.folder, run.config)
        return
    with atomic_write(path) as temporary:
        temporary.write_text(run.config.to_yaml(), "utf-8")


def kept_config(folder: pathlib.Path) -> Config:
    """The settings that the run in a folder was started with.

    Raises:
        UserError: they are not there, or cannot be read.
    """
    path = folder / SETTINGS_FILE
    if not path.is_file():
        raise UserError(f"{folder} holds a run without {SETTINGS_FILE}: delete it")
    return config_files.override(Config(), config_files.load(str(path)), str(path))


def check_same(folder: pathlib.Path, config: Config) -> None:
    """Checks that the run in a folder was started with these settings.

    Raises:
        UserError: it was not.
    """
    earlier, now = plans.flat(kept_config(folder)), plans.flat(config)
    other = [key for key in now if now[key] != earlier[key]]
    if other:
        raise UserError(
            f"{folder} holds a run with another {', '.join(other)}: name another "
            "--output_dir, or delete that folder"
        )


def execute(run: Run, lock: int) -> dict:
    """Trains and evaluates, going on where an earlier process stopped.

    Args:
        run: prepared.
        lock: descriptor that the children keep open, see `locked`.

    Returns:
        The results, which are in the run's folder by then.

    Raises:
        RunFailed: a child process failed.
        KeyboardInterrupt: after the child was stopped.
    """
    output = ""
    for command in commands(run):
        output = _call(command, run.folder, lock)
    try:
        ten_crops = json.loads(output.splitlines()[-1])
    except (ValueError, IndexError) as error:
        raise RunFailed(
            f"the evaluation's last line is not JSON: {output!r}"
        ) from error
    results = _gather(run, ten_crops)
    with atomic_write(run.folder / RESULTS_FILE) as temporary:
        temporary.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
    return results


@contextlib.contextmanager
def locked(output_dir: pathlib.Path) -> Iterator[int]:
    """Keeps the folder to this process and its children.

    A child inherits the descriptor, so that one that outlives its parent keeps others
    from its checkpoints.

    Raises:
        UserError: another process is at work there.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    with (output_dir / ".lock").open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"--output_dir={output_dir}: another process is at work there"
            ) from None
        yield file.fileno()


def _call(command: list[str], folder: pathlib.Path, lock: int) -> str:
    """Runs a command; returns its stdout. What it says goes to the run's log."""
    started, cpu_before = time.perf_counter(), _cpu_seconds_of_children()
    commit = _commit()  # Of the code that the child imports.
    with (
        (folder / LOG_FILE).open("ab") as log,
        subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=log,
            pass_fds=[lock],
            # A Ctrl-C reaches this process only, which stops the child.
            start_new_session=True,
        ) as process,
    ):
        try:
            output = process.stdout.read().decode("utf-8", "replace")
            process.wait()
        finally:
            _stop(process)
            line = {
                "command": command,
                "status": process.returncode,
                "commit": commit,
                "seconds": round(time.perf_counter() - started, 2),
                "cpu_seconds": round(_cpu_seconds_of_children() - cpu_before, 2),
            }
            with (folder / COMMANDS_FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(line) + "\n")
    if process.returncode:
        lines = (folder / LOG_FILE).read_text("utf-8", "replace").split("\n")
        last = next((line for line in reversed(lines) if line.strip()), "")
        raise RunFailed(f"status {process.returncode}: {last.strip()[:300]}")
    return output


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is not None:
        return
    process.terminate()
    try:
        process.wait(_SECONDS_TO_STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _cpu_seconds_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def _gather(run: Run, ten_crops: dict) -> dict:
    """The results of a run, from its metrics, checkpoint and last evaluation."""
    lines = [
        json.loads(line)
        for line in (run.folder / run_files.METRICS_FILE)
        .read_text("utf-8")
        .splitlines()
    ]
    training = [line for line in lines if line["split"] == "train"]
    one_crop = [line for line in lines if line["split"] == "validation"][-1]
    steps = one_crop["step"]
    if not ten_crops["step"] == training[-1]["step"] == steps:
        raise RunFailed(f"the results are of different steps: {ten_crops}, {one_crop}")
    done = _json_lines(run.folder / COMMANDS_FILE)
    return {
        "row": run.row,
        "seed": run.seed,
        "top_1_error": _percent_wrong(one_crop["accuracy"]),
        "top_5_error": _percent_wrong(one_crop["top_5_accuracy"]),
        "ten_crop_top_1_error": _percent_wrong(ten_crops["accuracy"]),
        "ten_crop_top_5_error": _percent_wrong(ten_crops["top_5_accuracy"]),
        "train_loss": training[-1]["loss"],
        "train_error": _percent_wrong(training[-1]["accuracy"]),
        "steps": steps,
        "log_steps": run.config.train.log_steps,
        "parameters": _count_parameters(ten_crops["checkpoint"]),
        "seconds": round(sum(line["seconds"] for line in done), 1),
        "cpu_seconds": round(sum(line["cpu_seconds"] for line in done), 1),
        "images_per_second": _speed(training, run.config.train.batch_size),
        "commit": " ".join(dict.fromkeys(str(line.get("commit")) for line in done)),
        "versions": _versions(),
    }


def _json_lines(path: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _percent_wrong(accuracy: float) -> float:
    return round(100 * (1 - accuracy), 4)


def _speed(training: list[dict], batch_size: int) -> float:
    """Images a second of the training steps alone."""
    images = seconds = step = 0
    for line in training:
        part = (line["step"] - step) * batch_size
        images, step = images + part, line["step"]
        seconds += part / line["images_per_second"]
    return round(images / seconds, 1)


def _count_parameters(checkpoint: str) -> int:
    """Trained weights of a checkpoint: those that have a velocity."""
    from official.alexnet.training import checkpoints  # noqa: PLC0415

    velocity = checkpoints.read(checkpoint).velocity
    return sum(int(array.size) for array in velocity.values())


def _commit() -> str | None:
    root = pathlib.Path(__file__).parents[2]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    with contextlib.suppress(OSError):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        return done.stdout.strip() or None
    return None


def _versions() -> dict[str, str]:
    names = ("tensorflow", "keras", "numpy")
    versions = {name: importlib.metadata.version(name) for name in names}
    versions["python"] = platform.python_version()
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS")
    return versions | ({"TF_ENABLE_ONEDNN_OPTS": onednn} if onednn else {})
