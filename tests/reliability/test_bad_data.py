"""Bad inputs through prepare, train, eval and the SavedModel's bytes signature.

It prints a table of kinds and stages under `-s`.
"""

import collections
import json
import os
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).parent
OUTCOMES = ("rejected", "skipped", "accepted")


def run_child(folder: pathlib.Path, count: int, seconds: int) -> dict:
    """The hostile part, in a process that may crash or hang without taking us along."""
    process = subprocess.run(
        [sys.executable, str(HERE / "bad_data_child.py"), str(folder), str(count)],
        capture_output=True,
        text=True,
        errors="replace",
        timeout=seconds,
        check=False,
        env=os.environ
        | {"PYTHONPATH": str(HERE.parents[1]), "TF_CPP_MIN_LOG_LEVEL": "3"},
    )
    assert process.returncode == 0, process.stderr[-3000:]
    return json.loads(process.stdout.splitlines()[-1])


def table_of(results: dict) -> str:
    """Markdown: a row a kind, a column a stage, `rejected / skipped / accepted`."""
    totals = collections.defaultdict(dict)
    for part in results.values():
        for stage, kinds in part.items():
            for kind, outcomes in kinds.items():
                row = [outcomes.get(outcome, 0) for outcome in OUTCOMES]
                totals[kind][stage] = " / ".join(map(str, row))
    stages = ("prepare", "train", "eval", "read", "validate", "serving")
    lines = ["| kind | " + " | ".join(stages) + " |", "| --- " * 7 + "|"]
    for kind, cells in totals.items():
        row = [cells.get(stage, "") for stage in stages]
        lines.append(f"| {kind} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def check_counts(results: dict, count: int) -> None:
    """Every input is in the table, once at each stage that it was put through."""
    shares = {"prepare": 0.25, "input": 0.3, "files": 0.25, "serving": 0.2}
    for name, share in shares.items():
        for stage, kinds in results[name].items():
            total = sum(sum(outcomes.values()) for outcomes in kinds.values())
            assert total == round(share * count), (name, stage)


@pytest.mark.slow
def test_two_hundred_bad_inputs(tmp_path):
    results = run_child(tmp_path, 200, 600)
    check_counts(results, 200)
    print(table_of(results))


@pytest.mark.slow
@pytest.mark.reliability
def test_ten_thousand_bad_inputs(tmp_path):
    results = run_child(tmp_path, 10_000, 3600)
    check_counts(results, 10_000)
    print(table_of(results))
