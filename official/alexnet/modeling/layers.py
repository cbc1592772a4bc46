"""Convolution, connection, nonlinearity, normalisation and pooling of a column."""

import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.distribution.capabilities import xla_runs_here
from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.modeling.columns import (
    ColumnLayer,
    is_portable,
    read,
    register,
)
from official.alexnet.modeling.linear import add_bias, grouped_conv2d, product
from official.alexnet.modeling.lrn import local_response_normalization
from official.alexnet.modeling.variants import LRN


@register
class Convolution(ColumnLayer):
    """Convolution and bias; (batch, height, width, channels) in and out.

    Given a list of tensors, it reads all of them: the maps of every column.

    Args:
        filters: number of kernels of this layer.
        size: side of the kernels.
        stride: of the kernels.
        padding: zeros at the top and left, and at the bottom and right.
        groups: 2 where the layer holds both columns and each reads its own maps.
        kernel_initializer: of the kernels.
        bias_initializer: of the biases.
    """

    def __init__(
        self,
        filters: int,
        size: int,
        stride: int = 1,
        padding: tuple[int, int] = (0, 0),
        groups: int = 1,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.filters = filters
        self.size = size
        self.stride = stride
        self.padding = tuple(padding)
        self.groups = groups
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        channels = sum(shape[-1] for shape in _shapes(input_shape)) // self.groups
        self.add_kernel_and_bias(
            (self.size, self.size, channels, self.filters),
            self.kernel_initializer,
            self.bias_initializer,
        )

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = _shapes(input_shape)[0]
        room = sum(self.padding) - self.size
        sides = [(side + room) // self.stride + 1 for side in sides]
        return (batch, *sides, self.filters)

    def call(self, inputs):
        split = is_portable() or None
        add = tf.nn.bias_add if is_portable() else add_bias

        def convolve(kernel, bias, *maps):
            maps = [tf.cast(part, self.compute_dtype) for part in maps]
            y = grouped_conv2d(
                tf.concat(maps, axis=-1) if len(maps) > 1 else maps[0],
                tf.cast(kernel, self.compute_dtype),
                groups=self.groups,
                stride=self.stride,
                padding=self.padding,
                split=split,
            )
            return add(y, tf.cast(bias, self.compute_dtype))

        return self.run(convolve, *read(self.kernel, self.bias), *_list(inputs))

    def get_config(self) -> dict:
        return super().get_config() | {
            "filters": self.filters,
            "size": self.size,
            "stride": self.stride,
            "padding": self.padding,
            "groups": self.groups,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@register
class Dense(ColumnLayer):
    """Fully connected layer; (batch, n) to (batch, units).

    Given a list of tensors, it reads all of them. Maps (batch, height, width,
    channels) are flattened after the columns' channels are put together, so that
    the weights of both forms of a net are in one order.

    Args:
        units: number of neurons.
        groups: 2 where the layer holds both columns and each reads its own numbers.
        kernel_initializer: of the weights.
        bias_initializer: of the biases.
    """

    def __init__(
        self,
        units: int,
        groups: int = 1,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.groups = groups
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        shapes = _shapes(input_shape)
        inputs = sum(shape[-1] for shape in shapes)
        for side in shapes[0][1:-1]:
            inputs *= side
        self.add_kernel_and_bias(
            (inputs // self.groups, self.units),
            self.kernel_initializer,
            self.bias_initializer,
        )

    def compute_output_shape(self, input_shape):
        return (_shapes(input_shape)[0][0], self.units)

    def call(self, inputs):
        multiply = tf.matmul if is_portable() else product
        add = tf.nn.bias_add if is_portable() else add_bias

        def connect(kernel, bias, *parts):
            parts = [tf.cast(part, self.compute_dtype) for part in parts]
            x = tf.concat(parts, axis=-1) if len(parts) > 1 else parts[0]
            kernel = tf.cast(kernel, self.compute_dtype)
            pairs = [(x, kernel)]
            if self.groups > 1:
                both = (tf.split(y, self.groups, axis=-1) for y in (x, kernel))
                pairs = zip(*both, strict=True)
            ys = [multiply(tf.reshape(x, [-1, k.shape[0]]), k) for x, k in pairs]
            y = tf.concat(ys, axis=-1) if self.groups > 1 else ys[0]
            return add(y, tf.cast(bias, self.compute_dtype))

        return self.run(connect, *read(self.kernel, self.bias), *_list(inputs))

    def get_config(self) -> dict:
        return super().get_config() | {
            "units": self.units,
            "groups": self.groups,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@register
class ReLU(ColumnLayer):
    """max(0, x) (section 3.1)."""

    def call(self, x):
        return self.run(tf.nn.relu, x)


@register
class Tanh(ColumnLayer):
    """tanh(x), which section 3.1 compares ReLU with."""

    def call(self, x):
        return self.run(tf.math.tanh, x)


@register
class LocalResponseNormalization(ColumnLayer):
    """Local response normalisation (section 3.3).

    Given a list, its own maps between the nearest maps of its neighbours (see
    `Edges`), it returns its own maps.

    Args:
        k, n, alpha, beta: as in the paper; alpha is not divided by n.
        num_columns: columns that lie side by side in the layer's input.
    """

    def __init__(
        self,
        k: float = 2.0,
        n: int = 5,
        alpha: float = 1e-4,
        beta: float = 0.75,
        num_columns: int = 1,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.lrn = LRN(k, n, alpha, beta)
        self.num_columns = num_columns

    def compute_output_shape(self, input_shape):
        shapes = _shapes(input_shape)
        return shapes[self._own(shapes)]

    def call(self, inputs):
        form = self._form()
        parts = _list(inputs)
        own = self._own(parts)
        start = parts[0].shape[-1] if own else 0
        size = parts[own].shape[-1]

        def normalize(*parts):
            parts = [tf.cast(part, self.compute_dtype) for part in parts]
            x = tf.concat(parts, axis=-1) if len(parts) > 1 else parts[0]
            y = local_response_normalization(
                x, self.lrn, num_columns=self.num_columns, form=form
            )
            return y[..., start : start + size] if len(parts) > 1 else y

        return self.run(normalize, *parts)

    def _own(self, parts: list) -> int:
        """Which of its inputs are its own maps."""
        return 1 if len(parts) > 1 and self.column > 0 else 0

    def _form(self) -> str:
        if is_portable():
            return "band"
        if _runs_on_gpu(self.grid):
            return "native"
        return "fused" if xla_runs_here() else "band"

    def get_config(self) -> dict:
        return super().get_config() | {
            "k": self.lrn.k,
            "n": self.lrn.n,
            "alpha": self.lrn.alpha,
            "beta": self.lrn.beta,
            "num_columns": self.num_columns,
        }


@register
class MaxPool(ColumnLayer):
    """Max pooling; windows overlap where `stride` is less than `size` (section 3.4).

    Args:
        size: side of the window.
        stride: distance of the windows.
        ceil: keep a last window that reaches over the bottom or right edge.
    """

    def __init__(self, size: int = 3, stride: int = 2, ceil: bool = False, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.stride = stride
        self.ceil = ceil

    def compute_output_shape(self, input_shape):
        batch, *sides, maps = input_shape
        sides = [
            (side + self._over(side) * self.ceil - self.size) // self.stride + 1
            for side in sides
        ]
        return (batch, *sides, maps)

    def call(self, x):
        over = [self._over(side) if self.ceil else 0 for side in x.shape[1:3]]

        def pool(x):
            if any(over):
                borders = [[0, 0], [0, over[0]], [0, over[1]], [0, 0]]
                x = tf.pad(x, borders, constant_values=x.dtype.min)
            return tf.nn.max_pool2d(x, self.size, self.stride, padding="VALID")

        return self.run(pool, x)

    def _over(self, side: int) -> int:
        """How far the last window reaches over the edge."""
        steps = -(-(side - self.size) // self.stride)
        return max(0, steps * self.stride + self.size - side)

    def get_config(self) -> dict:
        return super().get_config() | {
            "size": self.size,
            "stride": self.stride,
            "ceil": self.ceil,
        }


def _list(inputs) -> list:
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def _shapes(input_shape) -> list:
    many = isinstance(input_shape[0], list | tuple)
    return list(input_shape) if many else [input_shape]


def _runs_on_gpu(grid: DeviceGrid | None) -> bool:
    if grid is None:
        return bool(tf.config.list_logical_devices("GPU"))
    return "GPU" in grid.devices[0][0]
