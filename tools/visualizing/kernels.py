"""The first layer's kernels, column by column, as Figure 3 has them."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from official.alexnet.training.kernels import mosaic, stretched
from visualizing.trained import Trained

_ZOOM, _MARGIN, _CAPTION = 4, 10, 24


def first_kernels(net: Trained) -> tuple[str, list[np.ndarray]]:
    """The layer that reads the image, and its kernels column by column.

    Returns:
        The layer's name, and for each column (size, size, 3, count) float32.
    """
    variant = net.config.model.net()
    name = variant.convolutions[0].name
    return name, np.split(net.weights[f"{name}/kernel"], variant.num_columns, axis=-1)


def color_shares(kernels: np.ndarray) -> np.ndarray:
    """How colourful each kernel is: what part of it a grey kernel does not have.

    Each position's three weights are their mean, which is grey, plus the rest. The
    share is the rest's sum of squares over that of the weights: 0 for a kernel that
    reads brightness only, 1 for one that a grey image does not move; 2/3 on average
    for independent weights, such as initial ones. Scale and sign do not change it.

    Args:
        kernels: (size, size, 3, count).

    Returns:
        (count,) float64, 0..1.
    """
    kernels = np.asarray(kernels, np.float64)
    rest = kernels - kernels.mean(axis=2, keepdims=True)
    whole = np.sum(kernels**2, axis=(0, 1, 2))
    return np.sum(rest**2, axis=(0, 1, 2)) / np.maximum(whole, 1e-30)


def draw(columns: Sequence[np.ndarray]) -> np.ndarray:
    """The picture: a captioned block a column, one below the other.

    Args:
        columns: (size, size, 3, count) of each column.

    Returns:
        (height, width, 3) uint8. A weight is a square of 4 pixels, a kernel has a
        rim of one, and is drawn from its least weight, black, to its greatest, white.
    """
    blocks = [mosaic(stretched(kernels), _ZOOM) for kernels in columns]
    font, texts = ImageFont.load_default(size=15), captions(columns)
    widest = max(blocks[0].shape[1], *(int(font.getlength(t)) + 1 for t in texts))
    height = _MARGIN + sum(_CAPTION + len(block) + _MARGIN for block in blocks)
    picture = Image.new("RGB", (2 * _MARGIN + widest, height), "white")
    top = _MARGIN
    for block, text in zip(blocks, texts, strict=True):
        ImageDraw.Draw(picture).text((_MARGIN, top), text, fill="black", font=font)
        picture.paste(Image.fromarray(block), (_MARGIN, top + _CAPTION))
        top += _CAPTION + len(block) + _MARGIN
    return np.asarray(picture)


def captions(columns: Sequence[np.ndarray]) -> list[str]:
    """What stands above each column's block."""
    shares = [float(color_shares(kernels).mean()) for kernels in columns]
    if len(columns) == 1:
        return [f"{columns[0].shape[-1]} kernels: colour {shares[0]:.2f}"]
    return [f"column {i} (GPU {i + 1}): colour {s:.2f}" for i, s in enumerate(shares)]


def picture(net: Trained) -> tuple[np.ndarray, dict]:
    """The picture, and each column's kernels and how colourful they are."""
    layer, columns = first_kernels(net)
    shares = [color_shares(kernels) for kernels in columns]
    rows = [{"kernels": len(s), "color": round(float(s.mean()), 4)} for s in shares]
    return draw(columns), {"layer": layer, "columns": rows}
