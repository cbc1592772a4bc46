"""The ablation's statistics and reports."""

import csv
import dataclasses
import gzip
import json
import math
import pathlib

import numpy as np
import pandas as pd
import pytest
from ablating import effects, hparams, plot, report, runs
from ablating import plan as plans
from ablation_plans import result, tiny_plan
from tensorboard import context
from tensorboard.backend.event_processing import data_provider, plugin_event_multiplexer
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import api_pb2, backend_context, list_session_groups

from official.alexnet import run_files
from official.alexnet.errors import UserError

# Statistics


def effects_of(**rows):
    return effects.effects(pd.DataFrame(rows, dtype=float)).T.to_dict()


def test_intervals_hold_the_truth_in_95_of_100_cases():
    """Of rows that share a baseline, and of seeds that are good or bad for all."""
    rng = np.random.default_rng(0)
    names, hits = [plans.BASELINE, *map(str, range(13))], np.zeros(2)
    for _ in range(300):
        values = rng.normal(0, 2.0, (2, 14)) + rng.normal(0, 5.0, (2, 1))
        values[:, 1:] += 1.5
        found = effects.effects(pd.DataFrame(values, columns=names))
        off = (found["mean"] - 1.5).abs()
        hits += [(off <= found["own"]).mean(), (off <= found["pooled"]).mean()]
    # With the spread of the 13 differences, taken as independent, it is 92 %.
    np.testing.assert_allclose(hits / 300, 0.95, atol=0.015)


def test_intervals_by_hand():
    found = effects_of(baseline=[1, 3], a=[2, 6])["a"]
    # Differences 1 and 3: 2 +- 1, and 12.7062 times that.
    assert (found["mean"], found["count"], found["sem"]) == (2, 2, 1)
    assert found["own"] == pytest.approx(12.7062, rel=1e-5)
    # Row means 2 and 4, seed means 1.5 and 4.5: each cell is 0.5 off, 1 is free.
    assert found["pooled"] == pytest.approx(12.7062, rel=1e-5)
    none = math.nan
    table = effects_of(
        baseline=[1, 3, none], a=[2, 6, none], b=[7, none, none], c=[none, none, 1]
    )
    # A row of one seed says nothing of the noise, others what they have.
    assert table["a"]["pooled"] == pytest.approx(12.7062, rel=1e-5)
    assert table["b"]["mean"] == 6
    assert table["b"]["pooled"] == pytest.approx(12.7062 * math.sqrt(2), rel=1e-5)
    assert table["c"]["count"] == 0
    assert math.isnan(table["b"]["own"]) and math.isnan(table["c"]["pooled"])
    one_seed = effects_of(baseline=[1], a=[2])["a"]
    assert one_seed["mean"] == 1
    assert all(math.isnan(one_seed[name]) for name in ("sem", "own", "pooled"))


def test_noise_of_whole_tables_is_the_residual_of_rows_and_seeds():
    values = np.random.default_rng(1).normal(size=(3, 5))
    rest = values - values.mean(1, keepdims=True) - values.mean(0) + values.mean()
    expected = (pytest.approx((rest**2).sum() / 8), 8)
    assert effects.noise(pd.DataFrame(values)) == expected


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
    assert "| +2.0 top-1 (section 4.2) |" in change


def write_run(folder, row, seed, data_dir="records", **train):
    """A finished run as its folder has it."""
    own = folder / row.name / f"seed{seed}"
    own.mkdir(parents=True)
    config = plans.run_config(row, seed, data_dir)
    train = dataclasses.replace(config.train, **train)
    text = dataclasses.replace(config, train=train).to_yaml()
    (own / run_files.PARAMS_FILE).write_text(text)
    (own / runs.RESULTS_FILE).write_text(json.dumps(result(row.name, seed, 30.0)))


def test_runs_of_other_settings_are_not_mixed(tmp_path):
    baseline, no_dropout = tiny_plan().rows
    for seed in (10, 9):
        write_run(tmp_path, baseline, seed)
    write_run(tmp_path, no_dropout, 9)
    found = report.collect(tiny_plan(), tmp_path, "records")
    names = [(each["row"], each["seed"]) for each in found]
    assert names == [("baseline", 9), ("baseline", 10), ("no_dropout", 9)]
    with pytest.raises(UserError, match=r"seed10 holds a run with another data"):
        report.collect(tiny_plan(), tmp_path, "others")
    write_run(tmp_path, no_dropout, 4, learning_rate=0.5)
    with pytest.raises(UserError, match=r"seed4 holds a run with another train\.learn"):
        report.collect(tiny_plan(), tmp_path, "records")


def test_csv():
    lines = list(csv.DictReader(report.as_csv(RESULTS).splitlines()))
    assert [line["ten_crop_top_1_error"] for line in lines] == [
        *("30.0", "32.0", "33.0", "35.5")
    ]
    assert list(lines[0]) == list(report.COLUMNS)


def test_the_kept_tables_are_written_again():
    """The tables of the runs whose CSV is in docs/results."""
    folder = plans.PACKAGED.parents[1] / "docs" / "results" / "ablation"
    plan = plans.load("imagenette_small")
    frame = pd.read_csv(folder / "results.csv")
    results = frame.to_dict("records")
    assert report.as_csv(results) == (folder / "results.csv").read_text("utf-8")
    golden = pathlib.Path(__file__).parent / "goldens" / "ablation_table.md"
    expected = golden.read_text("utf-8")
    assert report.as_tables(plan, results) == expected


def test_what_is_written(tmp_path):
    for each in RESULTS:
        folder = tmp_path / each["row"] / f"seed{each['seed']}"
        folder.mkdir(parents=True)
        (folder / "metrics.jsonl").write_text('{"step": 1, "split": "train"}\n')
    report.write(tiny_plan(), RESULTS[:3], tmp_path)
    text = (tmp_path / "table.md").read_text("utf-8")
    assert text.startswith("3 of 4 runs of the plan `tiny` are finished: seeds 0,1.\n")
    assert "Commit abc;\ntensorflow 2.\n" in text
    assert str(tmp_path) not in text
    lines = gzip.decompress((tmp_path / "metrics.jsonl.gz").read_bytes()).splitlines()
    assert [json.loads(line) for line in lines] == [
        {"row": each["row"], "seed": each["seed"], "step": 1, "split": "train"}
        for each in RESULTS[:3]
    ]


def test_the_plot_is_drawn(tmp_path):
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
