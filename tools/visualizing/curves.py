"""Learning curves: what runs have written to metrics.jsonl."""

import dataclasses
import itertools
import json
import pathlib
import statistics
import typing
from collections.abc import Sequence

from official.alexnet import paths, run_files
from official.alexnet.errors import UserError
from visualizing import drawing

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

COLORS = ("tab:blue", "tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown")
PANELS = (
    ("loss", "cross-entropy (nats)", 1),
    ("accuracy", "top-1 (%)", 100),
    ("top_5_accuracy", "top-5 (%)", 100),
)


@dataclasses.dataclass(frozen=True)
class History:
    """What one run has written.

    Attributes:
        name: of the run, for the legend.
        rows: the lines of its metrics.jsonl.
        steps_per_epoch: None where it cannot be told.
    """

    name: str
    rows: list[dict]
    steps_per_epoch: float | None

    def points(self, split: str, key: str) -> list[tuple[int, float]]:
        """(step, value) of the split `train` or `validation`, in order of steps."""
        return [
            (row["step"], row[key])
            for row in self.rows
            if row["split"] == split and key in row
        ]

    def rate_changes(self) -> list[tuple[int, float]]:
        """(step, new learning rate) of each change, by the training lines.

        A line tells the rate of the steps up to its own: the change is put at the
        line before, the first step that may have had it.
        """
        rates = self.points("train", "learning_rate")
        pairs = itertools.pairwise(rates)
        return [(step, new) for (step, old), (_, new) in pairs if new != old]


def parse_runs(items: Sequence[str]) -> dict[str, str]:
    """The runs of `--runs=name=model_dir,...`, directories by name.

    Raises:
        UserError: an item is not of that form, or a name comes twice.
    """
    runs = {}
    for item in items:
        name, equals, folder = item.partition("=")
        if not (name and equals and folder):
            raise UserError(f"--runs={item}: should be name=model_dir")
        if name in runs:
            raise UserError(f"--runs: two runs are called {name}")
        runs[name] = str(paths.local(folder, "--runs"))
    return runs


def read(name: str, model_dir: str) -> History:
    """Reads a run's metrics; a last line that is cut short is passed over.

    Raises:
        UserError: there are none, or a line is not one of theirs.
    """
    path = pathlib.Path(model_dir) / run_files.METRICS_FILE
    if not path.is_file():
        raise UserError(
            f"{path} does not exist: train there first, or name the directory of a run"
        )
    lines = path.read_text("utf-8", errors="replace").splitlines()
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError:
            if number == len(lines):  # Its writer was killed, or is writing.
                print(f"{path}: the last line is cut short", flush=True)
                break
            row = None
        if not isinstance(row, dict) or not {"step", "split"} <= row.keys():
            raise UserError(f"{path}: line {number} is not one that training writes")
        rows.append(row)
    if not rows:
        raise UserError(f"{path} is empty: train there first")
    return History(name, rows, _steps_per_epoch(rows, model_dir))


def _steps_per_epoch(rows: Sequence[dict], model_dir: str) -> float | None:
    """By the distance of evaluations, whose length in epochs is a setting."""
    if not (pathlib.Path(model_dir) / run_files.PARAMS_FILE).is_file():
        return None
    steps = [row["step"] for row in rows if row["split"] == "validation"]
    if len(steps) < 2:
        return None  # The only one may be the end of the run.
    epochs = run_files.load_config(model_dir).train.epochs_between_evals
    # A run that was made longer has an evaluation at its first end as well.
    distances = [after - before for before, after in itertools.pairwise([0, *steps])]
    return statistics.mode(distances) / epochs


def draw(histories: Sequence[History]) -> "Figure":
    """Loss, top-1 and top-5 of runs: training as lines, validation as points.

    The axis is in steps, with epochs above it. Runs whose epochs have different
    numbers of steps are drawn over epochs alone. Dotted lines: the learning rate
    changes.
    """
    figure = drawing.new_figure(12, 3.9, layout="constrained")
    lengths = [history.steps_per_epoch for history in histories]
    alike = None not in lengths and max(lengths) < 1.01 * min(lengths)
    over_epochs = None not in lengths and not alike
    panels = figure.subplots(1, len(PANELS))
    for panel, (key, title, factor) in zip(panels, PANELS, strict=True):
        for i, history in enumerate(histories):
            unit = history.steps_per_epoch if over_epochs else 1
            color = COLORS[i % len(COLORS)]
            for split, style in (("train", "-"), ("validation", "o--")):
                points = history.points(split, key)
                if points:
                    panel.plot(
                        [step / unit for step, _ in points],
                        [factor * value for _, value in points],
                        style,
                        color=color,
                        label=f"{history.name}, {split}",
                        markersize=3.5,
                        linewidth=1.2,
                        alpha=0.6 if split == "train" else 1,
                    )
            for step, rate in history.rate_changes():
                panel.axvline(step / unit, color=color, linestyle=":", linewidth=1)
                panel.text(
                    *(step / unit, 0.98, f" lr {rate:.2g}"),
                    transform=panel.get_xaxis_transform(),
                    va="top",
                    fontsize=7,
                    color=color,
                )
        panel.set(xlabel="epoch" if over_epochs else "step", ylabel=title)
        panel.grid(alpha=0.3)
        if alike:
            length = lengths[0]
            above = panel.secondary_xaxis(
                "top", (lambda x, n=length: x / n, lambda x, n=length: x * n)
            )
            above.set_xlabel("epoch", fontsize=9)
            above.tick_params(labelsize=8)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=min(4, len(names)), fontsize=8
    )
    return figure


def results(histories: Sequence[History]) -> dict[str, dict]:
    """The last lines of each run, in numbers."""
    last = {}
    for history in histories:
        last[history.name] = {"steps_per_epoch": history.steps_per_epoch}
        for row in history.rows:
            last[history.name][row["split"]] = row
    return last
