"""The differences to the baseline as a picture."""

import pathlib

from ablating import report
from ablating.plan import BASELINE, Claim, Plan
from ablating.statistics import Estimate
from official.alexnet.data.atomic import atomic_write
from official.alexnet.errors import UserError


def check_available() -> None:
    """Raises a UserError where matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401, PLC0415
    except ImportError as error:
        raise UserError(
            "the plot needs matplotlib: pip install 'official-alexnet[plots]'"
        ) from error


def draw(plan: Plan, results: list[dict], path: pathlib.Path) -> None:
    """Draws each row's difference, its intervals and the paper's figure."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    found = report.differences(plan, results, report.MAIN_MEASURE)
    rows = [row for row in plan.rows if row.name != BASELINE]
    figure = Figure(figsize=(8, 1.3 + 0.36 * len(rows)), layout="constrained")
    panel = figure.subplots()
    panel.axvline(0, color="black", linewidth=0.8)
    shown = [0.0]
    for height, row in enumerate(rows):
        difference = found[row.name]
        seeds = list(difference.by_seed.values())
        shown += seeds
        panel.plot(seeds, [height] * len(seeds), "k.", markersize=4, zorder=4)
        own, pooled = difference.own, difference.pooled
        _draw_interval(panel, own, height, color="lightgray", fmt="none", linewidth=7)
        _draw_interval(panel, pooled, height, color="tab:blue", fmt="s", linewidth=2)
        if difference.pooled is not None and difference.pooled.half_width is not None:
            mean, half = difference.pooled.mean, difference.pooled.half_width
            shown += [mean - half, mean + half]
        if row.claim is not None and row.claim.measure == report.MAIN_MEASURE:
            shown.append(_draw_claim(panel, row.claim, height))
    low, high = min(shown), max(shown)
    margin = 0.08 * (high - low) or 1.0
    panel.set_xlim(low - margin, high + margin)
    for height, row in enumerate(rows):
        _mark_cut(panel, found[row.name].own, height)
    panel.set_yticks(range(len(rows)), [row.name for row in rows], fontsize=8)
    panel.invert_yaxis()
    panel.grid(axis="x", alpha=0.3)
    panel.set_xlabel(
        "points of top-1 error, ten crops, more than the baseline (right: worse)"
    )
    _draw_legend(panel)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=100, format="png")


def _draw_interval(panel, estimate: Estimate | None, height: int, **style) -> None:
    if estimate is None or estimate.half_width is None:
        return
    panel.errorbar(
        estimate.mean,
        height,
        xerr=estimate.half_width,
        markersize=5,
        **style,
    )


def _mark_cut(panel, estimate: Estimate | None, height: int) -> None:
    """Arrows where an interval goes on beyond the panel."""
    if estimate is None or estimate.half_width is None:
        return
    low, high = panel.get_xlim()
    style = {"color": "gray", "markersize": 5, "clip_on": False}
    if estimate.mean - estimate.half_width < low:
        panel.plot(low, height, "<", **style)
    if estimate.mean + estimate.half_width > high:
        panel.plot(high, height, ">", **style)


def _draw_claim(panel, claim: Claim, height: int) -> float:
    """The paper's figure, or an arrow for what it says without one."""
    style = {"color": "tab:red", "markersize": 7, "markerfacecolor": "none"}
    if claim.top_1 is not None:
        panel.plot(claim.top_1, height, "D", **style)
        return claim.top_1
    panel.plot(0, height, ">" if claim.effect == "worse" else "<", **style)
    return 0.0


def _draw_legend(panel) -> None:
    red = {"color": "tab:red", "markerfacecolor": "none", "linestyle": ""}
    for label, style in {
        "one seed": {"marker": ".", "color": "black", "linestyle": "", "ms": 4},
        "mean, 95 % interval (pooled)": {"marker": "s", "color": "tab:blue", "ms": 5},
        "95 % interval of the row alone": {"color": "lightgray", "linewidth": 7},
        "the paper's figure": {"marker": "D", **red},
        "the paper: worse, no figure": {"marker": ">", **red},
    }.items():
        panel.plot([], [], label=label, **style)
    panel.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.4, -0.13), ncols=3)
