"""The formats of files of weights: bytes to arrays and back."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Callable

import numpy as np

from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import Variant
from official.alexnet.weights import (
    array_pickle,
    caffemodel,
    keras_file,
    layouts,
    matconvnet,
    tensor_files,
)
from official.alexnet.weights import preprocessing as preprocessing_lib
from official.alexnet.weights.preprocessing import Preprocessing

KERAS = ".keras"
_KERAS_ADVICE = "it is damaged, or not a .keras file of this package"


# Each of these reads bytes for a net and the channel order that was asked for, if any,
# and returns fields of a `files.WeightFile`.
def _read_caffe(data: bytes, net: Variant, order: str | None) -> dict:
    layers, arrays = caffemodel.read(data)
    return {"weights": layouts.to_ours(arrays, net, order or "bgr"), "layers": layers}


def _read_keras(data: bytes, net: Variant, order: str | None) -> dict:
    if order == "bgr":
        raise UserError("a .keras file of this package reads RGB")
    weights, lines = keras_file.read(data)
    return {"weights": layouts.for_dropout_of(net, weights, lines), "lines": lines}


def _read_npy(data: bytes, net: Variant, order: str | None) -> dict:
    arrays = layouts.from_kernels_and_biases(array_pickle.read(data), net)
    return {"weights": layouts.to_ours(arrays, net, order or "bgr")}


def _read_matconvnet(data: bytes, net: Variant, order: str | None) -> dict:
    found, preprocessing, labels = matconvnet.read(data)
    arrays = layouts.from_kernels_and_biases(found, net)
    weights = layouts.to_ours(arrays, net, order or "rgb")
    return {"weights": weights, "preprocessing": preprocessing, "labels": labels}


def _read_tensors(
    read_arrays: Callable[[bytes], tuple[dict[str, np.ndarray], str]],
    data: bytes,
    net: Variant,
    order: str | None,
) -> dict:
    arrays, notes = read_arrays(data)
    lines, preprocessing = _parse_notes(notes)
    noted = preprocessing.channel_order if preprocessing else "rgb"
    return {
        "weights": layouts.to_ours(arrays, net, order or noted),
        "preprocessing": preprocessing and preprocessing.in_order("rgb"),
        "lines": lines,
    }


def _parse_notes(notes: str) -> tuple[list[str] | None, Preprocessing | None]:
    """What `write` noted beside the tensors: the net and its input."""
    if not notes:
        return None, None
    try:
        values = json.loads(notes)
        lines = [str(line) for line in values["net"]]
        description = values["preprocessing"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise UserError("this package's notes in it are damaged") from None
    if description is None:
        return lines, None
    return lines, preprocessing_lib.from_dict(description, "its note")


def _write_tensors(
    write_arrays: Callable[[dict[str, np.ndarray], str], bytes],
    target: pathlib.Path,
    weights: dict[str, np.ndarray],
    net: Variant,
    preprocessing: Preprocessing | None,
) -> dict[pathlib.Path, bytes]:
    noted = preprocessing.as_dict() if preprocessing else None
    arrays = layouts.torch_names(layouts.to_theirs(weights, net, "rgb"), net)
    note = json.dumps({"net": structure.lines(net), "preprocessing": noted})
    return {target: write_arrays(arrays, note)}


def _write_caffe(
    target: pathlib.Path,
    weights: dict[str, np.ndarray],
    net: Variant,
    preprocessing: Preprocessing | None,
) -> dict[pathlib.Path, bytes]:
    arrays = layouts.to_theirs(weights, net, "bgr")
    formula = preprocessing.in_order("bgr").formula() if preprocessing else "BGR"
    data, text = caffemodel.write(arrays, net, target.name, formula)
    return {target: data, target.with_suffix(".prototxt"): text.encode()}


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of files, by its name for people.

    `order` is that of the channels of its files' images, `write` goes from path,
    weights, net and preprocessing to bytes by file, and `advice` says what a file that
    cannot be read should be.
    """

    name: str
    suffixes: tuple[str, ...]
    order: str
    read: Callable[[bytes, Variant, str | None], dict]
    write: Callable[..., dict[pathlib.Path, bytes]] | None = None
    advice: str = "is the file complete, and of the format that its name says?"


# .pth and .safetensors note their preprocessing; a .caffemodel says it in the comments
# of its .prototxt, for people; of a .keras file it stands in the folder of its export.
FORMATS = (
    Format("Caffe", (".caffemodel",), "bgr", _read_caffe, _write_caffe),
    Format(
        "PyTorch",
        (".pth", ".pt", ".bin"),
        "rgb",
        functools.partial(_read_tensors, tensor_files.read_torch),
        functools.partial(_write_tensors, tensor_files.write_torch),
        "it should be what torch.save(model.state_dict(), path) writes",
    ),
    Format(
        "safetensors",
        (".safetensors",),
        "rgb",
        functools.partial(_read_tensors, tensor_files.read_safetensors),
        functools.partial(_write_tensors, tensor_files.write_safetensors),
    ),
    Format("Keras", (KERAS,), "rgb", _read_keras, advice=_KERAS_ADVICE),
    # bvlc_alexnet.npy: Caffe's weights by layer, as caffe-tensorflow made them.
    Format("NumPy", (".npy",), "bgr", _read_npy),
    Format("MatConvNet", (".mat",), "rgb", _read_matconvnet),
)
SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)


def format_of(path: pathlib.Path) -> Format | None:
    """The format that a path's suffix says; None: none that is known."""
    return next((form for form in FORMATS if path.suffix in form.suffixes), None)
