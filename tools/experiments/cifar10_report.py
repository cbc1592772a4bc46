r"""Writes the page on the CIFAR-10 runs: tables, plots, and metrics to check them by.

  python tools/experiments/cifar10_report.py --runs=runs/cifar10 \
      --output_dir=docs/results/cifar10

It takes the runs as they are, finished or not, and says which are not. Needs
matplotlib: pip install 'official-alexnet[plots]'.
"""

import csv
import gzip
import json
import pathlib

import cifar10_lrn
from absl import flags
from cifar10_runs import (
    ERROR,
    MOST_EPOCHS,
    Run,
    earliest,
    json_of,
    pairs_of,
    read,
    with_rate,
)

from official.alexnet import cli
from official.alexnet.errors import UserError

flags.DEFINE_string("runs", None, "The --output_dir of cifar10.py.", required=True)
flags.DEFINE_string("output_dir", None, "Where to write.", required=True)

TEMPLATE = pathlib.Path(__file__).with_name("cifar10_report.md")

# As in cifar10.py.
CHOSEN_FILE = "chosen.json"


def main() -> dict:
    folder, output = (pathlib.Path(cli.path(name)) for name in ("runs", "output_dir"))
    runs = [read(path.parent) for path in sorted(folder.glob("*/metrics.jsonl"))]
    if not runs:
        raise UserError(
            f"--runs={folder} holds no runs: name the --output_dir of cifar10.py"
        )
    output.mkdir(parents=True, exist_ok=True)
    figure1 = [run for run in runs if run.name.startswith("figure1-")]
    pairs = pairs_of([run for run in runs if run.name.startswith("lrn-")])
    rates = json_of(folder / CHOSEN_FILE)
    chosen = {
        name: with_rate(figure1, name, rates.get(name)) for name in ("relu", "tanh")
    }
    _write_tables(figure1, pairs, output)
    _draw_figure1(figure1, chosen, output / "figure1.png")
    figure = _figure()
    cifar10_lrn.draw(pairs, figure.subplots())
    figure.savefig(output / "lrn.png", dpi=100)
    for run in runs:
        with gzip.GzipFile(output / f"{run.name}.metrics.jsonl.gz", "wb", mtime=0) as f:
            f.write("".join(json.dumps(row) + "\n" for row in run.rows).encode())
    page = TEMPLATE.read_text("utf-8")
    words = {
        "machines": _machines(runs),
        "runs": _states(runs),
        "figure1_answer": _figure1_answer(figure1, chosen)
        if rates
        else "**Not decided yet**: the learning rates are still being chosen.",
        "figure1_table": _figure1_table(figure1, chosen),
        "lrn_answer": cifar10_lrn.answer(pairs),
        "lrn_table": cifar10_lrn.table(pairs),
        "lrn_epochs": cifar10_lrn.epochs(pairs),
    }
    for name, text in words.items():
        page = page.replace(f"{{{name}}}", text)
    (output / "README.md").write_text(page, "utf-8")
    crossings = {n: run.crossing() if run else None for n, run in chosen.items()}
    return {
        "runs": {run.name: run.state for run in runs},
        "epochs_to_25_percent": crossings,
        "written": str(output / "README.md"),
    }


def _write_tables(
    figure1: list[Run], pairs: dict[int, dict[str, Run]], output: pathlib.Path
) -> None:
    with (output / "figure1.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = "activation learning_rate seed state epochs training_error"
        table.writerow([*columns.split(), "epochs_to_25_percent", "seconds"])
        for run in figure1:
            points = run.training_error()
            settings = run.settings
            table.writerow(
                [
                    settings["activation"],
                    settings["learning_rate"],
                    settings["seed"],
                    run.state,
                    round(run.epochs, 3),
                    round(points[-1][1], 5) if points else "",
                    round(run.crossing() or 0, 3) or "",
                    round(run.seconds),
                ]
            )
    with (output / "lrn.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        columns = "net seed state epochs test_error test_error_9_crops seconds"
        table.writerow(columns.split())
        for pair in pairs.values():
            for run in pair.values():
                table.writerow(
                    [
                        run.settings["net"],
                        run.settings["seed"],
                        run.state,
                        round(run.epochs, 3),
                        run.results.get("test_error", ""),
                        run.results.get("test_error_9_crops", ""),
                        round(run.seconds),
                    ]
                )


def _figure():
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415
    except ImportError as error:
        raise UserError(
            "plots need matplotlib: pip install 'official-alexnet[plots]'"
        ) from error
    return Figure(figsize=(6.4, 4.4), layout="constrained")


def _draw_figure1(
    runs: list[Run], chosen: dict[str, Run | None], path: pathlib.Path
) -> None:
    """As the paper's: ReLU solid, tanh dashed; other rates and seeds thin."""
    figure = _figure()
    panel = figure.subplots()
    styles = {"relu": ("-", "tab:blue", "ReLU"), "tanh": ("--", "tab:red", "tanh")}
    for run in runs:
        style, color, label = styles[run.settings["activation"]]
        points = run.training_error()
        if not points:
            continue
        is_chosen = run in chosen.values()
        panel.plot(
            *zip(*points, strict=True),
            style,
            color=color,
            linewidth=2 if is_chosen else 0.8,
            alpha=1 if is_chosen else 0.4,
            label=f"{label}, rate {run.settings['learning_rate']:g}"
            if is_chosen
            else None,
        )
    panel.axhline(ERROR, color="black", linewidth=0.6)
    panel.set(
        xlabel="epochs", ylabel="training error rate", ylim=(0, 0.75), xlim=(0, None)
    )
    panel.grid(alpha=0.3)
    if panel.get_legend_handles_labels()[0]:
        panel.legend()
    figure.savefig(path, dpi=100)


def _machines(runs: list[Run]) -> str:
    """One line for each machine and commit, with its runs where there are several."""
    names: dict[str, list[str]] = {}
    for run in runs:
        names.setdefault(_machine(run.machine), []).append(f"`{run.name}`")
    if len(names) == 1:
        return f"{next(iter(names))}."
    lines = [f"- {machine}: {', '.join(of_it)}." for machine, of_it in names.items()]
    return "\n\n" + "\n".join(lines) + "\n"


def _machine(machine: dict) -> str:
    if not machine:
        return "not recorded"
    versions = machine["versions"]
    return (
        f"{machine['cores']} cores of {machine['cpu']}; Python "
        f"{versions['python']}, TensorFlow {versions['tensorflow']}, Keras "
        f"{versions['keras']}; commit {machine['git_commit']}, {machine['date'][:10]}"
    )


def _states(runs: list[Run]) -> str:
    states = [run.state for run in runs]
    text = f"{states.count('finished')} runs are finished"
    if diverged := states.count("diverged"):
        text += f", {diverged} diverged"
    if stopped := states.count("stopped"):
        text += f", {stopped} of the search were left at 1 or 3 epochs"
    if missed := states.count("not reached"):
        text += f", {missed} with 25 % not reached in {MOST_EPOCHS} epochs"
    if running := [run for run in runs if run.state == "running"]:
        text += ", and not finished when this was written: " + ", ".join(
            f"`{run.name}` ({run.epochs:.2f} epochs)" for run in running
        )
    return text + "."


def _figure1_answer(runs: list[Run], chosen: dict[str, Run | None]) -> str:
    crossings = {name: run and run.crossing() for name, run in chosen.items()}
    missing = [name for name, epochs in crossings.items() if epochs is None]
    if missing:
        so_far = []
        for name in missing:
            if run := chosen[name]:
                points = run.training_error()
                error = f", {100 * points[-1][1]:.1f} %" if points else ""
                so_far.append(
                    f"{name} ({run.state} after {run.epochs:.1f} epochs{error})"
                )
            else:
                so_far.append(f"{name} (not begun)")
        return (
            "**Not decided**: 25 % is not reached at the rate chosen for "
            f"{' and '.join(so_far)}."
        )
    relu, tanh = crossings["relu"], crossings["tanh"]
    ratio = tanh / relu
    if 5 <= ratio <= 7:
        verdict = "as in the paper"
    elif ratio > 7:
        verdict = "more than in the paper"
    elif ratio > 1.2:
        verdict = "the same direction as in the paper, but less"
    else:
        verdict = "not what the paper reports"
    return (
        f"**ReLU reaches 25 % training error after {relu:.1f} epochs, tanh after "
        f"{tanh:.1f}: {ratio:.1f} times as many** ({verdict}: six times)."
        + _a_point_above(chosen)
        + _seeds(runs, chosen)
        + _check(runs, chosen)
    )


def _a_point_above(chosen: dict[str, Run]) -> str:
    """What a curve that is flat where it crosses owes to chance."""
    relu, tanh = (chosen[name].crossing(ERROR + 0.01) for name in ("relu", "tanh"))
    if relu is None or tanh is None:  # It began below.
        return ""
    return (
        f" To 26 % it was {relu:.1f} and {tanh:.1f} epochs, {tanh / relu:.1f} times as "
        "many."
    )


def _check(runs: list[Run], chosen: dict[str, Run]) -> str:
    """What the rates say that were not chosen, if one was earlier at 25 %."""
    first = {name: earliest(runs, name) for name in chosen}
    others = [
        f"{name} at {run.settings['learning_rate']:g} after {run.crossing():.1f}"
        for name, run in first.items()
        if run is not chosen[name]
    ]
    if not others:
        return ""
    ratio = first["tanh"].crossing() / first["relu"].crossing()
    return (
        " Rates that were not chosen turned out to be earlier at 25 %: "
        f"{' epochs, '.join(others)} epochs. Between the earliest of each it is "
        f"{ratio:.1f} times as many."
    )


def _seeds(runs: list[Run], chosen: dict[str, Run]) -> str:
    """What the other seeds of the chosen rates say."""
    found = {}
    for name, run in chosen.items():
        same = [
            other.crossing()
            for other in runs
            if other.settings["activation"] == name
            and other.settings["learning_rate"] == run.settings["learning_rate"]
        ]
        found[name] = sorted(epochs for epochs in same if epochs is not None)
    if max(map(len, found.values())) < 2:
        return " One seed each."
    text = "; ".join(
        f"{name} {', '.join(f'{epochs:.1f}' for epochs in epochs_of)}"
        for name, epochs_of in found.items()
    )
    return f" All seeds of these rates: {text}."


def _figure1_table(runs: list[Run], chosen: dict[str, Run | None]) -> str:
    lines = [
        "| nonlinearity | learning rate | seed | epochs trained | training error of "
        "the last epoch | epochs to 25 % |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    order = sorted(
        runs,
        key=lambda run: (
            run.settings["activation"],
            run.settings["seed"],
            run.settings["learning_rate"],
        ),
    )
    for run in order:
        points = run.training_error()
        crossing = run.crossing()
        state = run.state
        found = f"{crossing:.2f}" if crossing else "—"
        if state == "not reached":
            found = f"not reached in {MOST_EPOCHS} epochs"
        if run in chosen.values():
            found = f"**{found}**"
        error = f"{100 * points[-1][1]:.1f} %" if points else "—"
        if state in ("diverged", "running"):
            error += f" ({state})"
        lines.append(
            f"| {run.settings['activation']} | {run.settings['learning_rate']:g} | "
            f"{run.settings['seed']} | {run.epochs:.2f} | {error} | {found} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    cli.run("cifar10_report.py", main)
