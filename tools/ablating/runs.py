"""One run of a plan: a child process that trains, one that evaluates, one result.

A run has a folder of its own, `<output_dir>/<row>/seed<seed>`, the model_dir of its
training. `results.json` is written last and at once: where it is, the run is finished;
where it is not, the same commands resume from the latest checkpoint.
"""

import dataclasses
import importlib.metadata
import itertools
import json
import math
import os
import pathlib
import platform
import subprocess
import sys
import time

import numpy as np
from benchmarking.settings import git_commit

from ablating import plan as plans
from official.alexnet import disk, run_files
from official.alexnet.config import Config, ModelConfig
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure

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
    plan: plans.Plan, seeds: list[int], output_dir: pathlib.Path, data_dir: str | None
) -> list[Run]:
    """All runs, every row with the first seed before any with the second.

    Raises:
        UserError: a row's settings do not go together.
    """
    found = []
    for seed, row in itertools.product(seeds, plan.rows):
        config = plans.run_config(row, seed, data_dir)
        folder = output_dir / row.name / f"seed{seed}"
        found.append(Run(row.name, seed, folder, config))
    return found


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
    if (run.folder / run_files.PARAMS_FILE).is_file():
        check_same(run.folder, run.config)
    run.folder.mkdir(parents=True, exist_ok=True)
    disk.write_text(run.folder / SETTINGS_FILE, run.config.to_yaml())


def check_same(folder: pathlib.Path, config: Config) -> None:
    """Checks that the run in a folder has these settings.

    Raises:
        UserError: it has others, or they cannot be read.
    """
    earlier = plans.flat(run_files.read_config(str(folder)))
    now = plans.flat(config)
    if other := [key for key in now if now[key] != earlier[key]]:
        raise UserError(
            f"{folder} holds a run with another {', '.join(other)}: name another "
            "--output_dir, or delete that folder"
        )


def execute(run: Run) -> dict:
    """Trains and evaluates a prepared run, from where an earlier process stopped.

    Returns:
        The results, which are in the run's folder by then.

    Raises:
        RunFailed: a child process failed.
        KeyboardInterrupt: after the child was stopped.
    """
    for command in commands(run):
        output = _call(command, run.folder)
    results = _gather(run, json.loads(output.splitlines()[-1]))
    disk.write_text(run.folder / RESULTS_FILE, json.dumps(results, indent=1) + "\n")
    return results


def _call(command: list[str], folder: pathlib.Path) -> str:
    """Runs a command; returns its stdout. What it says goes to the run's log."""
    started, before = time.perf_counter(), os.times()
    commit = git_commit(pathlib.Path(__file__).parent) or "unknown"
    line = {"command": command, "commit": commit}  # Of the code that it imports.
    with (
        (folder / LOG_FILE).open("ab") as log,
        # In a session of its own: a Ctrl-C reaches this process, which stops the child.
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, start_new_session=True
        ) as process,
    ):
        try:
            output = process.stdout.read().decode("utf-8", "replace")
            process.wait()
        finally:
            _stop(process)
            cpu = [n - b for n, b in zip(os.times()[2:4], before[2:4], strict=True)]
            line["status"] = process.returncode
            line["seconds"] = round(time.perf_counter() - started, 2)
            line["cpu_seconds"] = round(sum(cpu), 2)
            disk.append(folder / COMMANDS_FILE, (json.dumps(line) + "\n").encode())
    if process.returncode:
        said = (folder / LOG_FILE).read_text("utf-8", "replace").strip()
        last = said.rpartition("\n")[2].strip()
        raise RunFailed(f"status {process.returncode}: {last[:300]}")
    return output


def _stop(process: subprocess.Popen) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _gather(run: Run, ten_crops: dict) -> dict:
    """The results of a run, from its metrics and its last evaluation."""
    lines = json_lines(run.folder / run_files.METRICS_FILE)
    training = [line for line in lines if line["split"] == "train"]
    one_crop = [line for line in lines if line["split"] == "validation"][-1]
    if not ten_crops["step"] == training[-1]["step"] == one_crop["step"]:
        raise RunFailed(f"the results are of different steps: {ten_crops}, {one_crop}")
    done = json_lines(run.folder / COMMANDS_FILE)
    parts = np.diff([0, *(line["step"] for line in training)])
    times = parts / [line["images_per_second"] for line in training]
    packages = ("tensorflow", "keras", "numpy")
    results = {"row": run.row, "seed": run.seed}
    for prefix, line in (("", one_crop), ("ten_crop_", ten_crops)):
        results[f"{prefix}top_1_error"] = _percent_wrong(line["accuracy"])
        results[f"{prefix}top_5_error"] = _percent_wrong(line["top_5_accuracy"])
    return results | {
        "train_loss": training[-1]["loss"],
        "train_error": _percent_wrong(training[-1]["accuracy"]),
        "steps": training[-1]["step"],
        "log_steps": run.config.train.log_steps,
        "parameters": count_parameters(run.config.model),
        "seconds": round(sum(line["seconds"] for line in done), 1),
        "cpu_seconds": round(sum(line["cpu_seconds"] for line in done), 1),
        # Of the training steps alone.
        "images_per_second": round(parts.sum() / times.sum(), 1),
        "commit": " ".join(dict.fromkeys(line["commit"] for line in done)),
        "versions": {name: importlib.metadata.version(name) for name in packages}
        | {"python": platform.python_version()},
    }


def count_parameters(model: ModelConfig) -> int:
    """The number of trained weights."""
    shapes = structure.weight_shapes(model.net(), model.num_classes)
    return sum(math.prod(shapes[name]) for name in shapes if "/moving_" not in name)


def json_lines(path: pathlib.Path) -> list[dict]:
    """The objects of a file with one a line."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def _percent_wrong(accuracy: float) -> float:
    return round(100 * (1 - accuracy), 4)
