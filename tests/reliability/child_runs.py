"""`alexnet-train` in child processes, and what two runs have in common."""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

import numpy as np
import tensorflow as tf
from recorded_run import BITS_FILE

from official.alexnet.config import Config, RuntimeConfig
from official.alexnet.training import checkpoints

KILLED_RUN = pathlib.Path(__file__).with_name("killed_run.py")
RECORDED_RUN = pathlib.Path(__file__).with_name("recorded_run.py")
TRAIN = ("-m", "official.alexnet.train")
# oneDNN's line for each plan that it makes; their time is no part of a plan.
_PLAN = "onednn_verbose,"
# A step's speed is the one thing that no two runs share.
_OF_THE_CLOCK = "images_per_second"


def small_run(config: Config, columns: int = 1, **train_settings) -> Config:
    """60 steps, 6 an epoch, evaluated after each, under a schedule with state."""
    settings = {
        "train_steps": 60,
        "skip_eval": False,
        "log_steps": 5,
        "checkpoint_steps": 4,
        "steps_per_loop": 3,
        "schedule": "plateau",
        "plateau_patience": 2,
    }
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, num_columns=columns),
        train=dataclasses.replace(config.train, **settings | train_settings),
        runtime=RuntimeConfig(
            num_gpus=0, logical_cpus=columns if columns > 1 else None
        ),
    )


def start(
    config: Config,
    model_dir: pathlib.Path,
    *flags: str,
    script: tuple = (str(RECORDED_RUN),),
) -> subprocess.Popen:
    """Starts a training in a child process, its stderr in `<model_dir>.log`.

    Its stdout is a file: oneDNN's lines would fill a pipe, and the child would wait
    until somebody reads it.
    """
    settings = model_dir.with_suffix(".yaml")
    settings.write_text(config.to_yaml())
    stdout = tempfile.TemporaryFile("w+")  # noqa: SIM115 (`finish` closes it.)
    with model_dir.with_suffix(".log").open("a") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, *script),
                f"--config_file={settings}",
                f"--model_dir={model_dir}",
                *flags,
            ],
            stdout=stdout,
            stderr=log,
            env=os.environ
            | {
                "TF_CPP_MIN_LOG_LEVEL": "3",
                "ONEDNN_VERBOSE": "profile_create",
                BITS_FILE: str(model_dir.with_suffix(".bits")),
            },
        )
    process.stdout = stdout
    return process


def finish(process: subprocess.Popen, seconds: float = 300) -> tuple[int, str]:
    """Waits for a child; returns its status and what it printed on stdout.

    oneDNN's plans, which are printed there too, go to <model_dir>.plans.
    """
    process.wait(timeout=seconds)
    with process.stdout as file:
        file.seek(0)
        lines = file.readlines()
    plans = [line for line in lines if line.startswith(_PLAN)]
    (model_dir,) = (a for a in process.args if a.startswith("--model_dir="))
    path = pathlib.Path(model_dir.partition("=")[2]).with_suffix(".plans")
    with path.open("a") as file:
        file.writelines(plans)
    return process.returncode, "".join(x for x in lines if not x.startswith(_PLAN))


def log_of(model_dir: pathlib.Path) -> str:
    return model_dir.with_suffix(".log").read_text()


def train(config: Config, model_dir: pathlib.Path, *flags: str) -> dict:
    """Trains to the end; returns the results."""
    status, stdout = finish(start(config, model_dir, *flags))
    assert status == 0, log_of(model_dir)[-3000:]
    return json.loads(stdout.splitlines()[-1])


def assert_same_bits(a: pathlib.Path, b: pathlib.Path) -> None:
    """Each weight and velocity has the same bits at each step that both recorded.

    Otherwise both runs are kept, with their logs and oneDNN's plans.
    """
    ours, theirs = (_bits(run) for run in (a, b))
    steps = sorted(ours.keys() & theirs.keys())
    assert steps, "no step was recorded in both"
    for step in steps:
        for name in ours[step]:
            if len(ours[step][name] | theirs[step][name]) > 1:
                raise AssertionError(
                    f"step {step} is the first that differs, in {name}; "
                    f"{_plans_of_both(a, b)}; both runs are kept in {_kept(a, b)}"
                )


def _bits(run: pathlib.Path) -> dict[int, dict[str, set[int]]]:
    """Checksums by step and tensor; one that was resumed may have several."""
    found: dict[int, dict[str, set[int]]] = {}
    for line in run.with_suffix(".bits").read_text().splitlines():
        row = json.loads(line)
        of_step = found.setdefault(row["step"], {})
        for name, bits in row["bits"].items():
            of_step.setdefault(name, set()).add(bits)
    return found


def _plans_of_both(a: pathlib.Path, b: pathlib.Path) -> str:
    ours, theirs = (_plans(run) for run in (a, b))
    if ours == theirs:
        return f"oneDNN made the same {len(ours)} plans in both"
    one, other = sorted(ours - theirs), sorted(theirs - ours)
    return f"oneDNN's plans differ: {one} here, {other} there"


def _plans(run: pathlib.Path) -> set[str]:
    lines = run.with_suffix(".plans").read_text().splitlines()
    return {line.rpartition(",")[0] for line in lines if ",create:" in line}


def _kept(a: pathlib.Path, b: pathlib.Path) -> str:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="runs-that-differ-"))
    for run, name in ((a, "a"), (b, "b")):
        for path in run.parent.glob(f"{run.name}*"):
            copy = shutil.copytree if path.is_dir() else shutil.copy
            copy(path, folder / f"{name}-{path.name}")
    return str(folder)


def assert_same_run(a: pathlib.Path, b: pathlib.Path) -> None:
    """Weights, velocity, schedule, metrics and curves are the same to the last bit."""
    if all(run.with_suffix(".bits").exists() for run in (a, b)):
        assert_same_bits(a, b)
    ours, theirs = (checkpoints.read(checkpoints.latest(folder)) for folder in (a, b))
    assert ours.step == theirs.step
    assert ours.progress == theirs.progress
    for kind in ("weights", "velocity", "dropout"):
        assert getattr(ours, kind).keys() == getattr(theirs, kind).keys()
        for name, array in getattr(ours, kind).items():
            np.testing.assert_array_equal(array, getattr(theirs, kind)[name], name)
    assert rows(a) == rows(b)
    for split in ("train", "validation"):
        found = events(a / split)
        assert found == events(b / split)
        # No step twice.
        assert len({(step, tag) for step, tag, _ in found}) == len(found)
    # One that was saved before its evaluation has a file beside it.
    names = [{p.name for p in run.glob("ckpt-*[!s]")} for run in (a, b)]
    assert names[0] == names[1]
    assert (a / "best/info.json").read_text() == (b / "best/info.json").read_text()


def rows(model_dir: pathlib.Path) -> list[dict]:
    """Lines of metrics.jsonl."""
    text = (model_dir / "metrics.jsonl").read_text()
    found = [json.loads(line) for line in text.splitlines()]
    return [{k: v for k, v in row.items() if k != _OF_THE_CLOCK} for row in found]


def events(folder: pathlib.Path) -> list[tuple[int, str, bytes]]:
    """Step, tag and value of everything TensorBoard is given, in order of the steps."""
    found = []
    for path in folder.glob("*tfevents*"):  # As TensorBoard looks for them.
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                same = b"" if value.tag == _OF_THE_CLOCK else _content(value)
                found.append((event.step, value.tag, same))
    return sorted(found)


def _content(value: tf.compat.v1.Summary.Value) -> bytes:
    return value.tensor.SerializeToString(deterministic=True)
