r"""Trains the CIFAR-10 nets for Figure 1 and for section 3.3, one run after another.

  python tools/experiments/cifar10.py --data_dir=cifar10 --output_dir=runs/cifar10

Stopped, the same command goes on where it was. `cifar10_report.py` writes the page from
whatever runs there are.

Figure 1, for ReLU and for tanh: each learning rate of a grid is trained for an epoch,
the better half for three, and the best until the training error of an epoch is 25 %. If
that one is at the edge of the grid, the next rate outside is tried in the same way.
When the search is over, chosen.json says which they are.
Section 3.3: pairs of runs with one seed, without and with LRN. Then, to see how sure
Figure 1 is, the rates beside the best ones, and other seeds.
"""

import dataclasses
import functools
import json
import math
import pathlib
import sys

from absl import flags
from cifar10_runs import ERROR, MACHINE_FILE, MOST_EPOCHS, json_of

from official.alexnet import cli
from official.alexnet.data.atomic import atomic_write
from official.alexnet.errors import UserError

CHOSEN_FILE = "chosen.json"
RATES = (0.0005, 0.001, 0.002, 0.004)
FACTOR = 2  # between one rate and the next


def define_flags() -> None:
    """Defines the flags; done only when this file is the program."""
    flags.DEFINE_string(
        "data_dir", None, "Directory of CIFAR-10's binary version.", required=True
    )
    flags.DEFINE_string(
        "output_dir", None, "Where the runs go, a directory each.", required=True
    )
    flags.DEFINE_enum("experiment", "all", ["all", "figure1", "lrn"], "What to train.")
    flags.DEFINE_integer("seeds", 3, "Seeds of Figure 1's best rates, and pairs.")
    flags.DEFINE_integer("lrn_epochs", 20, "Epochs of a run of section 3.3.")


def main() -> dict:
    values = flags.FLAGS
    folder = pathlib.Path(cli.path("output_dir", of_checkpoints=True))
    cli.start_tensorflow()
    from official.alexnet.cifar import data  # noqa: PLC0415

    runs = Runs(data.read(cli.path("data_dir")), folder)
    has_figure1, has_lrn = (
        values.experiment in ("all", one) for one in ("figure1", "lrn")
    )
    best = choose(runs) if has_figure1 else {}
    for name, rate in best.items():
        runs.to_error(name, rate)
    for seed in range(1, values.seeds + 1 if has_lrn else 1):
        for net in ("cifar_13pct", "cifar_11pct"):
            runs.lrn(net, seed, values.lrn_epochs)
    for name, rate in best.items():
        for beside in (rate / FACTOR, rate * FACTOR):
            runs.to_error(name, beside)
    for seed in range(1, values.seeds):
        for name, rate in best.items():
            runs.to_error(name, rate, seed)
    return {"best_rates": best, "output_dir": values.output_dir}


def _write_machine(folder: pathlib.Path) -> None:
    """Says once on what, and with which commit, a run was begun."""
    path = folder / MACHINE_FILE
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(_machine(), indent=2) + "\n", "utf-8")


@functools.cache
def _machine() -> dict:
    sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))
    from benchmarking import machine  # noqa: PLC0415

    return machine.describe()


def choose(runs: "Runs") -> dict[str, float]:
    """The rates of Figure 1. The page takes them from the file, not from later runs."""
    best = {name: search(runs, name) for name in ("relu", "tanh")}
    with atomic_write(runs.folder / CHOSEN_FILE) as path:
        path.write_text(json.dumps(best) + "\n", "utf-8")
    return best


def search(runs: "Runs", activation: str) -> float:
    """The rate with the lowest training error in its third epoch."""

    def lowest(rates: list[float], epochs: int, count: int) -> list[float]:
        errors = {rate: runs.figure1(activation, rate, epochs) for rate in rates}
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


@dataclasses.dataclass(frozen=True)
class Runs:
    """Trains a run unless it is finished; the directory's name says which it is."""

    cifar10: object
    folder: pathlib.Path

    def figure1(
        self,
        activation: str,
        rate: float,
        epochs: int,
        seed: int = 0,
        eval_training_set: bool = False,
    ) -> float:
        """Trains for so many epochs, or to 25 % training error.

        Returns:
            The training error over the last epoch; infinite if the run diverged.
        """
        results = self._train(
            f"figure1-{activation}-{rate:g}-seed{seed}",
            epochs,
            net="cifar_19pct",
            activation=activation,
            learning_rate=rate,
            augment=False,
            weight_decay=False,
            stop_train_error=ERROR,
            eval_training_set=eval_training_set,
            seed=seed,
        )
        return results.get("running_training_error", math.inf)

    def to_error(self, activation: str, rate: float, seed: int = 0) -> None:
        """Trains until the training error is 25 %."""
        self.figure1(activation, rate, MOST_EPOCHS, seed, eval_training_set=True)

    def lrn(self, net: str, seed: int, epochs: int) -> None:
        """Trains with the source's recipe, shortened: rates fall at 80 and 90 %."""
        self._train(
            f"lrn-{net}-seed{seed}",
            epochs,
            net=net,
            learning_rate=0.001,
            learning_rate_steps=(0.8 * epochs, 0.9 * epochs),
            eval_training_set=False,
            seed=seed,
        )

    def _train(self, name: str, epochs: int, **settings) -> dict:
        from official.alexnet.cifar import trainer  # noqa: PLC0415
        from official.alexnet.cifar.settings import Settings  # noqa: PLC0415

        folder = self.folder / name
        print(f"{name}, {epochs} epochs", file=sys.stderr)
        ended = folder / trainer.RESULTS_FILE
        results = json_of(ended)
        has_ended = results.get("epoch", 0) >= epochs or "diverged_by_step" in results
        # It may have been trained for longer: what was its error back then?
        if has_ended and (error := _error_at(folder, epochs)) is not None:
            return results | {"running_training_error": error}
        _write_machine(folder)
        try:
            results = trainer.train(
                Settings(train_epochs=float(epochs), **settings),
                self.cifar10,
                str(folder),
            )
        except UserError as error:
            if "diverged_by_step" not in json_of(ended):
                raise
            print(error, file=sys.stderr)
            return {}
        print(f"{name}: {json.dumps(results)}", file=sys.stderr, flush=True)
        return results


def _error_at(folder: pathlib.Path, epochs: int) -> float | None:
    """The training error over the last of so many epochs, as metrics.jsonl has it.

    None where the run ended before that; it may have diverged after it.
    """
    path = folder / "metrics.jsonl"
    lines = path.read_text("utf-8").splitlines() if path.is_file() else []
    rows = [row for row in map(json.loads, lines) if row["split"] == "train"]
    if not rows or rows[-1]["epoch"] < epochs:
        return None
    # Windows end at whole steps, up to a step after the epoch's quarter.
    errors = [1 - row["accuracy"] for row in rows if row["epoch"] < epochs + 0.01]
    return sum(errors[-4:]) / 4


if __name__ == "__main__":
    define_flags()
    cli.run("cifar10.py", main)
