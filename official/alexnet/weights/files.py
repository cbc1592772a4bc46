"""Files of weights: any known format in, any but Keras's out."""

import dataclasses
import hashlib
import pathlib
import re
from collections.abc import Callable

import numpy as np
from google.protobuf.message import Message

from official.alexnet import disk, paths
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import VARIANTS, Variant
from official.alexnet.weights import caffe_layers, layouts, slim_checkpoint
from official.alexnet.weights.formats import FORMATS, SUFFIXES, format_of
from official.alexnet.weights.preprocessing import Preprocessing

# Twice what the largest net of 2012 (110 million parameters) takes in float64.
LARGEST_FILE = 2 * 2**30


@dataclasses.dataclass(frozen=True)
class WeightFile:
    """What a file of weights holds; None is what it does not say.

    The weights are float32 by names such as `conv1/kernel`, in this package's layout,
    for RGB images and the dropout of the net that they were read for. Preprocessing is
    in RGB order, `lines` are those of `structure.lines`, `layers` the LayerParameter
    messages of a .caffemodel, `labels` the names of the classes.
    """

    path: str
    weights: dict[str, np.ndarray]
    preprocessing: Preprocessing | None = None
    lines: list[str] | None = None
    layers: list[Message] | None = None
    labels: tuple[str, ...] | None = None

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
    allow_nan: bool = False,
) -> WeightFile:
    """Reads weights; nothing that the file says is run.

    What is looked at: the structure of the file, checksums where the format has them
    (.pth, .keras, files written here), that every number is finite. That the weights
    are those of the net is for `check` to say. A .caffemodel or .safetensors file of
    others, an .npy and a .pth from before PyTorch 1.6 have no checksums: there a
    damaged number is as good as a right one, unless `sha256` is given, or its first 8
    digits or more. `channel_order`, `rgb` or `bgr`, is that of the images that the
    weights are for: by default what the file says, or what its format is for. With
    `allow_nan` NaN and infinity are read too.

    Raises:
        UserError: the file is missing, damaged, too large, of no known format, or
            asks for anything to be run.
    """
    source = paths.local(path)
    data = read_bytes(source, SUFFIXES, sha256)
    form = format_of(source)
    fields = parse(path, form.advice, lambda: form.read(data, net, channel_order))
    found = WeightFile(path, **fields)
    return found if allow_nan else finite(found)


def parse(path: object, advice: str, read_it: Callable):
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
        raise UserError(f"{path}: {text}; {advice}") from error


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


def read_slim(path: str, net: Variant) -> WeightFile:
    """Reads a checkpoint of TF-Slim's `alexnet_v2`, of either of TensorFlow's forms.

    The path is of a single file, or without the `.index` of several. NaN is left for
    the caller to look for.

    Raises:
        UserError: as `read` does.
    """

    def read_it() -> WeightFile:
        arrays = layouts.from_kernels_and_biases(slim_checkpoint.read(path), net)
        return WeightFile(path, layouts.to_ours(arrays, net, "rgb"))

    advice = "it is damaged, or not a checkpoint of TF-Slim's alexnet_v2"
    return parse(path, advice, read_it)


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
    """Checks that a file holds a net's weights, of these shapes in the grouped form.

    Raises:
        UserError: naming the layer, what was found, and what the net wants.
    """
    wanted = f"variant {net.name} has"
    here = {name: array.shape for name, array in found.weights.items()}
    for name in shapes | here:
        if here.get(name) == shapes.get(name):
            continue
        held = f"it holds {_printable(name)} of shape {here.get(name)}"
        if name not in here:
            text = f"it lacks {name} of shape {shapes[name]}, which {wanted}"
        elif name not in shapes:
            text = f"{held}, which {wanted} not"
        else:
            text = f"{held}, where {wanted} {shapes[name]}"
        raise UserError(f"{found.path}: {text}{_of(_by_shapes(here, net))}")
    if text := _difference(found, net):
        fitting = [n for n, other in VARIANTS.items() if not _difference(found, other)]
        raise UserError(
            f"{found.path}: its net is not variant {net.name} with these options: "
            f"{_printable(text)}{_of(fitting)}"
        )


def _difference(found: WeightFile, net: Variant) -> str | None:
    """What the file says of its net that is otherwise in this one; None: nothing."""
    if found.lines is not None:
        return structure.difference(found.lines, structure.lines(net))
    if found.layers is None:
        return None
    try:
        wanted = caffe_layers.describe(net, found.num_classes)
    except UserError as error:
        return str(error)
    return caffe_layers.difference(found.layers, wanted)


def _by_shapes(shapes: dict[str, tuple[int, ...]], net: Variant) -> list[str]:
    """Other variants that have the file's shapes."""
    classes = sum(shapes.get("fc8/bias", (0,)))
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


def write(
    path: str,
    weights: dict[str, np.ndarray],
    net: Variant,
    preprocessing: Preprocessing | None = None,
) -> list[str]:
    """Writes weights, float32 in this package's layout, for others; returns the files.

    A .caffemodel is for BGR images, and a .prototxt of the same name that runs it
    stands beside it; a .pth (.pt, .bin) or .safetensors file is for RGB images, by
    torchvision's names if the net is torchvision's, and otherwise as `conv1.weight`,
    and notes the net and its input where other programs do not look.

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
