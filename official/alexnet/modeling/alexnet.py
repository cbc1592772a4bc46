"""AlexNet (Krizhevsky, Sutskever and Hinton, NIPS 2012) as a functional Keras model."""

import zlib

import keras

from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.errors import UserError
from official.alexnet.modeling import layers
from official.alexnet.modeling.initializers import SlicedNormal
from official.alexnet.modeling.variants import Conv, Dense, Variant, find_variant


def AlexNet(
    variant: str | Variant = "paper",
    num_classes: int = 1000,
    *,
    num_columns: int = 1,
    classifier_activation: str | None = "softmax",
    input_size: int | None = None,
    width: float = 1.0,
    dropout: float | None = None,
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
        input_size: side of the input image; the variant's own (224) by default.
        width: multiplies the number of kernels and hidden units.
        dropout: rate after fc6 and fc7; the variant's own (0.5) by default.
        init: `published` (the variant's own) or `source` (the 2012 source's).
        seed: of the initial weights and of dropout. Both forms draw the same.
        grid: devices of the columns, under a distribution strategy.
        dtype: Keras dtype policy, such as `mixed_bfloat16`.
        name: of the model.

    Returns:
        A model from images, (batch, input_size, input_size, 3) float32 RGB in
        0..255 with the mean image subtracted, to (batch, num_classes) probabilities
        or logits in float32.

    Raises:
        UserError: an unknown variant, or a number of columns it does not have.
    """
    net = find_variant(variant) if isinstance(variant, str) else variant
    net = net.scaled(width).with_init(init)
    if num_columns not in (1, net.num_columns):
        raise UserError(
            f"variant {net.name} has {net.num_columns} column(s): "
            f"--num_columns={num_columns} does not fit"
        )
    build = _Builder(net, num_columns, seed, grid, keras.dtype_policies.get(dtype))

    size = input_size or net.input_size
    images = keras.Input((size, size, 3), name="images", dtype="float32")

    columns = [images] * num_columns
    for conv in net.convolutions:
        columns = build.convolution(conv, columns)
    for dense in net.dense:
        columns = build.hidden(
            dense, columns, net.dropout if dropout is None else dropout
        )
    outputs = build.output(num_classes, columns, classifier_activation)
    return keras.Model(images, outputs, name=name)


class _Builder:
    """Turns rows of a variant into layers, column by column."""

    def __init__(self, net, num_columns, seed, grid, dtype):
        self.net = net
        self.columns = range(num_columns)
        # Columns that lie side by side in one tensor: all of them, or one.
        self.side_by_side = net.num_columns // num_columns
        self.seed = seed
        self.grid = grid
        self.dtype = dtype

    def convolution(self, conv: Conv, columns: list) -> list:
        columns = self._each(
            layers.Convolution,
            conv.name,
            self._exchange(conv.name, columns) if conv.reads == "all" else columns,
            filters=conv.filters // len(self.columns),
            size=conv.size,
            stride=conv.stride,
            padding=conv.padding,
            groups=self.side_by_side if conv.reads == "own" else 1,
            bias_initializer=keras.initializers.Constant(conv.bias),
            stddev=conv.stddev,
        )
        number = conv.name.removeprefix("conv")
        for operation in conv.then:
            if operation == "relu":
                columns = self._each(layers.ReLU, f"relu{number}", columns)
            elif operation == "lrn":
                columns = self._each(
                    layers.LocalResponseNormalization,
                    f"norm{number}",
                    columns,
                    k=self.net.lrn.k,
                    n=self.net.lrn.n,
                    alpha=self.net.lrn.alpha,
                    beta=self.net.lrn.beta,
                    num_columns=self.side_by_side,
                )
            elif operation == "pool":
                columns = self._each(
                    layers.MaxPool,
                    f"pool{number}",
                    columns,
                    size=self.net.pool_size,
                    stride=self.net.pool_stride,
                )
            else:
                raise ValueError(f"{conv.name}: unknown operation {operation!r}")
        return columns

    def hidden(self, dense: Dense, columns: list, dropout: float) -> list:
        columns = self._each(
            layers.Dense,
            dense.name,
            self._exchange(dense.name, columns),
            units=dense.units // len(self.columns),
            bias_initializer=keras.initializers.Constant(dense.bias),
            stddev=dense.stddev,
        )
        number = dense.name.removeprefix("fc")
        columns = self._each(layers.ReLU, f"relu{number}", columns)
        return self._each(
            layers.Dropout,
            f"drop{number}",
            columns,
            rate=dropout,
            seed=self._seed(f"drop{number}"),
            num_columns=self.side_by_side,
        )

    def output(self, num_classes: int, columns: list, activation: str | None):
        """fc8, on column 0's device, as on the first GPU of 2012."""
        inputs = columns if len(columns) > 1 else columns[0]
        logits = layers.Dense(
            num_classes,
            name="fc8",
            grid=self.grid,
            dtype=self.dtype,
            kernel_initializer=SlicedNormal(
                self.net.output_stddev, self._seed("fc8"), 0, 1
            ),
        )(inputs)
        if activation is None:
            return keras.layers.Activation("linear", dtype="float32", name="logits")(
                logits
            )
        return keras.layers.Activation(
            activation, dtype="float32", name="probabilities"
        )(logits)

    def _exchange(self, name: str, columns: list) -> list:
        """What each column reads where all are read: a copy of every column."""
        if len(columns) == 1:
            return columns
        copies = self._each(
            layers.Exchange, f"to_{name}", columns, readers=len(columns)
        )
        return [list(copy) for copy in zip(*copies, strict=True)]

    def _each(self, layer, name, inputs, stddev=None, **kwargs) -> list:
        """Applies one layer a column."""
        outputs = []
        for column in self.columns:
            if stddev is not None:
                kwargs["kernel_initializer"] = SlicedNormal(
                    stddev, self._seed(name), column, len(self.columns)
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

    def _seed(self, name: str) -> int:
        """A seed of its own for each layer, the same in both forms."""
        return (self.seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31
