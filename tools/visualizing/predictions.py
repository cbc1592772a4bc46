"""Photographs with their most probable labels, as Figure 4, left, has them."""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from official.alexnet.serving.prediction import best
from official.alexnet.training.evaluation import predict_views
from visualizing import drawing
from visualizing.photographs import Photograph
from visualizing.trained import Trained

CORRECT, OTHER = "#f2a0a0", "#a9c4e8"
_ACROSS = 4


def probabilities(
    net: Trained, photographs: Sequence[Photograph], crops: int, batch_size: int
) -> np.ndarray:
    """What the net says of photographs with 1 crop or 10, as evaluation has it.

    Returns:
        (count, num_classes) float32.
    """
    model, normalize = net.model, net.normalize()
    pixels = np.stack([photograph.pixels for photograph in photographs])
    batches = tf.data.Dataset.from_tensor_slices(pixels).batch(batch_size)
    return np.concatenate([predict_views(model, b, normalize, crops) for b in batches])


def draw(
    photographs: Sequence[Photograph],
    scores: np.ndarray,
    labels: Sequence[str],
    top: int,
) -> drawing.Figure:
    """A cell a photograph: the image, its label below, and a bar a likely class.

    Args:
        photographs: one a row of `scores`.
        scores: (count, num_classes), probabilities.
        labels: names of the classes.
        top: bars a photograph; fewer where there are fewer classes.
    """
    across = min(_ACROSS, len(photographs))
    down = math.ceil(len(photographs) / across)
    side, bars = 2.2, 0.21 * min(top, scores.shape[1])  # Inches.
    figure = drawing.new_figure(across * (side + 0.25), down * (side + bars + 0.55))
    heights = [side, bars] * down
    panels = drawing.empty_panels(figure, 2 * down, across, height_ratios=heights)
    bold = {"fontsize": 9.5, "weight": "bold", "parse_math": False}
    text = {"va": "center", "fontsize": 8.5, "parse_math": False}
    for i, (photograph, row) in enumerate(zip(photographs, scores, strict=True)):
        image, panel = panels[2 * (i // across) : 2 * (i // across) + 2, i % across]
        image.imshow(photograph.pixels)
        image.set_xlabel(drawing.short(photograph.line(labels) or "", 26), **bold)
        classes = np.argsort(-row, kind="stable")[:top]
        colors = [CORRECT if label == photograph.label else OTHER for label in classes]
        panel.barh(range(len(classes)), row[classes], color=colors, height=0.86)
        for y, label in enumerate(classes):
            panel.text(0.02, y, drawing.short(labels[label], 22), **text)
            panel.text(0.98, y, f"{100 * row[label]:.1f} %", ha="right", **text)
        panel.set(xlim=(0, 1), ylim=(len(classes) - 0.5, -0.5))
        panel.spines["left"].set_visible(True)
    return figure


def picture(
    net: Trained, photographs: Sequence[Photograph], top: int
) -> tuple[np.ndarray, list[dict]]:
    """The picture, and each photograph's most probable labels."""
    train, labels = net.config.train, net.labels
    scores = probabilities(net, photographs, train.eval_crops, train.batch_size)
    numbers = []
    for one, row in zip(photographs, scores, strict=True):
        likely = best(row, labels, top)
        numbers.append({"image": one.name, "label": one.line(labels), "labels": likely})
    return drawing.pixels_of(draw(photographs, scores, labels, top)), numbers
