"""Section 3.3 on the CIFAR-10 page: pairs of runs without and with LRN."""

import math
import pathlib
import re
import statistics
import sys

from cifar10_runs import Run

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))

from ablating.statistics import t_quantile


def draw(pairs: dict[int, dict[str, Run]], panel) -> None:
    """Test error against epochs, into Matplotlib's axes."""
    kinds = {"cifar_13pct": ("--", "without LRN"), "cifar_11pct": ("-", "with LRN")}
    for number, (seed, pair) in enumerate(pairs.items()):
        for net, run in pair.items():
            rows = run.of("validation")
            style, label = kinds[net]
            panel.plot(
                [row["epoch"] for row in rows],
                [100 * (1 - row["accuracy"]) for row in rows],
                style,
                color=f"C{number}",
                label=f"{label}, seed {seed}",
            )
    panel.set(xlabel="epochs", ylabel="test error, centre crop (%)", ylim=(10, 45))
    panel.grid(alpha=0.3)
    if pairs:
        panel.legend(fontsize=8)


def answer(pairs: dict[int, dict[str, Run]]) -> str:
    """One sentence: the gain, and how sure it is."""
    done = _finished(pairs)
    if not done:
        return "**Not decided yet**: no pair of runs is finished."
    gains = [
        100 * (without["test_error_9_crops"] - with_lrn["test_error_9_crops"])
        for _, without, with_lrn in done
    ]
    verb = "lowers"
    if statistics.mean(gains) < 0:
        verb, gains = "raises", [-gain for gain in gains]
    mean = statistics.mean(gains)
    text = (
        f"**LRN {verb} the test error by {mean:.2f} percentage points** (nine crops, "
        f"{len(gains)} pair{'s' if len(gains) > 1 else ''}"
    )
    if len(gains) == 1:
        return text + "; one pair says nothing about chance)."
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    half = t_quantile(0.975, len(gains) - 1) * error
    holds = "leaves out" if mean > half else "holds"
    return (
        f"{text}, standard error {error:.2f}, paired 95 % interval "
        f"{mean - half:.2f} to {mean + half:.2f}, which {holds} zero). The paper's are "
        "13 % and 11 %, two points."
    )


def table(pairs: dict[int, dict[str, Run]]) -> str:
    """Test errors of finished pairs, in Markdown."""
    lines = [
        "| seed | without, centre | with, centre | without, 9 crops | with, 9 crops | "
        "difference, 9 crops |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    done = _finished(pairs)
    keys = ("test_error", "test_error_9_crops")
    columns = []
    for seed, *both in done:
        errors = [100 * results[key] for key in keys for results in both]
        errors.append(errors[2] - errors[3])
        columns.append(errors)
        lines.append(f"| {seed} | " + " | ".join(f"{e:.2f}" for e in errors) + " |")
    if len(columns) > 1:
        cells = []
        for values in zip(*columns, strict=True):
            error = statistics.stdev(values) / math.sqrt(len(values))
            cells.append(f"{statistics.mean(values):.2f} ± {error:.2f}")
        lines.append("| mean ± standard error | " + " | ".join(cells) + " |")
    waiting = [
        f"`{run.name}` ({run.epochs:.2f} epochs)"
        for pair in pairs.values()
        for run in pair.values()
        if run.state != "finished"
    ]
    if waiting:
        lines.append("\nNot finished: " + ", ".join(waiting) + ".")
    return "\n".join(lines)


def epochs(pairs: dict[int, dict[str, Run]]) -> str:
    """How long a run is."""
    runs = [run for pair in pairs.values() for run in pair.values()]
    if not runs:
        return "20"
    return re.sub(r"\.0$", "", str(runs[0].settings["train_epochs"]))


def _finished(pairs: dict[int, dict[str, Run]]) -> list[tuple[int, dict, dict]]:
    """Seed, and results without and with LRN."""
    return [
        (seed, pair["cifar_13pct"].results, pair["cifar_11pct"].results)
        for seed, pair in pairs.items()
        if len(pair) == 2 and all(run.state == "finished" for run in pair.values())
    ]
