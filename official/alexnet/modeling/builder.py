"""From the rows of a variant to layers, column by column."""

import math
import zlib

from official.alexnet.backend import keras
from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.modeling import columns as columns_lib
from official.alexnet.modeling import layers
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
        self.columns = range(num_columns)
        # Columns that lie side by side in one tensor: all of them, or one.
        self.side_by_side = net.num_columns // num_columns
        self.seed = int(seed)
        self.grid = grid
        self.dtype = dtype
        self.exchange_dtype = exchange_dtype

    def convolution(self, conv: Conv, columns: list) -> list:
        if not conv.filters:
            return columns
        reads_all = conv.reads == "all"
        return self._each(
            layers.Convolution,
            conv.name,
            self._exchange(conv.name, columns) if reads_all else columns,
            initial=conv,
            filters=conv.filters // len(self.columns),
            size=conv.size,
            stride=conv.stride,
            padding=conv.padding,
            groups=self.side_by_side if conv.reads == "own" else 1,
        )

    def hidden(self, dense: Dense, columns: list) -> list:
        return self._each(
            layers.Dense,
            dense.name,
            self._exchange(dense.name, columns) if dense.reads == "all" else columns,
            initial=dense,
            units=dense.units // len(self.columns),
            groups=self.side_by_side if dense.reads == "own" else 1,
        )

    def output(self, num_classes: int, columns: list, activation: str | None):
        """fc8, on column 0's device, as on the first GPU of 2012."""
        fc8 = Dense("fc8", num_classes, stddev=self.net.output_stddev, bias=0.0)
        if self.exchange_dtype:
            columns = self._exchange(fc8.name, columns, readers=1)[0]
        inputs = columns if len(columns) > 1 else columns[0]
        logits = layers.Dense(
            num_classes,
            name=fc8.name,
            grid=self.grid,
            dtype=self.dtype,
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
                settings = {
                    "size": net.pool_size,
                    "stride": net.pool_stride,
                    "ceil": net.pool_ceil,
                }
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
        copies = self._each(
            *(columns_lib.Exchange, f"to_{name}", columns),
            readers=readers,
            sends=self.exchange_dtype,
        )
        return [list(copy) for copy in zip(*copies, strict=True)]

    def _neighbours(self, number: str, columns: list) -> list:
        """Each column's maps between the nearest maps of the columns beside it."""
        if len(columns) == 1:
            return columns
        width = self.net.lrn.n // 2
        cut = self._each(
            *(columns_lib.Edges, f"edges{number}", columns),
            width=width,
            num_columns=len(columns),
            sends=self.exchange_dtype,
        )
        before = [[], *([maps[-1]] for maps in cut[:-1])]
        after = [*([maps[1]] for maps in cut[1:]), []]
        return [[*b, c[0], *a] for b, c, a in zip(before, cut, after, strict=True)]

    def _each(self, layer, name, inputs, initial=None, **kwargs) -> list:
        """Applies one layer a column."""
        outputs = []
        for column in self.columns:
            if initial is not None:
                kwargs |= self._initializers(
                    initial, inputs[column], column, len(self.columns)
                )
            placed = layer(
                name=column_name(name, column, len(self.columns)),
                column=column,
                grid=self.grid,
                dtype=self.dtype,
                **kwargs,
            )
            outputs.append(placed(inputs[column]))
        return outputs

    def _initializers(
        self, layer: Conv | Dense, inputs, column: int, num_columns: int
    ) -> dict[str, keras.Initializer]:
        kernel, bias = self._seed(layer.name), self._seed(f"{layer.name}/bias")
        if layer.stddev is None:
            limit = 1 / math.sqrt(self._fan_in(layer, inputs))
            return {
                "kernel_initializer": SlicedUniform(limit, kernel, column, num_columns),
                "bias_initializer": SlicedUniform(limit, bias, column, num_columns),
            }
        return {
            "kernel_initializer": SlicedNormal(
                layer.stddev, kernel, column, num_columns
            ),
            "bias_initializer": keras.initializers.Constant(layer.bias),
        }

    def _fan_in(self, layer: Conv | Dense, inputs) -> int:
        """How many inputs a unit of the layer has."""
        parts = inputs if isinstance(inputs, list) else [inputs]
        groups = self.side_by_side if layer.reads == "own" else 1
        if isinstance(layer, Dense):
            return sum(math.prod(part.shape[1:]) for part in parts) // groups
        return layer.size**2 * sum(part.shape[-1] for part in parts) // groups

    def _seed(self, name: str) -> int:
        """A seed of its own for each layer, the same in both forms."""
        return (self.seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31


def _constants(norm: LRN) -> dict[str, float]:
    return {"k": norm.k, "n": norm.n, "alpha": norm.alpha, "beta": norm.beta}
