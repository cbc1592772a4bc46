"""A small CIFAR-10 of blots: a class is where its blot is."""

import numpy as np
import pytest

from official.alexnet.cifar.data import Cifar10


def draw(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    labels = np.arange(count, dtype=np.int32) % 10
    images = rng.integers(0, 128, (count, 32, 32, 3), np.uint8)
    for image, label in zip(images, labels, strict=True):
        top, left = divmod(int(label), 4)
        image[8 * top : 8 * top + 8, 8 * left : 8 * left + 8] += 120
    return images, labels


@pytest.fixture(scope="session")
def small_cifar10() -> Cifar10:
    rng = np.random.default_rng(0)
    return Cifar10(*draw(rng, 90), *draw(rng, 33))
