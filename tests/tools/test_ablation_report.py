"""The ablation's statistics and reports."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from ablating import hparams, plot, report, runs, statistics
from ablating import plan as plans
from ablating.plan import Claim
from ablating.statistics import Estimate
from ablation_plans import TINY, result, tiny_plan
from tensorboard import context
from tensorboard.backend.event_processing import (
    data_provider,
    plugin_event_multiplexer,
)
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from official.alexnet.errors import UserError

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
    """Of rows that share a baseline, and of seeds that are good or bad for all."""
    rng = np.random.default_rng(0)
    truth, hits, pooled_hits, count = 1.5, 0, 0, 2000
    for _ in range(count):
        values = rng.normal(0, 2.0, (14, 2)) + rng.normal(0, 5.0, 2)
        values[1:] += truth
        rows = {str(i): dict(enumerate(row)) for i, row in enumerate(values)}
        own = statistics.estimate(values[1] - values[0])
        hits += abs(own.mean - truth) <= own.half_width
        pooled = statistics.pooled(rows, "0")["1"]
        pooled_hits += abs(pooled.mean - truth) <= pooled.half_width
        assert pooled.mean == pytest.approx(own.mean)
    # Three standard deviations of a count of 2,000 at 95 % are 1.5 %. With the spread
    # of the 13 differences, taken as independent, it is 92 %.
    assert hits / count == pytest.approx(0.95, abs=0.015)
    assert pooled_hits / count == pytest.approx(0.95, abs=0.015)


def test_pooling_by_hand():
    rows = {"baseline": {0: 1.0, 1: 3.0}, "a": {0: 2.0, 1: 6.0}}
    # Row means 2 and 4, seed means 1.5 and 4.5: each cell is 0.5 off, 1 is free.
    assert statistics.noise(list(rows.values())) == (pytest.approx(1.0), 1)
    assert statistics.pooled(rows, "baseline") == {
        "a": Estimate(2.0, 2, pytest.approx(1.0), pytest.approx(12.7062, rel=1e-5))
    }
    # A row of one seed says nothing of the noise, others what they have.
    rows |= {"b": {0: 7.0}, "c": {}, "d": {5: 1.0}}
    found = statistics.pooled(rows, "baseline")
    assert found["a"].error == pytest.approx(1.0)
    assert found["b"].error == pytest.approx(math.sqrt(2))
    assert found["c"] is found["d"] is None
    one_seed = {"baseline": {3: 1.0}, "a": {3: 2.0}, "b": {3: 4.0}}
    assert statistics.pooled(one_seed, "baseline") == {
        "a": Estimate(1.0, 1),
        "b": Estimate(3.0, 1),
    }
    assert statistics.pooled({"baseline": {}, "a": {}}, "baseline") == {"a": None}


def test_noise_of_whole_tables_is_the_residual_of_rows_and_seeds():
    values = np.random.default_rng(1).normal(size=(5, 3))
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    rows = [dict(enumerate(row)) for row in values]
    assert statistics.noise(rows) == (pytest.approx((rest**2).sum() / 8), 8)


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


def write_run(folder, row, seed, data_dir="records", **train):
    """A finished run as its folder has it."""
    own = folder / row.name / f"seed{seed}"
    own.mkdir(parents=True)
    config = plans.run_config(row, seed, data_dir)
    train = dataclasses.replace(config.train, **train)
    text = dataclasses.replace(config, train=train).to_yaml()
    (own / runs.SETTINGS_FILE).write_text(text)
    (own / runs.RESULTS_FILE).write_text(json.dumps(result(row.name, seed, 30.0)))


def test_runs_of_other_settings_are_not_mixed(tmp_path):
    baseline, no_dropout = tiny_plan().rows
    for seed in (10, 9):
        write_run(tmp_path, baseline, seed)
    write_run(tmp_path, no_dropout, 9)
    found = report.collect(tiny_plan(), tmp_path, "records")
    names = [(each["row"], each["seed"]) for each in found]
    assert names == [("baseline", 9), ("baseline", 10), ("no_dropout", 9)]
    assert report.given_data_dir(tiny_plan(), tmp_path) == "records"
    with pytest.raises(UserError, match=r"seed10 holds a run with another data"):
        report.collect(tiny_plan(), tmp_path, "others")
    write_run(tmp_path, no_dropout, 4, learning_rate=0.5)
    with pytest.raises(UserError, match=r"seed4 holds a run with another train\.learn"):
        report.collect(tiny_plan(), tmp_path, "records")


def test_a_page_of_runs_with_other_data_is_refused(tmp_path):
    baseline, no_dropout = tiny_plan().rows
    write_run(tmp_path, baseline, 0)
    write_run(tmp_path, no_dropout, 0, data_dir="others")
    data_dir = report.given_data_dir(tiny_plan(), tmp_path)
    with pytest.raises(UserError, match=r"no_dropout/seed0 .* another data\.data_dir"):
        report.collect(tiny_plan(), tmp_path, data_dir)


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


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("paper", "paper"),
        ("plans/mine.yaml", "plans/mine.yaml"),
        ("/home/me/plans/mine.yaml", "mine.yaml"),
        ("../me/mine.yaml", "mine.yaml"),
    ],
)
def test_a_page_names_its_plan_but_no_place_of_the_machine(tmp_path, source, shown):
    plan = plans.parse(TINY, "mine", source)
    write_run(tmp_path / "runs", plan.rows[0], 0, data_dir="/data/records")
    metrics = tmp_path / "runs" / "baseline" / "seed0" / "metrics.jsonl"
    metrics.write_text('{"step": 1, "split": "train"}\n')
    report.write_page(plan, RESULTS[:1], tmp_path, tmp_path / "runs")
    text = (tmp_path / "README.md").read_text("utf-8")
    assert f"ablate.py --plan={shown} --seeds=0 " in text
    for place in (str(tmp_path), "/home", "..", "records", "imagenette"):
        assert place not in text


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
