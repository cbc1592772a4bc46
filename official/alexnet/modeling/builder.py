"""From the rows of a variant to layers, column by column."""

import math
import zlib

from official.alexnet.backend import keras
from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.modeling import layers
from official.alexnet.modeling.columns import Edges, Exchange
from official.alexnet.modeling.dropout import Dropout
from official.alexnet.modeling.initializers import SlicedNormal, SlicedUniform
from official.alexnet.modeling.normalization import (
    BatchNormalization,
    SpatialResponseNormalization,
)
from official.alexnet.modeling.structure import column_name, number_of
from official.alexnet.modeling.variants import LRN, Conv, Dense, Variant


class Builder:
    """Turns rows of a variant into layers, column by column.

    Each method takes and returns a list of tensors, one a column.

    Args:
        net: the variant.
        num_columns: 1 for the grouped form, or the variant's.
        seed: of weights and dropout.
        grid: where the columns are; None leaves it to TensorFlow.
        dtype: Keras dtype policy of all layers.
        exchange_dtype: in which one column's numbers go to another; None: as they are.
    """

    def __init__(
        self,
        net: Variant,
        num_columns: int,
        seed: int,
        grid: DeviceGrid | None,
        dtype: keras.DTypePolicy,
        exchange_dtype: str | None = None,
    ):
        self.net = net
        self.num_columns = num_columns
        # Columns that lie side by side in one tensor: all of them, or one.
        self.side_by_side = net.num_columns // num_columns
        self.seed = int(seed)
        self.placed = {"grid": grid, "dtype": dtype}
        self.exchange_dtype = exchange_dtype

    def convolution(self, conv: Conv, columns: list) -> list:
        if not conv.filters:
            return columns
        return self._weighted(
            layers.Convolution,
            conv,
            columns,
            filters=conv.filters // self.num_columns,
            size=conv.size,
            stride=conv.stride,
            padding=conv.padding,
        )

    def hidden(self, dense: Dense, columns: list) -> list:
        units = dense.units // self.num_columns
        return self._weighted(layers.Dense, dense, columns, units=units)

    def output(self, num_classes: int, columns: list, activation: str | None):
        """fc8, on column 0's device, as on the first GPU of 2012."""
        fc8 = Dense("fc8", num_classes, stddev=self.net.output_stddev, bias=0.0)
        if self.exchange_dtype and len(columns) > 1:
            (columns,) = self._exchange(fc8.name, columns, readers=1)
        inputs = columns if len(columns) > 1 else columns[0]
        logits = layers.Dense(
            name=fc8.name,
            units=num_classes,
            **self.placed,
            **self._initializers(fc8, inputs, 0, 1),
        )(inputs)
        name = "logits" if activation is None else "probabilities"
        last = keras.layers.Activation(activation, dtype="float32", name=name)
        return last(logits)

    def operations(self, layer: Conv | Dense, columns: list) -> list:
        """What follows a layer, under its number: relu1, norm1, pool1, ..."""
        for operation in layer.then:
            columns = self._operation(operation, layer, columns)
        return columns

    def _operation(self, operation: str, of: Conv | Dense, columns: list) -> list:
        net, number, settings = self.net, number_of(of), {}
        name = operation + number
        match operation:
            case "relu":
                layer = layers.ReLU
            case "tanh":
                layer = layers.Tanh
            case "lrn":
                layer, name = layers.LocalResponseNormalization, f"norm{number}"
                settings = _constants(net.lrn)
                if net.lrn.reads == "own":
                    settings["num_columns"] = self.side_by_side
                else:
                    columns = self._neighbours(number, columns)
            case "spatial_norm":
                layer = SpatialResponseNormalization
                settings = _constants(net.spatial_norm)
            case "batch_norm":
                layer, name = BatchNormalization, f"norm{number}"
            case "pool":
                layer = layers.MaxPool
                settings = {"size": net.pool_size, "stride": net.pool_stride}
                settings["ceil"] = net.pool_ceil
            case "dropout":
                layer, name = Dropout, f"drop{number}"
                settings = {
                    "rate": net.dropout_of(of),
                    "seed": self._seed(name),
                    "num_columns": self.side_by_side,
                    "inverted": net.inverted_dropout,
                }
            case _:
                raise ValueError(f"layer {number}: unknown operation {operation!r}")
        return self._each(layer, name, columns, **settings)

    def _exchange(self, name: str, columns: list, readers: int = 2) -> list:
        """What each column reads where all are read: a copy of every column."""
        if len(columns) == 1:
            return columns
        sends = {"readers": readers, "sends": self.exchange_dtype}
        copies = self._each(Exchange, f"to_{name}", columns, **sends)
        return [list(copy) for copy in zip(*copies, strict=True)]

    def _neighbours(self, number: str, columns: list) -> list:
        """Each column's maps between the nearest maps of the columns beside it."""
        if len(columns) == 1:
            return columns
        sends = {"width": self.net.lrn.n // 2, "sends": self.exchange_dtype}
        sends["num_columns"] = len(columns)
        cut = self._each(Edges, f"edges{number}", columns, **sends)
        before = [[], *([maps[-1]] for maps in cut[:-1])]
        after = [*([maps[1]] for maps in cut[1:]), []]
        return [[*b, c[0], *a] for b, c, a in zip(before, cut, after, strict=True)]

    def _weighted(self, kind: type, layer: Conv | Dense, columns: list, **settings):
        if layer.reads == "all":
            columns = self._exchange(layer.name, columns)
        groups = self._groups(layer)
        return self._each(kind, layer.name, columns, layer, groups=groups, **settings)

    def _groups(self, layer: Conv | Dense) -> int:
        return self.side_by_side if layer.reads == "own" else 1

    def _each(self, kind: type, name: str, inputs: list, initial=None, **settings):
        """Applies one layer a column."""
        outputs = []
        for column, x in enumerate(inputs):
            if initial is not None:
                settings |= self._initializers(initial, x, column, self.num_columns)
            part = column_name(name, column, self.num_columns)
            layer = kind(name=part, column=column, **self.placed, **settings)
            outputs.append(layer(x))
        return outputs

    def _initializers(
        self, layer: Conv | Dense, inputs, column: int, num_columns: int
    ) -> dict[str, keras.Initializer]:
        def drawn(kind: type, name: str, **settings) -> keras.Initializer:
            seed = self._seed(name)
            return kind(seed=seed, column=column, num_columns=num_columns, **settings)

        if layer.stddev is None:
            limit = 1 / math.sqrt(self._fan_in(layer, inputs))
            kernel = drawn(SlicedUniform, layer.name, limit=limit)
            bias = drawn(SlicedUniform, f"{layer.name}/bias", limit=limit)
        else:
            kernel = drawn(SlicedNormal, layer.name, stddev=layer.stddev)
            bias = keras.initializers.Constant(layer.bias)
        return {"kernel_initializer": kernel, "bias_initializer": bias}

    def _fan_in(self, layer: Conv | Dense, inputs) -> int:
        """How many inputs a unit of the layer has."""
        parts = inputs if isinstance(inputs, list) else [inputs]
        if isinstance(layer, Dense):
            count = sum(math.prod(part.shape[1:]) for part in parts)
        else:
            count = layer.size**2 * sum(part.shape[-1] for part in parts)
        return count // self._groups(layer)

    def _seed(self, name: str) -> int:
        """A seed of its own for each layer, the same in both forms."""
        return (self.seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31


def _constants(norm: LRN) -> dict[str, float]:
    return {"k": norm.k, "n": norm.n, "alpha": norm.alpha, "beta": norm.beta}
