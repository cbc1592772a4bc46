"""The settings of a run of the CIFAR-10 nets."""

import dataclasses
import math

from official.alexnet.errors import UserError


@dataclasses.dataclass(frozen=True)
class Settings:
    """A run. Rates, momentum and initial weights are the 2012 source's.

    Attributes:
        net: name of a row of `nets.NETS`.
        activation: `relu` or `tanh`; None: the net's own.
        lrn: with or without LRN; None: as the net has it.
        input_size: side of the crops; None: the net's own.
        weight_decay: with the decay of each layer, or with none.
        augment: crops at random places, and flips; otherwise the central crop.
        learning_rate: of kernels.
        learning_rate_steps: epochs at which it is divided by 10. As in the source the
            biases' rate is not.
        bias_learning_rate: the biases', as a multiple of `learning_rate`.
        momentum: of the update.
        batch_size: images a step.
        train_epochs: length of the run.
        stop_train_error: end the run when the training error of the last epoch is
            not above this; None: do not.
        eval_training_set: measure the error on the whole training set at the end.
        seed: of initial weights, order, crops and flips.
    """

    net: str = "cifar_19pct"
    activation: str | None = None
    lrn: bool | None = None
    input_size: int | None = None
    weight_decay: bool = True
    augment: bool = True
    learning_rate: float = 0.001
    learning_rate_steps: tuple[float, ...] = ()
    bias_learning_rate: float = 2.0
    momentum: float = 0.9
    batch_size: int = 128
    train_epochs: float = 30.0
    stop_train_error: float | None = None
    eval_training_set: bool = True
    seed: int = 0

    def check(self) -> None:
        """Checks the values.

        Raises:
            UserError: one is out of range.
        """
        for name in ("learning_rate", "batch_size", "train_epochs"):
            if not 0 < getattr(self, name) < math.inf:
                raise UserError(f"--{name}={getattr(self, name)}: it must be above 0")
        if not 0 <= self.momentum < 1:
            raise UserError(f"--momentum={self.momentum}: it must be in 0..1")
        if not 0 <= self.bias_learning_rate < math.inf:
            raise UserError(
                f"--bias_learning_rate={self.bias_learning_rate}: it must not be "
                "below 0"
            )
        if not 0 <= self.seed < 2**31:
            raise UserError(f"--seed={self.seed}: it must be in 0..{2**31 - 1}")
        steps = self.learning_rate_steps
        are_epochs = all(0 < epoch < math.inf for epoch in steps)
        if not are_epochs or list(steps) != sorted(set(steps)):
            raise UserError(
                f"--learning_rate_steps={','.join(map(str, steps))}: epochs above 0, "
                "each after the one before"
            )
