"""Images with the training images nearest to them, as Figure 4, right, has them."""

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
import tensorflow as tf
from scipy.spatial import distance

from official.alexnet.backend import keras
from official.alexnet.data import preprocessing
from official.alexnet.serving.signatures import layer_outputs
from visualizing import drawing
from visualizing.photographs import UNKNOWN, Images, Photograph, square
from visualizing.trained import Trained


def extractor(net: Trained) -> Callable[[tf.Tensor], tf.Tensor]:
    """From images to features: fc7 after its ReLU (or tanh), without dropout.

    Returns:
        A function from (batch, 256, 256, 3) uint8 to (batch, 4096) float32, at full
        width, of the centre crops.
    """
    whole, normalize = net.model, net.normalize()
    model = keras.Model(whole.input, layer_outputs(whole)["fc7"])
    side = whole.input_shape[1]

    @tf.function(reduce_retracing=True)
    def features(squares: tf.Tensor) -> tf.Tensor:
        crops = preprocessing.center_crop(squares, side)
        return tf.cast(model(normalize(crops)), tf.float32)

    return features


def of_images(
    images: Images, features: Callable[[tf.Tensor], tf.Tensor], batch_size: int
) -> Iterator[np.ndarray]:
    """The features of all images, batch by batch; a bad image is a UserError."""
    squares = images.encoded.map(square, tf.data.AUTOTUNE)
    done = 0
    try:
        for batch in squares.batch(batch_size).prefetch(2):
            yield features(batch).numpy()
            before, done = done, done + len(batch)
            if done // 1024 > before // 1024 or done == images.count:
                print(f"features: {done:,} of {images.count:,} images", flush=True)
    except tf.errors.OpError as error:
        raise images.explained(error) from error


def nearest(
    queries: np.ndarray, batches: Iterable[np.ndarray], count: int
) -> tuple[np.ndarray, np.ndarray]:
    """The vectors of smallest Euclidean distance, found batch by batch.

    Args:
        queries: (queries, size) float32.
        batches: (images, size) float32 each; only one at a time is in memory.
        count: how many to find; all where there are fewer.

    Returns:
        Indices, (queries, count) int64, nearest first and of equal ones the earlier
        first; and their distances, float64.
    """
    indices, far = (np.zeros((len(queries), 0), kind) for kind in (np.int64, float))
    start = 0
    for batch in batches:
        far = np.hstack([far, distance.cdist(queries, batch)])
        numbers = np.tile(np.arange(start, start + len(batch)), (len(queries), 1))
        start += len(batch)
        indices = np.hstack([indices, numbers])
        order = np.argsort(far, axis=1, kind="stable")[:, :count]
        far = np.take_along_axis(far, order, axis=1)
        indices = np.take_along_axis(indices, order, axis=1)
    return indices, far


def draw(
    queries: Sequence[Photograph],
    neighbors: Sequence[Sequence[Photograph]],
    distances: np.ndarray,
    labels: Sequence[str],
) -> drawing.Figure:
    """A row a query: the image, a gap, and its neighbours with label and distance."""
    count = len(neighbors[0])
    figure = drawing.new_figure(1.43 * count + 1.9, 0.32 + 1.69 * len(queries))
    widths = [1, 0.15, *[1] * count]
    panels = drawing.empty_panels(figure, len(queries), count + 2, width_ratios=widths)
    panels[0, 0].set_title("image", loc="left", fontsize=10)
    panels[0, 2].set_title("nearest, by fc7", loc="left", fontsize=10)

    def show(panel, photograph: Photograph, *captions: str) -> None:
        panel.imshow(photograph.pixels)
        name = drawing.short(photograph.line(labels) or "", 24)
        text = "\n".join(filter(None, [name, *captions]))
        panel.set_xlabel(text, fontsize=7.5, parse_math=False)

    rows = zip(panels, queries, neighbors, distances, strict=True)
    for (first, _, *others), query, found, far in rows:
        show(first, query)
        for panel, neighbor, apart in zip(others, found, far, strict=True):
            show(panel, neighbor, f"{apart:.3g}")
    return figure


def picture(
    net: Trained, queries: Sequence[Photograph], searched: Images, count: int
) -> tuple[np.ndarray, dict]:
    """The picture, the `count` neighbours, and how many are of their query's class."""
    features, labels = extractor(net), net.labels
    size = net.config.train.batch_size
    pixels = np.stack([query.pixels for query in queries])
    squares = tf.data.Dataset.from_tensor_slices(pixels).batch(size)
    own = np.concatenate([features(batch) for batch in squares])
    indices, distances = nearest(own, of_images(searched, features, size), count)
    neighbors = [[searched.photograph(int(i)) for i in row] for row in indices]
    rows, same = [], []
    for query, found, far in zip(queries, neighbors, distances, strict=True):
        near = [
            {"image": one.name, "label": one.line(labels), "distance": round(d, 4)}
            for one, d in zip(found, far.tolist(), strict=True)
        ]
        row = {"image": query.name, "label": query.line(labels), "neighbors": near}
        rows.append(row)
        known = [one.label for one in found if UNKNOWN not in (one.label, query.label)]
        same += [label == query.label for label in known]
    pixels = drawing.pixels_of(draw(queries, neighbors, distances, labels))
    numbers = {"same_class": sum(same), "of": len(same), "queries": rows}
    return pixels, numbers | {"searched": searched.count}
