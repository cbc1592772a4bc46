"""Means, paired differences and their t intervals."""

import dataclasses
import functools
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


def pooled(
    rows: Mapping[str, Mapping[int, float]], baseline: str
) -> dict[str, Estimate | None]:
    """Each row's mean difference to the baseline, with one spread for all.

    A value is taken as its row's mean plus something of its seed plus noise. The spread
    is the noise's, over all rows with the baseline among them: the differences share
    the baseline's noise, so that their own spreads are not independent. It takes the
    noise to be the same in all rows.

    Args:
        rows: the values of each row by seed.
        baseline: the row that the others are compared with.
    """
    variance, freedom = noise(list(rows.values()))
    estimates = {}
    for name in rows:
        if name == baseline:
            continue
        values = list(paired(rows[name], rows[baseline]).values())
        if not values or freedom < 1:
            estimates[name] = estimate(values)
            continue
        error = math.sqrt(2 * variance / len(values))
        half_width = t_quantile(0.975, freedom) * error
        mean = float(np.mean(values))
        estimates[name] = Estimate(mean, len(values), error, half_width)
    return estimates


def noise(rows: Sequence[Mapping[int, float]]) -> tuple[float, int]:
    """Variance about a mean of each row plus one of each seed, by least squares.

    Returns:
        The variance, and its degrees of freedom: (rows - 1) (seeds - 1) where every row
        has every seed. Without any the variance is 0.
    """
    cells = [(i, seed) for i, row in enumerate(rows) for seed in row]
    if not cells:
        return 0.0, 0
    seeds = sorted({seed for _, seed in cells})
    design = np.zeros((len(cells), len(rows) + len(seeds)))
    for k, (i, seed) in enumerate(cells):
        design[k, [i, len(rows) + seeds.index(seed)]] = 1
    values = np.array([rows[i][seed] for i, seed in cells])
    means, _, rank, _ = np.linalg.lstsq(design, values, rcond=None)
    freedom = len(cells) - int(rank)
    squares = float(np.sum(np.square(values - design @ means)))
    return squares / max(freedom, 1), freedom


@functools.cache
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
