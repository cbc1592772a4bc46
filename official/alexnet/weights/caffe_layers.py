"""A net as Caffe's list of layers: what a .caffemodel and a .prototxt hold.

The numbers are those of Caffe's `caffe.proto`, in its present form (`layer`) and in
that of 2014 (`layers`, V1), which the published files are in.
"""

import dataclasses

import numpy as np

from official.alexnet.errors import UserError
from official.alexnet.modeling.structure import number_of
from official.alexnet.modeling.variants import Conv, Dense, Variant

Value = int | float | str | tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Setting:
    """One field of the parameters of a type of layers.

    Attributes:
        name: of the field.
        number: of the field.
        kind: `int`, `ints`, `float`, or `enum`, whose values are `names`.
        default: what is meant where it is not given.
        names: of an enum's values 0, 1, ...
    """

    name: str
    number: int
    kind: str
    default: Value
    names: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Kind:
    """One type of layers.

    Attributes:
        v1: its number among V1's types; None where V1 does not have it.
        message: name of the field of a layer that holds the parameters.
        number: of that field.
        v1_number: of that field in V1.
        settings: the parameters that change what is computed.
        harmless: numbers of those that do not: fillers, engines.
    """

    v1: int | None
    message: str = ""
    number: int = 0
    v1_number: int = 0
    settings: tuple[Setting, ...] = ()
    harmless: tuple[int, ...] = ()


KINDS = {
    "Convolution": Kind(
        *(4, "convolution_param", 106, 10),
        settings=(
            Setting("num_output", 1, "int", 0),
            Setting("bias_term", 2, "int", 1),
            Setting("pad", 3, "int", 0),
            Setting("kernel_size", 4, "int", 0),
            Setting("group", 5, "int", 1),
            Setting("stride", 6, "int", 1),
        ),
        harmless=(7, 8, 15),
    ),
    "InnerProduct": Kind(
        *(14, "inner_product_param", 117, 17),
        settings=(
            Setting("num_output", 1, "int", 0),
            Setting("bias_term", 2, "int", 1),
        ),
        harmless=(3, 4),
    ),
    "LRN": Kind(
        *(15, "lrn_param", 118, 18),
        settings=(
            Setting("local_size", 1, "int", 5),
            Setting("alpha", 2, "float", 1.0),
            Setting("beta", 3, "float", 0.75),
            Setting(
                *("norm_region", 4, "enum", "ACROSS_CHANNELS"),
                names=("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
            ),
            Setting("k", 5, "float", 1.0),
        ),
        harmless=(6,),
    ),
    "Pooling": Kind(
        *(17, "pooling_param", 121, 19),
        settings=(
            Setting("pool", 1, "enum", "MAX", names=("MAX", "AVE", "STOCHASTIC")),
            Setting("kernel_size", 2, "int", 0),
            Setting("stride", 3, "int", 1),
            Setting("pad", 4, "int", 0),
        ),
        harmless=(11,),
    ),
    "Concat": Kind(3, "concat_param", 104, 9, (Setting("axis", 2, "int", 1),)),
    "Slice": Kind(
        *(33, "slice_param", 126, 31),
        settings=(
            Setting("axis", 3, "int", 1),
            Setting("slice_point", 2, "ints", ()),
        ),
    ),
    "ReLU": Kind(
        *(18, "relu_param", 123, 30),
        settings=(Setting("negative_slope", 1, "float", 0.0),),
        harmless=(2,),
    ),
    "TanH": Kind(23, "tanh_param", 127, 37, harmless=(1,)),
    "Dropout": Kind(
        *(6, "dropout_param", 108, 12),
        settings=(Setting("dropout_ratio", 1, "float", 0.5),),
    ),
    "Softmax": Kind(20, "softmax_param", 125, 39, harmless=(1,)),
    "Input": Kind(None),
    "Split": Kind(22),
    "Flatten": Kind(8),
    # In training nets, and without effect on what the net computes.
    "Data": Kind(5),
    "ImageData": Kind(12),
    "MemoryData": Kind(29),
    "HDF5Data": Kind(9),
    "WindowData": Kind(24),
    "DummyData": Kind(32),
    "Accuracy": Kind(1),
    "SoftmaxWithLoss": Kind(21),
    "Silence": Kind(36),
}
V1_TYPES = {kind.v1: name for name, kind in KINDS.items() if kind.v1 is not None}


@dataclasses.dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        name: such as `conv1`.
        type: a key of `KINDS`, or the name of an unknown type.
        bottoms: names of what it reads.
        tops: names of what it makes; the name of a bottom: in its place.
        settings: by the names of `Kind.settings`, without those left at their default.
        blobs: its weights, as Caffe shapes them.
    """

    name: str
    type: str
    bottoms: tuple[str, ...] = ()
    tops: tuple[str, ...] = ()
    settings: dict[str, Value] = dataclasses.field(default_factory=dict)
    blobs: tuple[np.ndarray, ...] = ()

    def setting(self, name: str) -> Value:
        """A setting, or its default."""
        (found,) = (s for s in KINDS[self.type].settings if s.name == name)
        return self.settings.get(name, found.default)


def describe(net: Variant, num_classes: int, input_size: int) -> list[Layer]:
    """The layers of a net as Caffe computes it, from `data` to `fc8` and `prob`.

    Two columns' own LRN stands between a Slice and a Concat. Zeros at the bottom and
    right of the image, as the 2012 source has them, belong to the input, for Caffe
    pads all sides alike.

    Args:
        net: the net, with its options.
        num_classes: size of the output.
        input_size: side of the image.

    Raises:
        UserError: Caffe has no such layers.
    """
    write = _Describer(net, input_size)
    for conv in net.convolutions:
        write.convolution(conv)
        write.operations(conv)
    for dense in net.dense:
        write.connected(dense.name, dense.units, dense.reads == "own")
        write.operations(dense)
    write.connected("fc8", num_classes)
    write.add("prob", "Softmax")
    return write.layers


class _Describer:
    """Writes layers one after the other; each reads what the last one made."""

    def __init__(self, net: Variant, side: int):
        self.net = net
        self.side = side
        self.layers = [Layer("data", "Input", (), ("data",))]
        self.top = "data"
        self.maps = 3

    def add(self, name: str, type_: str, tops: tuple[str, ...] = (), **settings):
        defaults = {s.name: s.default for s in KINDS[type_].settings}
        given = {k: v for k, v in settings.items() if v != defaults[k]}
        tops = tops or (name,)
        self.layers.append(Layer(name, type_, (self.top,), tops, given))
        self.top = tops[0]

    def add_in_place(self, name: str, type_: str, **settings):
        self.add(name, type_, (self.top,), **settings)

    def convolution(self, conv: Conv) -> None:
        if not conv.filters:
            return
        before, after = conv.padding
        if before != after and conv.reads == "image" and before == 0:
            self.side += after
            before = after = 0
        if before != after:
            raise UserError(
                f"Caffe pads all sides alike: {conv.name} of the variant "
                f"{self.net.name} cannot be written for it"
            )
        self.add(
            conv.name,
            "Convolution",
            num_output=conv.filters,
            pad=before,
            kernel_size=conv.size,
            group=self.net.num_columns if conv.reads == "own" else 1,
            stride=conv.stride,
        )
        self.side = (self.side + 2 * before - conv.size) // conv.stride + 1
        self.maps = conv.filters

    def connected(self, name: str, units: int, apart: bool = False) -> None:
        if not apart:
            self.add(name, "InnerProduct", num_output=units)
            return
        # An InnerProduct has no groups; a convolution of one place has.
        settings = {"kernel_size": self.side, "group": self.net.num_columns}
        self.add(name, "Convolution", num_output=units, **settings)
        self.side = 1

    def operations(self, layer: Conv | Dense) -> None:
        number = number_of(layer)
        for operation in layer.then:
            match operation:
                case "relu":
                    self.add_in_place(f"relu{number}", "ReLU")
                case "tanh":
                    self.add_in_place(f"tanh{number}", "TanH")
                case "lrn":
                    self.lrn(f"norm{number}")
                case "spatial_norm":
                    self.spatial_norm(f"spatial_norm{number}")
                case "pool":
                    self.pool(f"pool{number}")
                case "dropout":
                    rate = float(np.float32(self.net.dropout_of(layer)))
                    self.add_in_place(f"drop{number}", "Dropout", dropout_ratio=rate)
                case _:
                    raise UserError(
                        f"{operation} after {layer.name} cannot be written for Caffe"
                    )

    def lrn(self, name: str) -> None:
        lrn = self.net.lrn
        # Caffe divides alpha by n.
        settings = {
            "local_size": lrn.n,
            "alpha": lrn.alpha * lrn.n,
            "beta": lrn.beta,
            "k": lrn.k,
        }
        columns = self.net.num_columns
        if columns == 1 or lrn.reads == "all":
            self.add(name, "LRN", **settings)
            return
        number, width = name.removeprefix("norm"), self.maps // columns
        points = tuple(width * column for column in range(1, columns))
        parts = tuple(f"maps{number}{'ab'[column]}" for column in range(columns))
        self.add(f"slice{number}", "Slice", parts, slice_point=points)
        normed = []
        for column, part in enumerate(parts):
            self.top = part
            self.add(f"{name}{'ab'[column]}", "LRN", **settings)
            normed.append(self.top)
        self.layers.append(Layer(name, "Concat", tuple(normed), (name,)))
        self.top = name

    def spatial_norm(self, name: str) -> None:
        norm = self.net.spatial_norm
        if norm.k != 1:
            raise UserError("Caffe's LRN within a map has k = 1 only")
        self.add(
            name,
            "LRN",
            local_size=norm.n,
            alpha=norm.alpha * norm.n**2,
            beta=norm.beta,
            norm_region="WITHIN_CHANNEL",
        )

    def pool(self, name: str) -> None:
        net = self.net
        self.add(name, "Pooling", kernel_size=net.pool_size, stride=net.pool_stride)
        room = self.side - net.pool_size
        if room % net.pool_stride and not net.pool_ceil:
            raise UserError(
                f"Caffe's pooling keeps a last window that reaches over the edge: "
                f"{name} of the variant {net.name} on {self.side} x {self.side} maps "
                "cannot be written for it"
            )
        self.side = -(-room // net.pool_stride) + 1


def input_side(net: Variant, input_size: int) -> int:
    """Side of what Caffe's net reads: the image, and zeros at its bottom and right."""
    first = next(conv for conv in net.convolutions if conv.filters)
    before, after = first.padding
    return input_size + after if before == 0 else input_size


def difference(found: list[Layer], wanted: list[Layer]) -> str | None:
    """What the layers of a file compute otherwise than a net does.

    Layers that only train, and weights, are not looked at. A file that holds nothing
    but layers with weights is compared in these alone.

    Returns:
        One line, or None.
    """
    for layer in found:
        if layer.type not in KINDS:
            return f"it has a layer {layer.name} of type {layer.type}"
    whole = any(layer.type in ("Pooling", "LRN", "ReLU", "TanH") for layer in found)
    here, there = _computation(found, whole), _computation(wanted, whole)
    for (layer, inputs), (other, other_inputs) in zip(here, there, strict=False):
        if layer.type != other.type:
            return (
                f"{layer.name} ({layer.type}) stands where this net has {other.name} "
                f"({other.type})"
            )
        for setting in KINDS[layer.type].settings:
            values = layer.setting(setting.name), other.setting(setting.name)
            if setting.kind == "float":
                values = tuple(np.float32(value) for value in values)
            if values[0] != values[1]:
                return (
                    f"{layer.name} has {setting.name} {values[0]}, this net's "
                    f"{other.name} {values[1]}"
                )
        if whole and inputs != other_inputs:
            return f"{layer.name} reads something else than this net's {other.name}"
    if len(here) != len(there):
        longer = max(here, there, key=len)
        layer, _ = longer[min(len(here), len(there))]
        owner = "it" if longer is here else "this net"
        return f"only {owner} has {layer.name} ({layer.type})"
    return None


def _computation(
    layers: list[Layer], whole: bool
) -> list[tuple[Layer, tuple[int, ...]]]:
    """The layers that compute, each with the numbers of what it reads."""
    numbers: dict[str, int] = {}
    steps, count = [], 0
    for layer in layers:
        # What no layer has made is the image, number 0.
        inputs = tuple(numbers.get(name, 0) for name in layer.bottoms)
        if layer.type in _PASSING_ON:
            numbers |= dict.fromkeys(layer.tops, inputs[0] if inputs else 0)
        elif layer.type in _COMPUTING and (whole or layer.type in _WITH_WEIGHTS):
            steps.append((layer, inputs))
            for name in layer.tops:
                count += 1
                numbers[name] = count
    return steps


# In testing, what goes in comes out.
_PASSING_ON = ("Dropout", "Split", "Flatten")
_WITH_WEIGHTS = ("Convolution", "InnerProduct")
_COMPUTING = (*_WITH_WEIGHTS, "LRN", "Pooling", "ReLU", "TanH", "Slice", "Concat")
