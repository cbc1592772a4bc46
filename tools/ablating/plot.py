"""The differences to the baseline as a picture."""

import pathlib

import numpy as np
from matplotlib.figure import Figure

from ablating.effects import by_seed, differences, effects
from ablating.plan import MAIN_MEASURE, Plan
from official.alexnet.disk import atomic_write

_RED = {"color": "tab:red", "markerfacecolor": "none", "linestyle": "", "ms": 7}
_SEEDS = {"marker": ".", "color": "black", "linestyle": "", "ms": 4}
_POOLED = {"marker": "s", "color": "tab:blue", "ms": 5}
_OWN = {"color": "lightgray", "linewidth": 7}
# What the paper says: an arrow where it says no figure.
_FIGURE, _WORSE, _BETTER = (_RED | {"marker": marker} for marker in "D><")


def draw(plan: Plan, results: list[dict], path: pathlib.Path) -> None:
    """Draws each row's difference, its intervals and the paper's figure."""
    values = by_seed(plan, results, MAIN_MEASURE)
    seeds, found, rows = differences(values), effects(values), plan.rows[1:]
    mean, heights = found["mean"], np.arange(len(rows))
    figure = Figure(figsize=(8, 1.3 + 0.36 * len(rows)), layout="constrained")
    panel = figure.subplots()
    panel.axvline(0, color="black", linewidth=0.8)
    panel.hlines(heights, mean - found["own"], mean + found["own"], **_OWN)
    style = {"fmt": "s", "color": "tab:blue", "linewidth": 2, "markersize": 5}
    known = found["pooled"].notna()
    panel.errorbar(
        mean[known], heights[known], xerr=found["pooled"][known], zorder=3, **style
    )
    for _, of_seed in seeds.iterrows():
        panel.plot(of_seed, heights, zorder=4, **_SEEDS)
    shown = [0.0, *seeds.to_numpy().flat]
    shown += [*(mean - found["pooled"]), *(mean + found["pooled"])]
    for height, row in zip(heights, rows, strict=True):
        if row.claim is not None and row.claim.measure == MAIN_MEASURE:
            says = _FIGURE
            if row.claim.top_1 is None:
                says = _WORSE if row.claim.effect == "worse" else _BETTER
            shown.append(row.claim.top_1 or 0.0)
            panel.plot(shown[-1], height, zorder=5, **says)
    low, high = np.nanmin(shown), np.nanmax(shown)
    margin = 0.08 * (high - low) or 1.0
    low, high = low - margin, high + margin
    panel.set_xlim(low, high)
    # Arrows where an interval goes beyond the panel.
    cut = {"color": "gray", "linestyle": "", "ms": 5, "clip_on": False}
    for is_cut, edge, marker in (
        (mean - found["own"] < low, low, "<"),
        (mean + found["own"] > high, high, ">"),
    ):
        panel.plot(np.full(is_cut.sum(), edge), heights[is_cut], marker, **cut)
    panel.set_yticks(heights, [row.name for row in rows], fontsize=8)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.grid(axis="x", alpha=0.3)
    panel.set_xlabel(
        "points of top-1 error, ten crops, more than the baseline (right: worse)"
    )
    for label, style in {
        "one seed": _SEEDS,
        "mean, 95 % interval (pooled)": _POOLED,
        "95 % interval of the row alone": _OWN,
        "the paper's figure": _FIGURE,
        "the paper: worse, no figure": _WORSE,
    }.items():
        panel.plot([], [], label=label, **style)
    panel.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=3)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")
