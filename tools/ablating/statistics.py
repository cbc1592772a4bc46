"""Means, paired differences and their t intervals."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A mean over seeds.

    Attributes:
        mean: of the values.
        count: how many there were.
        error: standard error of the mean; None for a single value.
        half_width: half of the mean's 95 % t interval; None for a single value.
    """

    mean: float
    count: int
    error: float | None = None
    half_width: float | None = None

    def sign(self) -> int | None:
        """1 or -1 where the interval lies on one side of 0, otherwise 0.

        None where there is no interval.
        """
        if self.half_width is None:
            return None
        if abs(self.mean) <= self.half_width:
            return 0
        return 1 if self.mean > 0 else -1


def estimate(values: Sequence[float]) -> Estimate | None:
    """The mean of values with the spread they have themselves; None of none."""
    count = len(values)
    if not count:
        return None
    mean = float(np.mean(values))
    if count == 1:
        return Estimate(mean, 1)
    error = float(np.std(values, ddof=1)) / math.sqrt(count)
    return Estimate(mean, count, error, t_quantile(0.975, count - 1) * error)


def paired(row: Mapping[int, float], baseline: Mapping[int, float]) -> dict[int, float]:
    """Row minus baseline, seed by seed, where both have a value."""
    return {seed: row[seed] - baseline[seed] for seed in row if seed in baseline}


def pooled(groups: Sequence[Sequence[float]]) -> list[Estimate | None]:
    """The mean of each group, with one spread for all.

    The variances of the groups are averaged, weighted by their degrees of freedom, as
    analysis of variance does: with two or three seeds a group's own is known badly.
    It takes the groups' variances to be the same.
    """
    freedom = sum(len(values) - 1 for values in groups if values)
    if freedom < 1:
        return [estimate(values) for values in groups]
    squares = sum(
        float(np.sum(np.square(values - np.mean(values))))
        for values in groups
        if values
    )
    spread, quantile = math.sqrt(squares / freedom), t_quantile(0.975, freedom)
    estimates = []
    for values in groups:
        if not values:
            estimates.append(None)
            continue
        error = spread / math.sqrt(len(values))
        estimates.append(
            Estimate(float(np.mean(values)), len(values), error, quantile * error)
        )
    return estimates


def t_quantile(probability: float, freedom: int) -> float:
    """Quantile of Student's t distribution.

    Args:
        probability: in (0, 1).
        freedom: degrees of freedom, at least 1.
    """
    # With t = sqrt(freedom) tan(angle) the density is cos(angle)^(freedom - 1).
    constant = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2))
    constant /= math.sqrt(math.pi)
    nodes, weights = np.polynomial.legendre.leggauss(128)

    def mass(angle: float) -> float:
        """Probability between 0 and this angle."""
        angles = angle * (nodes + 1) / 2
        return constant * angle / 2 * float(weights @ np.cos(angles) ** (freedom - 1))

    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        if mass(middle) < abs(probability - 0.5):
            low = middle
        else:
            high = middle
    return math.copysign(math.sqrt(freedom) * math.tan(low), probability - 0.5)
