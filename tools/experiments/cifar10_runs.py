"""The runs of cifar10.py, read from their directories, and what they tell."""

import dataclasses
import itertools
import json
import pathlib
import statistics

from official.alexnet import plain_yaml

# The training error of Figure 1, and how long a run may take to get there.
ERROR = 0.25
MOST_EPOCHS = 60

# In each run's directory: what it was begun on, and with which commit.
MACHINE_FILE = "machine.json"

# Windows of an epoch, as the trainer writes them.
WINDOWS = 4


@dataclasses.dataclass(frozen=True)
class Run:
    """One run as its directory has it.

    Attributes:
        name: of the directory.
        settings: as in params.yaml.
        rows: of metrics.jsonl.
        results: of results.json; empty while the run is not finished.
        machine: of machine.json; empty where there is none.
    """

    name: str
    settings: dict
    rows: list[dict]
    results: dict
    machine: dict

    def of(self, split: str) -> list[dict]:
        return [row for row in self.rows if row["split"] == split]

    @property
    def epochs(self) -> float:
        return max((row["epoch"] for row in self.of("train")), default=0.0)

    @property
    def seconds(self) -> float:
        return max((row["seconds"] for row in self.of("train")), default=0.0)

    @property
    def state(self) -> str:
        if "diverged_by_step" in self.results:
            return "diverged"
        errors = [error for _, error in self.training_error()]
        threshold = self.settings["stop_train_error"]
        if threshold is not None and errors and errors[-1] <= threshold:
            return "finished"
        if self.epochs < self.settings["train_epochs"] - 1e-6:
            return "running"
        if threshold is None:  # Judged once more at its end.
            return "finished" if self.results else "running"
        is_of_search = self.settings["train_epochs"] < MOST_EPOCHS
        return "stopped" if is_of_search else "not reached"

    def training_error(self) -> list[tuple[float, float]]:
        """Error of the last epoch's worth of images, at that epoch's middle.

        Each image is judged just before the net learns from it.
        """
        rows = self.of("train")
        spans = [rows[i : i + WINDOWS] for i in range(len(rows) - WINDOWS + 1)]
        return [
            (
                span[-1]["epoch"] - 0.5,
                1 - statistics.mean(row["accuracy"] for row in span),
            )
            for span in spans
        ]

    def crossing(self, error: float = ERROR) -> float | None:
        """Epochs until the training error was so low, between two points of it."""
        points = self.training_error()
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if y0 > error >= y1:
                return x0 + (y0 - error) / (y0 - y1) * (x1 - x0)
        return None


def read(folder: pathlib.Path) -> Run:
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return Run(
        folder.name,
        plain_yaml.read((folder / "params.yaml").read_bytes(), f"{folder}/params.yaml"),
        [json.loads(line) for line in lines],
        json_of(folder / "results.json"),
        json_of(folder / MACHINE_FILE),
    )


def json_of(path: pathlib.Path) -> dict:
    """What a file holds; nothing where there is none."""
    return json.loads(path.read_text("utf-8")) if path.is_file() else {}


def with_rate(runs: list[Run], activation: str, rate: float | None) -> Run | None:
    """Of the first seed, the run with this learning rate."""
    own = _first_seed(runs, activation)
    return next((run for run in own if run.settings["learning_rate"] == rate), None)


def earliest(runs: list[Run], activation: str) -> Run | None:
    """Of the first seed, the run that was first at 25 %."""
    done = [run for run in _first_seed(runs, activation) if run.crossing() is not None]
    return min(done, key=Run.crossing, default=None)


def _first_seed(runs: list[Run], activation: str) -> list[Run]:
    return [
        run
        for run in runs
        if run.settings["activation"] == activation and run.settings["seed"] == 0
    ]


def pairs_of(runs: list[Run]) -> dict[int, dict[str, Run]]:
    pairs: dict[int, dict[str, Run]] = {}
    for run in runs:
        pairs.setdefault(run.settings["seed"], {})[run.settings["net"]] = run
    return dict(sorted(pairs.items()))
