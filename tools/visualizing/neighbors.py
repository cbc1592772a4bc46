"""Images with the training images nearest to them, as Figure 4, right, has them."""

import typing
from collections.abc import Sequence

import numpy as np

from visualizing import drawing
from visualizing.photographs import UNKNOWN, Images, Photograph

if typing.TYPE_CHECKING:
    from matplotlib.figure import Figure

# Rows of a chunk: 64 MB of 4096 features, and as much again for the differences.
_CHUNK = 4096


def nearest(
    queries: np.ndarray, features: np.ndarray, count: int, chunk: int = _CHUNK
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of smallest Euclidean distance, found chunk by chunk.

    Args:
        queries: (queries, size) float32.
        features: (images, size) float32, perhaps on the disk.
        count: how many to find; fewer where there are fewer images.
        chunk: images compared at once.

    Returns:
        Indices, (queries, count) int64, nearest first and of equal ones the earlier
        first; and their distances, float64.
    """
    indices = np.zeros((len(queries), 0), np.int64)
    squares = np.zeros((len(queries), 0))
    for start in range(0, len(features), chunk):
        part = np.asarray(features[start : start + chunk])
        # Differences, not products of vectors: these would cancel where it is close.
        found = np.stack(
            [np.sum((part - query) ** 2, axis=1, dtype=np.float64) for query in queries]
        )
        squares = np.concatenate([squares, found], axis=1)
        numbers = np.arange(start, start + len(part))
        numbers = np.broadcast_to(numbers, found.shape)
        indices = np.concatenate([indices, numbers], axis=1)
        order = np.argsort(squares, axis=1, kind="stable")[:, :count]
        squares = np.take_along_axis(squares, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
    return indices, np.sqrt(squares)


def photographs(
    images: Images, table: np.ndarray, indices: np.ndarray
) -> list[list[Photograph]]:
    """The images behind rows of a table of features, query by query."""
    return [
        [images.photograph(int(place)) for place in table["place"][row]]
        for row in indices
    ]


def draw(
    queries: Sequence[Photograph],
    neighbors: Sequence[Sequence[Photograph]],
    distances: np.ndarray,
    labels: Sequence[str],
) -> "Figure":
    """A row a query: the image, a gap, and its neighbours with label and distance."""
    side, text, gap = 1.35, 0.34, 0.08
    between = 0.3
    count = len(neighbors[0])
    head = 0.32
    width = (count + 1) * (side + gap) + between + gap
    height = head + len(queries) * (side + text)
    figure = drawing.new_figure(width, height)

    def show(row: int, column: int, photograph: Photograph, *captions: str) -> None:
        left = gap + column * (side + gap) + (between if column else 0)
        bottom = height - head - row * (side + text) - side
        panel = figure.add_axes(
            (left / width, bottom / height, side / width, side / height)
        )
        panel.imshow(photograph.pixels)
        panel.set_axis_off()
        for line, caption in enumerate(captions, 1):
            panel.text(
                *(0.5, -0.1 * line, caption),
                transform=panel.transAxes,
                ha="center",
                fontsize=7.5,
                parse_math=False,
            )

    for left, words in ((0, "image"), (side + gap + between, "nearest, by fc7")):
        figure.text(
            *((gap + left) / width, 1 - head / 2 / height, words),
            va="center",
            fontsize=10,
        )
    for row, (query, found) in enumerate(zip(queries, neighbors, strict=True)):
        show(row, 0, query, _name(query, labels))
        for i, neighbor in enumerate(found):
            distance = f"{distances[row, i]:.3g}"
            captions = filter(None, (_name(neighbor, labels), distance))
            show(row, i + 1, neighbor, *captions)
    return figure


def _name(photograph: Photograph, labels: Sequence[str]) -> str:
    known = photograph.label != UNKNOWN
    return drawing.short(labels[photograph.label], 24) if known else ""


def results(
    queries: Sequence[Photograph],
    neighbors: Sequence[Sequence[Photograph]],
    distances: np.ndarray,
    labels: Sequence[str],
) -> dict:
    """The neighbours in numbers, and how many are of their query's class."""
    pairs = [
        query.label == neighbor.label
        for query, found in zip(queries, neighbors, strict=True)
        for neighbor in found
        if UNKNOWN not in (query.label, neighbor.label)
    ]
    return {
        "same_class": sum(pairs),
        "of": len(pairs),
        "queries": [
            {
                "image": query.name,
                "label": _line(query, labels),
                "neighbors": [
                    {
                        "image": neighbor.name,
                        "label": _line(neighbor, labels),
                        "distance": round(float(distance), 4),
                    }
                    for neighbor, distance in zip(found, row, strict=True)
                ],
            }
            for query, found, row in zip(queries, neighbors, distances, strict=True)
        ],
    }


def _line(photograph: Photograph, labels: Sequence[str]) -> str | None:
    return None if photograph.label == UNKNOWN else labels[photograph.label]
