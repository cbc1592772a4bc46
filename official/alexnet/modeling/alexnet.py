"""AlexNet (Krizhevsky, Sutskever and Hinton, NIPS 2012) as a functional Keras model."""

import math
import zlib
from collections.abc import Collection

from official.alexnet.backend import keras
from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.errors import UserError
from official.alexnet.modeling import columns as columns_lib
from official.alexnet.modeling import layers, options
from official.alexnet.modeling.dropout import Dropout
from official.alexnet.modeling.initializers import SlicedNormal, SlicedUniform
from official.alexnet.modeling.normalization import (
    BatchNormalization,
    SpatialResponseNormalization,
)
from official.alexnet.modeling.variants import LRN, Conv, Dense, Variant, find_variant


def AlexNet(
    variant: str | Variant = "paper",
    num_classes: int = 1000,
    *,
    num_columns: int = 1,
    classifier_activation: str | None = "softmax",
    weights: str | None = None,
    input_size: int | None = None,
    width: float = 1.0,
    activation: str | None = None,
    normalization: str | None = None,
    dropout: float | None = None,
    pool_size: int | None = None,
    pool_stride: int | None = None,
    remove: Collection[str] = (),
    init: str = "published",
    seed: int = 0,
    grid: DeviceGrid | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    name: str = "alexnet",
) -> keras.Model:
    """Builds AlexNet.

    One net, two forms. With `num_columns=1` it is *grouped*: one tensor runs through
    it, and the kernels of conv2, conv4 and conv5 are in two groups. With
    `num_columns=2` it is made of *columns*, as on the two GPUs of 2012: two tensors
    that meet only at conv3, fc6, fc7 and fc8. Given the same weights, both compute
    the same numbers; `weights.copy_weights` carries the weights from one to the other.

    Args:
        variant: name of a row of `variants.VARIANTS`, or a row of your own.
        num_classes: size of the output.
        num_columns: 1 for the grouped form, 2 for the columns form.
        classifier_activation: `softmax` for probabilities, None for logits.
        weights: file of trained weights, in any format of `official.alexnet.weights`.
        input_size: side of the input image; the variant's own by default.
        width: multiplies the number of kernels and hidden units.
        activation: `relu` or `tanh`; the variant's own (relu) by default.
        normalization: `lrn`, `batch_norm` (before each convolution's nonlinearity)
            or `none`; the variant's own by default.
        dropout: rate of dropout; the variant's own (0.5) by default.
        pool_size: side of the pooling windows; the variant's own by default.
        pool_stride: distance of the pooling windows; the variant's own by default.
        remove: names of convolutional layers to leave out, such as `conv3`. Their
            pooling stays, and the layer after them reads what they read.
        init: `published` (the variant's own) or `source` (the 2012 source's).
        seed: of the initial weights and of dropout. Both forms draw the same.
        grid: devices of the columns, under a distribution strategy.
        dtype: Keras dtype policy, such as `mixed_bfloat16`.
        name: of the model.

    Returns:
        A model from images, (batch, input_size, input_size, 3) float32 RGB in
        0..255 with the mean image subtracted (what `weights` were trained on may
        differ), to (batch, num_classes) probabilities or logits in float32.

    Raises:
        UserError: an unknown variant or option, a number of another kind or out of
            range, a number of columns the variant does not have, or a net that does
            not fit together.
    """
    options.check_whole(num_classes=num_classes, num_columns=num_columns)
    options.check_whole(least=0, seed=seed)
    net = options.change(
        find_variant(variant) if isinstance(variant, str) else variant,
        width=width,
        init=init,
        input_size=input_size,
        activation=activation,
        normalization=normalization,
        dropout=dropout,
        pool_size=pool_size,
        pool_stride=pool_stride,
        remove=remove,
    )
    if num_columns not in (1, net.num_columns):
        raise UserError(
            f"variant {net.name} has {net.num_columns} column(s): "
            f"--num_columns={num_columns} does not fit"
        )
    build = _Builder(net, num_columns, seed, grid, keras.dtype_policies.get(dtype))

    size = net.input_size
    images = keras.Input((size, size, 3), name="images", dtype="float32")
    columns = [images] * num_columns
    for conv in net.convolutions:
        columns = build.convolution(conv, columns)
        columns = build.operations(conv, columns)
    for dense in net.dense:
        columns = build.hidden(dense, columns)
        columns = build.operations(dense, columns)
    outputs = build.output(num_classes, columns, classifier_activation)
    model = keras.Model(images, outputs, name=name)

    if weights is not None:
        from official.alexnet.weights import load_into  # noqa: PLC0415

        load_into(model, weights, net)
    return model


class _Builder:
    """Turns rows of a variant into layers, column by column."""

    def __init__(self, net, num_columns, seed, grid, dtype):
        self.net = net
        self.columns = range(num_columns)
        # Columns that lie side by side in one tensor: all of them, or one.
        self.side_by_side = net.num_columns // num_columns
        self.seed = int(seed)
        self.grid = grid
        self.dtype = dtype

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
            self._exchange(dense.name, columns),
            initial=dense,
            units=dense.units // len(self.columns),
        )

    def output(self, num_classes: int, columns: list, activation: str | None):
        """fc8, on column 0's device, as on the first GPU of 2012."""
        fc8 = Dense("fc8", num_classes, stddev=self.net.output_stddev, bias=0.0)
        inputs = columns if len(columns) > 1 else columns[0]
        logits = layers.Dense(
            num_classes,
            name=fc8.name,
            grid=self.grid,
            dtype=self.dtype,
            **self._initializers(fc8, inputs, 0, 1),
        )(inputs)
        if activation is None:
            return keras.layers.Activation("linear", dtype="float32", name="logits")(
                logits
            )
        return keras.layers.Activation(
            activation, dtype="float32", name="probabilities"
        )(logits)

    def operations(self, layer: Conv | Dense, columns: list) -> list:
        """What follows a layer, under its number: relu1, norm1, pool1, ..."""
        # The number 6 is fc6's.
        number = "_conv6" if layer.name == "conv6" else layer.name[-1]
        for operation in layer.then:
            columns = self._operation(operation, number, columns)
        return columns

    def _operation(self, operation: str, number: str, columns: list) -> list:
        net, name, settings = self.net, operation + number, {}
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
                    "rate": net.dropout,
                    "seed": self._seed(name),
                    "num_columns": self.side_by_side,
                    "inverted": net.inverted_dropout,
                }
            case _:
                raise ValueError(f"layer {number}: unknown operation {operation!r}")
        return self._each(layer, name, columns, **settings)

    def _exchange(self, name: str, columns: list) -> list:
        """What each column reads where all are read: a copy of every column."""
        if len(columns) == 1:
            return columns
        copies = self._each(
            columns_lib.Exchange, f"to_{name}", columns, readers=len(columns)
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
            suffix = "ab"[column] if len(self.columns) > 1 else ""
            placed = layer(
                name=name + suffix,
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
        if isinstance(layer, Dense):
            return sum(math.prod(part.shape[1:]) for part in parts)
        groups = self.side_by_side if layer.reads == "own" else 1
        return layer.size**2 * sum(part.shape[-1] for part in parts) // groups

    def _seed(self, name: str) -> int:
        """A seed of its own for each layer, the same in both forms."""
        return (self.seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31


def _constants(norm: LRN) -> dict[str, float]:
    return {"k": norm.k, "n": norm.n, "alpha": norm.alpha, "beta": norm.beta}
