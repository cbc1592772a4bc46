"""What finished runs say: CSV, tables, and the page that holds them."""

import gzip
import json
import pathlib

import numpy as np
import pandas as pd

from ablating import hparams, plot, runs
from ablating import plan as plans
from ablating.effects import by_seed, effects, verdict
from ablating.plan import MAIN_MEASURE, Claim, Plan, Row
from official.alexnet import disk, run_files

ERRORS = (
    "top_1_error",
    "top_5_error",
    "ten_crop_top_1_error",
    "ten_crop_top_5_error",
)
COLUMNS = (
    *("row", "seed", *ERRORS, "train_loss", "train_error", "steps", "parameters"),
    *("seconds", "cpu_seconds", "images_per_second", "commit"),
)
_LABELS = {
    "ten_crop_top_1_error": "top-1, ten crops",
    "top_1_error": "top-1, one crop",
    "train_loss": "training loss",
}


def collect(plan: Plan, output_dir: pathlib.Path, data_dir: str | None) -> list[dict]:
    """The results of all finished runs of a plan, row by row.

    Args:
        plan: what was run.
        output_dir: where, by this call or earlier ones.
        data_dir: of all runs; None: the plan's.

    Raises:
        UserError: a run has other settings, but for its seed.
    """
    results = []
    for row in plan.rows:
        found = []
        for folder in _finished(row, output_dir):
            result = json.loads((folder / runs.RESULTS_FILE).read_text("utf-8"))
            config = plans.run_config(row, result["seed"], data_dir)
            runs.check_same(folder, config)
            found.append(result)
        results += sorted(found, key=lambda result: result["seed"])
    return results


def _finished(row: Row, output_dir: pathlib.Path) -> list[pathlib.Path]:
    files = (output_dir / row.name).glob(f"seed*/{runs.RESULTS_FILE}")
    return sorted(file.parent for file in files)


def write(plan: Plan, results: list[dict], folder: pathlib.Path) -> None:
    """Writes results.csv, table.md, plot.png, hparams/, and metrics.jsonl.gz.

    Args:
        plan: what was run.
        results: of `collect`.
        folder: of the runs, whose metrics are put together.
    """
    disk.write_text(folder / "results.csv", as_csv(results))
    disk.write_text(folder / "table.md", as_page(plan, results))
    lines = []
    for result in results:
        name = {"row": result["row"], "seed": result["seed"]}
        file = folder / result["row"] / f"seed{result['seed']}" / run_files.METRICS_FILE
        for line in file.read_text("utf-8").splitlines():
            lines.append(json.dumps(name | json.loads(line)) + "\n")
    with disk.atomic_write(folder / "metrics.jsonl.gz") as temporary:
        temporary.write_bytes(gzip.compress("".join(lines).encode(), 9, mtime=0))
    plot.draw(plan, results, folder / "plot.png")
    hparams.write(plan, results, folder / plans.HPARAMS_DIR)


def as_csv(results: list[dict]) -> str:
    """One line a run; errors are percentages, seconds of all the run's processes."""
    return pd.DataFrame(results, columns=COLUMNS).to_csv(index=False)


def as_tables(plan: Plan, results: list[dict]) -> str:
    """Two tables in Markdown: the nets, and what each change does."""
    nets = [
        "| row | change | seeds | top-1, one crop | top-5, one crop | top-1, ten crops "
        "| top-5, ten crops | training loss | training error | parameters |",
        "| --- | --- | ---: " + "| ---: " * 7 + "|",
    ]
    frame = pd.DataFrame(results, columns=COLUMNS)
    for row in plan.rows:
        own = frame[frame["row"] == row.name]
        change = ", ".join(f"{key}={value}" for key, value in row.changed.items())
        digits = dict.fromkeys(ERRORS, 1) | {"train_loss": 3, "train_error": 1}
        cells = [
            _plus_minus(own[m].mean(), own[m].sem(), f".{digits[m]}f") for m in digits
        ]
        count = f"{own['parameters'].iloc[0]:,}" if len(own) else ""
        nets.append(_line(row.name, change and f"`{change}`", len(own), *cells, count))
    changes = [
        "| row | measure | difference | 95 % interval | 95 % interval, pooled | paper "
        "| sign agrees | sign agrees, pooled |",
        "| --- | --- | ---: | ---: | ---: | --- | --- | --- |",
    ]
    found = {m: effects(by_seed(plan, results, m)) for m in plans.MEASURES}
    for row in plan.rows[1:]:
        measures = [MAIN_MEASURE, row.claim.measure] if row.claim else [MAIN_MEASURE]
        for measure in dict.fromkeys(measures):
            claim = row.claim if measure == measures[-1] else None
            effect = found[measure].loc[row.name]
            changes.append(_change_line(row.name, measure, effect, claim))
    notes = [f"- `{row.name}`: {_note(row)}" for row in plan.rows if _note(row)]
    return "\n".join([*nets, "", *changes, "", *notes, ""])


def _change_line(
    name: str, measure: str, effect: pd.Series, claim: Claim | None
) -> str:
    form = "+.3f" if measure == "train_loss" else "+.1f"
    mean, widths = effect["mean"], (effect["own"], effect["pooled"])
    return _line(
        name,
        _LABELS[measure],
        _plus_minus(mean, effect["sem"], form),
        *(
            "" if np.isnan(half) else f"{mean - half:{form}} to {mean + half:{form}}"
            for half in widths
        ),
        _paper(claim),
        *(verdict(claim, mean, half) for half in widths),
    )


def _line(*cells: object) -> str:
    return f"| {' | '.join(map(str, cells))} |"


def _plus_minus(mean: float, error: float, form: str) -> str:
    if np.isnan(mean):
        return ""
    spread = "" if np.isnan(error) else f" ± {error:{form.lstrip('+')}}"
    return f"{mean:{form}}{spread}"


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
    listed, wanted = ",".join(map(str, seeds)), len(plan.rows) * len(seeds)
    minutes = frame["cpu_seconds"].sum() / 60
    texts = frame["versions"].map(lambda found: ", ".join(map(" ".join, found.items())))
    last = _listed(frame["log_steps"], "/")
    return f"""\
{len(results)} of {wanted} runs of the plan `{plan.name}` are finished: seeds {listed}.
They took {minutes:.0f} minutes of processor time. Commit {_listed(frame["commit"])};
{_listed(texts, "; ")}.

{as_tables(plan, results).strip()}

Errors are percentages of the validation images. After ± stands the standard error over
seeds. A difference is the row minus the baseline, paired by seed: above 0 the change
makes it worse. The first interval has the spread of the row's own differences; with two
or three seeds that is known so badly that the interval is wide. The second has the
spread that is left in all rows, the baseline's among them, after each row's mean and
each seed's are taken out; it takes that to be the same in every row.
Training loss and error are of the last {last} steps as they were trained:
with dropout, crops and noise where the row has them.
"""


def _listed(values: pd.Series, comma: str = ", ") -> str:
    return comma.join(sorted(set(map(str, values))))
