"""A net as Caffe's list of layers: what a .caffemodel and a .prototxt hold."""

from google.protobuf.message import Message

from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import Conv, Dense, Variant
from official.alexnet.weights.caffe_messages import PARAMETERS, message

# Repeated where the axes may differ; in these nets they do not.
_OF_AXES = {"pad": 0, "kernel_size": 0, "stride": 1}
# In testing, what goes in comes out.
_PASSING_ON = ("Dropout", "Split", "Flatten")
_WITH_WEIGHTS = ("Convolution", "InnerProduct")
_COMPUTING = (*_WITH_WEIGHTS, "LRN", "Pooling", "ReLU", "TanH", "Slice", "Concat")


def settings(layer: Message) -> dict[str, int | float | str | tuple[int, ...]]:
    """What the parameters of a layer say, or their defaults, by name.

    Raises:
        ValueError: the layer has different values for its axes.
    """
    if not PARAMETERS[layer.type]:
        return {}
    given, found = getattr(layer, PARAMETERS[layer.type]), {}
    for field in given.DESCRIPTOR.fields:
        value = getattr(given, field.name)
        if field.name == "slice_point":
            value = tuple(value)
        elif layer.type == "Convolution" and field.name in _OF_AXES:
            if len(set(value)) > 1:
                raise ValueError(f"layer {layer.name}: {field.name} is not one number")
            value = value[0] if value else _OF_AXES[field.name]
        elif field.enum_type:
            value = field.enum_type.values[value].name
        found[field.name] = value
    return found


def describe(net: Variant, num_classes: int) -> list[Message]:
    """The LayerParameters of a net, without weights: `data` to `fc8` and `prob`.

    Two columns' own LRN stands between a Slice and a Concat. Zeros at the bottom and
    right of the image, as the 2012 source has them, belong to the input, for Caffe
    pads all sides alike.

    Raises:
        UserError: Caffe has no such layers.
    """
    side = input_side(net)
    write = _Describer(net)
    write.add("data", "Input", bottoms=(), shape=[{"dim": (1, 3, side, side)}])
    for stage in structure.stages(net):
        write.convolution(stage)
        side = stage.pooled
    for dense in net.dense:
        write.connected(dense, side)
        side = 1
        write.operations(dense)
    write.add("fc8", "InnerProduct", num_output=num_classes)
    write.add("prob", "Softmax")
    return write.layers


class _Describer:
    """Writes layers one after the other; each reads what the last one made."""

    def __init__(self, net: Variant):
        self.net = net
        self.layers: list[Message] = []
        self.top = ""

    def add(self, name, type_, tops=(), bottoms=None, **given):
        new = message("LayerParameter")
        defaults = settings(new(type=type_))
        is_conv = type_ == "Convolution"
        given = {
            key: [value] if is_conv and key in _OF_AXES else value
            for key, value in given.items()
            if value != defaults[key]
        }
        bottoms, tops = (self.top,) if bottoms is None else bottoms, tops or (name,)
        parameters = {PARAMETERS[type_]: given} if given else {}
        self.layers.append(
            new(name=name, type=type_, bottom=bottoms, top=tops, **parameters)
        )
        self.top = tops[0]

    def convolution(self, stage: structure.Stage) -> None:
        conv = stage.conv
        before, after = conv.padding
        if conv.filters and before != after and (conv.reads != "image" or before):
            raise UserError(
                f"Caffe pads all sides alike: {conv.name} of the variant "
                f"{self.net.name} cannot be written for it"
            )
        if conv.filters:
            self.add(
                *(conv.name, "Convolution"),
                num_output=conv.filters,
                pad=before,
                kernel_size=conv.size,
                group=self.net.num_columns if conv.reads == "own" else 1,
                stride=conv.stride,
            )
        self.operations(conv, stage)

    def connected(self, dense: Dense, side: int) -> None:
        """Reads maps of this side."""
        if dense.reads != "own":
            self.add(dense.name, "InnerProduct", num_output=dense.units)
            return
        # An InnerProduct has no groups; a convolution of one place has.
        given = {"kernel_size": side, "group": self.net.num_columns}
        self.add(dense.name, "Convolution", num_output=dense.units, **given)

    def operations(
        self, layer: Conv | Dense, stage: structure.Stage | None = None
    ) -> None:
        number = structure.number_of(layer)
        for operation in layer.then:
            match operation:
                case "relu":
                    self.add(f"relu{number}", "ReLU", (self.top,))
                case "tanh":
                    self.add(f"tanh{number}", "TanH", (self.top,))
                case "lrn":
                    self.lrn(number, stage.maps)
                case "spatial_norm":
                    self.spatial_norm(f"spatial_norm{number}")
                case "pool":
                    self.pool(f"pool{number}", stage.side)
                case "dropout":
                    rate = self.net.dropout_of(layer)
                    self.add(
                        f"drop{number}", "Dropout", (self.top,), dropout_ratio=rate
                    )
                case _:
                    raise UserError(
                        f"{operation} after {layer.name} cannot be written for Caffe"
                    )

    def lrn(self, number: str, maps: int) -> None:
        lrn, columns = self.net.lrn, self.net.num_columns
        # Caffe divides alpha by n.
        alpha = lrn.alpha * lrn.n
        given = {"local_size": lrn.n, "alpha": alpha, "beta": lrn.beta, "k": lrn.k}
        if columns == 1 or lrn.reads == "all":
            self.add(f"norm{number}", "LRN", **given)
            return
        points = tuple(maps // columns * column for column in range(1, columns))
        letters = [structure.column_name("", c, columns) for c in range(columns)]
        parts = [f"maps{number}{letter}" for letter in letters]
        self.add(f"slice{number}", "Slice", parts, slice_point=points)
        normed = [f"norm{number}{letter}" for letter in letters]
        for part, name in zip(parts, normed, strict=True):
            self.add(name, "LRN", bottoms=(part,), **given)
        self.add(f"norm{number}", "Concat", bottoms=normed)

    def spatial_norm(self, name: str) -> None:
        norm = self.net.spatial_norm
        if norm.k != 1:
            raise UserError("Caffe's LRN within a map has k = 1 only")
        alpha, region = norm.alpha * norm.n**2, "WITHIN_CHANNEL"
        given = {"local_size": norm.n, "alpha": alpha, "beta": norm.beta}
        self.add(name, "LRN", norm_region=region, **given)

    def pool(self, name: str, side: int) -> None:
        net = self.net
        self.add(name, "Pooling", kernel_size=net.pool_size, stride=net.pool_stride)
        if (side - net.pool_size) % net.pool_stride and not net.pool_ceil:
            raise UserError(
                f"Caffe's pooling keeps a last window that reaches over the edge: "
                f"{name} of the variant {net.name} on {side} x {side} maps "
                "cannot be written for it"
            )


def input_side(net: Variant) -> int:
    """Side of what Caffe's net reads: the image, and zeros at its bottom and right."""
    first = next(conv for conv in net.convolutions if conv.filters)
    before, after = first.padding
    return net.input_size + (after if before == 0 else 0)


def difference(found: list[Message], wanted: list[Message]) -> str | None:
    """One line of what a file's layers compute otherwise than a net does, or None.

    Layers that only train, and weights, are not looked at. A file that holds nothing
    but layers with weights is compared in these alone.
    """
    for layer in found:
        if layer.type not in PARAMETERS:
            return f"it has a layer {layer.name} of type {layer.type}"
    whole = any(layer.type in ("Pooling", "LRN", "ReLU", "TanH") for layer in found)
    here, there = _computation(found, whole), _computation(wanted, whole)
    for (layer, inputs), (other, other_inputs) in zip(here, there, strict=False):
        if layer.type != other.type:
            return (
                f"{layer.name} ({layer.type}) stands where this net has {other.name} "
                f"({other.type})"
            )
        theirs = settings(other)
        for name, value in settings(layer).items():
            if value != theirs[name]:
                return (
                    f"{layer.name} has {name} {value}, this net's {other.name} "
                    f"{theirs[name]}"
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
    layers: list[Message], whole: bool
) -> list[tuple[Message, tuple[int, ...]]]:
    """The layers that compute, each with the numbers of what it reads."""
    numbers: dict[str, int] = {}
    steps, count = [], 0
    for layer in layers:
        # What no layer has made is the image, number 0.
        inputs = tuple(numbers.get(name, 0) for name in layer.bottom)
        if layer.type in _PASSING_ON:
            numbers |= dict.fromkeys(layer.top, inputs[0] if inputs else 0)
        elif layer.type in _COMPUTING and (whole or layer.type in _WITH_WEIGHTS):
            steps.append((layer, inputs))
            for name in layer.top:
                count += 1
                numbers[name] = count
    return steps
