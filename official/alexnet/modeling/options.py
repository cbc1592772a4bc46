"""What can be changed in any variant: its width, functions, pooling, and depth."""

import math
import numbers
from collections.abc import Collection
from dataclasses import replace

from official.alexnet.errors import UserError, check_known
from official.alexnet.modeling import net_files, structure
from official.alexnet.modeling.variants import (
    Conv,
    Dense,
    Variant,
    each,
    find_variant,
    without,
)

INITS = ("published", "source")
ACTIVATIONS = ("relu", "tanh")
NORMALIZATIONS = ("lrn", "batch_norm", "none")
NORMS = ("lrn", "spatial_norm", "batch_norm")


def find(variant: str | Variant) -> Variant:
    """A row by its name in the table or by its file; a row is itself.

    Raises:
        UserError: there is none, or as `net_files.read`.
    """
    if not isinstance(variant, str):
        return variant
    is_file = variant.endswith(net_files.SUFFIX)
    return net_files.read(variant)[0] if is_file else find_variant(variant)


def check_whole(least: int = 1, **values) -> None:
    """Checks arguments that should be integers; True is none.

    Args:
        least: what they should be at least.
        **values: the arguments by name.

    Raises:
        UserError: one is of another type, or less.
    """
    for name, value in values.items():
        if not (_is_number(value, numbers.Integral) and value >= least):
            raise UserError(
                f"--{name} should be a whole number of {least} or more, not {value!r}"
            )


def _is_number(value, kind: type = numbers.Real) -> bool:
    is_kind = isinstance(value, kind) and not isinstance(value, bool)
    return is_kind and math.isfinite(value)


def change(
    net: Variant,
    *,
    width: float = 1.0,
    init: str = "published",
    input_size: int | None = None,
    activation: str | None = None,
    normalization: str | None = None,
    dropout: float | None = None,
    pool_size: int | None = None,
    pool_stride: int | None = None,
    remove: Collection[str] = (),
) -> Variant:
    """The net with the options of `alexnet.AlexNet`; None leaves the variant's own.

    Raises:
        UserError: a value that is not one of the option's, or a net that does not
            fit together.
    """
    net = replace(net, input_size=net.input_size if input_size is None else input_size)
    if dropout is not None:
        net = each(replace(net, dropout=dropout), lambda x: replace(x, dropout=None))
    for rate in (net.dropout, *map(net.dropout_of, (*net.convolutions, *net.dense))):
        if not (_is_number(rate) and 0 <= rate < 1):
            raise UserError(f"--dropout should be in [0, 1), not {rate!r}")
    for norm in (net.lrn, net.spatial_norm):
        if not (_is_number(norm.n, numbers.Integral) and norm.n > 0 and norm.n % 2):
            raise UserError(
                f"--variant={net.name}: n={norm.n!r} of a norm has no middle: give an "
                "odd whole number"
            )
    if not (_is_number(width) and width > 0):
        raise UserError(f"--width should be a number above 0, not {width!r}")
    check_whole(input_size=net.input_size)
    net = _scaled(net, width)
    net = _with_init(net, init)
    if activation is not None:
        net = _with_activation(net, activation)
    if normalization is not None:
        net = _with_normalization(net, normalization)
    net = _with_pooling(net, pool_size, pool_stride)
    net = _without(net, [remove] if isinstance(remove, str) else remove)
    _check_sizes(net)
    return net


def _scaled(net: Variant, width: float) -> Variant:
    """The net with `width` times the kernels and hidden units.

    Every count is rounded to a multiple of 8 (at least 8), so that each column keeps
    whole windows of maps.
    """

    def scaled(layer: Conv | Dense) -> Conv | Dense:
        name = "filters" if isinstance(layer, Conv) else "units"
        count = max(8, 8 * round(getattr(layer, name) * width / 8))
        return replace(layer, **{name: count})

    return net if width == 1 else each(net, scaled)


def _with_init(net: Variant, init: str) -> Variant:
    """The net with the 2012 source's N(0, 0.03) from conv3 to the last convolution.

    That is for `init` `source`; the paper says 0.01 for every layer.
    """
    check_known(init, INITS, "--init: there is no")
    if init == "published":
        return net
    if net.convolutions[0].stddev is None:
        raise UserError(
            f"--init=source: the variant {net.name} starts from PyTorch's uniform "
            "weights, of which the 2012 source knows nothing"
        )
    wide = [replace(conv, stddev=0.03) for conv in net.convolutions[2:]]
    return replace(net, convolutions=(*net.convolutions[:2], *wide))


def _with_activation(net: Variant, activation: str) -> Variant:
    """The net with another nonlinearity in every layer."""
    check_known(activation, ACTIVATIONS, "--activation: there is no")

    def changed(layer: Conv | Dense) -> Conv | Dense:
        operations = (activation if o in ACTIVATIONS else o for o in layer.then)
        return replace(layer, then=tuple(operations))

    return each(net, changed)


def _with_normalization(net: Variant, normalization: str) -> Variant:
    """The net with another normalisation.

    `lrn` gives a variant that has none LRN before the pooling of its first two
    layers, where the paper has it. `batch_norm` takes the place of all other norms,
    and stands between each convolution and what follows it (Ioffe and Szegedy 2015).
    """
    check_known(normalization, NORMALIZATIONS, "--normalization: there is no")
    if normalization == "lrn" and any("lrn" in conv.then for conv in net.convolutions):
        return net
    rows = []
    for conv in without(net, *NORMS).convolutions:
        then = conv.then
        if normalization == "lrn" and len(rows) < 2:
            place = (*then, "pool").index("pool")
            then = (*then[:place], "lrn", *then[place:])
        elif normalization == "batch_norm":
            then = ("batch_norm", *then)
        rows.append(replace(conv, then=then))
    return replace(net, convolutions=tuple(rows))


def _with_pooling(net: Variant, size: int | None, stride: int | None) -> Variant:
    """The net with other pooling windows, of which the paper's overlap."""
    size = net.pool_size if size is None else size
    stride = net.pool_stride if stride is None else stride
    check_whole(pool_size=size, pool_stride=stride)
    if stride > size:
        raise UserError(
            f"--pool_stride={stride} should be 1 to --pool_size={size}: windows "
            "further apart would leave pixels out"
        )
    return replace(net, pool_size=size, pool_stride=stride)


def _without(net: Variant, names: Collection[str]) -> Variant:
    """The net without some of its convolutional layers.

    A layer goes with its weights, nonlinearity and normalisation. What the others
    need of it stays:
    - its pooling and dropout, in their place, so that later maps keep their size. In
      front of the first remaining layer there is nothing to pool but pixels: that
      layer takes larger strides instead;
    - its reading of all columns, or of the image, goes to the layer after it.
    """
    known = [conv.name for conv in net.convolutions]
    for name in names:
        if name not in known:
            raise UserError(
                f"--remove={name}: the variant {net.name} has {', '.join(known)}"
            )
    if set(names) == set(known):
        raise UserError("--remove would leave no convolutional layer")
    rows, reads, stride = [], "own", 1
    for conv in net.convolutions:
        reads = max(reads, conv.reads, key=("own", "all", "image").index)
        if conv.name not in names:
            rows.append(replace(conv, reads=reads, stride=conv.stride * stride))
            reads, stride = "own", 1
        elif rows:
            stays = tuple(o for o in conv.then if o in ("pool", "dropout"))
            rows.append(replace(conv, filters=0, then=stays))
        else:
            stride *= conv.stride * (net.pool_stride if "pool" in conv.then else 1)
    return replace(net, convolutions=tuple(rows))


def _check_sizes(net: Variant) -> None:
    """Checks that the maps do not shrink to nothing on the way to fc6."""
    for stage in structure.stages(net):
        if min(stage.side, stage.pooled) < 1:
            raise UserError(
                f"--input_size={net.input_size} is too small for this net: after "
                f"{stage.conv.name} nothing is left of the image"
            )
