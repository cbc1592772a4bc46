"""The page on CIFAR-10: crossings, ratio and intervals from runs made up for it."""

import gzip
import json
import math
import pathlib
import subprocess
import sys

import pytest
import yaml

from official.alexnet.cifar import trainer
from official.alexnet.cifar.settings import Settings
from official.alexnet.errors import UserError

EXPERIMENTS = pathlib.Path(__file__).parents[2] / "tools" / "experiments"


sys.path.insert(0, str(EXPERIMENTS))

import cifar10  # noqa: E402
import cifar10_runs  # noqa: E402


def write_run(folder, errors, results=None, **settings) -> None:
    """A run whose windows, a quarter of an epoch each, had these training errors."""
    folder.mkdir(parents=True)
    whole = vars(Settings()) | {"learning_rate_steps": []} | settings
    (folder / "params.yaml").write_text(yaml.safe_dump(whole))
    (folder / "machine.json").write_text(machine("abc"))
    lines = []
    for i, error in enumerate(errors, 1):
        row = {"step": i, "epoch": i / 4, "accuracy": 1 - error, "seconds": 7.0 * i}
        lines.append(row | {"split": "train"})
        if i % 4 == 0:
            lines.append(
                {"step": i, "split": "validation", "epoch": i / 4, "accuracy": 0.8}
            )
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in lines))
    if results is not None:
        (folder / "results.json").write_text(json.dumps(results))


def falling(epochs: int, per_epoch: float) -> list[float]:
    """From 60 %, linearly: the mean over an epoch is the value at its middle."""
    return [0.6 - per_epoch * (i / 4 - 0.125) for i in range(1, 4 * epochs + 1)]


def write_figure1(folder, activation, rate, errors, **settings) -> None:
    write_run(
        folder / f"figure1-{activation}-{rate:g}-seed{settings.get('seed', 0)}",
        errors,
        activation=activation,
        learning_rate=rate,
        **{"stop_train_error": 0.25, "train_epochs": 60.0} | settings,
    )


def test_crossing_is_interpolated(tmp_path):
    write_figure1(tmp_path, "relu", 0.001, falling(6, 0.08))
    run = cifar10_runs.read(tmp_path / "figure1-relu-0.001-seed0")
    assert run.crossing() == pytest.approx(0.35 / 0.08)
    assert run.state == "finished"


def report(folder, output) -> tuple[dict, str]:
    done = subprocess.run(
        [
            *(sys.executable, str(EXPERIMENTS / "cifar10_report.py")),
            *(f"--runs={folder}", f"--output_dir={output}"),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (output / "README.md").read_text("utf-8")
    return json.loads(done.stdout.splitlines()[-1]), page


def machine(commit: str) -> str:
    versions = {"python": "3.11.1", "tensorflow": "2.21.0", "keras": "3.15.0"}
    facts = {"cores": 2, "cpu": "CPU", "git_commit": commit, "date": "2026-01-02T"}
    return json.dumps(facts | {"versions": versions})


def write_chosen(folder, relu, tanh) -> None:
    (folder / "chosen.json").write_text(json.dumps({"relu": relu, "tanh": tanh}))


def test_page(tmp_path):
    pytest.importorskip("matplotlib")
    runs = tmp_path / "runs"
    write_figure1(runs, "relu", 0.001, falling(5, 0.1))
    write_figure1(runs, "relu", 0.002, falling(3, 0.05), train_epochs=3.0)
    write_figure1(runs, "relu", 0.001, falling(5, 0.09), seed=1)
    write_figure1(runs, "tanh", 0.001, falling(18, 0.02))
    write_figure1(runs, "tanh", 0.004, [0.9], train_epochs=1.0)
    gains = {1: (0.20, 0.18), 2: (0.21, 0.20), 3: (0.22, 0.19)}
    for seed, errors in gains.items():
        for net, error in zip(("cifar_13pct", "cifar_11pct"), errors, strict=True):
            results = {"test_error": error + 0.01, "test_error_9_crops": error}
            write_run(
                runs / f"lrn-{net}-seed{seed}",
                [0.3] * 8,
                results,
                net=net,
                seed=seed,
                train_epochs=2.0,
            )
    write_run(runs / "lrn-cifar_13pct-seed4", [0.3], net="cifar_13pct", seed=4)
    write_chosen(runs, 0.001, 0.001)
    results, page = report(runs, tmp_path / "page")
    # 25 % is 35 points below the start: 3.5 epochs and 17.5.
    assert results["epochs_to_25_percent"] == pytest.approx({"relu": 3.5, "tanh": 17.5})
    assert "after 3.5 epochs, tanh after 17.5: 5.0 times as many**" in page
    assert "To 26 % it was 3.4 and 17.0 epochs, 5.0 times as many." in page
    assert "All seeds of these rates: relu 3.5, 3.9; tanh 17.5." in page
    # Gains 2, 1 and 3 points: mean 2, s 1, s / sqrt(3) 0.577, t 4.303.
    assert "by 2.00 percentage points** (nine crops, 3 pairs, standard error" in page
    assert (
        "standard error 0.58, paired 95 % interval -0.48 to 4.48, which holds" in page
    )
    assert "| mean ± standard error | 22.00 ± 0.58 | 20.00 ± 0.58 |" in page
    assert results["runs"]["lrn-cifar_13pct-seed4"] == "running"
    assert "`lrn-cifar_13pct-seed4` (0.25 epochs)" in page
    assert results["runs"]["figure1-relu-0.002-seed0"] == "stopped"
    assert "{" not in page
    assert "Begun on: 2 cores of CPU; Python 3.11.1, TensorFlow 2.21.0, Keras" in page
    for name in ("figure1.png", "lrn.png", "figure1.csv", "lrn.csv"):
        assert (tmp_path / "page" / name).stat().st_size > 100
    copy = tmp_path / "page" / "figure1-relu-0.001-seed0.metrics.jsonl.gz"
    rows = gzip.decompress(copy.read_bytes()).decode().splitlines()
    assert len(rows) == 25


def test_the_rates_of_the_search_count_and_others_check_them(tmp_path):
    pytest.importorskip("matplotlib")
    runs = tmp_path / "runs"
    write_figure1(runs, "relu", 0.001, falling(5, 0.1))
    write_figure1(runs, "relu", 0.002, falling(5, 0.14))
    write_figure1(runs, "tanh", 0.001, falling(18, 0.02))
    write_chosen(runs, 0.001, 0.001)
    results, page = report(runs, tmp_path / "page")
    assert results["epochs_to_25_percent"] == pytest.approx({"relu": 3.5, "tanh": 17.5})
    assert "after 3.5 epochs, tanh after 17.5: 5.0 times as many**" in page
    assert "earlier at 25 %: relu at 0.002 after 2.5 epochs. Between the" in page
    assert "earliest of each it is 7.0 times as many." in page
    assert "| **3.50** |" in page
    assert "| 2.50 |" in page


def test_a_run_of_another_commit_is_told_apart(tmp_path):
    pytest.importorskip("matplotlib")
    runs = tmp_path / "runs"
    write_figure1(runs, "relu", 0.001, falling(5, 0.1))
    write_figure1(runs, "tanh", 0.001, falling(18, 0.02))
    (runs / "figure1-tanh-0.001-seed0/machine.json").write_text(machine("def"))
    _, page = report(runs, tmp_path / "page")
    assert "commit abc, 2026-01-02: `figure1-relu-0.001-seed0`.\n" in page
    assert "commit def, 2026-01-02: `figure1-tanh-0.001-seed0`.\n" in page


def test_a_run_that_stays_above_25_percent_is_not_of_the_search(tmp_path):
    pytest.importorskip("matplotlib")
    runs = tmp_path / "runs"
    write_figure1(runs, "relu", 0.001, falling(5, 0.1))
    write_figure1(runs, "tanh", 0.001, [0.3] * 240)
    write_figure1(runs, "tanh", 0.004, [0.9] * 4, train_epochs=1.0)
    write_chosen(runs, 0.001, 0.001)
    results, page = report(runs, tmp_path / "page")
    assert results["runs"]["figure1-tanh-0.001-seed0"] == "not reached"
    assert "1 of the search were left at 1 or 3 epochs" in page
    assert ", 1 with 25 % not reached in 60 epochs" in page
    assert "| 30.0 % | **not reached in 60 epochs** |" in page
    assert "chosen for tanh (not reached after 60.0 epochs, 30.0 %)." in page


def test_an_interval_of_many_pairs(tmp_path):
    pytest.importorskip("matplotlib")
    runs = tmp_path / "runs"
    for seed in range(1, 13):
        errors = {"cifar_13pct": 0.20 + 0.01 * (seed % 2), "cifar_11pct": 0.18}
        for net, error in errors.items():
            results = {"test_error": error, "test_error_9_crops": error}
            settings = {"net": net, "seed": seed, "train_epochs": 2.0}
            write_run(runs / f"lrn-{net}-seed{seed}", [0.3] * 8, results, **settings)
    _, page = report(runs, tmp_path / "page")
    # Gains 2 and 3 points, six each: s 0.522, s / sqrt(12) 0.151, t 2.201.
    assert "standard error 0.15, paired 95 % interval 2.17 to 2.83" in page


def test_pairs_in_which_lrn_does_harm(tmp_path):
    """The pair that is being judged is not finished."""
    pytest.importorskip("matplotlib")
    runs = tmp_path / "runs"
    errors = {1: (0.20, 0.21), 2: (0.20, 0.22), 3: (0.20, 0.23), 4: (0.20, None)}
    for seed, pair in errors.items():
        for net, error in zip(("cifar_13pct", "cifar_11pct"), pair, strict=True):
            results = error and {"test_error": error, "test_error_9_crops": error}
            settings = {"net": net, "seed": seed, "train_epochs": 2.0}
            write_run(runs / f"lrn-{net}-seed{seed}", [0.3] * 8, results, **settings)
    found, page = report(runs, tmp_path / "page")
    assert "LRN raises the test error by 2.00 percentage points** (nine" in page
    assert "paired 95 % interval -0.48 to 4.48, which holds zero" in page
    assert found["runs"]["lrn-cifar_11pct-seed4"] == "running"
    assert "`lrn-cifar_11pct-seed4` (2.00 epochs)" in page


def test_the_search_leaves_its_choice_behind(tmp_path):
    """Of finished runs, by their third epoch: the one that was earlier is not it."""
    errors = {0.0005: [0.7] * 12, 0.001: falling(5, 0.1), 0.004: [0.7] * 12}
    errors[0.002] = [0.6] * 12 + [0.1] * 4
    for name in ("relu", "tanh"):
        for rate, windows in errors.items():
            results = {"epoch": len(windows) / 4, "running_training_error": 0.0}
            write_figure1(tmp_path, name, rate, windows, results=results)
    runs = [cifar10_runs.read(folder) for folder in sorted(tmp_path.iterdir())]
    assert cifar10_runs.earliest(runs, "tanh").settings["learning_rate"] == 0.002
    assert cifar10.choose(cifar10.Runs(None, tmp_path)) == {
        "relu": 0.001,
        "tanh": 0.001,
    }
    text = (tmp_path / "chosen.json").read_text()
    assert json.loads(text) == {"relu": 0.001, "tanh": 0.001}


def test_page_of_runs_that_are_not_finished(tmp_path):
    pytest.importorskip("matplotlib")
    runs = tmp_path / "runs"
    write_figure1(runs, "relu", 0.001, falling(2, 0.1), train_epochs=60.0)
    _, page = report(runs, tmp_path / "page")
    assert "**Not decided yet**: the learning rates are still being chosen." in page
    assert "| relu | 0.001 | 0 |" in page
    write_chosen(runs, 0.001, 0.002)
    _, page = report(runs, tmp_path / "page")
    assert "**Not decided**: 25 % is not reached at the rate chosen for " in page
    assert "relu (running after 2.0 epochs, 45.0 %) and tanh (not begun)." in page
    assert "no pair of runs is finished" in page


def test_a_directory_without_runs(tmp_path):
    command = [sys.executable, str(EXPERIMENTS / "cifar10_report.py")]
    done = subprocess.run(
        [*command, f"--runs={tmp_path}", f"--output_dir={tmp_path / 'page'}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "name the --output_dir of cifar10.py" in done.stderr
    assert not (tmp_path / "page").exists()


def test_a_divergence_is_a_result_and_other_mistakes_are_not(tmp_path, monkeypatch):
    def fail(settings, data, model_dir):
        raise UserError("it cannot go on")

    monkeypatch.setattr(trainer, "train", fail)
    runs = cifar10.Runs(None, tmp_path)
    with pytest.raises(UserError, match="it cannot go on"):
        runs.figure1("relu", 0.001, 1)
    folder = tmp_path / "figure1-relu-0.001-seed0"
    assert "versions" in json.loads((folder / "machine.json").read_text())
    (folder / "results.json").write_text('{"diverged_by_step": 7}')
    assert runs.figure1("relu", 0.001, 1) == math.inf


def test_a_rate_that_diverged_later_keeps_its_early_error(tmp_path):
    """A search that is gone over again has to choose as it did."""
    runs = cifar10.Runs(None, tmp_path)
    write_figure1(
        *(tmp_path, "relu", 0.001, falling(4, 0.05)), results={"diverged_by_step": 17}
    )
    assert runs.figure1("relu", 0.001, 3) == pytest.approx(0.6 - 0.05 * 2.5)
