"""Figure 1 (ReLU against tanh) and section 3.3 (LRN) on CIFAR-10.

  python examples/cifar10/cifar10.py --data_dir=cifar10 --output_dir=runs/cifar10

Each run is a row of runs.csv once it is finished, with its curves in a file of its own.
Stopped, the same command trains the runs that are not there.

Figure 1: for ReLU and tanh each learning rate of a grid is trained for an epoch, the
better two for three, and the best until the training error of an epoch is 25 %. If that
one is at the edge of the grid, the next rate outside is tried, too.
Section 3.3: pairs of runs with one seed, without and with LRN, 20 epochs each.
"""

import csv
import json
import math
import pathlib
import statistics
import sys

from absl import flags

from official.alexnet import cli

FLAGS = flags.FLAGS
RATES, FACTOR = (0.0005, 0.001, 0.002, 0.004), 2
ERROR, MOST_EPOCHS = 0.25, 60
LRN_SEEDS, LRN_EPOCHS = (1, 2, 3), 20
FIELDS = (
    *("net", "activation", "learning_rate", "seed", "train_epochs"),
    *("epochs", "training_error", "epochs_to_error", "test_error"),
    "test_error_9_crops",
)


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_string(
        "data_dir",
        None,
        "CIFAR-10's binary version (cifar-10-batches-bin), or TFDS's directory.",
        required=True,
    )
    flags.DEFINE_string("tfds_name", None, "Read what TFDS has prepared: cifar10.")
    flags.DEFINE_string("output_dir", None, "Where the results go.", required=True)
    flags.DEFINE_enum("experiment", "all", ["all", "figure1", "lrn"], "What to train.")


def main() -> dict:
    folder = pathlib.Path(cli.path("output_dir"))
    data_dir = cli.path("data_dir")
    cli.start_tensorflow()
    from data import read  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    runs = Runs(folder, *read(data_dir, FLAGS.tfds_name))
    results = {"output_dir": str(folder)}
    if FLAGS.experiment != "lrn":
        results |= figure1(runs)
    if FLAGS.experiment != "figure1":
        results |= lrn(runs)
    return results


def figure1(runs: "Runs") -> dict:
    """Trains ReLU and tanh to 25 %, draws the curves, and says how they compare."""
    best = {name: search(runs, name) for name in ("relu", "tanh")}
    rows = {
        name: runs.train("19pct", rate, MOST_EPOCHS, activation=name)
        for name, rate in best.items()
    }
    draw(runs, rows)
    epochs = {name: row["epochs_to_error"] for name, row in rows.items()}
    return {"best_rates": best, "epochs_to_error": epochs}


def search(runs: "Runs", activation: str) -> float:
    """The rate with the lowest training error in its third epoch."""

    def lowest(rates: list[float], epochs: int, count: int) -> list[float]:
        errors = {
            rate: runs.train("19pct", rate, epochs, activation=activation)[
                "training_error"
            ]
            for rate in rates
        }
        return sorted(rates, key=errors.get)[:count]

    tried = list(RATES)
    (best,) = lowest(lowest(tried, 1, 2), 3, 1)
    while True:
        outside = [best / FACTOR, best * FACTOR]
        outside = [r for r in outside if not min(tried) <= r <= max(tried)]
        if not outside:
            return best
        tried += outside
        (now,) = lowest([best, *outside], 3, 1)
        if now == best:
            return best
        best = now


def lrn(runs: "Runs") -> dict:
    """Trains the pairs; the gain in percentage points, and its 95 % interval."""
    from scipy import stats  # noqa: PLC0415

    gains = []
    for seed in LRN_SEEDS:
        errors = [
            runs.train(net, 0.001, LRN_EPOCHS, seed=seed)["test_error_9_crops"]
            for net in ("13pct", "11pct")
        ]
        gains.append(100 * (errors[0] - errors[1]))
    mean, count = statistics.mean(gains), len(gains)
    half = statistics.stdev(gains) / math.sqrt(count) * stats.t.ppf(0.975, count - 1)
    return {"lrn_gain": mean, "lrn_gain_interval": [mean - half, mean + half]}


class Runs:
    """Trains runs, each once; `runs.csv` holds those that are finished."""

    def __init__(self, folder: pathlib.Path, train, test):
        self.folder, self.training, self.test = folder, train, test
        self.table = folder / "runs.csv"
        if not self.table.exists():
            self.table.write_text(",".join(FIELDS) + "\n", "utf-8")

    def train(
        self, net: str, rate: float, epochs: int, *, activation="relu", seed=0
    ) -> dict:
        """Trains a run, or finds it among the finished ones; returns its row."""
        key = [net, activation, f"{rate:g}", str(seed), str(epochs)]
        with self.table.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if [row[field] for field in FIELDS[:5]] == key:
                    return {k: _number(row[k]) for k in FIELDS[5:]}
        print(" ".join(key), file=sys.stderr, flush=True)
        from train import train  # noqa: PLC0415

        row, curves = train(
            net,
            rate,
            epochs,
            self.training,
            self.test,
            activation=activation,
            seed=seed,
            stop_error=ERROR if net == "19pct" else None,
        )
        (self.folder / f"{'-'.join(key)}.json").write_text(json.dumps(curves), "utf-8")
        with self.table.open("a", encoding="utf-8", newline="") as file:
            csv.writer(file).writerow([*key, *(row.get(k, "") for k in FIELDS[5:])])
        return {k: _number(row.get(k, "")) for k in FIELDS[5:]}


def _number(text) -> float | None:
    return None if text in ("", None) else float(text)


def draw(runs: Runs, rows: dict[str, dict]) -> None:
    """Writes figure1.png: training error against epochs, ReLU solid, tanh dashed."""
    import matplotlib as mpl  # noqa: PLC0415

    mpl.use("Agg")
    from matplotlib import pyplot as plt  # noqa: PLC0415

    figure, panel = plt.subplots(figsize=(6, 4))
    for name, style in (("relu", "-"), ("tanh", "--")):
        (path,) = runs.folder.glob(f"19pct-{name}-*-0-{MOST_EPOCHS}.json")
        curve = json.loads(path.read_text("utf-8"))["training_error"]
        epochs, errors = zip(*curve, strict=True)
        panel.plot(epochs, errors, style, color="black", label=name)
    panel.axhline(ERROR, color="gray", linewidth=0.8)
    panel.set(xlabel="epochs", ylabel="training error", ylim=(0, 0.75))
    panel.legend()
    figure.savefig(runs.folder / "figure1.png", dpi=100, bbox_inches="tight")
    plt.close(figure)


if __name__ == "__main__":
    define_flags()
    cli.run("cifar10", main)
