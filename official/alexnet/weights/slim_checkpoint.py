"""Checkpoints of TF-Slim's `alexnet_v2`: `alexnet_v2/conv1/weights`, ..."""

import importlib
import re

import numpy as np

_VARIABLE = re.compile(r"(?:alexnet_v2/)?((?:conv|fc)\d)/(weights|biases)")


def _open(path: str):
    # The other formats do without TensorFlow.
    return importlib.import_module("tensorflow").train.load_checkpoint(path)


def is_one(path: str) -> bool:
    """Whether a checkpoint has the names of TF-Slim's; not where it is damaged."""
    try:
        names = _open(path).get_variable_to_shape_map()
    except Exception:  # TensorFlow has many; who reads it says what is wrong.
        return False
    return any(_VARIABLE.fullmatch(name) for name in names)


def read(path: str) -> dict[str, list[np.ndarray]]:
    """Kernel, (height, width, in, out), and biases by layer; the rest is left out.

    The path is as `tf.train.load_checkpoint` takes it.

    Raises:
        Exception: what TensorFlow raises where it is damaged.
        ValueError: a layer lacks its kernel or its biases.
    """
    reader, found = _open(path), {}
    for name in sorted(reader.get_variable_to_shape_map(), reverse=True):
        if match := _VARIABLE.fullmatch(name):
            # In this order weights come before biases.
            found.setdefault(match[1], []).append(reader.get_tensor(name))
    for layer, pair in found.items():
        if len(pair) != 2 or pair[1].ndim != 1:
            raise ValueError(f"{layer} in it is not weights and biases")
    return found
