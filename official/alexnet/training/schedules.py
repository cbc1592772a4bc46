"""Learning rates over a run: of kernels, of biases and of single layers.

All are functions of the settings, the step and what the plateau rule remembers, which
is in every checkpoint; nothing else is, so a run that is gone on with has the same.
"""

from __future__ import annotations

import dataclasses
import math
import typing
from collections.abc import Iterable

if typing.TYPE_CHECKING:
    from official.alexnet.config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Plateau:
    """What the plateau rule remembers; saved with every checkpoint.

    Attributes:
        best: lowest validation error so far.
        waited: evaluations since then.
        reductions: how often the rate was divided by 10.
    """

    best: float = float("inf")
    waited: int = 0
    reductions: int = 0

    def after(self, error: float, patience: int, most: int) -> Plateau:
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
class LayerRate:
    """An item of `--layer_learning_rates`: `conv1=0.1`, `conv1/kernel=0@72`.

    Attributes:
        name: of a layer, or of one of its weights.
        multiple: of the learning rate that kernels or biases have; 0: frozen.
        epoch: from which it holds.
    """

    name: str
    multiple: float
    epoch: float = 0.0

    @classmethod
    def parse(cls, text: str) -> LayerRate:
        """Reads `NAME=MULTIPLE` or `NAME=MULTIPLE@EPOCH`.

        Raises:
            ValueError: it is of another form, or a number is below 0 or no number.
        """
        name, _, numbers = text.partition("=")
        multiple, at, epoch = numbers.partition("@")
        rate = cls(name.strip(), float(multiple), float(epoch) if at else 0.0)
        fits = all(0 <= number < math.inf for number in (rate.multiple, rate.epoch))
        if not rate.name or not fits:
            raise ValueError(text)
        return rate


@dataclasses.dataclass(frozen=True)
class Rates:
    """Learning rates of one step.

    Attributes:
        learning_rate: of kernels.
        bias_multiple: learning rate of biases as a multiple of that.
        layers: for layers or weights, a multiple of the two; where several fit, the
            last does. 0: the weight does not change at all.
    """

    learning_rate: float
    bias_multiple: float = 1.0
    layers: tuple[tuple[str, float], ...] = ()


def layer_multiple(layers: Iterable[tuple[str, float]], weight: str) -> float:
    """The multiple of a weight, such as `conv1/kernel`, in `Rates.layers`."""
    layer, found = weight.partition("/")[0], 1.0
    for name, multiple in layers:
        if name in (layer, weight):
            found = multiple
    return found


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
    def of(cls, train: TrainConfig, epoch_steps: float, offset: float) -> Schedule:
        """The schedule of a run that is as long as its settings say."""
        endless = cls(train, epoch_steps, 0, offset)
        total = train.train_steps or endless.step_of(train.train_epochs)
        return dataclasses.replace(endless, total_steps=total)

    def epoch_of(self, step: int) -> float:
        """Passes over the training set after `step` steps."""
        return (step + self.offset) / self.epoch_steps

    def rates(self, step: int, plateau: Plateau) -> Rates:
        """Learning rates of the step after `step` steps.

        Args:
            step: steps taken.
            plateau: state of the plateau rule.
        """
        train, rate = self.train, self._learning_rate(step, plateau)
        bias_multiple = train.bias_learning_rate
        if train.bias_schedule != "same":
            bias_rate = train.bias_learning_rate * train.learning_rate
            if train.bias_schedule == "steps":
                bias_rate /= 10 ** self._passed(step, train.bias_learning_rate_steps)
            elif train.bias_schedule == "dexp":
                bias_rate *= self._dexp(step, *train.bias_dexp)
            bias_multiple = bias_rate / rate
        return Rates(rate, bias_multiple, self.layer_multiples(step))

    def layer_multiples(self, step: int) -> tuple[tuple[str, float], ...]:
        """`Rates.layers` of the step after `step` steps."""
        layers: dict[str, float] = {}
        for change in self._layer_rates():
            if step >= self.step_of(change.epoch):
                layers.pop(change.name, None)
                layers[change.name] = change.multiple
        return tuple(layers.items())

    def changes(self) -> list[int]:
        """Steps at which a rate may change; the plateau rule's are evaluations."""
        train = self.train
        epochs = [rate.epoch for rate in self._layer_rates()]
        steps = []
        if train.schedule == "steps":
            epochs += train.learning_rate_steps
        elif train.schedule == "dexp":
            steps += self._dexp_steps(train.dexp[1])
        elif train.schedule == "caffe":
            steps += range(train.stepsize, self.total_steps, train.stepsize)
        if train.bias_schedule == "steps":
            epochs += train.bias_learning_rate_steps
        elif train.bias_schedule == "dexp":
            steps += self._dexp_steps(train.bias_dexp[1])
        return sorted({*steps, *map(self.step_of, epochs)} - {0})

    def step_of(self, epoch: float) -> int:
        """The steps taken before the first step at or after an epoch."""
        # A product that should be whole may come out a little above.
        return math.ceil(epoch * self.epoch_steps - self.offset - 1e-6)

    def _learning_rate(self, step: int, plateau: Plateau) -> float:
        train = self.train
        reductions = 0
        if train.schedule == "steps":
            reductions = self._passed(step, train.learning_rate_steps)
            if reductions and train.learning_rates:
                return train.learning_rates[reductions - 1]
        elif train.schedule == "plateau":
            reductions = plateau.reductions
        elif train.schedule == "caffe":
            reductions = step // train.stepsize
        elif train.schedule == "dexp":
            return train.learning_rate * self._dexp(step, *train.dexp)
        return train.learning_rate / 10**reductions

    def _layer_rates(self) -> list[LayerRate]:
        """In the order of their epochs."""
        rates = [LayerRate(name, 0.0) for name in self.train.freeze_layers]
        rates += map(LayerRate.parse, self.train.layer_learning_rates)
        return sorted(rates, key=lambda rate: rate.epoch)

    def _passed(self, step: int, epochs: tuple[float, ...]) -> int:
        return sum(step >= self.step_of(epoch) for epoch in epochs)

    def _dexp(self, step: int, factor: float, levels: float) -> float:
        """In equal parts of the run down to 1/factor (the source of 2013 and 2014)."""
        level = sum(step >= start for start in self._dexp_steps(levels))
        return factor ** (-level / (levels - 1))

    def _dexp_steps(self, levels: float) -> list[int]:
        part = self.epoch_of(self.total_steps) / int(levels)
        return [self.step_of(i * part) for i in range(1, int(levels))]
