"""Files of weights: any known format in, any but checkpoints out."""

import dataclasses
import hashlib
import json
import pathlib
import zlib

import numpy as np

from official.alexnet import paths
from official.alexnet.data import atomic
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import VARIANTS, Variant
from official.alexnet.weights import (
    caffe_layers,
    caffemodel,
    keras_file,
    layouts,
    safetensors,
    torch_files,
)
from official.alexnet.weights import preprocessing as preprocessing_lib
from official.alexnet.weights.caffe_layers import Layer
from official.alexnet.weights.keras_file import KerasFileError
from official.alexnet.weights.pickles import PickleError
from official.alexnet.weights.preprocessing import Preprocessing
from official.alexnet.weights.protobuf import WireError
from official.alexnet.weights.safetensors import SafetensorsError

CAFFE, KERAS, SAFETENSORS = ".caffemodel", ".keras", ".safetensors"
TORCH = (".pth", ".pt", ".bin")
SUFFIXES = (CAFFE, *TORCH, SAFETENSORS, KERAS)
# Twice what the largest net of 2012 (110 million parameters) takes in float64.
LARGEST_FILE = 2 * 2**30
# Where `write` puts what others do not look at in a .safetensors file.
_NOTES, _CHECKSUM = "official_alexnet", "official_alexnet_crc32"
_WRONG = (WireError, PickleError, SafetensorsError, KerasFileError)


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
    (.pth, .keras, checkpoints, files written here), that every number is finite. That
    the weights are those of the net is for `check` to say. A .caffemodel or
    .safetensors file of others and a .pth from before PyTorch 1.6 have no checksums:
    there a damaged number is as good as a right one, unless `sha256` is given.

    Args:
        path: a .caffemodel, .pth (.pt, .bin), .safetensors or .keras file, a
            checkpoint such as `runs/paper/ckpt-300`, or the directory of a run.
        net: the net that the weights are for, with its options.
        sha256: of the file, or its first 8 digits or more.
        channel_order: of the images that the weights are for, `rgb` or `bgr`; by
            default what the file says, or `bgr` for a .caffemodel and `rgb` for others.

    Returns:
        The weights and what else the file says.

    Raises:
        UserError: the file is missing, damaged, too large, of no known format, or
            asks for anything to be run.
    """
    source = paths.local(path)
    if source.is_dir() or source.with_name(source.name + ".index").is_file():
        from official.alexnet.weights import runs  # noqa: PLC0415

        if sha256 or channel_order == "bgr":
            raise UserError(f"--sha256 and --channel_order=bgr are for files: {path}")
        weights, preprocessing, lines = runs.read(source)
        weights = layouts.for_dropout_of(net, weights, lines)
        return _finite(WeightFile(str(source), weights, preprocessing, lines))
    data = read_bytes(source, SUFFIXES, sha256)
    try:
        found = _read(str(source), data, net, channel_order)
    except UserError as error:
        raise UserError(f"{path}: {_printable(error)}") from None
    except _WRONG as error:
        raise UserError(f"{path}: {_printable(error)}{_advice(source)}") from None
    return _finite(found)


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


def _read(
    path: str, data: bytes, net: Variant, channel_order: str | None
) -> WeightFile:
    suffix = pathlib.Path(path).suffix
    if suffix == KERAS:
        if channel_order == "bgr":
            raise UserError("a .keras file of this package reads RGB")
        from official.alexnet import run_files  # noqa: PLC0415

        weights, lines = keras_file.read(data)
        weights = layouts.for_dropout_of(net, weights, lines)
        # Beside an export's stand the settings and the mean image.
        preprocessing = run_files.preprocessing(pathlib.Path(path).parent)
        return WeightFile(path, weights, preprocessing, lines)
    if suffix == CAFFE:
        layers = caffemodel.read(data)
        arrays = _arrays_of(layers)
        weights = layouts.to_ours(arrays, net, channel_order or "bgr")
        return WeightFile(path, weights, layers=layers)
    if suffix == SAFETENSORS:
        arrays, metadata = safetensors.read(data)
        notes = metadata.get(_NOTES, "").encode()
        checksum = _checksum(arrays, notes)
        if metadata.get(_CHECKSUM, checksum) != checksum:
            raise SafetensorsError("its checksum is another: it is damaged")
    else:
        arrays, notes = torch_files.read(data)
    lines, preprocessing = _parse_notes(notes)
    order = channel_order or (preprocessing.channel_order if preprocessing else "rgb")
    weights = layouts.to_ours(arrays, net, order)
    preprocessing = preprocessing.in_order("rgb") if preprocessing else None
    return WeightFile(path, weights, preprocessing, lines)


def _arrays_of(layers: list[Layer]) -> dict[str, np.ndarray]:
    """Caffe's blobs by PyTorch's names, without axes of length 1 in front."""
    arrays: dict[str, np.ndarray] = {}
    for layer in layers:
        if not layer.blobs:
            continue
        if f"{layer.name}.weight" in arrays:
            raise WireError(f"layer {layer.name} stands in it twice")
        if layer.type not in ("Convolution", "InnerProduct") or len(layer.blobs) != 2:
            raise WireError(
                f"layer {layer.name} ({layer.type}) holds {len(layer.blobs)} blobs, "
                "not weights and biases"
            )
        ranks = (4 if layer.type == "Convolution" else 2, 1)
        for name, blob, rank in zip(
            ("weight", "bias"), layer.blobs, ranks, strict=True
        ):
            extra = blob.shape[: max(0, blob.ndim - rank)]
            if blob.ndim < rank or set(extra) - {1}:
                raise WireError(f"{name} of layer {layer.name} is of {blob.shape}")
            arrays[f"{layer.name}.{name}"] = blob.reshape(blob.shape[len(extra) :])
    return arrays


def _finite(found: WeightFile) -> WeightFile:
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


def _printable(text: object) -> str:
    """Without line breaks and control characters, which a file may have put in."""
    text = "".join(c if c.isprintable() else "?" for c in str(text))
    return text if len(text) <= 300 else text[:300] + " ..."


def _advice(path: pathlib.Path) -> str:
    if path.suffix in TORCH:
        return "; it should be what torch.save(model.state_dict(), path) writes"
    return "; is the file whole, and of the format that its name says?"


def _checksum(arrays: dict[str, np.ndarray], notes: bytes) -> str:
    checksum = zlib.crc32(notes)
    for array in arrays.values():
        checksum = zlib.crc32(np.ascontiguousarray(array), checksum)
    return f"{checksum:08x}"


def _parse_notes(notes: bytes) -> tuple[list[str] | None, Preprocessing | None]:
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
    order = structure.weight_shapes(net, weights["fc8/bias"].size)
    weights = {name: weights[name] for name in order}
    if target.suffix == CAFFE:
        return _write_caffe(target, weights, net, preprocessing)
    arrays = layouts.torch_names(layouts.to_theirs(weights, net, "rgb"), net)
    note = {
        "net": structure.lines(net),
        "preprocessing": preprocessing.as_dict() if preprocessing else None,
    }
    text = json.dumps(note)
    if target.suffix in TORCH:
        data = torch_files.write(arrays, text.encode())
    elif target.suffix == SAFETENSORS:
        checksum = _checksum(arrays, text.encode())
        metadata = {"format": "pt", _NOTES: text, _CHECKSUM: checksum}
        data = safetensors.write(arrays, metadata)
    else:
        known = ", ".join((CAFFE, *TORCH, SAFETENSORS))
        raise UserError(f"{path}: its name should end with {known}")
    with atomic.atomic_write(target) as temporary:
        temporary.write_bytes(data)
    return [str(target)]


def _write_caffe(
    target: pathlib.Path,
    weights: dict[str, np.ndarray],
    net: Variant,
    preprocessing: Preprocessing | None,
) -> list[str]:
    arrays = layouts.to_theirs(weights, net, "bgr")
    layers = [
        dataclasses.replace(
            layer,
            blobs=(arrays[f"{layer.name}.weight"], arrays[f"{layer.name}.bias"]),
        )
        if f"{layer.name}.weight" in arrays
        else layer
        for layer in caffe_layers.describe(net, len(arrays["fc8.bias"]), net.input_size)
    ]
    side = caffe_layers.input_side(net, net.input_size)
    comments = [f"AlexNet, variant {net.name}, for the weights in {target.name}."]
    if preprocessing:
        comments.append(f"Input: {preprocessing.in_order('bgr').formula()}.")
    else:
        comments.append("Input: BGR.")
    if side != net.input_size:
        comments.append(
            f"The image of {net.input_size} x {net.input_size} has "
            f"{side - net.input_size} zeros at its bottom and right, after the mean."
        )
    if any(layer.settings.get("k") for layer in layers):
        comments.append("OpenCV ignores k of lrn_param; Caffe does not.")
    text = caffemodel.prototxt(layers, net.name, side, comments)
    with atomic.atomic_write(target) as temporary:
        temporary.write_bytes(caffemodel.write(layers, net.name))
    beside = target.with_suffix(".prototxt")
    with atomic.atomic_write(beside) as temporary:
        temporary.write_text(text, "utf-8")
    return [str(target), str(beside)]
