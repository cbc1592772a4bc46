"""Photographs with their most probable labels, as Figure 4, left, has them."""

import math
import typing
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from official.alexnet.training.evaluation import predict_views
from visualizing import drawing
from visualizing.photographs import UNKNOWN, Photograph
from visualizing.trained import Trained

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

CORRECT, OTHER = "#f2a0a0", "#a9c4e8"
_ACROSS = 4


def probabilities(
    net: Trained, photographs: Sequence[Photograph], crops: int, batch_size: int
) -> np.ndarray:
    """What the net says of photographs, as evaluation has it.

    Args:
        net: the net.
        photographs: what to look at.
        crops: 1 or 10.
        batch_size: photographs at once.

    Returns:
        (count, num_classes) float32.
    """
    model, normalize = net.model(), net.normalize()
    rows = []
    for start in range(0, len(photographs), batch_size):
        batch = photographs[start : start + batch_size]
        pixels = tf.constant(np.stack([photograph.pixels for photograph in batch]))
        rows.append(predict_views(model, pixels, normalize, crops).numpy())
    return np.concatenate(rows)


def best(row: np.ndarray, top: int) -> np.ndarray:
    """The `top` most probable classes of (num_classes,), or all, best first."""
    return np.argsort(-row, kind="stable")[:top]


def draw(
    photographs: Sequence[Photograph],
    scores: np.ndarray,
    labels: Sequence[str],
    top: int,
) -> "Figure":
    """A cell a photograph: the image, its label below, and a bar a likely class.

    Args:
        photographs: one a row of `scores`.
        scores: (count, num_classes), probabilities.
        labels: names of the classes.
        top: bars a photograph; fewer where there are fewer classes.
    """
    top = min(top, scores.shape[1])
    across = min(_ACROSS, len(photographs))
    down = math.ceil(len(photographs) / across)
    # Inches: image, label, bars, and the gap to the next row.
    side, label, bars, gap = 2.2, 0.3, 0.21 * top, 0.25
    cell = side + label + bars + gap
    width, height = across * (side + gap) + gap, down * cell + gap
    figure = drawing.new_figure(width, height)

    def axes(row: int, column: int, below: float, tall: float):
        left, top_edge = gap + column * (side + gap), gap + row * cell + below
        bottom = 1 - (top_edge + tall) / height
        return figure.add_axes((left / width, bottom, side / width, tall / height))

    for i, (photograph, row) in enumerate(zip(photographs, scores, strict=True)):
        place = divmod(i, across)
        image = axes(*place, below=0, tall=side)
        image.imshow(photograph.pixels)
        image.set_axis_off()
        if photograph.label != UNKNOWN:
            name = drawing.short(labels[photograph.label], 26)
            middle = 1 + label / 2 / side
            image.text(
                *(0.5, 1 - middle, name),
                transform=image.transAxes,
                ha="center",
                va="center",
                fontsize=9.5,
                weight="bold",
                parse_math=False,
            )
        _draw_bars(
            axes(*place, below=side + label, tall=bars),
            *(row, best(row, top), photograph.label, labels),
        )
    return figure


def _draw_bars(panel, row: np.ndarray, classes: np.ndarray, correct: int, labels):
    colors = [CORRECT if label == correct else OTHER for label in classes]
    panel.barh(range(len(classes)), row[classes], color=colors, height=0.86)
    for i, label in enumerate(classes):
        text = {"va": "center", "fontsize": 8.5, "parse_math": False}
        panel.text(0.02, i, drawing.short(labels[label], 22), **text)
        panel.text(0.98, i, f"{100 * row[label]:.1f} %", ha="right", **text)
    panel.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5), xticks=[], yticks=[])
    for side in ("top", "right", "bottom"):
        panel.spines[side].set_visible(False)


def results(
    photographs: Sequence[Photograph],
    scores: np.ndarray,
    labels: Sequence[str],
    top: int,
) -> list[dict]:
    """Each photograph's most probable labels, in numbers."""
    return [
        {
            "image": photograph.name,
            "label": None if photograph.label == UNKNOWN else labels[photograph.label],
            "labels": [
                {"label": labels[i], "probability": round(float(row[i]), 6)}
                for i in best(row, top)
            ],
        }
        for photograph, row in zip(photographs, scores, strict=True)
    ]
