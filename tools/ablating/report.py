"""What finished runs say: CSV, tables, and the page that holds them."""

import gzip
import json
import pathlib

import numpy as np
import pandas as pd

from ablating import hparams, plot, runs
from ablating import plan as plans
from ablating.effects import by_seed, effects
from ablating.plan import MAIN_MEASURE, Claim, Plan, Row
from official.alexnet import disk, run_files

# Measures: what tables call them, and the digits they show.
_MEASURES = {
    "top_1_error": ("top-1, one crop", 1),
    "top_5_error": ("top-5, one crop", 1),
    "ten_crop_top_1_error": ("top-1, ten crops", 1),
    "ten_crop_top_5_error": ("top-5, ten crops", 1),
    "train_loss": ("training loss", 3),
    "train_error": ("training error", 1),
}
COLUMNS = (
    *("row", "seed", *_MEASURES, "steps", "parameters", "seconds", "cpu_seconds"),
    *("images_per_second", "commit"),
)
_CHANGES = """\
| row | measure | difference | 95 % interval | 95 % interval, pooled | paper |
| --- | --- | ---: | ---: | ---: | --- |"""


def collect(plan: Plan, output_dir: pathlib.Path, data_dir: str | None) -> list[dict]:
    """The results of a plan's finished runs, of this call or earlier ones, in order.

    Raises:
        UserError: a run has other settings, but for its seed.
    """
    results = []
    for row in plan.rows:
        found = []
        for file in (output_dir / row.name).glob(f"seed*/{runs.RESULTS_FILE}"):
            result = json.loads(file.read_text("utf-8"))
            if file.parent.name != f"seed{result['seed']}":
                continue  # A copy that somebody keeps.
            config = plans.run_config(row, result["seed"], data_dir)
            runs.check_same(file.parent, config)
            found.append(result)
        results += sorted(found, key=lambda result: result["seed"])
    return results


def write(plan: Plan, results: list[dict], folder: pathlib.Path) -> None:
    """Writes results.csv, table.md, plot.png, hparams/, and all runs' metrics."""
    disk.write_text(folder / "results.csv", as_csv(results))
    disk.write_text(folder / "table.md", as_page(plan, results))
    lines = []
    for result in results:
        name = {"row": result["row"], "seed": result["seed"]}
        own = folder / result["row"] / f"seed{result['seed']}"
        for line in runs.json_lines(own / run_files.METRICS_FILE):
            lines.append(json.dumps(name | line) + "\n")
    with disk.atomic_write(folder / "metrics.jsonl.gz") as temporary:
        temporary.write_bytes(gzip.compress("".join(lines).encode(), 9, mtime=0))
    plot.draw(plan, results, folder / "plot.png")
    hparams.write(plan, results, folder / plans.HPARAMS_DIR)


def as_csv(results: list[dict]) -> str:
    """One line a run; errors are percentages, seconds of all the run's processes."""
    return pd.DataFrame(results, columns=COLUMNS).to_csv(index=False)


def as_tables(plan: Plan, results: list[dict]) -> str:
    """Two tables in Markdown: the nets, and what each change does."""
    titles = [title for title, _ in _MEASURES.values()]
    nets = [_line("row", "change", "seeds", *titles, "parameters")]
    nets.append(_line("---", "---", *["---:"] * 8))
    changes = [_CHANGES]
    frame = pd.DataFrame(results, columns=COLUMNS)
    for row in plan.rows:
        own = frame[frame["row"] == row.name]
        change = ", ".join(f"{key}={value}" for key, value in row.changed.items())
        cells = [
            _plus_minus(own[m].mean(), own[m].sem(), digits)
            for m, (_, digits) in _MEASURES.items()
        ]
        count = f"{own['parameters'].iloc[0]:,}" if len(own) else ""
        nets.append(_line(row.name, change and f"`{change}`", len(own), *cells, count))
    found = {m: effects(by_seed(plan, results, m)) for m in plans.MEASURES}
    for row in plan.rows[1:]:
        measures = [MAIN_MEASURE, row.claim.measure] if row.claim else [MAIN_MEASURE]
        for measure in dict.fromkeys(measures):
            effect, (title, digits) = found[measure].loc[row.name], _MEASURES[measure]
            mean, form = effect["mean"], f"+.{digits}f"
            intervals = [
                ""
                if np.isnan(half)
                else f"{mean - half:{form}} to {mean + half:{form}}"
                for half in (effect["own"], effect["pooled"])
            ]
            claim = _paper(row.claim if measure == measures[-1] else None)
            difference = _plus_minus(mean, effect["sem"], digits, "+")
            changes.append(_line(row.name, title, difference, *intervals, claim))
    notes = [f"- `{row.name}`: {_note(row)}" for row in plan.rows if _note(row)]
    return "\n".join([*nets, "", *changes, "", *notes, ""])


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _plus_minus(mean: float, error: float, digits: int, sign: str = "") -> str:
    if np.isnan(mean):
        return ""
    spread = "" if np.isnan(error) else f" ± {error:.{digits}f}"
    return f"{mean:{sign}.{digits}f}{spread}"


def _paper(claim: Claim | None) -> str:
    if claim is None:
        return "-"
    figures = {"top-1": claim.top_1, "top-5": claim.top_5}
    said = [f"{v:+.1f} {name}" for name, v in figures.items() if v is not None]
    return f"{', '.join(said) or claim.effect} ({claim.section})"


def _note(row: Row) -> str:
    says = f"{row.claim.section}: {row.claim.says}." if row.claim else ""
    return " ".join(filter(None, [says, row.note]))


def as_page(plan: Plan, results: list[dict]) -> str:
    """The tables in Markdown, with what was run and how to read them."""
    frame = pd.DataFrame(results)
    seeds = sorted(frame["seed"].unique())
    minutes = frame["cpu_seconds"].sum() / 60
    texts = frame["versions"].map(lambda found: ", ".join(map(" ".join, found.items())))
    return f"""\
{len(results)} of {len(plan.rows) * len(seeds)} runs of the plan `{plan.name}` are \
finished: seeds {",".join(map(str, seeds))}.
They took {minutes:.0f} minutes of processor time. Commit {_listed(frame["commit"])};
{_listed(texts)}.

{as_tables(plan, results).strip()}

Errors are percentages of the validation images. After ± stands the standard error over
seeds. A difference is the row minus the baseline, paired by seed: above 0 the change
makes it worse. The first interval has the spread of the row's own differences, the
second that of all rows, taken to be the same in each (docs/training.md).
Training loss and error are of the last {_listed(frame["log_steps"])} steps as they were
trained: with dropout, crops and noise where the row has them.
"""


def _listed(values: pd.Series) -> str:
    return "; ".join(sorted(set(map(str, values))))
