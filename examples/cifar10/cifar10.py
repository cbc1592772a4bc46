"""Figure 1 (ReLU against tanh) and section 3.3 (LRN) on CIFAR-10.

  python examples/cifar10/cifar10.py --data_dir=cifar10 --output_dir=runs/cifar10

Each run is a JSON file of results and curves once it is finished. Stopped, the same
command trains the runs that are not there.

Figure 1: of a grid of learning rates for ReLU and for tanh, each trains for an epoch,
the better two for three, and the best (with rates outside, where it is at the edge)
until the training error of an epoch is 25 %.
Section 3.3: pairs of runs with one seed, without and with LRN, 20 epochs each.
Needs matplotlib and SciPy: pip install 'official-alexnet[plots]'.
"""

import functools
import json
import pathlib
import sys
from collections.abc import Callable

import numpy as np
from absl import flags

from official.alexnet import cli, disk
from official.alexnet.errors import UserError

RATES, FACTOR = (0.0005, 0.001, 0.002, 0.004), 2
ERROR, MOST_EPOCHS = 0.25, 60
LRN_SEEDS, LRN_EPOCHS = (1, 2, 3), 20


def main() -> dict:
    folder = pathlib.Path(cli.path("output_dir"))
    cli.start_tensorflow()
    from data import read  # noqa: PLC0415

    from official.alexnet import backend  # noqa: F401, PLC0415 (refuses another one)

    splits = read(cli.path("data_dir"))
    folder.mkdir(parents=True, exist_ok=True)
    run = functools.partial(run_once, folder, splits)
    return {"output_dir": str(folder)} | figure1(run, folder / "figure1.png") | lrn(run)


def run_once(
    folder: pathlib.Path,
    splits: tuple,
    net: str,
    activation: str,
    rate: float,
    epochs: int,
    seed: int = 0,
) -> dict:
    """What `train.train` returns, out of the run's file where it is finished."""
    path = folder / f"{net}-{activation}-{rate:g}-{seed}-{epochs}.json"
    if not path.is_file():
        print(path.stem, file=sys.stderr, flush=True)
        from train import train  # noqa: PLC0415

        stop_error = ERROR if net == "19pct" else None
        results = train(net, activation, rate, epochs, *splits, seed, stop_error)
        disk.write_text(path, json.dumps(results))
    return json.loads(path.read_text("utf-8"))


def figure1(run: Callable[..., dict], picture: pathlib.Path) -> dict:
    """Trains ReLU and tanh to 25 %, draws the curves, and says how they compare."""
    from matplotlib.figure import Figure  # noqa: PLC0415

    best, epochs, figure = {}, {}, Figure(figsize=(6, 4))
    panel = figure.subplots()
    for name, style in {"relu": "-", "tanh": "--"}.items():
        of_rate = functools.partial(run, "19pct", name)
        best[name] = search(of_rate)
        results = of_rate(best[name], MOST_EPOCHS)
        epochs[name] = results.get("epochs_to_error")
        panel.plot(*np.transpose(results["errors"]), style, color="black", label=name)
    panel.axhline(ERROR, color="gray", linewidth=0.8)
    panel.set(xlabel="epochs", ylabel="training error", ylim=(0, 0.75))
    panel.legend()
    figure.savefig(picture, dpi=100, bbox_inches="tight")
    return {"best_rates": best, "epochs_to_error": epochs}


def search(run: Callable[[float, int], dict]) -> float:
    """The rate with the lowest training error in its third epoch."""

    def error(epochs: int) -> Callable[[float], float]:
        return lambda rate: run(rate, epochs)["training_error"]

    tried = list(RATES)
    best = min(sorted(tried, key=error(1))[:2], key=error(3))
    while best in (min(tried), max(tried)):
        tried.append(best / FACTOR if best == min(tried) else best * FACTOR)
        best = min(best, tried[-1], key=error(3))
    return best


def lrn(run: Callable[..., dict]) -> dict:
    """Trains the pairs; the gain in percentage points, and its 95 % interval."""
    from scipy import stats  # noqa: PLC0415

    def error(net: str, seed: int) -> float:
        found = run(net, "relu", 0.001, LRN_EPOCHS, seed)
        if "test_error_9_crops" not in found:
            raise UserError(f"{net} of seed {seed} has diverged: there is no gain")
        return found["test_error_9_crops"]

    gains = [100 * (error("13pct", seed) - error("11pct", seed)) for seed in LRN_SEEDS]
    low, high = stats.ttest_1samp(gains, 0).confidence_interval(0.95)
    return {"lrn_gain": np.mean(gains), "lrn_gain_interval": [low, high]}


if __name__ == "__main__":
    help_text = "CIFAR-10's binary version (cifar-10-batches-bin)."
    flags.DEFINE_string("data_dir", None, help_text, required=True)
    flags.DEFINE_string("output_dir", None, "Where the results go.", required=True)
    cli.run("cifar10", main)
