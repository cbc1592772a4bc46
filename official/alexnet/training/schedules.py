"""Learning rate over time: divided by 10 by hand or when the error stops improving."""

import dataclasses

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

    def after(self, error: float, patience: int, most: int) -> "Plateau":
        """The state after one more evaluation.

        "Divide the learning rate by 10 when the validation error rate stopped
        improving with the current learning rate" (section 5).
        """
        if error < self.best:
            return dataclasses.replace(self, best=error, waited=0)
        if self.waited + 1 < patience or self.reductions >= most:
            return dataclasses.replace(self, waited=self.waited + 1)
        return dataclasses.replace(self, waited=0, reductions=self.reductions + 1)


def learning_rate(train: TrainConfig, epoch: float, plateau: Plateau) -> float:
    """Learning rate of the next step.

    Args:
        train: the schedule and its settings.
        epoch: passes over the training set so far.
        plateau: state of the plateau rule.
    """
    reductions = 0
    if train.schedule == "steps":
        reductions = sum(epoch >= step for step in train.learning_rate_steps)
    elif train.schedule == "plateau":
        reductions = plateau.reductions
    return train.learning_rate / 10**reductions
