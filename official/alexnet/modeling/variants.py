"""The published nets as data: one row a net, read by `alexnet.AlexNet`.

A variant says what each layer holds, what it is connected to, and what follows it.
Filters, units and the LRN window count the whole layer; a net of two columns gives
each column half of them.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import replace

from official.alexnet.errors import UserError


@dataclasses.dataclass(frozen=True)
class LRN:
    """x / (k + alpha * sum of x^2 over n maps)^beta (section 3.3).

    alpha multiplies the sum: Caffe, PyTorch, ONNX and the 2012 source divide theirs
    by n. `reads` is `own`: the window ends at the column's last map, as on two GPUs;
    or `all`: it reaches over into the next column.
    """

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    reads: str = "own"


@dataclasses.dataclass(frozen=True)
class Conv:
    """One convolutional layer and the operations after it.

    Attributes:
        name: layer name; column c of two is called name + "ab"[c].
        filters: number of kernels in all columns together; 0: the layer is left out,
            and only the operations after it are there.
        size: side of the square kernels.
        reads: `image`, its `own` column's maps, or `all` columns' maps.
        then: operations after it, in order, out of `relu`, `tanh`, `lrn`,
            `spatial_norm`, `batch_norm`, `pool` and `dropout`.
        stride: of the kernels.
        padding: zeros at the top and left, and at the bottom and right.
        stddev: of the Gaussian the kernels are drawn from; None for PyTorch's
            default: kernels and biases uniform in +-1/sqrt(inputs of a unit).
        bias: initial value of the biases.
        dropout: rate of the dropout after it, where that is not the net's.
    """

    name: str
    filters: int
    size: int
    reads: str
    then: tuple[str, ...]
    stride: int = 1
    padding: tuple[int, int] = (1, 1)
    stddev: float | None = 0.01
    bias: float = 0.0
    dropout: float | None = None


@dataclasses.dataclass(frozen=True)
class Dense:
    """One hidden fully connected layer; `reads` is `all` or `own`. As `Conv`."""

    name: str
    units: int
    then: tuple[str, ...] = ("relu", "dropout")
    stddev: float | None = 0.01
    bias: float = 1.0
    dropout: float | None = None
    reads: str = "all"


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
        spatial_norm: those of the normalisation by neighbouring pixels of the same
            map, where n is the side of the window.
        pool_size: side of the max-pooling window.
        pool_stride: distance of the windows; smaller than the side: overlapping.
        pool_ceil: a last window that reaches over the edge is kept, not left out.
        dropout: probability with which a unit is dropped.
        inverted_dropout: units that are kept are divided by 1 - dropout in training;
            otherwise, as in 2012, all are multiplied by it in testing.
        output_stddev: fc8's, as `Conv.stddev`; its biases start at 0.
        num_classes: of the data that the net was made for.
    """

    name: str
    convolutions: tuple[Conv, ...]
    dense: tuple[Dense, ...]
    num_columns: int = 2
    input_size: int = 224
    lrn: LRN = LRN()
    spatial_norm: LRN = LRN(k=1.0, n=5, alpha=1e-3 / 25)
    pool_size: int = 3
    pool_stride: int = 2
    pool_ceil: bool = False
    dropout: float = 0.5
    inverted_dropout: bool = False
    output_stddev: float | None = 0.01
    num_classes: int = 1000

    def dropout_of(self, layer: Conv | Dense) -> float:
        """Rate of the dropout after a layer."""
        return self.dropout if layer.dropout is None else layer.dropout


def _varied(
    net: Variant, name: str, layers: Mapping[str, Mapping], **changes
) -> Variant:
    """A net as another one but for what changes, of its layers by their names."""

    def changed(layer: Conv | Dense) -> Conv | Dense:
        return replace(layer, **layers.get(layer.name, {}))

    return each(replace(net, name=name, **changes), changed)


def each(net: Variant, change: Callable[[Conv | Dense], Conv | Dense]) -> Variant:
    """The net with each of its layers changed."""
    convolutions, dense = (
        tuple(map(change, layers)) for layers in (net.convolutions, net.dense)
    )
    return replace(net, convolutions=convolutions, dense=dense)


def without(net: Variant, *operations: str) -> Variant:
    """The net without some of the operations after its layers."""
    return each(
        net, lambda x: replace(x, then=tuple(o for o in x.then if o not in operations))
    )


# Section 3.5 and Figure 2; initialisation of section 5. A 224 input gives conv1 its
# 55 x 55 maps only with 3 zeros at the bottom and right, as the 2012 source has them.
PAPER = Variant(
    name="paper",
    convolutions=(
        Conv("conv1", 96, 11, "image", ("relu", "lrn", "pool"), 4, (0, 3)),
        Conv("conv2", 256, 5, "own", ("relu", "lrn", "pool"), 1, (2, 2), bias=1.0),
        Conv("conv3", 384, 3, "all", ("relu",)),
        Conv("conv4", 384, 3, "own", ("relu",), bias=1.0),
        Conv("conv5", 256, 3, "own", ("relu", "pool"), bias=1.0),
    ),
    dense=(Dense("fc6", 4096), Dense("fc7", 4096)),
)

# layers-145.cfg of the 2012 source, which gave the paper's errors: the ReLU of layer 1
# comes after LRN and pooling, layer 2 has a second, spatial norm, alpha is divided by
# n, and the kernels of conv3 to conv5 are drawn from N(0, 0.03).
ORIGINAL = _varied(
    PAPER,
    "original",
    {
        "conv1": {"then": ("lrn", "pool", "relu")},
        "conv2": {"then": ("relu", "lrn", "spatial_norm", "pool")},
        "conv3": {"stddev": 0.03},
        "conv4": {"stddev": 0.03},
        "conv5": {"stddev": 0.03, "then": ("pool", "relu")},
    },
    lrn=LRN(alpha=1e-4 / 5),
    pool_ceil=True,
)

# bvlc_reference_caffenet: 227 real pixels, k = 1, LRN over all maps and after pooling.
CAFFENET = _varied(
    PAPER,
    "caffenet",
    {
        "conv1": {"then": ("relu", "pool", "lrn"), "padding": (0, 0)},
        "conv2": {"then": ("relu", "pool", "lrn")},
        "fc6": {"stddev": 0.005},
        "fc7": {"stddev": 0.005},
    },
    input_size=227,
    lrn=LRN(k=1.0, alpha=1e-4 / 5, reads="all"),
    pool_ceil=True,
    inverted_dropout=True,
)

# bvlc_alexnet: the same normalised before it is pooled, and with biases of 0.1, for
# with 1 its loss stayed flat.
CAFFE = _varied(
    CAFFENET,
    "caffe",
    {
        "conv1": {"then": ("relu", "lrn", "pool")},
        "conv2": {"then": ("relu", "lrn", "pool"), "bias": 0.1},
        **{name: {"bias": 0.1} for name in ("conv4", "conv5", "fc6", "fc7")},
    },
)

# torchvision's `alexnet`, after "One weird trick" (2014): one tower without LRN;
# dropout on what fc6 and fc7 read, none on what fc8 reads.
OWT = Variant(
    name="owt",
    num_columns=1,
    convolutions=(
        Conv("conv1", 64, 11, "image", ("relu", "pool"), 4, (2, 2), None),
        Conv("conv2", 192, 5, "own", ("relu", "pool"), 1, (2, 2), None),
        Conv("conv3", 384, 3, "own", ("relu",), stddev=None),
        Conv("conv4", 256, 3, "own", ("relu",), stddev=None),
        Conv("conv5", 256, 3, "own", ("relu", "pool", "dropout"), stddev=None),
    ),
    dense=(
        Dense("fc6", 4096, ("relu", "dropout"), stddev=None),
        Dense("fc7", 4096, ("relu",), stddev=None),
    ),
    inverted_dropout=True,
    output_stddev=None,
)

# TF-Slim's `alexnet_v2`: one tower without LRN or padding in conv1, so that fc6 reads
# 5 x 5 maps. It draws uniform and truncated kernels; these have the same variance.
SLIM = Variant(
    name="slim",
    num_columns=1,
    convolutions=(
        Conv("conv1", 64, 11, "image", ("relu", "pool"), 4, (0, 0), 0.0157, 0.1),
        Conv("conv2", 192, 5, "own", ("relu", "pool"), 1, (2, 2), 0.0177, 0.1),
        Conv("conv3", 384, 3, "own", ("relu",), 1, (1, 1), 0.0196, 0.1),
        Conv("conv4", 384, 3, "own", ("relu",), 1, (1, 1), 0.0170, 0.1),
        Conv("conv5", 256, 3, "own", ("relu", "pool"), 1, (1, 1), 0.0186, 0.1),
    ),
    dense=tuple(Dense(name, 4096, stddev=0.0044, bias=0.1) for name in ("fc6", "fc7")),
    inverted_dropout=True,
    output_stddev=0.0044,
)


def _one_column(net: Variant, name: str, *filters: int) -> Variant:
    """A net of one column, each layer of which reads all that there is."""
    first, *rest = net.convolutions
    rows = (first, *(replace(conv, reads="own") for conv in rest))
    pairs = zip(rows, filters, strict=True)
    convolutions = tuple(replace(conv, filters=count) for conv, count in pairs)
    return replace(net, name=name, num_columns=1, convolutions=convolutions)


def _one_gpu(net: Variant, name: str) -> Variant:
    """Section 3.2, footnote 2 (145-half): half the kernels, but conv5 and fc whole."""
    return _one_column(net, name, 48, 128, 192, 192, 256)


def _conv6(net: Variant, name: str) -> Variant:
    """Section 6 (146): a sixth convolutional layer over the last pooling layer."""
    conv6 = Conv("conv6", 256, 3, "all", ("relu",), stddev=0.03, bias=1.0)
    return replace(net, name=name, convolutions=(*net.convolutions, conv6))


def _no_lrn(net: Variant, name: str) -> Variant:
    """Section 3.3's comparison (148): no normalisation at all."""
    return without(replace(net, name=name), "lrn", "spatial_norm")


def _pool2x2(net: Variant, name: str) -> Variant:
    """Section 3.4's comparison (147): windows that do not overlap.

    The paddings of conv2 and conv5 bring the maps back to the same 6 x 6: conv1 makes
    55, pool1 28, conv2 26, pool2 13, conv5 11, pool5 6.
    """
    paddings = {"conv2": {"padding": (1, 1)}, "conv5": {"padding": (0, 0)}}
    return _varied(net, name, paddings, pool_size=2, pool_stride=2, pool_ceil=True)


# 150: the columns meet at the output only; conv2 and fc6 are the wider for it.
_NO_EXCHANGE = {
    "conv2": {"filters": 320},
    "conv3": {"reads": "own"},
    "fc6": {"reads": "own", "units": 8192},
    "fc7": {"reads": "own"},
}
_ORIGINAL_CONV6 = _conv6(ORIGINAL, "original_conv6")

VARIANTS = {
    variant.name: variant
    for variant in (
        PAPER,
        ORIGINAL,
        _one_gpu(PAPER, "one_gpu"),
        _conv6(PAPER, "conv6"),
        _no_lrn(PAPER, "no_lrn"),
        _pool2x2(PAPER, "pool2x2"),
        CAFFE,
        CAFFENET,
        OWT,
        SLIM,
        # The nets that the paper's comparisons were made with.
        _one_gpu(ORIGINAL, "original_one_gpu"),
        _ORIGINAL_CONV6,
        _no_lrn(ORIGINAL, "original_no_lrn"),
        _pool2x2(ORIGINAL, "original_pool2x2"),
        _varied(ORIGINAL, "original_no_exchange", _NO_EXCHANGE),
        # 146-2011: 2048 linear units between fc7 and an output of 21,843 classes.
        replace(
            _ORIGINAL_CONV6,
            name="original_conv6_bottleneck",
            dense=(*ORIGINAL.dense, Dense("fc7_1", 2048, then=(), bias=0.0)),
        ),
        # cuda-convnet2's single-GPU net (2014), without the spatial norm of 2012.
        _one_column(
            without(ORIGINAL, "spatial_norm"), "cuda_convnet2", 64, 192, 384, 256, 256
        ),
    )
}


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
