"""Learning curves: what runs have written to metrics.jsonl."""

import dataclasses
import itertools
import json
import pathlib
import statistics
from collections.abc import Sequence

import numpy as np

from official.alexnet import run_files
from official.alexnet.errors import UserError
from visualizing import drawing

PANELS = (
    ("loss", "cross-entropy (nats)", 1),
    ("accuracy", "top-1 (%)", 100),
    ("top_5_accuracy", "top-5 (%)", 100),
)


@dataclasses.dataclass(frozen=True)
class History:
    """The lines of a run's metrics.jsonl; `steps_per_epoch` is None: not known."""

    name: str
    rows: list[dict]
    steps_per_epoch: float | None

    def points(self, split: str, key: str) -> list[tuple[int, float]]:
        """(step, value) of the split `train` or `validation`, in order of steps."""
        rows = [row for row in self.rows if row["split"] == split and key in row]
        return [(row["step"], row[key]) for row in rows]

    def rate_changes(self) -> list[tuple[int, float]]:
        """(step, new learning rate) of each change, by the training lines.

        A line tells the rate of the steps up to its own: the change is put at the
        line before, the first step that may have had it.
        """
        pairs = itertools.pairwise(self.points("train", "learning_rate"))
        return [(step, new) for (step, old), (_, new) in pairs if new != old]


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
            rows.append(row := json.loads(line))
            _ = row["step"], row["split"]
        except (ValueError, LookupError, TypeError) as error:
            if isinstance(error, ValueError) and number == len(lines):
                # Its writer was killed, or is writing.
                print(f"{path}: the last line is cut short", flush=True)
                break
            raise UserError(
                f"{path}: line {number} is not one that training writes"
            ) from error
    if not rows:
        raise UserError(f"{path} is empty: train there first")
    return History(name, rows, _steps_per_epoch(rows, model_dir))


def _steps_per_epoch(rows: Sequence[dict], model_dir: str) -> float | None:
    """By the distance of evaluations, whose length in epochs is a setting."""
    steps = [row["step"] for row in rows if row["split"] == "validation"]
    has_settings = (pathlib.Path(model_dir) / run_files.PARAMS_FILE).is_file()
    if len(steps) < 2 or not has_settings:
        return None  # A single evaluation may be the end of the run.
    epochs = run_files.load_config(model_dir).train.epochs_between_evals
    # A run that was made longer has an evaluation at its first end as well.
    return statistics.mode(np.diff([0, *steps]).tolist()) / epochs


def draw(histories: Sequence[History]) -> drawing.Figure:
    """Loss, top-1 and top-5 of runs: training as lines, validation as points.

    The axis is in steps, with epochs above it where they are as long in all runs.
    Dotted lines: the learning rate changes.
    """
    figure = drawing.new_figure(12, 3.9)
    lengths = [history.steps_per_epoch for history in histories]
    length = lengths[0]
    alike = None not in lengths and max(lengths) < 1.01 * min(lengths)
    panels = figure.subplots(1, len(PANELS))
    for panel, (key, title, factor) in zip(panels, PANELS, strict=True):
        for i, history in enumerate(histories):
            for split, style, alpha in (("train", "-", 0.6), ("validation", "o--", 1)):
                points = np.array(history.points(split, key)).reshape(-1, 2)
                line = {"color": f"C{i}", "label": f"{history.name}, {split}"}
                line |= {"alpha": alpha, "markersize": 3.5, "linewidth": 1.2}
                if len(points):
                    panel.plot(*(points * (1, factor)).T, style, **line)
            for step, rate in history.rate_changes():
                panel.axvline(step, color=f"C{i}", linestyle=":", linewidth=1)
                text = {"color": f"C{i}", "fontsize": 7, "va": "top"}
                text["transform"] = panel.get_xaxis_transform()
                panel.text(step, 0.98, f" lr {rate:.2g}", **text)
        panel.set(xlabel="step", ylabel=title)
        panel.grid(alpha=0.3)
        if alike:
            scales = (lambda steps: steps / length, lambda epochs: epochs * length)
            above = panel.secondary_xaxis("top", scales)
            above.set_xlabel("epoch", fontsize=9)
            above.tick_params(labelsize=8)
    handles, names = panels[0].get_legend_handles_labels()
    place = {"loc": "outside lower center", "ncols": min(4, len(names))}
    figure.legend(handles, names, fontsize=8, **place)
    return figure


def picture(histories: Sequence[History]) -> tuple[np.ndarray, dict[str, dict]]:
    """The picture, and the last lines of each run."""
    numbers = {
        history.name: {"steps_per_epoch": history.steps_per_epoch}
        | {row["split"]: row for row in history.rows}
        for history in histories
    }
    return drawing.pixels_of(draw(histories)), numbers
