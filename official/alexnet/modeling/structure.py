"""What a net computes, in words, names and shapes, without building it."""

import dataclasses
import re
from collections.abc import Iterable, Iterator

from official.alexnet.modeling.variants import LRN, Conv, Dense, Variant


def column_name(layer: str, column: int, num_columns: int) -> str:
    """Name of a column's part of a layer: `conv1a` and `conv1b` of `conv1`."""
    return layer + "ab"[column] if num_columns > 1 else layer


def whole_name(layer: str) -> str:
    """Name of the layer that a column's part is of, itself if it is whole."""
    return re.sub(r"(\d)[ab]$", r"\1", layer)


def number_of(layer: Conv | Dense) -> str:
    """What the names of the operations after a layer end in: relu1, norm1, pool1."""
    number = layer.name.removeprefix("conv").removeprefix("fc")
    # From 6 on the numbers are those of fc6 and fc7.
    is_late = isinstance(layer, Conv) and int(number) > 5
    return f"_{layer.name}" if is_late else number


def lines(net: Variant) -> list[str]:
    """What the net does to an image, one operation a line.

    Two nets with the same lines compute the same from the same weights; how they are
    initialised is not in them.
    """
    found = []
    for layer in (*net.convolutions, *net.dense):
        if not isinstance(layer, Conv):
            found.append(layer.name)
        elif layer.filters:
            found.append(convolution(layer.name, layer.stride, layer.padding))
        for operation in layer.then:
            match operation:
                case "lrn":
                    alone = net.num_columns > 1 and net.lrn.reads == "own"
                    found.append(norm("lrn", net.lrn, alone))
                case "spatial_norm":
                    found.append(norm("spatial_norm", net.spatial_norm, False))
                case "pool":
                    found.append(pool(net.pool_size, net.pool_stride, net.pool_ceil))
                case "dropout":
                    found.append(dropout(net.dropout_of(layer), net.inverted_dropout))
                case _:
                    found.append(operation)
    return [*found, "fc8"]


def convolution(name: str, stride: int, padding: tuple[int, int]) -> str:
    """The line of a convolution."""
    return f"{name} stride {stride} padding {padding[0]},{padding[1]}"


def norm(name: str, constants: LRN, alone: bool) -> str:
    """The line of a normalisation, `alone`: within each of several columns."""
    k, n, alpha, beta = constants.k, constants.n, constants.alpha, constants.beta
    where = " a column" if alone else ""
    return f"{name} k {k:g} n {n} alpha {alpha:g} beta {beta:g}{where}"


def pool(size: int, stride: int, ceil: bool) -> str:
    """The line of a max pooling."""
    return f"pool {size} stride {stride}" + (" ceil" if ceil else "")


def dropout(rate: float, inverted: bool) -> str:
    """The line of dropout; inverted, its rate does not matter in testing."""
    return "dropout" if inverted else f"dropout times {1 - rate:g}"


def difference(found: list[str], wanted: list[str]) -> str | None:
    """Where two nets differ first, in words; None where they do not."""
    for here, there in zip([*found, "nothing"], [*wanted, "nothing"], strict=False):
        if here != there:
            return f"it has `{here}` where this net has `{there}`"
    return None


def input_factors(net: Variant) -> dict[str, float]:
    """By what a layer's input is multiplied in testing, where that is not 1.

    Dropout as published multiplies by 1 - rate. Caffe and PyTorch do not: there the
    factor belongs to the kernel of the layer that reads.
    """
    factors: dict[str, float] = {}
    factor = 1.0
    for layer in (*net.convolutions, *net.dense):
        if not isinstance(layer, Conv) or layer.filters:
            factors[layer.name] = factor
            factor = 1.0
        if not net.inverted_dropout:
            factor *= (1 - net.dropout_of(layer)) ** layer.then.count("dropout")
    factors["fc8"] = factor
    return {name: factor for name, factor in factors.items() if factor != 1}


def line_factors(found: Iterable[str]) -> dict[str, float]:
    """`input_factors` of a net's lines, to six digits."""
    factors: dict[str, float] = {}
    factor = 1.0
    for line in found:
        name, _, rest = line.partition(" ")
        if name.startswith(("conv", "fc")):
            factors[name], factor = factor, 1.0
        elif rest.startswith("times "):
            factor *= float(rest.removeprefix("times "))
    return factors


@dataclasses.dataclass(frozen=True)
class Stage:
    """The maps around a convolutional layer.

    Attributes:
        conv: the layer; with 0 filters it hands on what it reads.
        maps_in: maps of the image or of all columns, whichever it reads.
        maps, side: number of its own maps, and their side in pixels.
        pooled: their side after the operations that follow, less than 1 where
            nothing is left.
    """

    conv: Conv
    maps_in: int
    maps: int
    side: int
    pooled: int


def stages(net: Variant) -> Iterator[Stage]:
    """The convolutional layers with the sizes of their maps, in order."""
    side, maps = net.input_size, 3
    for conv in net.convolutions:
        maps_in = maps
        if conv.filters:
            side = (side + sum(conv.padding) - conv.size) // conv.stride + 1
            maps = conv.filters
        pooled = side
        for _ in range(conv.then.count("pool")):
            room = pooled - net.pool_size
            pooled = room // net.pool_stride + 1
            pooled += bool(net.pool_ceil and room % net.pool_stride)
        yield Stage(conv, maps_in, maps, side, pooled)
        side = pooled


def weight_shapes(net: Variant, num_classes: int) -> dict[str, tuple[int, ...]]:
    """Shapes of kernels and biases by name, as the grouped form has them."""
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, *kernel: int) -> None:
        shapes[f"{name}/kernel"] = kernel
        shapes[f"{name}/bias"] = kernel[-1:]

    for stage in stages(net):
        conv = stage.conv
        if conv.filters:
            groups = net.num_columns if conv.reads == "own" else 1
            add(*(conv.name, conv.size, conv.size), stage.maps_in // groups, stage.maps)
        if "batch_norm" in conv.then:
            for name in ("gamma", "beta", "moving_mean", "moving_variance"):
                shapes[f"norm{number_of(conv)}/{name}"] = (stage.maps,)
    inputs = stage.pooled**2 * stage.maps
    for dense in net.dense:
        groups = net.num_columns if dense.reads == "own" else 1
        add(dense.name, inputs // groups, dense.units)
        inputs = dense.units
    add("fc8", inputs, num_classes)
    return shapes
