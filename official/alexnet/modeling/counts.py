"""Parameters and multiplications of a net, layer by layer."""

import dataclasses
import math

from official.alexnet.backend import keras
from official.alexnet.modeling.layers import Convolution, Dense
from official.alexnet.modeling.structure import whole_name


@dataclasses.dataclass(frozen=True)
class Counts:
    """What one layer holds and costs, its columns together.

    Attributes:
        name: of the layer, such as `conv1`; `total` for the net.
        shape: of its output for one image, (height, width, maps) or (units,).
        units: neurons, one for each number in its output; normalisation adds none.
        parameters: weights and biases.
        macs: multiply-accumulates of a forward pass on one image. One is two
            floating-point operations; additions of biases, normalisation and pooling
            are not counted, as is usual.
    """

    name: str
    shape: tuple[int, ...]
    units: int
    parameters: int
    macs: int


def count(model: keras.Model) -> list[Counts]:
    """Counts a model of either form, as `alexnet.AlexNet` builds it.

    Returns one row for each layer that holds weights, in order, and the `total`, whose
    shape is empty. Moving statistics of batch normalisation are no parameters.
    """
    rows: dict[str, Counts] = {}
    for layer in model.layers:
        if not layer.trainable_weights:
            continue
        *sides, maps = layer.output.shape[1:]
        parameters = sum(math.prod(v.shape) for v in layer.trainable_weights)
        macs = 0
        if isinstance(layer, Convolution | Dense):
            # Every output pixel meets every weight once.
            macs = math.prod(layer.kernel.shape) * math.prod(sides)
        name = whole_name(layer.name)
        if other := rows.get(name):
            maps += other.shape[-1]
            parameters += other.parameters
            macs += other.macs
        shape = (*sides, maps)
        units = math.prod(shape) if macs else 0
        rows[name] = Counts(name, shape, units, parameters, macs)
    numbers = [(row.units, row.parameters, row.macs) for row in rows.values()]
    total = Counts("total", (), *map(sum, zip(*numbers, strict=True)))
    return [*rows.values(), total]
