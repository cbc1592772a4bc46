"""What must be reached, and what was measured as a table and as data.

A bar is a ratio of times an image, round by round, of which the median counts; of
several forms of one peer the fastest is compared.
"""

import dataclasses
import statistics
from collections.abc import Iterator, Sequence

from benchmarking.timing import Row, spread

FLAT = "<="
FASTER = ">="
# Suite, ours, comparison, limit, the other: images a second at least `limit` times the
# other's, or (<=) time, memory or seconds at most `limit` times the other's.
# "Flat" in memory and start-up is read as: within 10 %.
BARS = (
    ("train_step", "ours fp32", FASTER, 4.0, "plain Keras fp32"),
    ("train_step", "ours fp32", FASTER, 3.3, "PyTorch fp32"),
    ("train_step", "ours fp32", FLAT, 1.10, "limit fp32"),
    ("train_step", "ours, two columns fp32", FLAT, 1.05, "ours fp32"),
    ("train_step", "ours bf16", FASTER, 1.4, "ours fp32"),
    ("inference", "ours fp32", FASTER, 1.2, "plain Keras fp32"),
    ("inference", "ours fp32", FASTER, 1.2, "ONNX Runtime fp32"),
    ("inference", "ours fp32", FASTER, 1.0, "OpenVINO fp32"),
    ("inference", "SavedModel fp32", FASTER, 0.95, "ours, from pixels fp32"),
    (
        *("inference", "SavedModel, not portable fp32", FASTER, 0.95),
        "ours, from pixels fp32",
    ),
    ("inference", "ours bf16", FASTER, 1.0, "OpenVINO bf16"),
    ("lrn", "ours, conv1 fp32", FASTER, 4.0, "tf.nn, conv1 fp32"),
    ("lrn", "ours, conv2 fp32", FASTER, 4.0, "tf.nn, conv2 fp32"),
    ("lrn", "ours, conv1 bf16", FASTER, 4.0, "tf.nn, conv1 bf16"),
    ("lrn", "ours, conv2 bf16", FASTER, 4.0, "tf.nn, conv2 bf16"),
    ("preparation", "ours", FASTER, 0.7, "plain converter"),
    ("input", "ours", FASTER, 0.85, "libjpeg-turbo"),
    ("input", "ours", FASTER, 3.5, "PyTorch DataLoader"),
    ("end_to_end", "records fp32", FASTER, 0.97, "synthetic data fp32"),
    ("end_to_end", "records bf16", FASTER, 0.97, "synthetic data bf16"),
    ("scaling", "large set", FASTER, 0.97, "small set"),
    ("scaling", "large set: first batch", FLAT, 1.10, "small set: first batch"),
    ("scaling", "large set: peak memory", FLAT, 1.10, "small set: peak memory"),
    ("against", "this checkout fp32", FLAT, 1.02, "other checkout fp32"),
    ("against", "this checkout bf16", FLAT, 1.02, "other checkout bf16"),
)


@dataclasses.dataclass(frozen=True)
class Fact:
    """A number that is not a row of samples, such as a peak of memory."""

    name: str
    value: float
    unit: str


# What a suite yields: its rows, and its facts.
Suite = Iterator[tuple[list[Row], list[Fact]]]


def check(suite: str, rows: Sequence[Row], facts: Sequence[Fact]) -> list[dict]:
    """Compares a suite's rows and facts with its bars.

    Returns:
        For each bar its words, what was measured (None: nothing), the spread of the
        paired ratios, and whether it is met.
    """
    timed = [row for row in rows if row.samples]
    # The slowest first: of several forms the fastest stays.
    timed.sort(key=lambda row: row.seconds_per_image, reverse=True)
    fastest = {row.key: row for row in timed}
    values = {fact.name: fact.value for fact in facts}
    checks = []
    for of_suite, ours, comparison, limit, other in BARS:
        if of_suite != suite:
            continue
        ratios = []
        if ours in fastest and other in fastest:
            pair = fastest[ours], fastest[other]
            first, second = pair if comparison == FLAT else reversed(pair)
            ratios = first.ratios(second)
        elif ours in values and other in values:
            ratios = [values[ours] / values[other]]
        measured = statistics.median(ratios) if ratios else None
        met = None
        if ratios:
            met = measured >= limit if comparison == FASTER else measured <= limit
        unit = ", images/s" if comparison == FASTER else ""
        checks.append(
            {
                "bar": f"{ours} {comparison} {limit:g} x {other}{unit}",
                "measured": measured,
                "spread": spread(ratios) if len(ratios) > 1 else None,
                "met": met,
            }
        )
    return checks


def as_data(rows: Sequence[Row], facts: Sequence[Fact], checks: list[dict]) -> dict:
    """All of a suite for a JSON file, with every sample."""
    return {
        "rows": [_row_data(row, rows) for row in rows],
        "facts": [vars(fact) for fact in facts],
        "bars": checks,
    }


def _row_data(row: Row, rows: Sequence[Row]) -> dict:
    data = {
        "name": row.name,
        "form": row.form,
        "dtype": row.dtype,
        "note": row.note,
        "images_per_sample": row.images,
        "calls_per_sample": row.calls,
        "samples_s": row.samples,
    }
    if not row.samples:
        return data
    key = f"{row.against} {row.dtype}".strip()
    reference = next((x for x in rows if x.key == key and x.samples), None)
    ratios = row.ratios(reference) if reference else []
    return data | {
        "median_ms": 1e3 * statistics.median(row.samples) / row.calls,
        "min_ms": 1e3 * min(row.samples) / row.calls,
        "spread": spread(row.samples),
        "images_per_second": 1 / row.seconds_per_image,
        "against": row.against,
        "ratio": statistics.median(ratios) if ratios else None,
        "ratio_spread": spread(ratios) if ratios else None,
    }


def table(suite: str, data: dict) -> str:
    """Lays out what `as_data` gave: times of a step or batch, facts, then bars.

    A ratio is the median of a row's time an image over that of the row it is compared
    with, round by round; its spread stands beside it.
    """
    head = (suite, "median ms", "min ms", "spread", "images/s", "ratio", "spread", "")
    lines = [head]
    for row in data["rows"]:
        name = ", ".join(filter(None, (row["name"], row["form"])))
        name = f"{name} {row['dtype']}".strip()
        cells = [""] * 6
        if row["samples_s"]:
            cells = [
                f"{row['median_ms']:,.1f}",
                f"{row['min_ms']:,.1f}",
                f"{row['spread']:.0%}",
                f"{row['images_per_second']:,.1f}",
                *(["", ""] if row["ratio"] is None else _ratio(row, "ratio")),
            ]
        lines.append((name, *cells, row["note"]))
    facts = [
        (fact["name"], f"{fact['value']:,.2f}", fact["unit"]) for fact in data["facts"]
    ]
    bars = [("bar", "measured", "spread", "met")]
    met = {True: "yes", False: "no", None: "not measured"}
    for bar in data["bars"]:
        known = bar["measured"] is not None
        found = _ratio(bar, "measured") if known else ("-", "-")
        bars.append((bar["bar"], *found, met[bar["met"]]))
    parts = [lines, facts, bars if data["bars"] else []]
    return "\n\n".join(_align(part) for part in parts if part)


def _ratio(data: dict, name: str) -> tuple[str, str]:
    key = "spread" if name == "measured" else f"{name}_spread"
    # Of a single ratio there is no spread.
    share = "" if data[key] is None else f"{data[key]:.0%}"
    return f"{data[name]:.3f}", share


def _align(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = []
    # Words come first and last in a line and begin at the left, figures end at the
    # right.
    for first, *figures, words in lines:
        cells = zip(figures, widths[1:-1], strict=True)
        shown = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in cells)]
        aligned.append("  ".join([*shown, words]).rstrip())
    return "\n".join(aligned)
