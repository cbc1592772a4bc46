"""The benchmark's turns and statistics, by a fake clock."""

import itertools
import pathlib
import sys

import numpy as np
import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))

from benchmarking import timing
from benchmarking.timing import Contender


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


def interleave(clock, contenders, rounds, warmup):
    return timing.interleave(
        contenders,
        rounds,
        warmup,
        clock=clock,
        settle=clock.work("settle", itertools.repeat(1000)),
    )


def test_contenders_take_turns_and_only_their_own_work_is_timed():
    clock = FakeClock()
    rows = interleave(
        clock,
        [
            Contender("a", clock.work("a", [50, 1, 2, 4]), images=8),
            Contender(
                "b",
                clock.work("b", [60, 10, 30, 20]),
                images=16,
                prepare=clock.work("prepare b", [7] * 4),
            ),
        ],
        rounds=3,
        warmup=1,
    )
    assert clock.diary == ["settle", "a", "settle", "prepare b", "b"] * 4
    assert [row.samples for row in rows] == [(1, 2, 4), (10, 30, 20)]
    assert [row.median for row in rows] == [2, 20]
    assert [row.seconds_per_image for row in rows] == [2 / 8, 20 / 16]
    assert rows[0].spread == pytest.approx((4 - 1) / 2)


def test_a_contender_of_few_rounds_has_no_warm_up():
    clock = FakeClock()
    few = Contender("few", clock.work("few", [5, 6]), images=1, rounds=2)
    all_ = Contender("all", clock.work("all", [1] * 5), images=1)
    rows = interleave(clock, [all_, few], rounds=4, warmup=1)
    order = [name for name in clock.diary if name != "settle"]
    assert order == ["all", "all", "few", "all", "few", "all", "all"]
    assert rows[1].samples == (5, 6)


def test_parts_count_instead_of_the_clock_and_each_has_its_own_median():
    clock = FakeClock()
    parts = iter([{"x": 1.0, "y": 9.0}, {"x": 2.0, "y": 1.0}, {"x": 9.0, "y": 2.0}])
    work = Contender("limit", lambda: next(parts), images=1)
    (row,) = interleave(clock, [work], rounds=3, warmup=0)
    assert row.samples == (10, 3, 11)
    assert row.parts == {"x": (1, 2, 9), "y": (9, 1, 2)}
    # The median of the sums would be 10.
    assert row.median == 2 + 2


def test_fastest_forgets_the_first_run():
    clock = FakeClock()
    forms = {
        "slow to start": clock.work("", [99, 3, 2]),
        "quick to start": clock.work("", [1, 4, 4]),
    }
    assert timing.fastest(forms, clock) == "slow to start"


def test_waiting_until_idle_outlasts_other_threads():
    """While TensorFlow's threads work, the process is not idle."""
    import threading  # noqa: PLC0415
    import time  # noqa: PLC0415

    started = time.monotonic()

    def work():
        while time.monotonic() < started + 0.3:
            np.ones((200, 200)) @ np.ones((200, 200))

    thread = threading.Thread(target=work)
    thread.start()
    timing.wait_until_idle()
    assert time.monotonic() - started >= 0.3
    thread.join()
