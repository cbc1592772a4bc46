"""The differences to the baseline as a picture."""

import pathlib

import numpy as np
from matplotlib.figure import Figure

from ablating.effects import by_seed, differences, effects
from ablating.plan import BASELINE, MAIN_MEASURE, Plan
from official.alexnet.disk import atomic_write

_RED = {"color": "tab:red", "markerfacecolor": "none", "linestyle": "", "ms": 7}
# What the paper says: an arrow where it says no figure.
_FIGURE, _WORSE, _BETTER = (_RED | {"marker": marker} for marker in "D><")


def draw(plan: Plan, results: list[dict], path: pathlib.Path) -> None:
    """Draws each row's difference, its intervals and the paper's figure.

    The panel is as wide as all but the rows' own intervals need.
    """
    values = by_seed(plan, results, MAIN_MEASURE)
    seeds, found = differences(values).drop(columns=BASELINE), effects(values)
    mean, heights = found["mean"], np.arange(len(found))
    figure = Figure(figsize=(8, 1.3 + 0.36 * len(found)), layout="constrained")
    panel = figure.subplots()
    panel.axvline(0, color="black", linewidth=0.8)
    panel.plot(seeds.T.to_numpy(), heights, "k.", ms=4, zorder=4)
    for height, row in zip(heights, plan.rows[1:], strict=True):
        if row.claim is not None and row.claim.measure == MAIN_MEASURE:
            says = _FIGURE
            if row.claim.top_1 is None:
                says = _WORSE if row.claim.effect == "worse" else _BETTER
            panel.plot(row.claim.top_1 or 0.0, height, zorder=5, **says)
    pooled = {"xerr": found["pooled"], "fmt": "s", "color": "tab:blue", "ms": 5}
    panel.errorbar(mean, heights, zorder=3, **pooled)
    own = {"color": "lightgray", "linewidth": 7}
    panel.set_xlim(panel.get_xlim())
    panel.hlines(heights, mean - found["own"], mean + found["own"], **own)
    panel.set_yticks(heights, seeds.columns, fontsize=8)
    panel.set_ylim(len(found) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.3)
    panel.set_title(plan.title, fontsize=9)
    panel.set_xlabel(
        "points of top-1 error, ten crops, more than the baseline (right: worse)"
    )
    for label, style in {
        "one seed": {"marker": ".", "color": "black", "linestyle": "", "ms": 4},
        "mean, 95 % interval (pooled)": {"marker": "s", "color": "tab:blue", "ms": 5},
        "95 % interval of the row alone": own,
        "the paper's figure": _FIGURE,
        "the paper: worse, no figure": _WORSE,
    }.items():
        panel.plot([], [], label=label, **style)
    panel.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=3)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
