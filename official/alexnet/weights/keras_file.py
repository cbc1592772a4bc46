"""Weights out of a .keras file of this package, without building what it describes.

Keras's own loader makes the objects that a file's configuration names. Here the
configuration is read as text, and the weights as arrays.
"""

import io
import json
import re
import zipfile

import h5py
import numpy as np

from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import LRN

_OPERATIONS = {"ReLU": "relu", "Tanh": "tanh", "BatchNormalization": "batch_norm"}
# The output's softmax changes no weight.
_NO_ARITHMETIC = ("InputLayer", "Activation", "Edges", "Exchange")


def read(data: bytes) -> tuple[dict[str, np.ndarray], list[str]]:
    """Weights by our names, such as `conv1/kernel`, and lines, of a .keras file.

    The weights are as the grouped form holds them, the lines as `structure.lines` has
    them.

    Raises:
        Exception: what its libraries raise: it is damaged, or of another package.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.file_size > len(data):
                raise ValueError(f"{info.filename} in it is compressed")
        config = json.loads(archive.read("config.json"))
        content = archive.read("model.weights.h5")
    layers = config["config"]["layers"]
    lines = _lines(layers)
    names = {layer["config"]["name"] for layer in layers}
    return _whole(_read_arrays(content, names)), lines


def _read_arrays(content: bytes, names: set[str]) -> dict[tuple[str, str], np.ndarray]:
    """The arrays by names of layer and weight."""
    arrays: dict[tuple[str, str], np.ndarray] = {}
    with h5py.File(io.BytesIO(content), "r") as file:
        for group in _members(_member(file, "layers", h5py.Group), h5py.Group):
            variables = _member(group, "vars", h5py.Group)
            layer = str(variables.attrs["name"])
            datasets = _members(variables, h5py.Dataset)
            # Dropout's seeds are not weights.
            if not datasets or layer not in names or layer.startswith("drop"):
                continue
            weights = ("kernel", "bias")
            if layer.startswith("norm"):
                weights = ("gamma", "beta", "moving_mean", "moving_variance")
            for name, dataset in zip(weights, datasets, strict=True):
                if dataset.nbytes > len(content) or dataset.external:
                    raise ValueError(f"{layer}/{name} is not stored in it")
                arrays[layer, name] = np.asarray(dataset, np.float32)
    return arrays


def _member(group, name: str, kind: type):
    # Other links lead out of the file.
    link = group.get(name, getlink=True)
    if not isinstance(link, h5py.HardLink) or not isinstance(group[name], kind):
        raise ValueError(f"it has no {name}")
    return group[name]


def _members(group, kind: type) -> list:
    return [_member(group, name, kind) for name in sorted(group)]


def _whole(arrays: dict[tuple[str, str], np.ndarray]) -> dict[str, np.ndarray]:
    """Columns side by side, as the grouped form holds them."""
    parts: dict[str, list[np.ndarray]] = {}
    # Sorted, so that column a comes before column b.
    for layer, name in sorted(arrays):
        key = structure.whole_name(layer)
        parts.setdefault(f"{key}/{name}", []).append(arrays[layer, name])
    return {name: np.concatenate(found, -1) for name, found in parts.items()}


def _lines(layers: list[dict]) -> list[str]:
    """What the layers of a configuration compute; column b does as column a."""
    names = [layer["config"]["name"] for layer in layers]
    in_columns = any(re.search(r"\da$", name) for name in names)
    reach_over = any(name.startswith("edges") for name in names)
    found = []
    for layer in layers:
        kind, config = layer["class_name"], layer["config"]
        name = re.sub(r"(\d)a$", r"\1", config["name"])
        if in_columns and re.search(r"\db$", name):
            continue
        match kind:
            case "Convolution":
                padding = tuple(config["padding"])
                found.append(structure.convolution(name, config["stride"], padding))
            case "Dense":
                found.append(name)
            case "LocalResponseNormalization" | "SpatialResponseNormalization":
                norm = LRN(config["k"], config["n"], config["alpha"], config["beta"])
                spatial = kind.startswith("Spatial")
                alone = config.get("num_columns", 1) > 1 or in_columns
                alone = alone and not spatial and not reach_over
                text = "spatial_norm" if spatial else "lrn"
                found.append(structure.norm(text, norm, alone))
            case "MaxPool":
                size, stride = config["size"], config["stride"]
                ceil = config.get("ceil", False)
                found.append(structure.pool(size, stride, ceil))
            case "Dropout":
                inverted = config.get("inverted", False)
                found.append(structure.dropout(config["rate"], inverted))
            case _ if kind in _OPERATIONS:
                found.append(_OPERATIONS[kind])
            case _ if kind not in _NO_ARITHMETIC:
                raise ValueError(f"it has a layer {name} of the kind {kind}")
    return found
