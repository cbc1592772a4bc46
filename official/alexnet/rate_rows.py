"""The rows of `--rates`: from when on what has which learning rate."""

import dataclasses
import math
import typing

from official.alexnet.errors import UserError

# What a row may name besides layers and weights.
GROUPS = ("all", "kernels", "biases")


@dataclasses.dataclass(frozen=True)
class RateRow:
    """A row such as `67 conv1/kernel 0.00001`, `50% biases x0.1` or `72 conv1 0`.

    Attributes:
        start: passes over the training set, or the part of the run in 0..1.
        is_part: whether `start` is a part of the run.
        what: one of GROUPS, a layer or a weight.
        rate: a learning rate, or a multiple of what the kinds before give.
        is_multiple: whether `rate` is a multiple.
    """

    start: float
    is_part: bool
    what: str
    rate: float
    is_multiple: bool

    @classmethod
    def parse(cls, text: str) -> typing.Self:
        """Reads a row; UserError where its form or a number of it is wrong."""
        try:
            start, what, rate = text.split()
            row = cls(
                float(start.removesuffix("%")) / (100 if start.endswith("%") else 1),
                start.endswith("%"),
                what,
                float(rate.removeprefix("x")),
                rate.startswith("x"),
            )
            fits = all(0 <= number < math.inf for number in (row.start, row.rate))
            if not fits or (row.is_part and row.start > 1):
                raise ValueError
        except ValueError:
            raise UserError(
                f"--rates: {text!r} should read EPOCH WHAT RATE, such as "
                "'30 all 0.001', '50% biases x2' or '72 conv1 0', with numbers of 0 "
                "or more"
            ) from None
        return row
