"""What all workers of a run must have alike; see `distribution.watch`."""

import dataclasses
import pathlib
import zlib
from collections.abc import Sequence

import numpy as np

from official.alexnet.config import Config
from official.alexnet.data.dataset import Split
from official.alexnet.data.statistics import Statistics

# Where a worker finds something may differ; what is found is compared instead.
_OF_ONE_WORKER = (
    *("data_dir", "statistics", "init_from", "num_gpus", "logical_gpus"),
    *("gpu_memory_mb", "logical_cpus", "worker_hosts", "task_index", "worker_timeout"),
)


def settings(config: Config, splits: Sequence[Split | None]) -> dict[str, object]:
    """The settings by their flags, and the records they lead to."""
    values = {
        f"--{name}": value
        for section in dataclasses.asdict(config).values()
        for name, value in section.items()
        if name not in _OF_ONE_WORKER
    }
    for which, split in zip(("training", "validation"), splits, strict=True):
        if split and (records := split.records):
            names = tuple(pathlib.Path(file).name for file in records.files)
            alike = dataclasses.replace(records, files=names, label_reason="")
            count, mark = records.num_examples, zlib.crc32(repr(alike).encode())
            values[f"{which} records"] = f"{count} in {len(names)} files ({mark:08x})"
    return values


def state(
    step: int, weights: Sequence, given: dict[str, np.ndarray], statistics: Statistics
) -> dict[str, object]:
    """The step and weights a run is resumed from, or none, and those it was given."""
    return {
        "--model_dir": f"at step {step}" if weights else "without a checkpoint",
        "the mean image": _mark([statistics.mean_image]),
        "the weights of --init_from": _mark([given[name] for name in sorted(given)]),
        "the weights": _mark(weights),
    }


def _mark(arrays: Sequence) -> str:
    mark = 0
    for array in arrays:
        mark = zlib.crc32(np.ascontiguousarray(array), mark)
    return f"{mark:08x}"
