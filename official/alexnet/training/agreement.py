"""What all workers of a run must have alike; see `distribution.watch`."""

import dataclasses
import pathlib
import zlib
from collections.abc import Sequence

import numpy as np

from official.alexnet.backend import keras
from official.alexnet.config import Config
from official.alexnet.data.dataset import Split
from official.alexnet.data.statistics import Statistics

# Settings that say where a worker finds something, and may differ. What is found is
# compared instead.
_OF_ONE_WORKER = {
    *("data_dir", "statistics", "init_from"),
    *("num_gpus", "logical_gpus", "gpu_memory_mb", "logical_cpus"),
    *("worker_hosts", "task_index", "worker_timeout"),
}


def settings(config: Config, splits: Sequence[Split | None]) -> dict[str, object]:
    """The settings by their flags, and the records they lead to."""
    values = {
        f"--{name}": value
        for section in dataclasses.asdict(config).values()
        for name, value in section.items()
        if name not in _OF_ONE_WORKER
    }
    for which, split in zip(("training", "validation"), splits, strict=True):
        if split and split.records:
            records = split.records
            names = [pathlib.Path(file).name for file in records.files]
            labels = (records.first_label, records.label_names)
            mark = zlib.crc32(repr((names, records.file_sizes, labels)).encode())
            values[f"{which} records"] = (
                f"{records.num_examples} in {len(names)} files ({mark:08x})"
            )
    return values


def state(
    step: int,
    model: keras.Model,
    initial_weights: dict[str, np.ndarray],
    statistics: Statistics,
) -> dict[str, object]:
    """Where a run stands, and with what it read from files.

    Args:
        step: the step it is resumed from.
        model: its net, with the weights of that step.
        initial_weights: what it starts with instead of drawn weights, by name.
        statistics: its mean image.
    """
    values = {
        "--model_dir": f"at step {step}" if step else "without a checkpoint",
        "the mean image": _mark([statistics.mean_image]),
        "the weights of --init_from": _mark(
            [initial_weights[name] for name in sorted(initial_weights)]
        ),
    }
    if step:
        values["the weights"] = _mark(model.weights)
    return values


def _mark(arrays: Sequence) -> str:
    mark = 0
    for array in arrays:
        mark = zlib.crc32(np.ascontiguousarray(array), mark)
    return f"{mark:08x}"
