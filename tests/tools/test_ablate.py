"""The ablation: plans, statistics, reports, and runs interrupted and resumed."""

import contextlib
import csv
import dataclasses
import json
import math
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from tensorboard import context
from tensorboard.backend.event_processing import (
    data_provider,
    plugin_event_multiplexer,
)
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

ROOT = pathlib.Path(__file__).parents[2]
TOOLS = ROOT / "tools"
sys.path.insert(0, str(TOOLS))

from ablating import hparams, plot, report, runs, statistics  # noqa: E402
from ablating import plan as plans  # noqa: E402
from ablating.plan import Claim  # noqa: E402
from ablating.statistics import Estimate  # noqa: E402

from official.alexnet.errors import UserError  # noqa: E402

TIMES = ("seconds", "cpu_seconds", "images_per_second")
TINY = """
title: A tiny plan
baseline:
  model: {num_classes: 3, width: 0.0625, input_size: 64, init: unit_variance}
  data: {input_scale: unit_variance}
  train:
    {batch_size: 8, train_steps: 2, schedule: constant, log_steps: 1,
     checkpoint_steps: 1, steps_per_loop: 1}
changes:
  no_dropout:
    settings: {model: {dropout: 0}}
    paper: {effect: worse, section: section 4.2, says: it overfits, top_1: 2}
"""


# Plans


@pytest.mark.parametrize("name", ["paper", "imagenette_small"])
def test_packaged_plans_have_the_papers_comparisons(name):
    plan = plans.load(name)
    rows = {row.name: row for row in plan.rows}
    assert list(rows) == [
        *("baseline", "no_conv1", "no_conv2", "no_conv3", "no_conv4", "no_conv5"),
        *("no_dropout", "no_lrn", "batch_norm", "pool2x2", "no_color_noise"),
        *("no_crops", "one_gpu", "tanh"),
    ]
    figures = {
        name: (row.claim.top_1, row.claim.top_5)
        for name, row in rows.items()
        if row.claim and row.claim.top_5
    }
    # Sections 3.2, 3.3 and 3.4.
    assert figures == {
        "no_lrn": (1.4, 1.2),
        "pool2x2": (0.4, 0.3),
        "one_gpu": (1.7, 1.2),
    }
    assert rows["batch_norm"].claim is None
    assert rows["tanh"].claim.measure == "train_loss"


def test_the_paper_plan_is_the_papers_recipe():
    plan = plans.load("paper")
    base = plan.rows[0].config
    assert (base.model.num_classes, base.train.train_epochs) == (1000, 90)
    (one_gpu,) = [row for row in plan.rows if row.name == "one_gpu"]
    halves = [conv.filters for conv in one_gpu.config.model.net().convolutions]
    assert halves == [48, 128, 192, 192, 256]
    assert dataclasses.replace(one_gpu.config, model=base.model) == base


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("changes:", "change:", "no key 'change'; did you mean changes?"),
        ("width: 0.0625", "widht: 1", "baseline: model has no 'widht'; did you mean"),
        ("dropout: 0", "dropot: 0", "no_dropout: model has no 'dropot'; did you"),
        ("dropout: 0", "dropout: 1", "no_dropout: --dropout should be in"),
        ("{model: {dropout: 0}}", "{train: {batch_size: 8}}", "are the baseline's"),
        ("{model: {dropout: 0}}", "{}", "no_dropout changes nothing"),
        ("settings: {model", "setings: {model", "no_dropout has no key 'setings'"),
        ("effect: worse", "effect: bad", "paper: effect should be one of worse, bet"),
        ("effect: worse, ", "", "paper lacks effect"),
        ("top_1: 2", "top_1: two", "top_1 should be points of error, not 'two'"),
        ("top_1: 2", "top1: 2", "paper has no key 'top1'; did you mean top_1?"),
        ("  no_dropout:", "  No Dropout:", "a row's name is a folder's"),
        ("  no_dropout:", "  baseline:", "not baseline"),
        ("schedule: constant", "skip_eval: true, schedule: constant", "skip_eval"),
        ("schedule: constant", "eval_crops: 10, schedule: constant", "eval_crops"),
        ("title: A", "title: [A", "is not YAML"),
    ],
)
def test_a_mistake_in_a_plan_is_named(old, new, said):
    assert old in TINY
    with pytest.raises(UserError) as error:
        plans.parse(TINY.replace(old, new), "tiny", "tiny.yaml")
    assert said in str(error.value)
    assert str(error.value).startswith("tiny.yaml")


def test_only_names_rows():
    plan = plans.load("paper")
    chosen = plans.choose(plan, ["tanh", "no_lrn"])
    assert [row.name for row in chosen.rows] == ["baseline", "no_lrn", "tanh"]
    with pytest.raises(UserError, match="no row 'thanh'; did you mean tanh"):
        plans.choose(plan, ["thanh"])


def test_all_rows_of_a_seed_come_before_the_next(tmp_path):
    todo = runs.runs_of(tiny_plan(), [3, 1], tmp_path, "records")
    names = [run.name for run in todo]
    assert names == [
        *("baseline/seed3", "no_dropout/seed3", "baseline/seed1", "no_dropout/seed1")
    ]
    assert todo[1].config.train.seed == 3
    assert todo[1].config.data.data_dir == "records"


# Statistics


@pytest.mark.parametrize(
    ("freedom", "probability", "value"),
    [  # Abramowitz and Stegun, table 26.10.
        (1, 0.975, 12.706),
        (2, 0.975, 4.303),
        (3, 0.975, 3.182),
        (4, 0.975, 2.776),
        (10, 0.975, 2.228),
        (30, 0.975, 2.042),
        (120, 0.975, 1.980),
        (1, 0.75, 1.000),
        (2, 0.995, 9.925),
        (5, 0.95, 2.015),
        (5, 0.05, -2.015),
    ],
)
def test_t_quantiles_are_the_tables(freedom, probability, value):
    assert statistics.t_quantile(probability, freedom) == pytest.approx(value, abs=6e-4)


def test_t_quantiles_of_one_and_two_degrees_have_a_closed_form():
    for p in (0.6, 0.9, 0.975):
        cauchy = math.tan(math.pi * (p - 0.5))
        assert statistics.t_quantile(p, 1) == pytest.approx(cauchy, rel=1e-9)
        two = (2 * p - 1) / math.sqrt(2 * p * (1 - p))
        assert statistics.t_quantile(p, 2) == pytest.approx(two, rel=1e-9)


def test_an_estimate_by_hand():
    found = statistics.estimate([1.0, 2.0, 6.0])
    # Deviations -2, -1, 3: variance 14 / 2.
    assert found.mean == 3
    assert found.error == pytest.approx(math.sqrt(7 / 3))
    assert found.half_width == pytest.approx(4.30265 * math.sqrt(7 / 3), rel=1e-5)
    assert statistics.estimate([2.5]) == Estimate(2.5, 1)
    assert statistics.estimate([]) is None


def test_intervals_hold_the_truth_in_95_of_100_cases():
    rng = np.random.default_rng(0)
    truth, hits, pooled_hits, count = 1.5, 0, 0, 2000
    for _ in range(count):
        groups = rng.normal(truth, 2.0, (5, 3))
        own = statistics.estimate(groups[0])
        hits += abs(own.mean - truth) <= own.half_width
        pooled = statistics.pooled([list(group) for group in groups])[0]
        pooled_hits += abs(pooled.mean - truth) <= pooled.half_width
        assert pooled.mean == pytest.approx(own.mean)
    # Three standard deviations of a count of 2,000 at 95 % are 1.5 %.
    assert hits / count == pytest.approx(0.95, abs=0.015)
    assert pooled_hits / count == pytest.approx(0.95, abs=0.015)


def test_pooling_by_hand():
    first, second, third, fourth = statistics.pooled([[1, 3], [0, 3, 6], [5], []])
    # Squares 2 and 18 over 1 + 2 degrees of freedom.
    assert first.error == pytest.approx(math.sqrt(20 / 3 / 2))
    assert second.error == pytest.approx(math.sqrt(20 / 3 / 3))
    assert second.half_width == pytest.approx(3.18245 * second.error, rel=1e-5)
    assert third.error == pytest.approx(math.sqrt(20 / 3))
    assert fourth is None
    assert statistics.pooled([[5], [7]]) == [Estimate(5, 1), Estimate(7, 1)]


def test_differences_are_paired_by_seed():
    assert statistics.paired({0: 5.0, 2: 7.0, 3: 1.0}, {0: 4.0, 1: 9.0, 2: 7.5}) == {
        0: 1.0,
        2: -0.5,
    }


@pytest.mark.parametrize(
    ("effect", "mean", "half_width", "expected"),
    [
        ("worse", 2.0, 1.0, "yes"),
        ("worse", -2.0, 1.0, "no"),
        ("worse", 2.0, 3.0, "not distinguishable"),
        ("worse", -2.0, 3.0, "not distinguishable"),
        ("better", -2.0, 1.0, "yes"),
        ("better", 2.0, 1.0, "no"),
        ("worse", 2.0, None, "one seed"),
    ],
)
def test_verdicts(effect, mean, half_width, expected):
    claim = Claim(effect, "section 1", "so")
    assert report.verdict(claim, Estimate(mean, 2, 0.5, half_width)) == expected


def test_verdicts_of_nothing():
    assert report.verdict(None, Estimate(1.0, 2, 0.1, 0.2)) == "-"
    assert report.verdict(Claim("worse", "section 1", "so"), None) == "not run"


# Reports


def tiny_plan() -> plans.Plan:
    return plans.parse(TINY, "tiny", "tiny.yaml")


def result(row, seed, error, **changes):
    values = dict.fromkeys(report.COLUMNS, 1.0) | {
        "row": row,
        "seed": seed,
        "ten_crop_top_1_error": error,
        "parameters": 1234,
        "log_steps": 1,
        "commit": "abc",
        "versions": {"tensorflow": "2"},
    }
    return values | changes


RESULTS = [
    result("baseline", 0, 30.0),
    result("baseline", 1, 32.0),
    result("no_dropout", 0, 33.0),
    result("no_dropout", 1, 35.5),
]


def test_tables():
    text = report.as_tables(tiny_plan(), RESULTS)
    baseline = next(line for line in text.splitlines() if "| baseline |" in line)
    assert "| 31.0 ± 1.0 |" in baseline
    assert "| 1,234 |" in baseline
    change = [line for line in text.splitlines() if "| no_dropout |" in line][1]
    # 3.0 and 3.5: 3.25 +- 0.25, and 12.706 times that.
    assert "| +3.2 ± 0.2 | +0.1 to +6.4 |" in change
    assert "| +2.0 top-1 (section 4.2) | yes | yes |" in change


def test_csv():
    lines = list(csv.DictReader(report.as_csv(RESULTS).splitlines()))
    assert [line["ten_crop_top_1_error"] for line in lines] == [
        *("30.0", "32.0", "33.0", "35.5")
    ]
    assert list(lines[0]) == list(report.COLUMNS)


def test_a_page_keeps_the_text_around_its_results(tmp_path):
    for each in RESULTS:
        folder = tmp_path / "runs" / each["row"] / f"seed{each['seed']}"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n')
    page = tmp_path / "README.md"
    arguments = (tmp_path, tmp_path / "runs")
    report.write_page(tiny_plan(), RESULTS[:2], *arguments)
    first = page.read_text("utf-8")
    assert first.startswith("# A tiny plan\n")
    page.write_text(f"# Mine\n\nBefore.\n{first.partition(chr(10))[2]}\nAfter.\n")
    report.write_page(tiny_plan(), RESULTS, *arguments)
    text = page.read_text("utf-8")
    assert text.startswith("# Mine\n\nBefore.\n")
    assert text.endswith("\n\nAfter.\n")
    assert text.count("| baseline |") == 1
    assert "4 of 4 runs" in text
    report.write_page(tiny_plan(), RESULTS, *arguments)
    assert page.read_text("utf-8") == text


def test_the_plot_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    plot.draw(tiny_plan(), RESULTS, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")
    plot.draw(tiny_plan(), RESULTS[:1], tmp_path / "one.png")
    assert (tmp_path / "one.png").is_file()


def test_tensorboard_reads_the_table(tmp_path):
    hparams.write(tiny_plan(), RESULTS, tmp_path / "hparams")
    hparams.write(tiny_plan(), RESULTS, tmp_path / "hparams")
    groups = read_hparams(tmp_path / "hparams")
    assert {name: values["difference"] for name, values in groups.items()} == {
        "baseline": 0.0,
        "no_dropout": 3.25,
    }
    assert groups["baseline"]["ten_crop_top_1_error"] == 31.0
    assert groups["baseline"]["ten_crop_top_1_standard_error"] == 1.0
    assert groups["no_dropout"]["difference_standard_error"] == 0.25


def read_hparams(folder) -> dict[str, dict[str, float]]:
    """Groups of sessions as TensorBoard's own backend gives them to its tab."""
    multiplexer = plugin_event_multiplexer.EventMultiplexer()
    multiplexer.AddRunsFromDirectory(str(folder)).Reload()
    provider = data_provider.MultiplexerDataProvider(multiplexer, str(folder))
    backend = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request_context = context.RequestContext()
    experiment = backend.experiment_from_metadata(
        request_context,
        "",
        include_metrics=True,
        hparams_run_to_tag_to_content=backend.hparams_metadata(request_context, ""),
        data_provider_hparams=[],
    )
    request = api_pb2.ListSessionGroupsRequest(
        allowed_statuses=[0, 1, 2, 3],
        aggregation_type=api_pb2.AGGREGATION_AVG,
        start_index=0,
        slice_size=100,
        include_metrics=True,
    )
    for metric in experiment.metric_infos:
        column = request.col_params.add()
        column.metric.CopyFrom(metric.name)
    found = list_session_groups.Handler(request_context, backend, "", request).run()
    return {
        group.hparams["row"].string_value: {
            metric.name.tag: metric.value for metric in group.metric_values
        }
        for group in found.session_groups
    }


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
    monkeypatch.setattr(runs, "_count_parameters", lambda checkpoint: 7)
    todo = runs.runs_of(tiny_plan(), [0], tmp_path / "out", "records")
    for run in todo:
        runs.prepare(run)
    return todo


def starts(run) -> list[str]:
    return (run.folder / "starts").read_text().split()


def test_a_run_gives_results_and_leaves_them_behind(fake_runs, tmp_path):
    run = fake_runs[0]
    assert run.results() is None
    with runs.locked(tmp_path / "out") as lock:
        results = runs.execute(run, lock)
    assert run.results() == results
    assert starts(run) == ["train", "eval"]
    assert results["top_1_error"] == 50
    assert results["ten_crop_top_1_error"] == 25
    assert (results["steps"], results["parameters"]) == (2, 7)
    assert results["images_per_second"] == 8
    assert results["cpu_seconds"] > 0


def test_a_failed_child_is_told_with_its_last_words(fake_runs, tmp_path):
    run = fake_runs[0]
    (run.folder / "fail").touch()
    with runs.locked(tmp_path / "out") as lock:
        with pytest.raises(runs.RunFailed, match=r"status 1: .*the loss was nan"):
            runs.execute(run, lock)
        assert run.results() is None
        (run.folder / "fail").unlink()
        assert runs.execute(run, lock)["steps"] == 2


def test_an_interruption_stops_the_child(fake_runs, tmp_path):
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
    with runs.locked(tmp_path / "out") as lock:
        with pytest.raises(KeyboardInterrupt):
            runs.execute(run, lock)
        killer.wait()
        assert starts(run) == ["train"]
        (line,) = (run.folder / "commands.jsonl").read_text().splitlines()
        assert json.loads(line)["status"] == -signal.SIGTERM
        (run.folder / "wait").unlink()
        runs.execute(run, lock)
    assert starts(run) == ["train", "train", "eval"]


def test_only_one_process_at_a_time(tmp_path):
    taken = pytest.raises(UserError, match="another process is at work")
    with runs.locked(tmp_path) as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=[lock])
        with taken, runs.locked(tmp_path):
            pass
    with taken, runs.locked(tmp_path):
        pass
    child.kill()
    child.wait()
    with runs.locked(tmp_path):
        pass


def test_other_settings_in_a_folder_are_refused(fake_runs, tmp_path):
    run = fake_runs[0]
    train = dataclasses.replace(run.config.train, learning_rate=0.5)
    changed = dataclasses.replace(run.config, train=train)
    # Nothing was started there.
    runs.prepare(dataclasses.replace(run, config=changed))
    runs.prepare(run)
    (run.folder / "log.txt").touch()
    with pytest.raises(UserError, match=r"seed0 holds a run with another train\.learn"):
        runs.prepare(dataclasses.replace(run, config=changed))
    runs.prepare(run)


# As a user runs it


def ablate(*arguments, **options):
    return subprocess.Popen(
        [sys.executable, str(TOOLS / "ablate.py"), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
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
        (["--plan=paper", "--report"], "--report needs --report_dir"),
        (["--plan=paper", "--report", "--report_dir=x"], "has no finished run of this"),
        (["--plan=paper", "--only=thanh"], "did you mean tanh?"),
    ],
)
def test_mistakes_take_one_line(tmp_path, arguments, said):
    pytest.importorskip("matplotlib")
    process = ablate(*arguments, f"--output_dir={tmp_path / 'out'}")
    _, error = process.communicate()
    assert process.returncode == 2
    assert said in error.splitlines()[-1]
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


def test_list_prints_the_rows():
    process = ablate("--plan=paper", "--list")
    output, _ = process.communicate()
    assert process.returncode == 0
    assert len(output.splitlines()) == 15
    assert json.loads(output.splitlines()[-1]) == {"plan": "paper", "rows": 14}


def test_all_runs_failing_is_told(tmp_path):
    pytest.importorskip("matplotlib")
    plan = tmp_path / "tiny.yaml"
    plan.write_text(TINY)
    (tmp_path / "train-00000-of-00001").write_text("no records")
    arguments = (f"--plan={plan}", f"--output_dir={tmp_path / 'out'}", "--seeds=0")
    process = ablate(*arguments, f"--data_dir={tmp_path}")
    output, error = process.communicate()
    assert process.returncode == 2
    assert "baseline/seed0 failed: status 2: alexnet-train: " in output
    assert "2 run(s) failed" in error.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.reliability
def test_interrupted_and_resumed_is_as_uninterrupted(tmp_path, records_dir):
    plan = tmp_path / "tiny.yaml"
    plan.write_text(TINY)

    def arguments(name):
        return (
            f"--plan={plan}",
            f"--data_dir={records_dir}",
            f"--output_dir={tmp_path / name}",
            "--seeds=0,1",
        )

    whole = ablate(*arguments("whole"))
    output, error = whole.communicate()
    assert whole.returncode == 0, error
    assert json.loads(output.splitlines()[-1])["finished_runs"] == 4

    # Stopped in the second row's training, after its first checkpoint; then killed,
    # with its child, in the second seed.
    for signal_number, row, seed in (
        (signal.SIGTERM, "no_dropout", 0),
        (signal.SIGKILL, "baseline", 1),
    ):
        stopped = ablate(*arguments("stopped"), start_new_session=True)
        folder = tmp_path / "stopped" / row / f"seed{seed}"
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
    assert "2 of 4 runs are finished" in output

    def lines(name):
        text = (tmp_path / name / "results.csv").read_text("utf-8")
        rows = list(csv.DictReader(text.splitlines()))
        return [
            {key: value for key, value in row.items() if key not in TIMES}
            for row in rows
        ]

    assert len(lines("whole")) == 4
    assert lines("stopped") == lines("whole")
    assert lines("whole")[0] != lines("whole")[1]

    again = ablate(*arguments("whole"), "--report", f"--report_dir={tmp_path / 'r'}")
    again.communicate()
    assert again.returncode == 0
    written = sorted(path.name for path in (tmp_path / "r").iterdir())
    assert written == [
        *("README.md", "metrics.jsonl.gz", "plot.png", "results.csv", "table.md")
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
