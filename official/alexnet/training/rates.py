"""Learning rates over a run: of all weights, of kernels or biases, of single layers.

All are functions of the settings, the step and what the plateau rule remembers, which
is in every checkpoint; nothing else is, so a resumed run has the same.
"""

import dataclasses
import math
import typing

from official.alexnet.config import TrainConfig
from official.alexnet.rate_rows import RateRow


@dataclasses.dataclass(frozen=True)
class Plateau:
    """What the plateau rule remembers; saved with every checkpoint."""

    best: float = float("inf")  # Lowest validation error so far.
    waited: int = 0  # Evaluations since then.
    reductions: int = 0  # How often the rate was divided by 10.

    def after(self, error: float, patience: int, most: int) -> typing.Self:
        """The state after one more evaluation.

        "Divide the learning rate by 10 when the validation error rate stopped
        improving with the current learning rate" (section 5).
        """
        if error < self.best:
            return dataclasses.replace(self, best=error, waited=0)
        if self.waited + 1 < patience or self.reductions >= most:
            return dataclasses.replace(self, waited=self.waited + 1)
        return dataclasses.replace(self, waited=0, reductions=self.reductions + 1)


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates of one step.

    They are what the schedule says, and the rows of `--rates` that hold by then, in
    the order of their starts.
    """

    scheduled: float
    rows: tuple[RateRow, ...] = ()

    @property
    def learning_rate(self) -> float:
        """Of all weights that no row of their own names."""
        return self._under(self.scheduled, "all")

    def of(self, weight: str) -> float:
        """Of a weight, such as `conv1/kernel`; at 0 it does not change at all."""
        layer, _, kind = weight.partition("/")
        group = "biases" if kind == "bias" else "kernels"
        return self._under(self._under(self.learning_rate, group), layer, weight)

    def _under(self, rate: float, *names: str) -> float:
        """The rate by the last row with one of these names; without one, as it is."""
        for row in reversed(self.rows):
            if row.what in names:
                return row.rate * (rate if row.is_multiple else 1.0)
        return rate


@dataclasses.dataclass(frozen=True)
class Schedule:
    """The learning rates of a run.

    Attributes:
        train: settings.
        epoch_steps: steps in one pass over the training set; need not be whole.
        total_steps: steps in the run.
        offset: added to a step it gives the steps that would have been taken, had all
            been of the present batch size.
    """

    train: TrainConfig
    epoch_steps: float
    total_steps: int
    offset: float = 0.0

    @classmethod
    def of(cls, train: TrainConfig, epoch_steps: float, offset: float) -> typing.Self:
        """The schedule of a run that is as long as its settings say."""
        endless = cls(train, epoch_steps, 0, offset)
        total = train.train_steps or endless.step_of(train.train_epochs)
        return dataclasses.replace(endless, total_steps=total)

    def epoch_of(self, step: int) -> float:
        """Passes over the training set after `step` steps."""
        return (step + self.offset) / self.epoch_steps

    def step_of(self, epoch: float) -> int:
        """The steps taken before the first step at or after an epoch."""
        # A product that should be whole may come out a little above.
        return math.ceil(epoch * self.epoch_steps - self.offset - 1e-6)

    def rates(self, step: int, plateau: Plateau) -> Rates:
        """Learning rates of the step after `step` steps."""
        rows = [row for start, row in self._rows() if step >= start]
        return Rates(self._scheduled(step, plateau), tuple(rows))

    def changes(self) -> list[int]:
        """Steps at which a rate may change; the plateau rule's are evaluations."""
        steps, stepsize = {start for start, _ in self._rows()}, self.train.stepsize
        if self.train.schedule == "dexp":
            steps.update(self._dexp_steps())
        elif self.train.schedule == "caffe":
            steps.update(range(stepsize, self.total_steps, stepsize))
        return sorted(step for step in steps if step > 0)

    def _rows(self) -> list[tuple[int, RateRow]]:
        """The rows and their first steps, in the order of these."""
        rows = []
        for row in map(RateRow.parse, self.train.rates):
            whole = self.epoch_of(self.total_steps) if row.is_part else 1.0
            rows.append((self.step_of(row.start * whole), row))
        return sorted(rows, key=lambda pair: pair[0])

    def _scheduled(self, step: int, plateau: Plateau) -> float:
        train = self.train
        if train.schedule == "dexp":
            # In equal parts of the run down to 1/factor (the source of 2013 and 2014).
            factor, levels = train.dexp
            level = sum(step >= start for start in self._dexp_steps())
            return train.learning_rate * factor ** (-level / (levels - 1))
        reductions = {"plateau": plateau.reductions, "caffe": step // train.stepsize}
        return train.learning_rate / 10.0 ** min(300, reductions.get(train.schedule, 0))

    def _dexp_steps(self) -> list[int]:
        levels = int(self.train.dexp[1])
        part = self.epoch_of(self.total_steps) / levels
        return [self.step_of(i * part) for i in range(1, levels)]
