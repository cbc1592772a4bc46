"""The ablation: its plans, and runs interrupted and resumed."""

import contextlib
import csv
import dataclasses
import gzip
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import ablate as ablate_tool
import pytest
from ablating import plan as plans
from ablating import runs
from ablation_plans import TINY, tiny_plan

from official.alexnet import disk
from official.alexnet.errors import UserError

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = ROOT / "tools"

# Columns that differ from one time to the next.
VARYING = ("seconds", "cpu_seconds", "images_per_second", "commit")


# Runs


FAKE = r"""
import json, pathlib, sys, time
folder, mode = pathlib.Path(sys.argv[1]), sys.argv[2]
with (folder / "starts").open("a") as file:
    file.write(mode + "\n")
while (folder / "wait").exists():
    time.sleep(0.05)
if (folder / "fail").exists():
    sys.exit("alexnet-train: the loss was nan")
while time.process_time() < 0.1:  # Python alone may take less than can be told.
    pass
if mode == "train":
    values = {"step": 2, "loss": 1.5, "accuracy": 0.5, "top_5_accuracy": 1.0,
              "images_per_second": 8.0}
    with (folder / "metrics.jsonl").open("w") as file:
        for split in ("train", "validation"):
            file.write(json.dumps(values | {"split": split}) + "\n")
print(json.dumps({"step": 2, "accuracy": 0.75, "top_5_accuracy": 1.0,
                  "checkpoint": "ckpt-2"}))
"""


@pytest.fixture
def fake_runs(monkeypatch, tmp_path):
    """The tiny plan's runs, with children that train nothing."""

    def commands(run):
        base = [sys.executable, "-c", FAKE, str(run.folder)]
        return [[*base, "train"], [*base, "eval"]]

    monkeypatch.setattr(runs, "commands", commands)
    todo = runs.runs_of(tiny_plan(), [0], tmp_path / "out", "records")
    for run in todo:
        runs.prepare(run)
    return todo


def starts(run) -> list[str]:
    return (run.folder / "starts").read_text().split()


def test_a_run_gives_results_and_leaves_them_behind(fake_runs):
    run = fake_runs[0]
    assert run.results() is None
    results = runs.execute(run)
    assert run.results() == results
    assert starts(run) == ["train", "eval"]
    assert results["top_1_error"] == 50
    assert results["ten_crop_top_1_error"] == 25
    assert results["steps"] == 2
    assert results["images_per_second"] == 8
    assert results["cpu_seconds"] > 0
    assert results["commit"] == (runs.git_commit(TOOLS) or "unknown")


def test_parameters_are_those_of_the_kept_results():
    file = ROOT / "docs" / "results" / "ablation" / "results.csv"
    with file.open(encoding="utf-8") as lines:
        kept = {row["row"]: int(row["parameters"]) for row in csv.DictReader(lines)}
    plan = plans.load("imagenette_small")
    found = {row.name: runs.count_parameters(row.config.model) for row in plan.rows}
    assert found == kept


def test_a_failed_child_is_told_with_its_last_words(fake_runs):
    run = fake_runs[0]
    (run.folder / "fail").touch()
    with pytest.raises(runs.RunFailed, match=r"status 1: .*the loss was nan"):
        runs.execute(run)
    assert run.results() is None
    (run.folder / "fail").unlink()
    assert runs.execute(run)["steps"] == 2


def test_a_run_that_fails_is_told_and_the_others_go_on(fake_runs, tmp_path, capsys):
    (fake_runs[0].folder / "fail").touch()
    for run in fake_runs:  # As training does.
        shutil.copy(run.folder / "settings.yaml", run.folder / "params.yaml")
    output_dir = tmp_path / "out"
    counted, failures = ablate_tool._execute(
        fake_runs, tiny_plan(), output_dir, "records"
    )
    assert counted == 1
    assert failures == {"baseline/seed0": "status 1: alexnet-train: the loss was nan"}
    said = capsys.readouterr().out
    assert said.startswith("0 of 2 runs are finished\n")
    assert "baseline/seed0 failed: status 1: alexnet-train: the loss was nan\n" in said
    assert "no_dropout/seed0: top-1 error 50.0 % with one crop, 25.0 % with" in said
    written = {path.name for path in output_dir.iterdir()}
    assert written == {
        *("baseline", "no_dropout", "hparams"),
        *("metrics.jsonl.gz", "plot.png", "results.csv", "table.md"),
    }


@pytest.fixture
def _interruptible():
    """Where the tests run in the background, SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_interruptible")
def test_an_interruption_stops_the_child(fake_runs):
    run = fake_runs[0]
    (run.folder / "wait").touch()
    main = os.getpid()
    killer = subprocess.Popen(
        [
            *(sys.executable, "-c"),
            "import os, pathlib, sys, time\n"
            f"while not pathlib.Path({str(run.folder / 'starts')!r}).exists():\n"
            "    time.sleep(0.05)\n"
            f"os.kill({main}, {int(signal.SIGINT)})",
        ]
    )
    with pytest.raises(KeyboardInterrupt):
        runs.execute(run)
    killer.wait()
    assert starts(run) == ["train"]
    (line,) = (run.folder / "commands.jsonl").read_text().splitlines()
    assert json.loads(line)["status"] == -signal.SIGTERM
    (run.folder / "wait").unlink()
    runs.execute(run)
    assert starts(run) == ["train", "train", "eval"]


def test_other_settings_in_a_folder_are_refused(fake_runs):
    run = fake_runs[0]
    train = dataclasses.replace(run.config.train, learning_rate=0.5)
    changed = dataclasses.replace(run.config, train=train)
    # Nothing was started there.
    runs.prepare(dataclasses.replace(run, config=changed))
    runs.prepare(run)
    (run.folder / "params.yaml").write_text(run.config.to_yaml())
    with pytest.raises(UserError, match=r"seed0 holds a run with another train\.learn"):
        runs.prepare(dataclasses.replace(run, config=changed))
    runs.prepare(run)


# As a user runs it


def ablate(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, str(TOOLS / "ablate.py"), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--plan=papr"], "--plan=papr: no such file, and the tool has only imagenet"),
        (["--plan=paper"], "no data: give --data_dir"),
        (["--plan=paper", "--seeds=0,x"], "--seeds=0,x should be whole numbers"),
        (["--plan=paper", "--only=thanh"], "did you mean tanh?"),
    ],
)
def test_mistakes_take_one_line(tmp_path, arguments, said):
    process = ablate(*arguments, f"--output_dir={tmp_path / 'out'}")
    _, error = process.communicate()
    assert process.returncode == 2
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_only_one_process_at_a_time(tmp_path):
    plan = tmp_path / "tiny.yaml"
    plan.write_text(TINY)
    with disk.locked(tmp_path / "out", "--output_dir=out"):
        process = ablate(
            *(f"--plan={plan}", f"--output_dir={tmp_path / 'out'}", "--data_dir=x")
        )
        _, error = process.communicate()
    assert process.returncode == 2
    assert "another process" in error
    assert len(error.splitlines()) == 1


@pytest.mark.slow
def test_all_runs_failing_is_told(tmp_path):
    plan = tmp_path / "tiny.yaml"
    plan.write_text(TINY)
    (tmp_path / "train-00000-of-00001").write_text("no records")
    arguments = (f"--plan={plan}", f"--output_dir={tmp_path / 'out'}", "--seeds=0")
    process = ablate(*arguments, f"--data_dir={tmp_path}", "--only=baseline")
    output, error = process.communicate()
    assert process.returncode == 2
    assert "baseline/seed0 failed: status 2: alexnet-train: " in output
    assert "1 run(s) failed" in error.splitlines()[-1]


@pytest.mark.slow
def test_interrupted_and_resumed_is_as_uninterrupted(tmp_path, records_dir):
    plan = tmp_path / "tiny.yaml"
    plan.write_text(TINY)

    def arguments(name):
        return (
            f"--plan={plan}",
            f"--data_dir={records_dir}",
            f"--output_dir={tmp_path / name}",
            "--seeds=0",
        )

    whole = ablate(*arguments("whole"))
    output, error = whole.communicate()
    assert whole.returncode == 0, error
    assert json.loads(output.splitlines()[-1])["finished_runs"] == 2
    # As if it had been killed before it wrote them.
    (tmp_path / "whole/table.md").unlink()
    shutil.rmtree(tmp_path / "whole/hparams")
    assert ablate(*arguments("whole")).wait() == 0
    assert (tmp_path / "whole/table.md").exists()
    assert any((tmp_path / "whole/hparams").iterdir())

    # Stopped in the first row's training, after its first checkpoint; then killed, with
    # its child, in the second row's.
    for signal_number, row in (
        (signal.SIGTERM, "baseline"),
        (signal.SIGKILL, "no_dropout"),
    ):
        stopped = ablate(*arguments("stopped"), start_new_session=True)
        folder = tmp_path / "stopped" / row / "seed0"
        wait_for(folder / "ckpt-1.index", stopped)
        children = children_of(stopped.pid)
        stopped.send_signal(signal_number)
        stopped.communicate()
        assert stopped.returncode in (130, -signal.SIGKILL)
        for child in children if signal_number == signal.SIGKILL else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
        assert not (folder / "results.json").exists()
    resumed = ablate(*arguments("stopped"))
    output, error = resumed.communicate()
    assert resumed.returncode == 0, error
    assert "1 of 2 runs are finished" in output

    def lines(name):
        text = (tmp_path / name / "results.csv").read_text("utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        return [
            {key: value for key, value in row.items() if key not in VARYING}
            for row in rows
        ]

    assert len(lines("whole")) == 2
    assert lines("stopped") == lines("whole")
    assert lines("whole")[0] != lines("whole")[1]

    text = gzip.decompress((tmp_path / "whole" / "metrics.jsonl.gz").read_bytes())
    kept = [json.loads(line) for line in text.splitlines()]
    assert [(line["row"], line["seed"], line["split"]) for line in kept] == [
        (row, 0, split)
        for row in ("baseline", "no_dropout")
        for split in ("train", "train", "validation")
    ]


def wait_for(path, process, seconds=300):
    until = time.time() + seconds
    while not path.exists():
        assert process.poll() is None, "it ended too early"
        assert time.time() < until, f"{path} did not come"
        time.sleep(0.02)


def children_of(pid):
    done = subprocess.run(
        ["pgrep", "-P", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in done.stdout.split()]
