"""Weights in the layout of Caffe and PyTorch, and in ours.

There a convolution's kernel is (maps out, maps in a group, height, width) and a
connected layer's (out, in), and the maps that fc6 reads are flattened map by map.
Here they are (height, width, maps in a group, maps out) and (in, out), and the maps
are flattened pixel by pixel. A connected layer whose columns read their own is a
convolution of one place there, which has groups.
"""

import math
from collections.abc import Mapping

import numpy as np

from official.alexnet.errors import UserError
from official.alexnet.modeling.structure import input_factors, line_factors
from official.alexnet.modeling.structure import lines as lines_of
from official.alexnet.modeling.variants import OWT, Conv, Variant

# Names of torchvision's `alexnet`: numbers of its modules.
TORCHVISION = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "fc6": "classifier.1",
    "fc7": "classifier.4",
    "fc8": "classifier.6",
}
_OURS = {theirs: ours for ours, theirs in TORCHVISION.items()}
_KINDS = {"weight": "kernel", "bias": "bias"}


def to_ours(
    arrays: Mapping[str, np.ndarray], net: Variant, channel_order: str
) -> dict[str, np.ndarray]:
    """Arrays by PyTorch's names, `conv1.weight` or torchvision's, in our layout.

    They are for `rgb` or `bgr` images, as `channel_order` says, and become float32 by
    our names, such as `conv1/kernel`, for RGB images and the dropout of the net.

    Raises:
        UserError: a name that is not one of a layer's weights, or a shape that
            cannot be brought into our order.
    """
    named: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        layer, _, suffix = name.removeprefix("module.").rpartition(".")
        layer = _OURS.get(layer, layer)
        if suffix not in _KINDS or not layer:
            raise UserError(f"it holds {name}, which no AlexNet here has")
        if f"{layer}/{_KINDS[suffix]}" in named:
            raise UserError(f"it holds the {suffix} of {layer} twice")
        named[f"{layer}/{_KINDS[suffix]}"] = array
    factors, reader = input_factors(net), net.dense[0].name
    first, connected = _own(net)[0].name, [dense.name for dense in net.dense]

    def kernel(layer: str, array: np.ndarray) -> np.ndarray:
        if array.ndim == 2 and layer == reader:
            array = _by_pixel(array, _maps(named, net))
        array = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T
        if array.ndim == 4 and layer in connected:
            array = array.reshape(-1, array.shape[-1])
        if layer == first and channel_order == "bgr" and array.ndim == 4:
            array = array[:, :, ::-1]
        array = _float32(array)
        return array / np.float32(factors[layer]) if layer in factors else array

    found = {}
    for name, array in named.items():
        layer, _, kind = name.partition("/")
        found[name] = kernel(layer, array) if kind == "kernel" else _float32(array)
    return found


def from_kernels_and_biases(found: object, net: Variant) -> dict[str, np.ndarray]:
    """Arrays in the layout of TensorFlow and MATLAB, as `to_ours` takes them.

    `found` holds for each layer its kernel, (height, width, maps in a group, maps out)
    or (in, out), and its biases. What fc6 reads is flattened pixel by pixel, or its
    window.

    Raises:
        UserError: it is something else.
    """
    arrays = {}
    dense = {*(layer.name for layer in net.dense), "fc8"}
    names = {*(conv.name for conv in net.convolutions), *dense}
    for layer, pair in found.items() if isinstance(found, dict) else ():
        is_pair = isinstance(pair, list) and len(pair) == 2
        if not is_pair or not all(isinstance(array, np.ndarray) for array in pair):
            raise UserError(f"{layer} in it is not a kernel and biases")
        kernel, bias = pair
        if layer in dense and kernel.ndim == 4:
            kernel = kernel.reshape(-1, kernel.shape[-1])
        axes = {4: (3, 2, 0, 1), 2: (1, 0)}.get(kernel.ndim)
        if layer not in names or axes is None:
            raise UserError(f"it holds {layer}, which no AlexNet here has")
        kernel = kernel.transpose(axes)
        if layer == net.dense[0].name and kernel.ndim == 2:
            kernel = _by_map(kernel, _own(net)[-1].filters)
        arrays |= {f"{layer}.weight": kernel, f"{layer}.bias": bias}
    if not arrays:
        raise UserError("it holds no kernels and biases by the names of layers")
    return arrays


def to_theirs(
    weights: Mapping[str, np.ndarray], net: Variant, channel_order: str
) -> dict[str, np.ndarray]:
    """Weights, float32 by the names `conv1.weight`, ..., the reverse of `to_ours`.

    Raises:
        UserError: there are weights that have no place there (batch normalisation).
    """
    factors, reader = input_factors(net), net.dense[0].name
    first, last = _own(net)[0], _own(net)[-1]
    apart = [dense.name for dense in net.dense if dense.reads == "own"]

    def weight(layer: str, array: np.ndarray) -> np.ndarray:
        if layer in apart:
            inputs, units = array.shape
            maps = last.filters // net.num_columns if layer == reader else inputs
            side = math.isqrt(inputs // maps)
            array = array.reshape(side, side, maps, units)
        if layer in factors:
            array = array * np.float32(factors[layer])
        if layer == first.name and channel_order == "bgr":
            array = array[:, :, ::-1]
        array = array.transpose(3, 2, 0, 1) if array.ndim == 4 else array.T
        flat = layer == reader and array.ndim == 2
        return _by_map(array, last.filters) if flat else array

    found = {}
    for name, array in weights.items():
        layer, _, kind = name.partition("/")
        if kind not in _KINDS.values():
            raise UserError(
                f"{name} has no place in the formats of Caffe and PyTorch here: nets "
                "with batch normalisation go into .keras files and checkpoints only"
            )
        if kind == "kernel":
            found[f"{layer}.weight"] = np.ascontiguousarray(weight(layer, array))
        else:
            found[f"{layer}.bias"] = array
    return found


def for_dropout_of(
    net: Variant, weights: Mapping[str, np.ndarray], lines: list[str] | None
) -> dict[str, np.ndarray]:
    """Weights of a net of this package for one with dropout of another form or rate.

    As published it multiplies by 1 - rate after training: a kernel that reads it gets
    the factor that is missing here. The weights are float32 by our names, for `net`;
    `lines` are the `structure.lines` of the net that they are of, None where they are
    not known.
    """
    here = line_factors(lines_of(net))
    there = here if lines is None else line_factors(lines)
    found = {}
    for name, array in weights.items():
        layer, _, kind = name.partition("/")
        factor = there.get(layer, 1.0) / here.get(layer, 1.0)
        is_other = kind == "kernel" and factor != 1
        found[name] = array * np.float32(factor) if is_other else array
    return found


def torch_names(arrays: Mapping[str, np.ndarray], net: Variant) -> dict:
    """The arrays by torchvision's names, if the net is torchvision's."""
    operations = [conv.then for conv in OWT.convolutions]
    same = [conv.then for conv in net.convolutions] == operations
    layers = [layer.name for layer in (*_own(net), *net.dense)]
    if not same or [*layers, "fc8"] != [*TORCHVISION]:
        return dict(arrays)
    renamed = {}
    for name, array in arrays.items():
        layer, _, suffix = name.rpartition(".")
        renamed[f"{TORCHVISION[layer]}.{suffix}"] = array
    return renamed


def _own(net: Variant) -> list[Conv]:
    """The convolutions that have weights of their own."""
    return [conv for conv in net.convolutions if conv.filters]


def _maps(named: Mapping[str, np.ndarray], net: Variant) -> int:
    """How many maps the first connected layer reads: those of the last convolution."""
    for conv in reversed(net.convolutions):
        array = named.get(f"{conv.name}/kernel")
        if array is not None and array.ndim == 4:
            return len(array)
    raise UserError("it holds no convolutional layer of this net")


def _by_pixel(kernel: np.ndarray, maps: int) -> np.ndarray:
    """(out, maps * height * width) as (out, height * width * maps)."""
    out, inputs = kernel.shape
    side = math.isqrt(inputs // maps)
    if maps * side * side != inputs:
        raise UserError(
            f"its first connected layer reads {inputs} numbers, which are not square "
            f"maps of {maps}"
        )
    return kernel.reshape(out, maps, -1).transpose(0, 2, 1).reshape(out, inputs)


def _by_map(kernel: np.ndarray, maps: int) -> np.ndarray:
    """(out, height * width * maps) as (out, maps * height * width)."""
    out, inputs = kernel.shape
    return kernel.reshape(out, -1, maps).transpose(0, 2, 1).reshape(out, inputs)


def _float32(array: np.ndarray) -> np.ndarray:
    # Too large for float32: infinity, which the check of the values refuses.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(array, np.float32)
