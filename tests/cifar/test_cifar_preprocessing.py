"""Order, crops, flips and mean: functions of seed and step, checked in NumPy."""

import numpy as np
import tensorflow as tf

from official.alexnet.cifar import preprocessing


def test_every_epoch_takes_every_image_once():
    taken = preprocessing.order(3, 0, 75, batch_size=4, num_examples=100).ravel()
    epochs = taken.reshape(3, 100)
    for epoch in epochs:
        assert sorted(epoch) == list(range(100))
    assert (epochs[0] != epochs[1]).any()
    # A batch may begin in one epoch and end in the next.
    odd = preprocessing.order(3, 0, 100, batch_size=3, num_examples=100).ravel()
    np.testing.assert_array_equal(odd, taken)


def test_order_is_the_same_wherever_it_begins():
    settings = {"batch_size": 7, "num_examples": 50}
    whole = preprocessing.order(1, 0, 40, **settings)
    for first, last in ((0, 7), (7, 8), (8, 29), (29, 40)):
        part = preprocessing.order(1, first, last, **settings)
        np.testing.assert_array_equal(part, whole[first:last])
    assert (preprocessing.order(2, 0, 40, **settings) != whole).any()


def coordinates(count: int) -> np.ndarray:
    """Images whose pixels say where they are: (row, column, image)."""
    rows, columns = np.mgrid[:32, :32]
    images = [np.stack([rows, columns, rows * 0 + i], axis=-1) for i in range(count)]
    return np.uint8(images)


def test_random_crops():
    found = preprocessing.random_crops(
        tf.constant(coordinates(250)), 24, seed=5, step=tf.constant(9)
    ).numpy()
    places, flips = [], []
    for i, crop in enumerate(found):
        top, left = crop[0, 0, 0], crop[0, :, 1].min()
        flip = crop[0, 0, 1] > crop[0, -1, 1]
        expected = coordinates(i + 1)[i, top : top + 24, left : left + 24]
        np.testing.assert_array_equal(crop, expected[:, ::-1] if flip else expected)
        places.append((top, left))
        flips.append(flip)
    tops, lefts = np.transpose(places)
    for offsets in (tops, lefts):
        assert set(offsets) == set(range(9))
    assert 0.4 < np.mean(flips) < 0.6
    # Row, column and flip are drawn apart.
    assert abs(np.corrcoef([tops, lefts, flips]) - np.eye(3)).max() < 0.25


def test_random_crops_depend_on_seed_and_step_alone():
    images = tf.constant(coordinates(20))

    def crops(seed: int, step: int) -> np.ndarray:
        step = tf.constant(step)
        return preprocessing.random_crops(images, 24, seed, step).numpy()

    np.testing.assert_array_equal(crops(1, 2), crops(1, 2))
    assert (crops(1, 2) != crops(1, 3)).any()
    assert (crops(1, 2) != crops(2, 2)).any()


def test_crops_of_a_test():
    images = coordinates(2)
    (centre,) = preprocessing.crops(images, 24, 1)
    np.testing.assert_array_equal(centre, images[:, 4:28, 4:28])
    nine = preprocessing.crops(images, 24, 9)
    assert [tuple(crop[0, 0, 0, :2]) for crop in nine] == [
        (top, left) for top in (0, 4, 8) for left in (0, 4, 8)
    ]
    (whole,) = preprocessing.crops(images, 32, 1)
    np.testing.assert_array_equal(whole, images)


def test_mean_image_is_the_centre_of_the_training_sets():
    images = np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), np.uint8)
    expected = images.astype("f8").mean(0)[4:28, 4:28]
    found = preprocessing.mean_image(images, 24)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
