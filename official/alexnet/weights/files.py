"""Files of weights: any known format in, any but Keras's out."""

import dataclasses
import functools
import hashlib
import json
import pathlib
import re
from collections.abc import Callable

import numpy as np

from official.alexnet import disk, paths
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import VARIANTS, Variant
from official.alexnet.weights import (
    array_pickle,
    caffe_layers,
    caffemodel,
    keras_file,
    layouts,
    tensor_files,
)
from official.alexnet.weights import preprocessing as preprocessing_lib
from official.alexnet.weights.caffe_layers import Layer
from official.alexnet.weights.preprocessing import Preprocessing

KERAS = ".keras"
_KERAS_ADVICE = "it is damaged, or not a .keras file of this package"
# Twice what the largest net of 2012 (110 million parameters) takes in float64.
LARGEST_FILE = 2 * 2**30


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds.

    Attributes:
        path: where it was read.
        weights: float32 by name, such as `conv1/kernel`, in this package's layout,
            for RGB images and the dropout of the net that they were read for.
        preprocessing: of the images, in RGB order; None where the file does not say.
        lines: what its net computes, as `structure.lines` has it; None where the
            file does not say.
        layers: Caffe's layers, if it is a .caffemodel.
    """

    path: str
    weights: dict[str, np.ndarray]
    preprocessing: Preprocessing | None = None
    lines: list[str] | None = None
    layers: list[Layer] | None = None

    @property
    def num_classes(self) -> int:
        """Size of the output.

        Raises:
            UserError: the output layer is missing.
        """
        if "fc8/bias" not in self.weights:
            raise UserError(f"{self.path} lacks fc8/bias, of the output layer")
        return self.weights["fc8/bias"].size


def read(
    path: str,
    net: Variant,
    *,
    sha256: str | None = None,
    channel_order: str | None = None,
) -> WeightFile:
    """Reads weights; nothing that the file says is run.

    What is looked at: the structure of the file, checksums where the format has them
    (.pth, .keras, files written here), that every number is finite. That the weights
    are those of the net is for `check` to say. A .caffemodel or .safetensors file of
    others, an .npy and a .pth from before PyTorch 1.6 have no checksums: there a
    damaged number is as good as a right one, unless `sha256` is given.

    Args:
        path: a file with a suffix of `FORMATS`.
        net: the net that the weights are for, with its options.
        sha256: of the file, or its first 8 digits or more.
        channel_order: of the images that the weights are for, `rgb` or `bgr`; by
            default what the file says, or what its format is for.

    Returns:
        The weights and what else the file says.

    Raises:
        UserError: the file is missing, damaged, too large, of no known format, or
            asks for anything to be run.
    """
    source = paths.local(path)
    data = read_bytes(source, SUFFIXES, sha256)
    form = format_of(source)
    return finite(parse(path, form, lambda: form.read(path, data, net, channel_order)))


def parse(path: object, form: "Format", read_it: Callable):
    """What a reader returns; any error of a library becomes one line.

    Raises:
        UserError: the file is damaged, or asks for anything to be run.
    """
    try:
        return read_it()
    except UserError as error:
        raise UserError(f"{path}: {_printable(error)}") from None
    except Exception as error:  # Each library raises errors of its own.
        text = " ".join(str(error).split())
        # PyTorch says it among advice to trust the file.
        text = text.rpartition("WeightsUnpickler error: ")[2]
        if asked := re.search(r"[Uu]nsupported (?:global: )?GLOBAL (\S+)", text):
            text = f"it asks for {asked[1]}, which no weights need; nothing was run"
        text = _printable(text or type(error).__name__, 200)
        raise UserError(f"{path}: {text}; {form.advice}") from error


def read_bytes(
    path: pathlib.Path, suffixes: tuple[str, ...], sha256: str | None = None
) -> bytes:
    """The bytes of a file, if its name, size and checksum are right.

    Raises:
        UserError: they are not, or there is no such file.
    """
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if path.suffix not in suffixes:
        raise UserError(f"{path}: its name should end with {', '.join(suffixes)}")
    if path.stat().st_size > LARGEST_FILE:
        raise UserError(
            f"{path} is larger than {LARGEST_FILE // 2**30} GiB: no AlexNet is"
        )
    data = path.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and not (
        len(sha256) >= 8 and digest.startswith(sha256.lower())
    ):
        raise UserError(f"{path}: its sha256 is {digest}, not {sha256}")
    return data


def _read_caffe(
    path: str, data: bytes, net: Variant, channel_order: str | None
) -> WeightFile:
    layers = caffemodel.read(data)
    weights = layouts.to_ours(caffemodel.arrays_of(layers), net, channel_order or "bgr")
    return WeightFile(path, weights, layers=layers)


def _read_keras(
    path: str, data: bytes, net: Variant, channel_order: str | None
) -> WeightFile:
    if channel_order == "bgr":
        raise UserError("a .keras file of this package reads RGB")
    weights, lines = keras_file.read(data)
    return WeightFile(path, layouts.for_dropout_of(net, weights, lines), lines=lines)


def _read_npy(
    path: str, data: bytes, net: Variant, channel_order: str | None
) -> WeightFile:
    found = array_pickle.read(data)
    arrays = layouts.from_kernels_and_biases(found, net)
    return WeightFile(path, layouts.to_ours(arrays, net, channel_order or "bgr"))


def _read_tensors(
    read_arrays: Callable[[bytes], tuple[dict[str, np.ndarray], str]],
    path: str,
    data: bytes,
    net: Variant,
    channel_order: str | None,
) -> WeightFile:
    arrays, notes = read_arrays(data)
    lines, preprocessing = _parse_notes(notes)
    order = channel_order or (preprocessing.channel_order if preprocessing else "rgb")
    weights = layouts.to_ours(arrays, net, order)
    preprocessing = preprocessing.in_order("rgb") if preprocessing else None
    return WeightFile(path, weights, preprocessing, lines)


def finite(found: WeightFile) -> WeightFile:
    """The same, unless it holds NaN or infinity.

    Raises:
        UserError: it does.
    """
    for name, array in found.weights.items():
        if not np.all(np.isfinite(array)):
            raise UserError(
                f"{found.path}: {_printable(name)} holds NaN or infinity: the file is "
                "damaged, or its training had diverged"
            )
    return found


def check(found: WeightFile, net: Variant, shapes: dict[str, tuple[int, ...]]) -> None:
    """Checks that a file holds the weights of a net.

    Args:
        found: the file.
        net: the net, with its options.
        shapes: of its weights by name, as the grouped form has them.

    Raises:
        UserError: naming the layer, what was found, and what the net wants.
    """
    for name in [*shapes, *(name for name in found.weights if name not in shapes)]:
        here = found.weights.get(name)
        if here is not None and shapes.get(name) == here.shape:
            continue
        there = "" if here is None else f"{_printable(name)} of shape {here.shape}"
        wanted = f"variant {net.name} has"
        if here is None:
            text = f"it lacks {name} of shape {shapes[name]}, which {wanted}"
        elif name not in shapes:
            text = f"it holds {there}, which {wanted} not"
        else:
            text = f"it holds {there}, where {wanted} {shapes[name]}"
        raise UserError(f"{found.path}: {text}{_of(_by_shapes(found, net))}")
    if found.lines is not None:
        text = structure.difference(found.lines, structure.lines(net))
        fitting = structure.variants_of(found.lines)
    elif found.layers is not None:
        text = _caffe_difference(found, net)
        fitting = [
            name
            for name, other in VARIANTS.items()
            if text and not _caffe_difference(found, other)
        ]
    else:
        return
    if text:
        raise UserError(
            f"{found.path}: its net is not variant {net.name} with these options: "
            f"{_printable(text)}{_of(fitting)}"
        )


def _caffe_difference(found: WeightFile, net: Variant) -> str | None:
    try:
        wanted = caffe_layers.describe(net, found.num_classes, net.input_size)
    except UserError as error:
        return str(error)
    return caffe_layers.difference(found.layers, wanted)


def _by_shapes(found: WeightFile, net: Variant) -> list[str]:
    """Other variants that have the file's shapes."""
    shapes = {name: array.shape for name, array in found.weights.items()}
    classes = shapes.get("fc8/bias", (0,))[0]
    return [
        name
        for name, other in VARIANTS.items()
        if name != net.name and structure.weight_shapes(other, classes) == shapes
    ]


def _of(variants: list[str]) -> str:
    return f"; it fits --variant={' or '.join(variants)}" if variants else ""


def _printable(text: object, most: int = 300) -> str:
    """Without line breaks and control characters, which a file may have put in."""
    text = "".join(c if c.isprintable() else "?" for c in str(text))
    return text if len(text) <= most else text[:most] + " ..."


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


def write(
    path: str,
    weights: dict[str, np.ndarray],
    net: Variant,
    preprocessing: Preprocessing | None = None,
) -> list[str]:
    """Writes weights for others.

    A .caffemodel is for BGR images, and a .prototxt of the same name that runs it
    stands beside it; a .pth or .safetensors file is for RGB images, by torchvision's
    names if the net is torchvision's, and otherwise as `conv1.weight`, and notes the
    net and its input where other programs do not look.

    Args:
        path: a .caffemodel, .pth (.pt, .bin) or .safetensors file.
        weights: float32 by name, in this package's layout.
        net: the net, with its options.
        preprocessing: of the images, to be noted.

    Returns:
        The files that were written.

    Raises:
        UserError: another suffix, or a net that the format cannot hold.
    """
    target = paths.local(path)
    form = format_of(target)
    if form is None or form.write is None:
        known = [suffix for form in FORMATS if form.write for suffix in form.suffixes]
        raise UserError(f"{path}: its name should end with {', '.join(known)}")
    order = structure.weight_shapes(net, weights["fc8/bias"].size)
    weights = {name: weights[name] for name in order}
    contents = form.write(target, weights, net, preprocessing)
    for file, data in contents.items():
        with disk.atomic_write(file) as temporary:
            temporary.write_bytes(data)
    return [str(file) for file in contents]


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
    data, text = caffemodel.write_net(arrays, net, target.name, formula)
    return {target: data, target.with_suffix(".prototxt"): text.encode()}


@dataclasses.dataclass(frozen=True)
class Format:
    """One format of files.

    Attributes:
        suffixes: of its files.
        order: of the channels of its files' images.
        read: from path, bytes, net and the channel order asked for, if any.
        write: from path, weights, net and preprocessing to bytes by file; or None.
        advice: what a file should be that cannot be read.
    """

    suffixes: tuple[str, ...]
    order: str
    read: Callable[[str, bytes, Variant, str | None], WeightFile]
    write: Callable[..., dict[pathlib.Path, bytes]] | None = None
    advice: str = "is the file complete, and of the format that its name says?"


# .pth and .safetensors note their preprocessing; a .caffemodel says it in the comments
# of its .prototxt, for people; of a .keras file it stands in the folder of its export.
FORMATS = (
    Format((".caffemodel",), "bgr", _read_caffe, _write_caffe),
    Format(
        (".pth", ".pt", ".bin"),
        "rgb",
        functools.partial(_read_tensors, tensor_files.read_torch),
        functools.partial(_write_tensors, tensor_files.write_torch),
        "it should be what torch.save(model.state_dict(), path) writes",
    ),
    Format(
        (".safetensors",),
        "rgb",
        functools.partial(_read_tensors, tensor_files.read_safetensors),
        functools.partial(_write_tensors, tensor_files.write_safetensors),
    ),
    Format((KERAS,), "rgb", _read_keras, advice=_KERAS_ADVICE),
    # bvlc_alexnet.npy: Caffe's weights by layer, as caffe-tensorflow made them.
    Format((".npy",), "bgr", _read_npy),
)
SUFFIXES = tuple(suffix for form in FORMATS for suffix in form.suffixes)


def format_of(path: pathlib.Path) -> Format | None:
    """The format that a path's suffix says; None: none that is known."""
    return next((form for form in FORMATS if path.suffix in form.suffixes), None)
