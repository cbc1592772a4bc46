"""Learning rates at given steps, against the tables of the published runs."""

import math

import pytest

from official.alexnet.config import TrainConfig
from official.alexnet.training.rates import Plateau, Schedule


def schedule(epoch_steps=100.0, total_steps=9000, **settings) -> Schedule:
    return Schedule(TrainConfig(**settings), epoch_steps, total_steps)


def rate(of: Schedule, step: int, weight: str = "fc7/kernel") -> float:
    """Learning rate of one weight."""
    return of.rates(step, Plateau()).of(weight)


def check_table(of: Schedule, weight: str, table: dict[int, float]) -> None:
    """At each step of the table, the rate; just before, what it was until then."""
    before = None
    for step, expected in table.items():
        assert rate(of, step, weight) == pytest.approx(expected, rel=1e-12), step
        if before is not None:
            assert rate(of, step - 1, weight) == pytest.approx(before, rel=1e-12)
            assert step in of.changes()
        before = expected
    assert rate(of, of.total_steps - 1, weight) == pytest.approx(before, rel=1e-12)


def test_rows_hold_from_their_epochs_on():
    of = schedule(
        schedule="constant",
        learning_rate=0.02,
        rates=("4.5 all 0.25", "3 all 0.5", "50% all x0.1"),
    )
    check_table(of, "fc8/kernel", {0: 0.02, 300: 0.5, 450: 0.25, 4500: 0.002})
    assert of.changes() == [300, 450, 4500]


def test_an_epoch_that_is_not_whole_steps_begins_with_its_first_whole_step():
    of = schedule(
        epoch_steps=1281167 / 128, schedule="constant", rates=("25 all 0.001",)
    )
    # 25 epochs are 250,227.9 steps of 128 images.
    assert of.step_of(25) == 250_228
    assert rate(of, 250_227) == pytest.approx(1e-2)
    assert rate(of, 250_228) == pytest.approx(1e-3)


def test_rounding_does_not_delay_a_change():
    # 0.7 * 10 is 7.000000000000001 in one order of factors or another.
    for epochs in range(1, 200):
        of = schedule(epoch_steps=epochs / 3)
        assert of.step_of(0.3) == math.ceil(epochs / 10), epochs


def test_constant():
    of = schedule(schedule="constant")
    check_table(of, "fc8/kernel", {0: 0.01})
    assert of.changes() == []


def test_dexp_of_2013():
    # layer-params-170.cfg: kernels dexp[250, 4 levels], biases dexp[10, 2 levels].
    of = schedule(
        total_steps=1000, schedule="dexp", rates=("0 biases 0.02", "50% biases 0.002")
    )
    kernels = {0: 0.01, 250: 0.00158740, 500: 0.00025198, 750: 0.00004}
    for step, expected in kernels.items():
        assert rate(of, step) == pytest.approx(expected, rel=1e-4)
    ratio = 250 ** (1 / 3)
    assert ratio == pytest.approx(6.3, abs=0.005)
    check_table(
        of, "fc7/kernel", {250 * i: 0.01 / ratio**i for i in range(4)} | {750: 0.00004}
    )
    check_table(of, "fc7/bias", {0: 0.02, 500: 0.002})
    assert of.changes() == [250, 500, 750]


@pytest.mark.parametrize("total", [7, 90, 101])
def test_dexp_of_a_run_that_does_not_divide(total):
    of = schedule(total_steps=total, schedule="dexp", dexp=(16, 5))
    for step in range(total):
        level = math.floor(step / total * 5)
        assert rate(of, step) == pytest.approx(0.01 / 2**level)
        if step and rate(of, step) != rate(of, step - 1):
            assert step in of.changes()
    assert len(of.changes()) == 4


def test_caffe():
    # bvlc_alexnet/solver.prototxt: step, gamma 0.1, stepsize 100000, max_iter 450000.
    of = schedule(
        epoch_steps=1281167 / 256,
        total_steps=450_000,
        schedule="caffe",
        rates=("0 biases x2",),
    )
    table = {100_000 * i: 0.01 / 10**i for i in range(5)}
    check_table(of, "conv1/kernel", table)
    check_table(of, "conv1/bias", {step: 2 * value for step, value in table.items()})
    assert of.changes() == [100_000, 200_000, 300_000, 400_000]


ALL = ("10 all 0.001", "20 all 0.0001")


@pytest.mark.parametrize(
    ("rows", "table"),
    [
        ((), {0: 0.01, 1000: 0.001, 2000: 0.0001}),
        (("0 biases x2",), {0: 0.02, 1000: 0.002, 2000: 0.0002}),
        (("0 biases 0.02",), {0: 0.02}),
        (
            ("30 biases 0.0002", "0 biases 0.02", "10 biases 0.002"),
            {0: 0.02, 1000: 0.002, 3000: 0.0002},
        ),
        (("0 biases x2", "50% biases 0.5"), {0: 0.02, 1000: 0.002, 4500: 0.5}),
    ],
    ids=str,
)
def test_biases_have_rates_of_their_own(rows, table):
    of = schedule(schedule="constant", rates=(*ALL, *rows))
    for step, expected in table.items():
        assert rate(of, step, "conv1/bias") == pytest.approx(expected)
        assert step == 0 or step in of.changes()
    check_table(of, "conv1/kernel", {0: 1e-2, 1000: 1e-3, 2000: 1e-4})


def test_layers_and_weights_have_rates_from_their_epochs_on():
    of = schedule(
        schedule="constant",
        # Not in the order of time: conv1's kernels go down at 67, all of it stops at
        # 72.
        rates=(
            *("25 all 0.001", "51 all 0.0001", "79 all 0.00001", "0 biases 0.02"),
            *("72 conv1 0", "67 conv1/kernel x0.1", "0 fc8 x10", "0 conv3 0"),
        ),
    )
    assert of.changes() == [2500, 5100, 6700, 7200, 7900]
    check_table(
        of, "conv1/kernel", {0: 1e-2, 2500: 1e-3, 5100: 1e-4, 6700: 1e-5, 7200: 0}
    )
    check_table(of, "conv1/bias", {0: 0.02, 7200: 0})
    check_table(of, "conv2/kernel", {0: 1e-2, 2500: 1e-3, 5100: 1e-4, 7900: 1e-5})
    check_table(of, "fc8/kernel", {0: 0.1, 2500: 1e-2, 5100: 1e-3, 7900: 1e-4})
    check_table(of, "fc8/bias", {0: 0.2})
    check_table(of, "conv3/kernel", {0: 0})
    check_table(of, "conv3/bias", {0: 0})


def test_all_may_be_frozen_but_a_layer():
    of = schedule(schedule="constant", rates=("0 all 0", "0 fc8 0.05"))
    check_table(of, "conv1/kernel", {0: 0})
    check_table(of, "fc8/bias", {0: 0.05})


def test_a_rate_that_is_divided_very_often_is_small():
    of = schedule(schedule="caffe", stepsize=1)
    assert 0 < of.rates(450_000, Plateau()).learning_rate < 1e-300


def test_plateau_divides_when_the_error_stops_improving():
    of = schedule(schedule="plateau", plateau_patience=2, plateau_reductions=2)
    state, rates = Plateau(), []
    for error in (0.9, 0.8, 0.8, 0.85, 0.7, 0.7, 0.71, 0.72, 0.73, 0.74):
        state = state.after(error, 2, 2)
        rates.append(of.rates(0, state).learning_rate)
    expected = [1e-2] * 3 + [1e-3] * 3 + [1e-4] * 4
    assert rates == pytest.approx(expected)
    assert (TrainConfig().plateau_patience, TrainConfig().plateau_reductions) == (3, 3)
