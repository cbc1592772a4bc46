"""What a run writes to be looked at: TensorBoard, metrics.jsonl and pictures."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from official.alexnet.data import atomic
from official.alexnet.run_files import METRICS_FILE
from official.alexnet.training.events import Events


class Summaries:
    """Writes scalars and pictures of one run.

    TensorBoard reads them under `model_dir/train` and `model_dir/validation`;
    `metrics.jsonl` holds the same scalars, one JSON object a line.

    Args:
        model_dir: where to write.
        step: the step the run goes on from; later lines of an earlier process that
            was stopped are dropped.
    """

    def __init__(self, model_dir: pathlib.Path, step: int):
        self._events = {
            split: Events(model_dir / split) for split in ("train", "validation")
        }
        self._metrics = model_dir / METRICS_FILE
        _drop_later_lines(self._metrics, step)

    def scalars(self, split: str, step: int, values: dict[str, float]) -> None:
        """Writes values of one step of the split `train` or `validation`.

        Raises:
            UserError: they cannot be written; what was there before is intact.
        """
        with self._events[split].writing(step, len(values)):
            for name, value in values.items():
                tf.summary.scalar(name, value)
        line = json.dumps({"step": step, "split": split, **values})
        atomic.append_text(self._metrics, line + "\n")

    def pictures(self, name: str, step: int, pictures: np.ndarray) -> None:
        """Writes (count, height, width, 3) uint8 pictures of the split `train`."""
        with self._events["train"].writing(step, 1):
            tf.summary.image(name, pictures, max_outputs=len(pictures))

    def close(self) -> None:
        for events in self._events.values():
            events.close()


def _drop_later_lines(path: pathlib.Path, step: int) -> None:
    if not path.exists():
        return
    kept = []
    for line in path.read_text("utf-8").splitlines():
        try:
            if json.loads(line)["step"] <= step:
                kept.append(line + "\n")
        except ValueError:  # A line cut short when the process was killed.
            continue
    atomic.write_text(path, "".join(kept))


def kernel_picture(
    kernels: np.ndarray, num_columns: int = 2, zoom: int = 3
) -> np.ndarray:
    """Draws the first layer's kernels as Figure 3 does, the columns apart.

    Args:
        kernels: (size, size, 3, count), the columns' kernels one after the other.
        num_columns: blocks to draw, one above the other.
        zoom: pixels a weight.

    Returns:
        (height, width, 3) uint8; each kernel is stretched to 0..255 by itself.
    """
    kernels = np.moveaxis(kernels, -1, 0)
    low = kernels.min(axis=(1, 2, 3), keepdims=True)
    high = kernels.max(axis=(1, 2, 3), keepdims=True)
    tiles = np.uint8(255 * (kernels - low) / np.maximum(high - low, 1e-12))
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    tiles = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    columns = np.split(tiles, num_columns)
    across = min(16, len(columns[0]))
    blocks = [_mosaic(column, across) for column in columns]
    gap = np.full((4 * zoom, blocks[0].shape[1], 3), 255, np.uint8)
    rows = [blocks[0]]
    for block in blocks[1:]:
        rows += [gap, block]
    return np.concatenate(rows)


def _mosaic(tiles: np.ndarray, across: int) -> np.ndarray:
    missing = -len(tiles) % across
    tiles = np.pad(tiles, ((0, missing), *[(0, 0)] * 3), constant_values=255)
    down, (height, width) = len(tiles) // across, tiles.shape[1:3]
    grid = tiles.reshape(down, across, height, width, 3).swapaxes(1, 2)
    return grid.reshape(down * height, across * width, 3)
