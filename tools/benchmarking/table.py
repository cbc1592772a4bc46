"""What was measured as a text table, and as data for a JSON file."""

from collections.abc import Sequence

from benchmarking.bars import Check, Fact
from benchmarking.timing import Row

_HEAD = ("", "median ms", "min ms", "spread", "images/s", "x ours", "")


def show(
    suite: str, rows: Sequence[Row], facts: Sequence[Fact], checks: Sequence[Check]
) -> str:
    """Lays out a suite's table: times of a step or batch, facts, then bars.

    `x ours` is a row's time an image over that of the row it is compared with.
    """
    lines = [(suite, *_HEAD[1:])]
    for row in rows:
        name = _label(row)
        if not row.samples:
            lines.append((name, *[""] * 5, row.note))
            continue
        ratio = ratio_to_ours(row, rows)
        lines.append(
            (
                name,
                f"{1e3 * row.median / row.calls:,.1f}",
                f"{1e3 * min(row.samples) / row.calls:,.1f}",
                f"{100 * row.spread:.0f} %",
                f"{1 / row.seconds_per_image:,.1f}",
                "" if ratio is None else f"{ratio:.2f}",
                row.note,
            )
        )
    text = _align(lines)
    if facts:
        text += "\n\n" + _align(
            [(fact.name, f"{fact.value:,.2f}", fact.unit) for fact in facts]
        )
    if checks:
        text += "\n\n" + _align(
            [("bar", "measured", "met"), *[_check_line(check) for check in checks]]
        )
    return text


def _check_line(check: Check) -> tuple[str, str, str]:
    value = "-" if check.value is None else f"{check.value:.3f}"
    met = {True: "yes", False: "no", None: "not measured"}[check.met]
    return check.bar.words, value, met


def _label(row: Row) -> str:
    name = f"{row.name}, {row.form}" if row.form else row.name
    return f"{name} {row.dtype}".strip()


def _align(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    aligned = []
    for first, *rest in lines:
        cells = [first.ljust(widths[0])]
        # Words come last in a line and begin at the left, figures end at the right.
        cells += [
            cell.rjust(width)
            for cell, width in zip(rest[:-1], widths[1:-1], strict=True)
        ]
        aligned.append("  ".join([*cells, rest[-1]]).rstrip())
    return "\n".join(aligned)


def ratio_to_ours(row: Row, rows: Sequence[Row]) -> float | None:
    """Time an image over that of the row it is compared with; None: there is none."""
    for other in rows:
        if (other.name, other.dtype) == (row.against, row.dtype) and other.samples:
            return row.seconds_per_image / other.seconds_per_image
    return None


def as_data(
    rows: Sequence[Row], facts: Sequence[Fact], checks: Sequence[Check]
) -> dict:
    """The same for a JSON file, with every sample."""
    return {
        "rows": [_row_data(row, rows) for row in rows],
        "facts": [vars(fact) for fact in facts],
        "bars": [
            {
                "bar": check.bar.words,
                "numerator": check.bar.numerator,
                "denominator": check.bar.denominator,
                "at_least" if check.bar.at_least else "at_most": check.bar.limit,
                "measured": check.value,
                "met": check.met,
            }
            for check in checks
        ],
    }


def _row_data(row: Row, rows: Sequence[Row]) -> dict:
    data = {
        "name": row.name,
        "form": row.form,
        "dtype": row.dtype,
        "note": row.note,
        "images_per_sample": row.images,
        "calls_per_sample": row.calls,
        "samples_s": list(row.samples),
    }
    if row.samples:
        data |= {
            "median_ms": 1e3 * row.median / row.calls,
            "min_ms": 1e3 * min(row.samples) / row.calls,
            "spread": row.spread,
            "images_per_second": 1 / row.seconds_per_image,
            "against": row.against,
            "ratio_to_ours": ratio_to_ours(row, rows),
        }
    if row.parts:
        data["parts_s"] = {name: list(values) for name, values in row.parts.items()}
    return data
