"""Weights by name, whichever form of the net holds them.

A tensor of the grouped form is the columns' tensors side by side along the last axis
(kernels, units and biases alike); fc8 is whole in both forms.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from official.alexnet.backend import keras
from official.alexnet.errors import UserError
from official.alexnet.modeling.structure import whole_name


def variables_by_name(model: keras.Model) -> dict[str, list[keras.Variable]]:
    """The weights, and the moving statistics of batch norm, columns together.

    A name, such as `conv1/kernel`, has a variable a column, in order, or a single one.
    """
    found: dict[str, list[keras.Variable]] = {}
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{whole_name(layer.name)}/{variable.name}"
            found.setdefault(name, []).append(variable)
    return found


def get_weights(model: keras.Model) -> dict[str, np.ndarray]:
    """The weights as the grouped form holds them, float32, by name."""
    return {
        name: np.concatenate([np.asarray(part) for part in parts], axis=-1)
        for name, parts in variables_by_name(model).items()
    }


def set_weights(model: keras.Model, weights: Mapping[str, np.ndarray]) -> None:
    """Gives a model of either form the weights that `get_weights` returned.

    Raises:
        UserError: the weights are those of another net; nothing was changed.
    """
    variables = variables_by_name(model)
    check_fit(variables, weights)
    for name, parts in variables.items():
        assign_parts(parts, weights[name])


def copy_weights(source: keras.Model, target: keras.Model) -> None:
    """Copies the weights of one form of a net into another form of it."""
    set_weights(target, get_weights(source))


def check_fit(
    variables: Mapping[str, Sequence[keras.Variable]], arrays: Mapping[str, np.ndarray]
) -> None:
    """Checks that arrays have the names and shapes of a model's variables.

    Raises:
        UserError: they do not.
    """
    shapes = whole_shapes(variables)
    for name in sorted(shapes.keys() | arrays.keys()):
        if name not in arrays:
            raise UserError(f"the weights lack {name}, which this net has")
        if name not in shapes:
            raise UserError(f"the weights hold {name}, which this net does not have")
        if tuple(arrays[name].shape) != shapes[name]:
            raise UserError(
                f"the weights are of another net: {name} is "
                f"{tuple(arrays[name].shape)} there and {shapes[name]} here"
            )


def whole_shapes(
    variables: Mapping[str, Sequence[keras.Variable]],
) -> dict[str, tuple[int, ...]]:
    """Shapes as the grouped form has them, by name."""
    return {
        name: (*parts[0].shape[:-1], sum(part.shape[-1] for part in parts))
        for name, parts in variables.items()
    }


def assign_parts(parts: Sequence[keras.Variable], whole: np.ndarray) -> None:
    """Cuts an array along its last axis and assigns each column its part."""
    for part, array in zip(parts, np.split(whole, len(parts), axis=-1), strict=True):
        part.assign(array)
