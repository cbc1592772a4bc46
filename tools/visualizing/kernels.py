"""The first layer's kernels, column by column, as Figure 3 has them."""

import typing
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from official.alexnet.training.kernels import mosaic, stretched
from visualizing.trained import Trained

Scale = typing.Literal["each", "all"]

_ZOOM = 4
_MARGIN = 10
_CAPTION = 24


def first_kernels(net: Trained) -> tuple[str, list[np.ndarray]]:
    """The layer that reads the image, and its kernels column by column.

    Returns:
        The layer's name, and for each column (size, size, 3, count) float32.
    """
    variant = net.config.model.net()
    (name,) = (
        conv.name
        for conv in variant.convolutions
        if conv.filters and conv.reads == "image"
    )
    kernels = net.weights[f"{name}/kernel"]
    return name, np.split(kernels, variant.num_columns, axis=-1)


def color_shares(kernels: np.ndarray) -> np.ndarray:
    """How colourful each kernel is: what part of it a grey kernel does not have.

    Each position's three weights are their mean, which is grey, plus the rest. The
    share is the rest's sum of squares over that of the weights: 0 for a kernel that
    reads brightness only, 1 for one that a grey image does not move; 2/3 on average
    for independent weights, such as initial ones. It hangs on neither scale nor sign.

    Args:
        kernels: (size, size, 3, count).

    Returns:
        (count,) float64, 0..1.
    """
    kernels = np.asarray(kernels, np.float64)
    rest = kernels - kernels.mean(axis=2, keepdims=True)
    whole = np.sum(kernels**2, axis=(0, 1, 2))
    return np.sum(rest**2, axis=(0, 1, 2)) / np.maximum(whole, 1e-30)


def tiles(columns: Sequence[np.ndarray], scale: Scale) -> list[np.ndarray]:
    """Kernels as pixels.

    Args:
        columns: (size, size, 3, count) of each column.
        scale: `each`: every kernel from its least weight, black, to its greatest,
            white; `all`: 0 is mid-grey (127.5), and the greatest magnitude among all
            kernels is black or white.

    Returns:
        For each column (count, size, size, 3) uint8.
    """
    if scale == "each":
        return [stretched(kernels) for kernels in columns]
    greatest = max(np.abs(kernels).max() for kernels in columns)
    factor = 127.5 / max(greatest, 1e-12)
    return [
        np.uint8(np.moveaxis(127.5 + factor * kernels, -1, 0)) for kernels in columns
    ]


def captions(columns: Sequence[np.ndarray]) -> list[str]:
    """What stands above each column's block."""
    shares = [float(color_shares(kernels).mean()) for kernels in columns]
    if len(columns) == 1:
        return [f"{columns[0].shape[-1]} kernels: colour {shares[0]:.2f}"]
    return [
        f"column {i} (GPU {i + 1}): colour {share:.2f}"
        for i, share in enumerate(shares)
    ]


def draw(columns: Sequence[np.ndarray], scale: Scale) -> np.ndarray:
    """The picture: a captioned block a column, one below the other.

    Args:
        columns: (size, size, 3, count) of each column.
        scale: see `tiles`.

    Returns:
        (height, width, 3) uint8. A weight is a square of 4 pixels, a kernel has a
        rim of one.
    """
    font = ImageFont.load_default(size=15)
    blocks = [mosaic(column, _ZOOM) for column in tiles(columns, scale)]
    texts = captions(columns)
    widest = max(font.getlength(text) for text in texts)
    width = 2 * _MARGIN + max(blocks[0].shape[1], int(widest) + 1)
    height = _MARGIN + sum(_CAPTION + len(block) + _MARGIN for block in blocks)
    picture = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(picture)
    top = _MARGIN
    for block, text in zip(blocks, texts, strict=True):
        pen.text((_MARGIN, top), text, fill="black", font=font)
        picture.paste(Image.fromarray(block), (_MARGIN, top + _CAPTION))
        top += _CAPTION + len(block) + _MARGIN
    return np.asarray(picture)


def results(layer: str, columns: Sequence[np.ndarray]) -> dict:
    """Numbers beside the picture: each column's kernels and how colourful they are."""
    shares = [color_shares(kernels) for kernels in columns]
    return {
        "layer": layer,
        "columns": [
            {"kernels": len(each), "color": round(float(each.mean()), 4)}
            for each in shares
        ],
    }
