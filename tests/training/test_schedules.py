"""Learning rate by hand and on a plateau."""

import pytest

from official.alexnet.config import TrainConfig
from official.alexnet.training.schedules import Plateau, learning_rate


def test_steps():
    train = TrainConfig(schedule="steps", learning_rate_steps=(25, 51, 72))
    rates = [learning_rate(train, epoch, Plateau()) for epoch in (0, 24.9, 25, 60, 90)]
    assert rates == pytest.approx([1e-2, 1e-2, 1e-3, 1e-4, 1e-5])


def test_constant():
    assert learning_rate(TrainConfig(schedule="constant"), 80, Plateau()) == 0.01


def test_plateau_divides_when_the_error_stops_improving():
    train = TrainConfig(schedule="plateau", plateau_patience=2, plateau_reductions=2)
    state, rates = Plateau(), []
    for error in (0.9, 0.8, 0.8, 0.85, 0.7, 0.7, 0.71, 0.72, 0.73, 0.74):
        state = state.after(error, train.plateau_patience, train.plateau_reductions)
        rates.append(learning_rate(train, 0, state))
    expected = [1e-2] * 3 + [1e-3] * 3 + [1e-4] * 4
    assert rates == pytest.approx(expected)
