"""Suite normalization: the training step with LRN, without, and with batch norm."""

import dataclasses
import pathlib

from benchmarking import ours
from benchmarking.bars import Fact
from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row, interleave

KINDS = ("lrn", "none", "batch_norm")


def measure(settings: Settings, work_dir: pathlib.Path) -> tuple[list[Row], list[Fact]]:
    """Times a whole step of each; what LRN takes of it is the difference to `none`."""
    rows = interleave(
        [
            _step(settings, work_dir, kind, dtype)
            for dtype in settings.dtypes
            for kind in KINDS
        ],
        settings.rounds,
        settings.warmup,
        report=lambda line: print(f"normalization: {line}", flush=True),
    )
    return rows, []


def _step(
    settings: Settings, work_dir: pathlib.Path, kind: str, dtype: str
) -> Contender:
    run = ours.config(settings, dtype)
    model = dataclasses.replace(run.model, normalization=kind)
    step = ours.stepper(dataclasses.replace(run, model=model), work_dir)
    return Contender(kind, step, settings.batch_size, dtype, against=KINDS[0])
