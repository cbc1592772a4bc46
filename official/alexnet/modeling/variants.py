"""The published nets as data: one row a net, read by `alexnet.AlexNet`.

A variant says what each layer holds, what it is connected to, and what follows it.
Filters, units and the LRN window count the whole layer; a net of two columns gives
each column half of them.
"""

import dataclasses

from official.alexnet.errors import UserError


@dataclasses.dataclass(frozen=True)
class LRN:
    """x / (k + alpha * sum of x^2 over n maps of the column)^beta (section 3.3)."""

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75


@dataclasses.dataclass(frozen=True)
class Conv:
    """One convolutional layer and the operations after it.

    Attributes:
        name: layer name; column c of two is called name + "ab"[c].
        filters: number of kernels in all columns together.
        size: side of the square kernels.
        reads: `image`, its `own` column's maps, or `all` columns' maps.
        then: operations after it, in order, out of `relu`, `lrn` and `pool`.
        stride: of the kernels.
        padding: zeros at the top and left, and at the bottom and right.
        stddev: of the Gaussian the kernels are drawn from.
        bias: initial value of the biases.
    """

    name: str
    filters: int
    size: int
    reads: str
    then: tuple[str, ...]
    stride: int = 1
    padding: tuple[int, int] = (1, 1)
    stddev: float = 0.01
    bias: float = 0.0


@dataclasses.dataclass(frozen=True)
class Dense:
    """One hidden fully connected layer; it reads all columns.

    ReLU and dropout follow it.
    """

    name: str
    units: int
    stddev: float = 0.01
    bias: float = 1.0


@dataclasses.dataclass(frozen=True)
class Variant:
    """A net.

    Attributes:
        name: the name `--variant` takes.
        convolutions: the convolutional layers.
        dense: the hidden fully connected layers, fc6 and fc7.
        num_columns: how many columns the net is made of.
        input_size: side of the square RGB input, in pixels.
        lrn: constants of the local response normalisation.
        pool_size: side of the max-pooling window.
        pool_stride: distance of the windows; smaller than the side: overlapping.
        dropout: probability with which a hidden unit is dropped.
        output_stddev: of the Gaussian that fc8's weights are drawn from.
    """

    name: str
    convolutions: tuple[Conv, ...]
    dense: tuple[Dense, ...]
    num_columns: int = 2
    input_size: int = 224
    lrn: LRN = LRN()
    pool_size: int = 3
    pool_stride: int = 2
    dropout: float = 0.5
    output_stddev: float = 0.01

    def scaled(self, width: float) -> "Variant":
        """The same net with `width` times the kernels and hidden units.

        Every count is rounded to a multiple of 8 (at least 8), so that each column
        keeps whole windows of maps.
        """

        def scale(count: int) -> int:
            return max(8, 8 * round(count * width / 8))

        if width == 1:
            return self
        return dataclasses.replace(
            self,
            convolutions=tuple(
                dataclasses.replace(conv, filters=scale(conv.filters))
                for conv in self.convolutions
            ),
            dense=tuple(
                dataclasses.replace(dense, units=scale(dense.units))
                for dense in self.dense
            ),
        )

    def with_init(self, init: str) -> "Variant":
        """The same net with another published initialisation of its weights.

        Args:
            init: `published` (as the variant says), or `source`: N(0, 0.03) in the
                layers after conv2, as the 2012 source has it where the paper says
                0.01 for every layer.
        """
        if init != "source":
            return self
        first, second, *rest = self.convolutions
        wide = [dataclasses.replace(conv, stddev=0.03) for conv in rest]
        return dataclasses.replace(self, convolutions=(first, second, *wide))


RELU_LRN_POOL = ("relu", "lrn", "pool")

# Section 3.5 and Figure 2; initialisation of section 5. A 224 input gives conv1 its
# 55 x 55 maps only with 3 zeros at the bottom and right, as the 2012 source has them.
PAPER = Variant(
    name="paper",
    convolutions=(
        Conv("conv1", 96, 11, "image", RELU_LRN_POOL, stride=4, padding=(0, 3)),
        Conv("conv2", 256, 5, "own", RELU_LRN_POOL, padding=(2, 2), bias=1.0),
        Conv("conv3", 384, 3, "all", ("relu",)),
        Conv("conv4", 384, 3, "own", ("relu",), bias=1.0),
        Conv("conv5", 256, 3, "own", ("relu", "pool"), bias=1.0),
    ),
    dense=(Dense("fc6", 4096), Dense("fc7", 4096)),
)

# Section 3.2, footnote 2: half the kernels on one GPU, but conv5 and the fully
# connected layers at full size.
ONE_GPU = dataclasses.replace(
    PAPER,
    name="one_gpu",
    num_columns=1,
    convolutions=tuple(
        dataclasses.replace(conv, filters=filters)
        for conv, filters in zip(
            PAPER.convolutions, (48, 128, 192, 192, 256), strict=True
        )
    ),
)

VARIANTS = {variant.name: variant for variant in (PAPER, ONE_GPU)}


def find_variant(name: str) -> Variant:
    """The variant of that name.

    Raises:
        UserError: there is none.
    """
    if name not in VARIANTS:
        raise UserError(
            f"no variant is called {name!r}: --variant takes {', '.join(VARIANTS)}"
        )
    return VARIANTS[name]
