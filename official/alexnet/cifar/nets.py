"""The CIFAR-10 nets of the 2012 source as data: one row a net, read by `CifarNet`.

The paper's section 3.1 (Figure 1) and section 3.3 report on "a four-layer CNN" each,
and name the source's files only for the second; see the rows.
"""

import dataclasses
import zlib
from dataclasses import replace

from official.alexnet.backend import keras
from official.alexnet.cifar.layers import LocallyConnected, Pool
from official.alexnet.errors import UserError
from official.alexnet.modeling import layers
from official.alexnet.modeling.initializers import SlicedNormal
from official.alexnet.modeling.variants import LRN

NUM_CLASSES = 10

# `scale=0.001 pow=0.75`; the source divides its scale by the size of the window.
_LRN = LRN(k=1.0, n=5, alpha=1e-3 / 5, beta=0.75)


@dataclasses.dataclass(frozen=True)
class Maps:
    """One layer of maps and the operations after it. Maps keep their size.

    Attributes:
        name: of the layer.
        filters: number of kernels.
        size: side of the square kernels.
        then: operations after it, in order, out of `relu`, `tanh`, `lrn`, `max_pool`
            and `avg_pool`.
        stddev: of the Gaussian the kernels are drawn from; biases start at 0.
        decay: weight decay of the kernels; biases have none.
        shared: a convolution; otherwise every pixel has kernels of its own.
    """

    name: str
    filters: int
    size: int
    then: tuple[str, ...]
    stddev: float
    decay: float
    shared: bool = True


@dataclasses.dataclass(frozen=True)
class Net:
    """A net: layers of maps, then one fully connected layer to 10 classes, fc10.

    Attributes:
        name: the name `--net` takes.
        layers: the layers of maps.
        input_size: side of the square RGB input, in pixels.
        output_decay: weight decay of fc10.
        output_stddev: of the Gaussian that fc10's weights are drawn from.
        lrn: constants of the local response normalisation.
    """

    name: str
    layers: tuple[Maps, ...]
    input_size: int
    output_decay: float
    output_stddev: float = 0.01
    lrn: LRN = _LRN

    def decays(self) -> dict[str, float]:
        """Weight decay by kernel, such as `conv1/kernel`."""
        decays = {f"{layer.name}/kernel": layer.decay for layer in self.layers}
        return decays | {"fc10/kernel": self.output_decay}


# layers-19pct.cfg: 19 % without augmentation. Four layers with weights and nothing
# else in them; likely the net of Figure 1, which the source does not tell.
CIFAR_19PCT = Net(
    name="cifar_19pct",
    layers=(
        Maps("conv1", 32, 5, ("max_pool", "relu"), stddev=0.0001, decay=0.004),
        Maps("conv2", 32, 5, ("relu", "avg_pool"), stddev=0.01, decay=0.004),
        Maps("conv3", 64, 5, ("relu", "avg_pool"), stddev=0.01, decay=0.004),
    ),
    input_size=32,
    output_decay=3.0,
)

# layers-conv-local-13pct.cfg: the net of section 3.3 without normalisation.
CIFAR_13PCT = Net(
    name="cifar_13pct",
    layers=(
        Maps("conv1", 64, 5, ("relu", "max_pool"), stddev=0.0001, decay=0.0),
        Maps("conv2", 64, 5, ("relu", "max_pool"), stddev=0.01, decay=0.0),
        Maps("local3", 32, 3, ("relu",), stddev=0.04, decay=0.004, shared=False),
        Maps("local4", 32, 3, ("relu",), stddev=0.04, decay=0.004, shared=False),
    ),
    input_size=24,
    output_decay=0.004,
)


def _with_lrn(net: Net, name: str) -> Net:
    """LRN after the nonlinearity of the first two layers, as in section 3.3."""

    def normalized(layer: Maps) -> Maps:
        then = [operation for operation in layer.then if operation != "lrn"]
        then.insert(then.index("relu") + 1, "lrn")
        return replace(layer, then=tuple(then))

    first = tuple(map(normalized, net.layers[:2]))
    return replace(net, name=name, layers=(*first, *net.layers[2:]))


def _without_lrn(net: Net, name: str) -> Net:
    without = tuple(
        replace(layer, then=tuple(o for o in layer.then if o != "lrn"))
        for layer in net.layers
    )
    return replace(net, name=name, layers=without)


NETS = {
    net.name: net
    for net in (
        CIFAR_19PCT,
        CIFAR_13PCT,
        # layers-conv-local-11pct.cfg of cuda-convnet: nothing else is changed.
        _with_lrn(CIFAR_13PCT, "cifar_11pct"),
    )
}


def find_net(
    name: str,
    *,
    activation: str | None = None,
    lrn: bool | None = None,
    input_size: int | None = None,
) -> Net:
    """The net of that name, with options.

    Args:
        name: of a row.
        activation: `relu` or `tanh`; the net's own (relu) by default.
        lrn: with or without LRN after the nonlinearity of the first two layers; as
            the row has it by default.
        input_size: side of the input; the row's own by default.

    Raises:
        UserError: there is no such net or nonlinearity, or the input does not fit it.
    """
    if name not in NETS:
        raise UserError(f"no net is called {name!r}: --net takes {', '.join(NETS)}")
    net = NETS[name]
    if lrn is not None:
        net = _with_lrn(net, name) if lrn else _without_lrn(net, name)
    if activation not in (None, "relu", "tanh"):
        raise UserError(f"--activation={activation}: it is relu or tanh")
    if activation == "tanh":
        swapped = {"relu": "tanh"}
        changed = tuple(
            replace(layer, then=tuple(swapped.get(o, o) for o in layer.then))
            for layer in net.layers
        )
        net = replace(net, layers=changed)
    if input_size is not None:
        halvings = sum("pool" in o for layer in net.layers for o in layer.then)
        if input_size < 8 or input_size > 32 or input_size % 2**halvings:
            raise UserError(
                f"--input_size={input_size}: {name} takes 8 to 32 pixels, a multiple "
                f"of {2**halvings}"
            )
        net = replace(net, input_size=input_size)
    return net


def CifarNet(net: Net, *, seed: int = 0) -> keras.Model:
    """Builds a net.

    Args:
        net: a row, as `find_net` gives it.
        seed: of the initial weights: the same for a layer whatever is between them.

    Returns:
        A model from images, (batch, input_size, input_size, 3) float32 RGB in 0..255
        with the mean image subtracted, to (batch, 10) logits.
    """
    size = net.input_size
    images = keras.Input((size, size, 3), name="images", dtype="float32")
    x = images
    for maps in net.layers:
        settings = {
            "filters": maps.filters,
            "size": maps.size,
            "kernel_initializer": _normal(maps.stddev, seed, maps.name),
            "name": maps.name,
        }
        if maps.shared:
            x = layers.Convolution(padding=(maps.size // 2,) * 2, **settings)(x)
        else:
            x = LocallyConnected(**settings)(x)
        for operation in maps.then:
            x = _operation(operation, maps.name[-1], net.lrn)(x)
    logits = layers.Dense(
        NUM_CLASSES,
        kernel_initializer=_normal(net.output_stddev, seed, "fc10"),
        name="fc10",
    )(x)
    return keras.Model(images, logits, name=net.name)


def _operation(operation: str, number: str, lrn: LRN) -> keras.layers.Layer:
    match operation:
        case "relu":
            return layers.ReLU(name=f"relu{number}")
        case "tanh":
            return layers.Tanh(name=f"tanh{number}")
        case "lrn":
            constants = dataclasses.asdict(lrn)
            del constants["reads"]  # There is one column.
            return layers.LocalResponseNormalization(name=f"norm{number}", **constants)
        case "max_pool" | "avg_pool":
            return Pool(operation[:3], name=f"pool{number}")
    raise ValueError(f"layer {number}: unknown operation {operation!r}")


def _normal(stddev: float, seed: int, name: str) -> SlicedNormal:
    """A draw of its own for each layer, as `modeling.alexnet` makes it."""
    return SlicedNormal(stddev, (seed * 1_000_003 + zlib.crc32(name.encode())) % 2**31)
