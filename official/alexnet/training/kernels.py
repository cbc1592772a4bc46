"""Pictures of the first layer's kernels, as in Figure 3."""

import numpy as np

from official.alexnet.backend import keras
from official.alexnet.modeling.weights import variables_by_name

_ZOOM = 3  # Pixels a weight.


def first_layer(model: keras.Model, num_columns: int) -> tuple[str, np.ndarray]:
    """The first layer of a model of either form, and the picture of its kernels.

    The picture keeps the columns of its variant, `num_columns`, apart.
    """
    name, parts = next(iter(variables_by_name(model).items()))
    whole = np.concatenate([part.numpy() for part in parts], axis=-1)
    return name.partition("/")[0], kernel_picture(whole, num_columns)


def kernel_picture(kernels: np.ndarray, num_columns: int) -> np.ndarray:
    """Draws the first layer's kernels as Figure 3 does, one column above the other.

    Args:
        kernels: (size, size, 3, count), the columns' kernels one after the other.
        num_columns: blocks to draw.

    Returns:
        (height, width, 3) uint8; each kernel is stretched to 0..255 by itself.
    """
    columns, gap = np.split(stretched(kernels), num_columns), 4 * _ZOOM
    blocks = [
        np.pad(mosaic(column, _ZOOM), ((0, gap), (0, 0), (0, 0)), constant_values=255)
        for column in columns
    ]
    return np.concatenate(blocks)[:-gap]


def stretched(kernels: np.ndarray) -> np.ndarray:
    """Each kernel of (size, size, 3, count) from its least weight to its greatest.

    They are 0 and 255 in (count, size, size, 3) uint8.
    """
    kernels = np.moveaxis(kernels, -1, 0)
    low = kernels.min(axis=(1, 2, 3), keepdims=True)
    high = kernels.max(axis=(1, 2, 3), keepdims=True)
    return np.uint8(255 * (kernels - low) / np.maximum(high - low, 1e-12))


def mosaic(tiles: np.ndarray, zoom: int) -> np.ndarray:
    """Lays kernels out on white, sixteen a row, each with a rim of one pixel.

    From (count, size, size, 3) uint8, `zoom` pixels a weight, to (height, width, 3).
    """
    tiles = tiles.repeat(zoom, axis=1).repeat(zoom, axis=2)
    tiles = np.pad(tiles, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=255)
    across = min(16, len(tiles))
    missing = -len(tiles) % across
    tiles = np.pad(tiles, ((0, missing), *[(0, 0)] * 3), constant_values=255)
    down, (height, width) = len(tiles) // across, tiles.shape[1:3]
    grid = tiles.reshape(down, across, height, width, 3).swapaxes(1, 2)
    return grid.reshape(down * height, across * width, 3)
