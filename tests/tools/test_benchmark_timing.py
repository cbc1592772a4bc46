"""The benchmark's turns, ratios, bars and table, by a fake clock."""

import itertools
import json
import pathlib
import sys
import threading
import time

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))

from benchmarking import report, timing
from benchmarking.report import Fact
from benchmarking.settings import wait_until_idle
from benchmarking.timing import Row


class FakeClock:
    """A clock that stands still but for the work it is told of, and a diary."""

    def __init__(self):
        self.now = 100.0
        self.diary = []

    def __call__(self):
        return self.now

    def work(self, name, seconds):
        """Each call takes the next of `seconds`."""
        left = iter(seconds)

        def run():
            self.diary.append(name)
            self.now += next(left)

        return run


def interleave(clock, rows, rounds, warmup):
    settle = clock.work("settle", itertools.repeat(1000))
    timing.interleave(rows, rounds, warmup, clock=clock, settle=settle)


def test_rows_take_turns_and_only_their_own_work_is_timed():
    clock = FakeClock()
    a = Row("a", clock.work("a", [50, 1, 2, 4]), images=8)
    prepare = clock.work("prepare b", [7] * 4)
    b = Row("b", clock.work("b", [60, 10, 30, 20]), images=16, prepare=prepare)
    interleave(clock, [a, Row("absent"), b], rounds=3, warmup=1)
    assert clock.diary == ["settle", "a", "settle", "prepare b", "b"] * 4
    assert (a.samples, b.samples) == ([1, 2, 4], [10, 30, 20])
    assert [a.seconds_per_image, b.seconds_per_image] == [2 / 8, 20 / 16]
    assert timing.spread(a.samples) == pytest.approx((4 - 1) / 2)


def test_seconds_that_a_row_returns_count_instead_of_the_clock():
    clock = FakeClock()
    row = Row("child", lambda: 0.25)
    interleave(clock, [row], rounds=2, warmup=0)
    assert row.samples == [0.25, 0.25]


def test_ratios_are_of_each_round_and_by_the_image():
    """Of a machine that gets slower, the ratio of the medians would be 2."""
    slow = Row("slow", images=2, samples=[2.0, 8.0, 24.0])
    quick = Row("quick", images=1, samples=[1.0, 4.0, 4.0])
    assert slow.ratios(quick) == [1.0, 1.0, 3.0]


def test_waiting_until_idle_outlasts_other_threads():
    """While TensorFlow's threads work, the process is not idle."""
    started = time.monotonic()

    def work():
        while time.monotonic() < started + 0.3:
            np.ones((200, 200)) @ np.ones((200, 200))

    thread = threading.Thread(target=work)
    thread.start()
    wait_until_idle()
    assert time.monotonic() - started >= 0.3
    thread.join()


def fp32(name, *samples, **fields):
    return Row(name, dtype="fp32", samples=list(samples), **fields)


def bar_of(suite, words, rows, facts=()):
    (found,) = [bar for bar in report.check(suite, rows, facts) if words in bar["bar"]]
    return found


@pytest.mark.parametrize(("keras", "met"), [(4.1, True), (3.9, False)])
def test_bar_on_images_a_second(keras, met):
    rows = [fp32("ours", 1.0), fp32("plain Keras", keras)]
    found = bar_of("train_step", "plain Keras", rows)
    assert found["measured"] == pytest.approx(keras)
    assert found["met"] is met


@pytest.mark.parametrize(("ours", "met"), [(1.09, True), (1.11, False)])
def test_bar_on_the_limit(ours, met):
    rows = [fp32("ours", ours), fp32("limit", 1.0)]
    assert bar_of("train_step", "limit", rows)["met"] is met


def test_a_bar_is_the_median_of_paired_ratios_with_its_spread():
    rows = [fp32("ours", 1.0, 2.0, 4.0), fp32("limit", 1.0, 1.0, 4.0)]
    found = bar_of("train_step", "limit", rows)
    assert (found["measured"], found["spread"]) == (1.0, 1.0)


def test_of_a_peers_forms_the_fastest_counts():
    rows = [
        fp32("ours", 1.0),
        fp32("ONNX Runtime", 3.0, form="a"),
        fp32("ONNX Runtime", 2.0, form="b"),
        Row("ONNX Runtime", dtype="bf16", form="c", samples=[1.0]),
    ]
    assert bar_of("inference", "ONNX Runtime", rows)["measured"] == 2.0


def test_facts_have_bars_and_what_is_absent_is_not_measured():
    facts = [
        Fact("large set: peak memory", 540.0, "MB"),
        Fact("small set: peak memory", 500.0, "MB"),
    ]
    found = bar_of("scaling", "memory", [], facts)
    assert (found["measured"], found["met"]) == (pytest.approx(1.08), True)
    data = report.as_data([], facts, report.check("scaling", [], facts))
    assert "small set: peak memory     1.080          yes" in report.table("", data)
    absent = bar_of("scaling", "first batch", [], facts)
    assert (absent["measured"], absent["met"]) == (None, None)


def test_table_and_data():
    rows = [
        fp32("ours", 2.0, 1.0, 1.5, images=4),
        fp32("plain Keras", 8.0, 5.0, 6.0, form="fit", images=4, note="words"),
        Row("PyTorch", dtype="fp32", note="skipped: torch is not installed"),
    ]
    facts = [Fact("peak memory", 1234.5, "MB")]
    checks = report.check("train_step", rows, facts)
    data = json.loads(json.dumps(report.as_data(rows, facts, checks)))
    assert data["rows"][1] == {
        "name": "plain Keras",
        "form": "fit",
        "dtype": "fp32",
        "note": "words",
        "images_per_sample": 4,
        "calls_per_sample": 1,
        "samples_s": [8.0, 5.0, 6.0],
        "median_ms": 6000.0,
        "min_ms": 5000.0,
        "spread": 0.5,
        "images_per_second": pytest.approx(4 / 6),
        "against": "ours",
        "ratio": 4.0,
        "ratio_spread": 0.25,
    }
    assert data["rows"][2]["samples_s"] == []
    assert data["facts"] == [{"name": "peak memory", "value": 1234.5, "unit": "MB"}]
    lines = report.table("train_step", data).splitlines()
    figures = ["6,000.0", "5,000.0", "50%", "0.7", "4.000", "25%", "words"]
    assert lines[2].split()[-7:] == figures
    assert lines[2].startswith("plain Keras, fit fp32")
    assert lines[3].endswith("skipped: torch is not installed")
    assert any("1,234.50  MB" in line for line in lines)
    assert any("4 x plain Keras" in line and "25%  yes" in line for line in lines)
    assert any("3.3 x PyTorch" in line and "not measured" in line for line in lines)
