"""What must be reached: a table of bars, and their check against what was measured.

A bar is a ratio of two numbers of one run. A row's number is its median time an image;
of several forms of one peer the fastest counts.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from benchmarking.timing import Row


@dataclasses.dataclass(frozen=True)
class Fact:
    """A number that is not a row of samples, such as a peak of memory."""

    name: str
    value: float
    unit: str


@dataclasses.dataclass(frozen=True)
class Bar:
    """`numerator / denominator` is at least, or at most, a limit.

    Attributes:
        suite: whose rows it is about.
        numerator, denominator: names of rows, with their dtype, or of facts.
        limit: the bar.
        at_least: False: at most.
        words: the same in words.
    """

    suite: str
    numerator: str
    denominator: str
    limit: float
    at_least: bool
    words: str


@dataclasses.dataclass(frozen=True)
class Check:
    """A bar, what was measured, and whether it is reached; None: not measured."""

    bar: Bar
    value: float | None

    @property
    def met(self) -> bool | None:
        if self.value is None:
            return None
        if self.bar.at_least:
            return self.value >= self.bar.limit
        return self.value <= self.bar.limit


def _faster(suite: str, ours: str, other: str, limit: float) -> Bar:
    """Ours does at least `limit` times the other's images a second."""
    words = f"{ours} >= {limit:g} x {other}, images/s"
    return Bar(suite, other, ours, limit, True, words)


def _within(suite: str, ours: str, other: str, limit: float) -> Bar:
    """Ours is at most `limit` times the other."""
    return Bar(suite, ours, other, limit, False, f"{ours} <= {limit:g} x {other}")


# "Flat" in memory and start-up is read as: within 10 %.
BARS = (
    _faster("train_step", "ours fp32", "plain Keras fp32", 4.0),
    _faster("train_step", "ours fp32", "PyTorch fp32", 3.3),
    _within("train_step", "ours fp32", "limit fp32", 1.10),
    _within("train_step", "ours, two columns fp32", "ours fp32", 1.05),
    _faster("train_step", "ours bf16", "ours fp32", 1.4),
    _faster("inference", "ours fp32", "plain Keras fp32", 1.5),
    _faster("inference", "ours fp32", "ONNX Runtime fp32", 2.2),
    _faster("inference", "ours fp32", "OpenVINO fp32", 2.2),
    _faster("inference", "SavedModel fp32", "ours, from pixels fp32", 0.95),
    _faster(
        "inference", "SavedModel, not portable fp32", "ours, from pixels fp32", 0.95
    ),
    _faster("inference", "ours bf16", "OpenVINO bf16", 1.0),
    _faster("lrn", "ours, conv1 fp32", "tf.nn, conv1 fp32", 4.0),
    _faster("lrn", "ours, conv2 fp32", "tf.nn, conv2 fp32", 4.0),
    _faster("lrn", "ours, conv1 bf16", "tf.nn, conv1 bf16", 4.0),
    _faster("lrn", "ours, conv2 bf16", "tf.nn, conv2 bf16", 4.0),
    _faster("input", "ours", "libjpeg-turbo", 0.85),
    _faster("input", "ours", "PyTorch DataLoader", 1.8),
    _faster("end_to_end", "records fp32", "synthetic data fp32", 0.97),
    _faster("end_to_end", "records bf16", "synthetic data bf16", 0.97),
    _faster("scaling", "large set", "small set", 0.97),
    _within("scaling", "large set: first batch", "small set: first batch", 1.10),
    _within("scaling", "large set: peak memory", "small set: peak memory", 1.10),
)


def check(suite: str, rows: Sequence[Row], facts: Sequence[Fact]) -> list[Check]:
    """Compares a suite's rows and facts with its bars."""
    values = _values(rows, facts)
    checks = []
    for bar in BARS:
        if bar.suite == suite:
            above, below = values.get(bar.numerator), values.get(bar.denominator)
            known = above is not None and below is not None
            checks.append(Check(bar, above / below if known else None))
    return checks


def _values(rows: Sequence[Row], facts: Sequence[Fact]) -> Mapping[str, float]:
    values = {fact.name: fact.value for fact in facts}
    for row in rows:
        if row.samples:
            key = f"{row.name} {row.dtype}".strip()
            seconds = row.seconds_per_image
            values[key] = min(seconds, values.get(key, seconds))
    return values
