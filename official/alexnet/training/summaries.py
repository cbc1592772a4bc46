"""What a run writes to be looked at: TensorBoard, metrics.jsonl and pictures."""

import json
import pathlib

import numpy as np
import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.data import atomic
from official.alexnet.modeling.weights import variables_by_name
from official.alexnet.run_files import METRICS_FILE
from official.alexnet.training import events


class Summaries:
    """Writes scalars and pictures of one run.

    TensorBoard reads them under `model_dir/train` and `model_dir/validation`;
    `metrics.jsonl` holds the same scalars, one JSON object a line. What an earlier
    process wrote of later steps than it saved is dropped from both, so no step is there
    twice.

    Args:
        model_dir: where to write.
        step: the step the run goes on from; 0 for a new one.
        is_evaluated: whether what an evaluation there has written is kept; otherwise
            it will be written anew.

    Attributes:
        results: the last values of each split, as the binaries print them.
    """

    def __init__(self, model_dir: pathlib.Path, step: int, is_evaluated: bool = True):
        self._metrics = model_dir / METRICS_FILE
        rows = _drop_later_lines(self._metrics, step, is_evaluated)
        self.results = {}
        for row in rows:
            values = {k: v for k, v in row.items() if k not in ("step", "split")}
            self.results |= named(row["split"], values)
        self._events = {}
        for split in ("train", "validation"):
            atomic.remove_unfinished(model_dir / split)
            events.drop_later(model_dir / split, step, is_evaluated)
            self._events[split] = events.Events(model_dir / split)

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

    def kernels(self, step: int, model: keras.Model, num_columns: int) -> None:
        """Writes a picture of the first layer's kernels, as in Figure 3."""
        name, parts = next(iter(variables_by_name(model).items()))
        kernels = np.concatenate([np.asarray(part) for part in parts], axis=-1)
        picture = kernel_picture(kernels, num_columns)
        self.pictures(f"{name.partition('/')[0]}_kernels", step, picture[None])

    def close(self) -> None:
        for split in self._events.values():
            split.close()


def named(split: str, values: dict[str, float]) -> dict[str, float]:
    """Values of a split as the binaries print them: `eval_` before the validation's."""
    prefix = "eval_" if split == "validation" else ""
    return {f"{prefix}{name}": value for name, value in values.items()}


def _drop_later_lines(path: pathlib.Path, step: int, is_evaluated: bool) -> list[dict]:
    """Keeps the lines up to a step, or its evaluation, and returns them."""
    last = {"train": step, "validation": step if is_evaluated else step - 1}
    if not path.exists():
        return []
    rows = []
    for line in path.read_text("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            is_kept = row["step"] <= last[row["split"]]
        except (ValueError, LookupError, TypeError):  # Cut short by a kill.
            continue
        if is_kept:
            rows.append(row)
    atomic.write_text(path, "".join(json.dumps(row) + "\n" for row in rows))
    return rows


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
    tiles = stretched(kernels)
    blocks = [mosaic(column, zoom) for column in np.split(tiles, num_columns)]
    gap = np.full((4 * zoom, blocks[0].shape[1], 3), 255, np.uint8)
    rows = [blocks[0]]
    for block in blocks[1:]:
        rows += [gap, block]
    return np.concatenate(rows)


def stretched(kernels: np.ndarray) -> np.ndarray:
    """Each kernel from its least weight, 0, to its greatest, 255.

    Args:
        kernels: (size, size, 3, count).

    Returns:
        (count, size, size, 3) uint8.
    """
    kernels = np.moveaxis(kernels, -1, 0)
    low = kernels.min(axis=(1, 2, 3), keepdims=True)
    high = kernels.max(axis=(1, 2, 3), keepdims=True)
    return np.uint8(255 * (kernels - low) / np.maximum(high - low, 1e-12))


def mosaic(tiles: np.ndarray, zoom: int) -> np.ndarray:
    """Lays kernels out on white, sixteen a row, each with a rim of one pixel.

    Args:
        tiles: (count, size, size, 3) uint8.
        zoom: pixels a weight.

    Returns:
        (height, width, 3) uint8.
    """
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    tiles = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    across = min(16, len(tiles))
    missing = -len(tiles) % across
    tiles = np.pad(tiles, ((0, missing), *[(0, 0)] * 3), constant_values=255)
    down, (height, width) = len(tiles) // across, tiles.shape[1:3]
    grid = tiles.reshape(down, across, height, width, 3).swapaxes(1, 2)
    return grid.reshape(down * height, across * width, 3)
