"""Suite end_to_end: training from records, against the same step on synthetic data."""

import pathlib

from benchmarking import ours, records
from benchmarking.bars import Fact
from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row, interleave


def measure(settings: Settings, work_dir: pathlib.Path) -> tuple[list[Row], list[Fact]]:
    """Times segments of two trainers in turn.

    A pipeline that keeps up has filled its buffer again when a segment ends.
    """
    data_dir = records.find(settings, work_dir)
    contenders = []
    for dtype in settings.dtypes:
        for name, source in (("synthetic data", None), ("records", data_dir)):
            step = ours.stepper(ours.config(settings, dtype, data_dir=source), work_dir)
            contenders.append(
                Contender(
                    name,
                    lambda step=step: step(settings.steps),
                    settings.steps * settings.batch_size,
                    dtype,
                    calls=settings.steps,
                    against="synthetic data",
                )
            )
    rows = interleave(
        contenders,
        settings.rounds,
        settings.warmup,
        report=lambda line: print(f"end_to_end: {line}", flush=True),
    )
    return rows, []
