"""What finished runs say: CSV, tables, and the page that holds them."""

import csv
import dataclasses
import gzip
import io
import json
import pathlib
import shlex

from ablating import plan as plans
from ablating import runs, statistics
from ablating.plan import BASELINE, Claim, Plan, Row
from ablating.statistics import Estimate
from official.alexnet.data.atomic import atomic_write

COLUMNS = (
    "row",
    "seed",
    "top_1_error",
    "top_5_error",
    "ten_crop_top_1_error",
    "ten_crop_top_5_error",
    "train_loss",
    "train_error",
    "steps",
    "parameters",
    "seconds",
    "cpu_seconds",
    "images_per_second",
    "commit",
)
MAIN_MEASURE = plans.MEASURES[0]
_LABELS = {
    "ten_crop_top_1_error": "top-1, ten crops",
    "top_1_error": "top-1, one crop",
    "train_loss": "training loss",
}
_START, _END = "<!-- results: written by tools/ablate.py -->", "<!-- end of results -->"


@dataclasses.dataclass(frozen=True)
class Difference:
    """What a row's change does to one measure.

    Attributes:
        by_seed: row minus baseline.
        own: their mean, with the spread of the row's own differences.
        pooled: the same mean, with the spread of all rows and the baseline together.
    """

    by_seed: dict[int, float]
    own: Estimate | None
    pooled: Estimate | None


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
            seed = runs.kept_config(folder).train.seed
            runs.check_same(folder, plans.run_config(row, seed, data_dir))
            text = (folder / runs.RESULTS_FILE).read_text("utf-8")
            found.append(json.loads(text))
        results += sorted(found, key=lambda result: result["seed"])
    return results


def given_data_dir(plan: Plan, output_dir: pathlib.Path) -> str | None:
    """The --data_dir of the first finished run; None where it is the plan's."""
    for row in plan.rows:
        for folder in _finished(row, output_dir):
            data_dir = runs.kept_config(folder).data.data_dir
            return None if data_dir == row.config.data.data_dir else data_dir
    return None


def _finished(row: Row, output_dir: pathlib.Path) -> list[pathlib.Path]:
    files = (output_dir / row.name).glob(f"seed*/{runs.RESULTS_FILE}")
    return sorted(file.parent for file in files)


def differences(plan: Plan, results: list[dict], measure: str) -> dict[str, Difference]:
    """Each row's difference to the baseline, paired by seed."""
    values = {row.name: _by_seed(results, row.name, measure) for row in plan.rows}
    found = {}
    for name, pooled in statistics.pooled(values, BASELINE).items():
        pairs = statistics.paired(values[name], values[BASELINE])
        own = statistics.estimate(list(pairs.values()))
        found[name] = Difference(pairs, own, pooled)
    return found


def verdict(claim: Claim | None, estimate: Estimate | None) -> str:
    """Whether the sign is the paper's: yes, no, or not distinguishable from 0."""
    if claim is None:
        return "-"
    sign = None if estimate is None else estimate.sign()
    if sign is None:
        return "one seed" if estimate else "not run"
    if sign == 0:
        return "not distinguishable"
    return "yes" if sign == (1 if claim.effect == "worse" else -1) else "no"


def write(plan: Plan, results: list[dict], folder: pathlib.Path) -> None:
    """Writes results.csv and table.md."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / "results.csv") as temporary:
        temporary.write_text(as_csv(results), "utf-8")
    with atomic_write(folder / "table.md") as temporary:
        temporary.write_text(as_tables(plan, results), "utf-8")


def as_csv(results: list[dict]) -> str:
    """One line a run; errors are percentages, seconds of all the run's processes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows([result[name] for name in COLUMNS] for result in results)
    return text.getvalue()


def as_tables(plan: Plan, results: list[dict]) -> str:
    """Two tables in Markdown: the nets, and what each change does."""
    nets = [
        "| row | change | seeds | top-1, one crop | top-5, one crop | top-1, ten crops "
        "| top-5, ten crops | training loss | training error | parameters |",
        "| --- | --- | ---: " + "| ---: " * 7 + "|",
        *(_net_line(row, results) for row in plan.rows),
    ]
    by_measure = {
        measure: differences(plan, results, measure) for measure in plans.MEASURES
    }
    changes = [
        "| row | measure | difference | 95 % interval | 95 % interval, pooled | paper "
        "| sign agrees | sign agrees, pooled |",
        "| --- | --- | ---: | ---: | ---: | --- | --- | --- |",
    ]
    for row in plan.rows:
        if row.name == BASELINE:
            continue
        measures = [MAIN_MEASURE]
        if row.claim and row.claim.measure != MAIN_MEASURE:
            measures.append(row.claim.measure)
        for measure in measures:
            difference = by_measure[measure][row.name]
            changes.append(_change_line(row, measure, difference))
    notes = [f"- `{row.name}`: {_note(row)}" for row in plan.rows if _note(row)]
    return "\n".join([*nets, "", *changes, "", *notes, ""])


def write_page(
    plan: Plan, results: list[dict], folder: pathlib.Path, run_dir: pathlib.Path
) -> None:
    """Writes metrics.jsonl.gz, and the part of README.md between its two marks.

    What stands outside the marks is left as it is; a page without them gets them at
    its end.
    """
    with atomic_write(folder / "metrics.jsonl.gz") as temporary:
        temporary.write_bytes(gzip.compress(_metrics(results, run_dir), 9, mtime=0))
    page = folder / "README.md"
    text = page.read_text("utf-8") if page.is_file() else f"# {plan.title}\n"
    before, _, rest = text.partition(_START)
    after = rest.partition(_END)[2]
    part = "\n\n".join([_START, _page_part(plan, results).strip(), _END])
    with atomic_write(page) as temporary:
        temporary.write_text(f"{before.rstrip()}\n\n{part}{after.rstrip()}\n", "utf-8")


def _page_part(plan: Plan, results: list[dict]) -> str:
    seeds = sorted({result["seed"] for result in results})
    wanted = len(plan.rows) * len(seeds)
    commits = sorted({str(result["commit"]) for result in results})
    versions = sorted({_show_versions(result["versions"]) for result in results})
    cpu = sum(result["cpu_seconds"] for result in results)
    listed = ",".join(map(str, seeds))
    return f"""
{len(results)} of {wanted} runs of the plan `{plan.name}` are finished: seeds {listed}.
They took {cpu / 60:.0f} minutes of processor time. Commit {", ".join(commits)};
{"; ".join(versions)}.

![Differences to the baseline](plot.png)

{as_tables(plan, results).strip()}

Errors are percentages of the validation images. After ± stands the standard error over
seeds. A difference is the row minus the baseline, paired by seed: above 0 the change
makes it worse. The first interval has the spread of the row's own differences; with two
or three seeds that is known so badly that the interval is wide. The second has the
spread that is left in all rows, the baseline's among them, after each row's mean and
each seed's are taken out; it takes that to be the same in every row.
Training loss and error are of the last {_of_last(results)} steps as they were trained:
with dropout, crops and noise where the row has them.

One line a run is in [results.csv](results.csv), every line of every run's metrics in
[metrics.jsonl.gz](metrics.jsonl.gz).

Written by this command, where words in capitals stand for directories:

```console
$ python tools/ablate.py --plan={_shown(plan.source)} --seeds={listed} \\
    --data_dir=RECORDS --output_dir=RUNS --report_dir=PAGE
```
"""


def _shown(source: str) -> str:
    """A plan's file, without the folders of this machine."""
    path = pathlib.PurePath(source)
    is_elsewhere = path.is_absolute() or ".." in path.parts
    return shlex.quote(path.name if is_elsewhere else source)


def _of_last(results: list[dict]) -> str:
    return "/".join(sorted({str(result["log_steps"]) for result in results}))


def _show_versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {value}" for name, value in versions.items())


def _metrics(results: list[dict], run_dir: pathlib.Path) -> bytes:
    lines = []
    for result in results:
        name = {"row": result["row"], "seed": result["seed"]}
        folder = run_dir / result["row"] / f"seed{result['seed']}"
        for line in (folder / "metrics.jsonl").read_text("utf-8").splitlines():
            lines.append(json.dumps(name | json.loads(line)) + "\n")
    return "".join(lines).encode()


def _by_seed(results: list[dict], row: str, measure: str) -> dict[int, float]:
    return {
        result["seed"]: result[measure] for result in results if result["row"] == row
    }


def _net_line(row: Row, results: list[dict]) -> str:
    own = [result for result in results if result["row"] == row.name]

    def mean(measure: str, digits: int = 1) -> str:
        estimate = statistics.estimate([result[measure] for result in own])
        return _plus_minus(estimate, digits)

    change = ", ".join(f"{key}={value}" for key, value in row.changed.items())
    cells = [
        row.name,
        f"`{change}`" if change else "",
        str(len(own)),
        *(mean(measure) for measure in COLUMNS[2:6]),
        mean("train_loss", 3),
        mean("train_error"),
        f"{own[0]['parameters']:,}" if own else "",
    ]
    return f"| {' | '.join(cells)} |"


def _change_line(row: Row, measure: str, difference: Difference) -> str:
    digits = 3 if measure == "train_loss" else 1
    judged = row.claim is not None and row.claim.measure == measure
    claim = row.claim if judged else None
    cells = [
        row.name,
        _LABELS[measure],
        _plus_minus(difference.own, digits, signed=True),
        _interval(difference.own, digits),
        _interval(difference.pooled, digits),
        _paper(claim),
        verdict(claim, difference.own),
        verdict(claim, difference.pooled),
    ]
    return f"| {' | '.join(cells)} |"


def _paper(claim: Claim | None) -> str:
    if claim is None:
        return "-"
    figures = [
        f"{value:+.1f} {name}"
        for name, value in (("top-1", claim.top_1), ("top-5", claim.top_5))
        if value is not None
    ]
    return f"{', '.join(figures) or claim.effect} ({claim.section})"


def _note(row: Row) -> str:
    says = f"{row.claim.section}: {row.claim.says}." if row.claim else ""
    return " ".join(filter(None, [says, row.note]))


def _plus_minus(estimate: Estimate | None, digits: int, *, signed: bool = False) -> str:
    if estimate is None:
        return ""
    sign = "+" if signed else ""
    text = f"{estimate.mean:{sign}.{digits}f}"
    if estimate.error is not None:
        text += f" ± {estimate.error:.{digits}f}"
    return text


def _interval(estimate: Estimate | None, digits: int) -> str:
    if estimate is None or estimate.half_width is None:
        return ""
    low, high = (
        estimate.mean - estimate.half_width,
        estimate.mean + estimate.half_width,
    )
    return f"{low:+.{digits}f} to {high:+.{digits}f}"
