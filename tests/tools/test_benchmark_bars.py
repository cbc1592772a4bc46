"""The benchmark's bars, and the table and the data that it writes."""

import json
import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))

from benchmarking import bars, table
from benchmarking.timing import Row


def rows_of(**seconds):
    """Rows of one image a sample, named `ours_fp32` for ours in fp32."""
    made = []
    for key, value in seconds.items():
        name, dtype = key.replace("_", " ").rsplit(" ", 1)
        made.append(Row(name, dtype, samples=(value,)))
    return made


def check_of(suite, words, rows, facts=()):
    (found,) = [c for c in bars.check(suite, rows, facts) if words in c.bar.words]
    return found


@pytest.mark.parametrize(("keras", "met"), [(4.1, True), (3.9, False)])
def test_bar_on_images_a_second(keras, met):
    rows = [*rows_of(ours_fp32=1.0), Row("plain Keras", "fp32", samples=(keras,))]
    found = check_of("train_step", "plain Keras", rows)
    assert found.value == pytest.approx(keras)
    assert found.met is met


@pytest.mark.parametrize(("ours", "met"), [(1.09, True), (1.11, False)])
def test_bar_on_the_limit(ours, met):
    found = check_of("train_step", "limit", rows_of(ours_fp32=ours, limit_fp32=1.0))
    assert found.met is met


@pytest.mark.parametrize(("libjpeg", "met"), [(0.9, True), (0.8, False)])
def test_bar_below_one(libjpeg, met):
    """Ours in 1 s does at least 0.85 of the images a second of another in 0.9 s."""
    rows = [Row("ours", samples=(1.0,)), Row("libjpeg-turbo", samples=(libjpeg,))]
    assert check_of("input", "libjpeg", rows).met is met


def test_of_a_peers_forms_the_fastest_counts():
    rows = [
        *rows_of(ours_fp32=1.0),
        Row("ONNX Runtime", "fp32", "a", samples=(3.0,)),
        Row("ONNX Runtime", "fp32", "b", samples=(2.0,)),
        Row("ONNX Runtime", "bf16", "c", samples=(1.0,)),
    ]
    assert check_of("inference", "ONNX Runtime", rows).value == pytest.approx(2.0)


def test_images_count():
    """A sample of ten steps is compared by the image."""
    rows = [
        Row("synthetic data", "fp32", images=10, samples=(10.0,)),
        Row("records", "fp32", images=20, samples=(20.2,)),
    ]
    found = check_of("end_to_end", "fp32", rows)
    assert found.value == pytest.approx(1 / 1.01)


def test_facts_have_bars_and_what_is_absent_is_not_measured():
    facts = [
        bars.Fact("large set: peak memory", 540.0, "MB"),
        bars.Fact("small set: peak memory", 500.0, "MB"),
    ]
    assert check_of("scaling", "memory", [], facts).value == pytest.approx(1.08)
    absent = check_of("scaling", "first batch", [], facts)
    assert (absent.value, absent.met) == (None, None)


def test_table_and_data():
    rows = [
        Row("ours", "fp32", images=4, samples=(2.0, 1.0, 1.5)),
        Row("plain Keras", "fp32", "fit", images=4, samples=(6.0,), note="words"),
        Row("PyTorch", "fp32", note="skipped: torch is not installed"),
    ]
    facts = [bars.Fact("peak memory", 1234.5, "MB")]
    checks = bars.check("train_step", rows, facts)
    lines = table.show("train_step", rows, facts, checks).splitlines()
    assert lines[0].split()[0] == "train_step"
    assert lines[1].split() == [
        "ours",
        "fp32",
        *["1,500.0", "1,000.0", "67", "%", "2.7", "1.00"],
    ]
    assert lines[2].split()[-2:] == ["4.00", "words"]
    assert lines[2].startswith("plain Keras, fit fp32")
    assert lines[3].endswith("skipped: torch is not installed")
    assert any("1,234.50  MB" in line for line in lines)
    assert any("4 x plain Keras" in line and "4.000  yes" in line for line in lines)
    assert any("3.3 x PyTorch" in line and "not measured" in line for line in lines)

    data = json.loads(json.dumps(table.as_data(rows, facts, checks)))
    assert data["rows"][0] == {
        "name": "ours",
        "form": "",
        "dtype": "fp32",
        "note": "",
        "images_per_sample": 4,
        "calls_per_sample": 1,
        "samples_s": [2.0, 1.0, 1.5],
        "median_ms": 1500.0,
        "min_ms": 1000.0,
        "spread": pytest.approx(2 / 3),
        "images_per_second": pytest.approx(4 / 1.5),
        "against": "ours",
        "ratio_to_ours": 1.0,
    }
    assert data["rows"][1]["ratio_to_ours"] == 4.0
    assert data["rows"][2]["samples_s"] == []
    assert data["facts"] == [{"name": "peak memory", "value": 1234.5, "unit": "MB"}]
    keras = next(bar for bar in data["bars"] if "Keras" in bar["bar"])
    assert (keras["at_least"], keras["measured"], keras["met"]) == (4.0, 4.0, True)
