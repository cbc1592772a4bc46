"""Differences to the baseline, paired by seed, and their t intervals."""

import numpy as np
import pandas as pd
from scipy import stats

from ablating.plan import BASELINE, Plan


def by_seed(plan: Plan, results: list[dict], measure: str) -> pd.DataFrame:
    """One measure: a line a seed, a column a row of the plan; NaN where not run."""
    frame = pd.DataFrame(results, columns=["row", "seed", measure])
    table = frame.pivot(index="seed", columns="row", values=measure)
    return table.reindex(columns=[row.name for row in plan.rows]).astype(float)


def differences(values: pd.DataFrame) -> pd.DataFrame:
    """Each row minus the baseline, where both have the seed."""
    return values.sub(values[BASELINE], axis=0)


def effects(values: pd.DataFrame) -> pd.DataFrame:
    """What each row's change does.

    A value is taken as its row's mean plus something of its seed plus noise. The pooled
    spread is the noise's, over all rows with the baseline among them: the differences
    share the baseline's noise, so that their own spreads are not independent. It takes
    the noise to be the same in all rows.

    Args:
        values: see `by_seed`.

    Returns:
        A line a row: `mean` of its differences, their `count`, the standard error of
        the mean (`sem`), and half of its 95 % t interval with the spread of the row's
        own differences (`own`) and with that of all rows (`pooled`); NaN where it is
        not known.
    """
    apart = differences(values).drop(columns=BASELINE)
    found = pd.DataFrame(apart.agg(["mean", "count", "sem"]).T)
    found["own"] = found["sem"] * stats.t.ppf(0.975, found["count"] - 1)
    variance, freedom = noise(values)
    error = np.sqrt(2 * variance / found["count"].where(found["count"] > 0))
    found["pooled"] = error * stats.t.ppf(0.975, freedom)
    return found


def noise(values: pd.DataFrame) -> tuple[float, int]:
    """Variance about a mean of each row plus one of each seed, by least squares.

    Returns:
        The variance, and its degrees of freedom: (rows - 1) (seeds - 1) where every row
        has every seed. Without any the variance is NaN.
    """
    cells = values.to_numpy()
    seeds, rows = np.nonzero(~np.isnan(cells))
    one_seed, one_row = np.eye(cells.shape[0])[seeds], np.eye(cells.shape[1])[rows]
    design, known = np.hstack([one_seed, one_row]), cells[seeds, rows]
    means, _, rank, _ = np.linalg.lstsq(design, known, rcond=None)
    freedom = len(known) - int(rank)
    squares = float(np.sum(np.square(known - design @ means)))
    return squares / freedom if freedom else np.nan, freedom
