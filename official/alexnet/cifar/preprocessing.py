"""From the data set in memory to a step's input: order, crops, flips and the mean."""

import math

import numpy as np
import tensorflow as tf

from official.alexnet.cifar.data import IMAGE_SIZE


def order(
    seed: int, first: int, last: int, *, batch_size: int, num_examples: int
) -> np.ndarray:
    """Which training images the steps first + 1 to last take.

    Each epoch is another permutation of the training set, a function of seed and
    epoch; batches go on across its end, so that every image is in every epoch.

    Returns:
        (last - first, batch_size) int32.
    """
    start, stop = first * batch_size, last * batch_size
    epochs = range(start // num_examples, math.ceil(stop / num_examples))
    stream = np.concatenate(
        [np.random.default_rng([seed, e]).permutation(num_examples) for e in epochs]
    )
    start -= epochs.start * num_examples
    taken = stream[start : start + (last - first) * batch_size]
    return taken.reshape(-1, batch_size).astype(np.int32)


def random_crops(images: tf.Tensor, size: int, seed: int, step: tf.Tensor) -> tf.Tensor:
    """Crops each image at a place of its own, and flips half of them.

    Args:
        images: (batch, 32, 32, 3).
        size: side of the crops; 32 only flips.
        seed: of the run.
        step: int32 scalar; places are a function of seed and step.

    Returns:
        (batch, size, size, 3), in the type of `images`.
    """
    draws = tf.random.stateless_uniform(
        [3, images.shape[0], 1], [seed, step], alg="philox"
    )
    places = tf.cast(draws * (IMAGE_SIZE - size + 1), tf.int32)
    along = tf.range(size)
    rows = places[0] + along
    columns = places[1] + tf.where(draws[2] < 0.5, along[::-1], along)
    return tf.gather(
        tf.gather(images, rows, axis=1, batch_dims=1), columns, axis=2, batch_dims=1
    )


def crops(images: tf.Tensor, size: int, count: int) -> list[tf.Tensor]:
    """The central crop, or nine at the corners, borders and centre, unflipped.

    Args:
        images: (batch, 32, 32, 3).
        size: side of the crops.
        count: 1 or 9.
    """
    border = (IMAGE_SIZE - size) // 2
    offsets = [border] if count == 1 else [0, border, 2 * border]
    return [
        images[:, top : top + size, left : left + size]
        for top in offsets
        for left in offsets
    ]


def mean_image(images: np.ndarray, size: int) -> np.ndarray:
    """The centre of the training set's mean image, which every crop is taken from.

    As in the 2012 source, wherever the crop is.

    Args:
        images: (n, 32, 32, 3) uint8.
        size: side of the crops.

    Returns:
        (size, size, 3) float32.
    """
    mean = images.mean(axis=0, dtype=np.float64).astype(np.float32)
    border = (IMAGE_SIZE - size) // 2
    return mean[border : border + size, border : border + size]
