r"""Draws what tools/benchmark.py has measured: images a second, a panel a suite.

  python tools/plot_benchmark.py --json=train_step.json,inference.json \
      --output=docs/results/performance/benchmark.png

Needs matplotlib: pip install 'official-alexnet[plots]'.
"""

import json
import pathlib

from absl import flags

from official.alexnet import cli
from official.alexnet.errors import UserError

flags.DEFINE_list("json", None, "Files of tools/benchmark.py.", required=True)
flags.DEFINE_string("output", None, "PNG to write.", required=True)


def main() -> dict:
    bars: dict[str, list[dict]] = {}
    for name in cli.paths("json"):
        try:
            suites = json.loads(pathlib.Path(name).read_text("utf-8"))["suites"]
            for suite, data in suites.items():
                rows = [row for row in data["rows"] if row["samples_s"]]
                bars.setdefault(suite, []).extend(rows)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise UserError(
                f"--json={name} is not a file of benchmark.py: {error}"
            ) from error
    output = cli.path("output")
    _draw(bars, pathlib.Path(output))
    return {"written": output, "suites": list(bars)}


def _draw(bars: dict[str, list[dict]], path: pathlib.Path) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "the plot needs matplotlib: pip install 'official-alexnet[plots]'"
        ) from error
    heights = [len(rows) for rows in bars.values()]
    figure = Figure(figsize=(8, 0.6 * len(bars) + 0.24 * sum(heights)))
    figure.set_layout_engine("constrained")
    panels = figure.subplots(len(bars), 1, squeeze=False, height_ratios=heights)[:, 0]
    for panel, (suite, rows) in zip(panels, bars.items(), strict=True):
        names = [(row["name"], row["form"], row["dtype"]) for row in rows]
        labels = [" ".join(filter(None, words)) for words in names]
        speeds = [row["images_per_second"] for row in rows]
        colors = [_color(row["name"]) for row in rows]
        drawn = panel.barh(range(len(rows)), speeds, color=colors)
        panel.bar_label(drawn, [f" {speed:,.0f}" for speed in speeds], fontsize=7)
        panel.set_yticks(range(len(rows)), labels, fontsize=7)
        panel.invert_yaxis()
        panel.margins(x=0.1)
        panel.set_title(f"{suite}: images a second", fontsize=9, loc="left")
        panel.tick_params(axis="x", labelsize=7)
        panel.grid(axis="x", alpha=0.3)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=90)


def _color(name: str) -> str:
    if name == "limit":
        return "tab:gray"
    own = name.startswith(("ours", "SavedModel", "records", "synthetic", "this"))
    return "tab:blue" if own else "tab:orange"


if __name__ == "__main__":
    cli.run("plot_benchmark.py", main)
