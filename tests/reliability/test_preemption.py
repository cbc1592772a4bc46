"""SIGTERM and SIGINT: finish the step, save, status 75; a second signal: at once."""

import os
import pathlib
import signal
import subprocess
import sys
import time

import child_runs
import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.training import checkpoints
from official.alexnet.training.preemption import EXIT_STATUS, Preemption

# The promise is ten seconds and one step; a step of these runs takes milliseconds.
SECONDS = 10
STEPS = 36
# Its checkpoints take a minute.
SLOW_SAVE = (str(pathlib.Path(__file__).with_name("slow_save.py")),)


def wait_for(process: subprocess.Popen, model_dir: pathlib.Path, text: str) -> None:
    log = model_dir.with_suffix(".log")
    for _ in range(3000):
        if text in log.read_text():
            return
        assert process.poll() is None, log.read_text()[-3000:]
        time.sleep(0.1)
    raise AssertionError(f"{text!r} did not come: {log.read_text()[-3000:]}")


def send(process: subprocess.Popen, number: signal.Signals) -> tuple[int, str, float]:
    """Status, stdout, and the seconds from the signal to the end."""
    process.send_signal(number)
    started = time.monotonic()
    status, stdout = child_runs.finish(process)
    return status, stdout, time.monotonic() - started


@pytest.fixture(scope="module")
def wholes(tmp_path_factory) -> dict[int, pathlib.Path]:
    """Runs that no signal came to, by the number of columns; filled by the tests."""
    return {c: tmp_path_factory.mktemp("wholes") / f"whole{c}" for c in (1, 2)}


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize(
    ("number", "columns", "moment"),
    [
        (signal.SIGTERM, 1, "step 5/"),
        *(
            (number, columns, moment)
            for number, columns in (
                (signal.SIGTERM, 2),
                (signal.SIGINT, 1),
                (signal.SIGINT, 2),
            )
            for moment in ("Training to step", "step 15/", "evaluation at step 12 ")
        ),
    ],
)
def test_a_signal_ends_the_run_saved_and_it_goes_on(
    tiny_config, tmp_path, wholes, number, columns, moment
):
    config = child_runs.small_run(tiny_config, columns, train_steps=STEPS)
    process = child_runs.start(config, tmp_path / "parts")
    wait_for(process, tmp_path / "parts", moment)
    status, stdout, seconds = send(process, number)
    log = child_runs.log_of(tmp_path / "parts")
    assert status == EXIT_STATUS, log[-3000:]
    assert seconds < SECONDS
    assert stdout == ""
    assert "Traceback" not in log
    last = log.splitlines()[-1]
    assert last.startswith("alexnet-train: ")
    if "before the first step" in last:
        assert moment == "Training to step"
    else:
        saved = checkpoints.find(tmp_path / "parts")[1].step
        assert 0 < saved < STEPS
        assert f"stopped by a signal after step {saved}, which is saved in" in last
    child_runs.train(config, tmp_path / "parts")
    if not wholes[columns].exists():
        child_runs.train(config, wholes[columns])
    assert_same_but_for_kept(wholes[columns], tmp_path / "parts")


def assert_same_but_for_kept(whole: pathlib.Path, parts: pathlib.Path) -> None:
    """A signal adds a checkpoint, so others may be among the last three."""
    for folder in (whole, parts):
        last = pathlib.Path(checkpoints.latest(folder)).name
        for path in folder.glob("ckpt-*"):
            if not path.name.startswith(f"{last}."):
                path.unlink()
    child_runs.assert_same_run(whole, parts)


@pytest.mark.slow
@pytest.mark.reliability
def test_a_signal_during_an_evaluation_leaves_it_to_the_next_start(
    tiny_config, tmp_path
):
    # Long evaluations: ten crops in batches of one.
    config = child_runs.small_run(
        tiny_config,
        batch_size=1,
        eval_crops=10,
        log_steps=1,
        train_steps=48,
        learning_rate=1e-5,
    )
    process = child_runs.start(config, tmp_path / "parts")
    wait_for(process, tmp_path / "parts", "step 48/48")
    status, _, _ = send(process, signal.SIGTERM)
    log = child_runs.log_of(tmp_path / "parts")
    assert status == EXIT_STATUS, log[-3000:]
    assert "evaluation at step 48" not in log
    results = child_runs.train(config, tmp_path / "parts")
    assert "evaluation at step 48" in child_runs.log_of(tmp_path / "parts")
    assert {"loss", "accuracy", "eval_accuracy", "step"} <= results.keys()
    child_runs.train(config, tmp_path / "whole")
    assert_same_but_for_kept(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize("columns", [1, 2])
def test_signals_at_any_moment_of_a_start(tiny_config, tmp_path, columns):
    """25 each: while it imports, builds, traces, and in the first steps."""
    config = child_runs.small_run(tiny_config, columns, train_steps=10_000)
    for i, wait in enumerate(np.random.default_rng(columns).uniform(1.5, 10, 25)):
        run = tmp_path / f"run{i}"
        process = child_runs.start(config, run, script=child_runs.TRAIN)
        time.sleep(wait)
        number = signal.SIGTERM if i % 2 else signal.SIGINT
        status, stdout, seconds = send(process, number)
        log = child_runs.log_of(run)
        assert (status, stdout) == (EXIT_STATUS, ""), (wait, log)
        assert seconds < SECONDS
        assert "Traceback" not in log, (wait, log)
        assert "Exception ignored" not in log, (wait, log)
        saved = "nothing to save" in log or checkpoints.exists(run)
        assert saved, (wait, log)


def test_a_start_that_does_not_look_up_is_ended(tmp_path):
    """As it traces, or waits for another worker."""
    code = (
        "import time\n"
        "from official.alexnet.training import preemption\n"
        "preemption._START_SECONDS = 0.2\n"
        "with preemption.Preemption():\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=20)
    assert process.returncode == EXIT_STATUS
    assert stderr == "SIGTERM before the first step: there was nothing to save\n"


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGTERM,
        pytest.param(signal.SIGINT, marks=[pytest.mark.slow, pytest.mark.reliability]),
    ],
)
def test_a_second_signal_stops_at_once(tiny_config, tmp_path, number):
    config = child_runs.small_run(
        tiny_config,
        schedule="constant",
        skip_eval=True,
        checkpoint_steps=100_000,
        train_steps=100_000,
    )
    process = child_runs.start(config, tmp_path / "run", script=SLOW_SAVE)
    wait_for(process, tmp_path / "run", "step 5/")
    process.send_signal(number)
    wait_for(process, tmp_path / "run", f"{number.name}: finishing the step and saving")
    status, _, seconds = send(process, number)
    assert status == 128 + number
    assert seconds < SECONDS
    assert f"{number.name} again: stopping without saving" in child_runs.log_of(
        tmp_path / "run"
    )


def test_a_job_file_and_its_cluster_may_both_send_signals():
    """A second signal ends the process: this one, here."""
    flag = tf.Variable(0.0)
    with Preemption() as preemption:
        preemption.hold(flag)
        for number in (signal.SIGUSR1, signal.SIGTERM, signal.SIGUSR1):
            os.kill(os.getpid(), number)
            time.sleep(0.1)
        assert preemption.received == signal.SIGTERM
    assert flag.numpy() == 1


@pytest.mark.slow
@pytest.mark.reliability
def test_a_signal_is_heard_where_nobody_reads_what_is_printed(tiny_config, tmp_path):
    """As after `| tee`, which Ctrl-C ends too."""
    config = child_runs.small_run(tiny_config, train_steps=100_000)
    settings = tmp_path / "settings.yaml"
    settings.write_text(config.to_yaml())
    process = subprocess.Popen(
        [
            *(sys.executable, *child_runs.TRAIN),
            *(f"--config_file={settings}", f"--model_dir={tmp_path / 'run'}"),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if "step 5/" in line:
            break
    process.stderr.close()
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == EXIT_STATUS
    assert checkpoints.find(tmp_path / "run")[1].step > 0
