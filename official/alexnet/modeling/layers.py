"""Convolution, connection, nonlinearity, normalisation and pooling of a column."""

import functools
import math
from collections.abc import Callable

import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.distribution.capabilities import xla_runs_here
from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.modeling.columns import ColumnLayer, is_portable, read, register
from official.alexnet.modeling.linear import add_bias, grouped_conv2d, product
from official.alexnet.modeling.lrn import local_response_normalization
from official.alexnet.modeling.variants import LRN


class _Weighted(ColumnLayer):
    """A layer of kernels and biases; given a list of tensors, it reads all of them.

    `groups` is 2 where it holds both columns and each reads its own maps or numbers. A
    subclass has `_kernel_shape`, of its inputs' shapes, and `_apply_kernel`, to x.
    """

    groups: int = 1

    def __init__(
        self, kernel_initializer="glorot_uniform", bias_initializer="zeros", **kwargs
    ):
        super().__init__(**kwargs)
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def get_config(self) -> dict:
        return super().get_config() | {
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }

    def build(self, input_shape):
        shape = self._kernel_shape(_shapes(input_shape))

        def add(name: str, shape: tuple[int, ...], initializer) -> keras.Variable:
            # In float32; `call` casts it beside the device.
            return self.add_weight(shape, initializer, name=name, autocast=False)

        with self.variables_here():
            self.kernel = add("kernel", shape, self.kernel_initializer)
            self.bias = add("bias", shape[-1:], self.bias_initializer)

    def call(self, inputs):
        add = tf.nn.bias_add if is_portable() else add_bias

        def connect(kernel, bias, *parts):
            x = _joined(parts, self.compute_dtype)
            y = self._apply_kernel(x, tf.cast(kernel, self.compute_dtype))
            return add(y, tf.cast(bias, self.compute_dtype))

        return self.run(connect, *read(self.kernel, self.bias), *_list(inputs))


@register
class Convolution(_Weighted):
    """Convolution and bias; (batch, height, width, channels) in and out.

    Attributes:
        filters: number of kernels of this layer.
        size, stride: of the kernels.
        padding: zeros at the top and left, and at the bottom and right.
    """

    filters: int
    size: int
    stride: int = 1
    padding: tuple[int, int] = (0, 0)

    def _kernel_shape(self, shapes):
        channels = sum(shape[-1] for shape in shapes) // self.groups
        return (self.size, self.size, channels, self.filters)

    def compute_output_shape(self, input_shape):
        batch, *sides, _ = _shapes(input_shape)[0]
        room = sum(self.padding) - self.size
        sides = [(side + room) // self.stride + 1 for side in sides]
        return (batch, *sides, self.filters)

    def _apply_kernel(self, x, kernel):
        return grouped_conv2d(
            x,
            kernel,
            groups=self.groups,
            stride=self.stride,
            padding=self.padding,
            split=is_portable() or None,
        )


@register
class Dense(_Weighted):
    """Fully connected layer; (batch, n) to (batch, units).

    Maps (batch, height, width, channels) are flattened after the columns' channels are
    put together, so that the weights of both forms of a net are in one order.
    """

    units: int

    def _kernel_shape(self, shapes):
        channels = sum(shape[-1] for shape in shapes)
        return (math.prod(shapes[0][1:-1]) * channels // self.groups, self.units)

    def compute_output_shape(self, input_shape):
        return (_shapes(input_shape)[0][0], self.units)

    def _apply_kernel(self, x, kernel):
        multiply = tf.matmul if is_portable() else product
        pairs = [(x, kernel)]
        if self.groups > 1:
            both = (tf.split(y, self.groups, axis=-1) for y in (x, kernel))
            pairs = zip(*both, strict=True)
        ys = [multiply(tf.reshape(x, [-1, k.shape[0]]), k) for x, k in pairs]
        return tf.concat(ys, axis=-1) if self.groups > 1 else ys[0]


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
    """Local response normalisation (section 3.3); alpha is not divided by n.

    Given a list, its own maps between the nearest maps of its neighbours (see
    `Edges`), it returns its own maps.
    """

    k: float = 2.0
    n: int = 5
    alpha: float = 1e-4
    beta: float = 0.75
    num_columns: int = 1

    @property
    def lrn(self) -> LRN:
        return LRN(self.k, self.n, self.alpha, self.beta)

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
            x = _joined(parts, self.compute_dtype)
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


@register
class MaxPool(ColumnLayer):
    """Max pooling; windows overlap where `stride` is less than `size` (section 3.4).

    `ceil` keeps a last window that reaches over the bottom or right edge.
    """

    size: int = 3
    stride: int = 2
    ceil: bool = False

    def compute_output_shape(self, input_shape):
        batch, *sides, maps = input_shape
        sides = [
            (side + self._over(side) - self.size) // self.stride + 1 for side in sides
        ]
        return (batch, *sides, maps)

    def call(self, x):
        bottom, right = (self._over(side) for side in x.shape[1:3])
        plain, pool = _max_pool(self.size, self.stride)
        if is_portable() or _runs_on_gpu(self.grid):
            pool = plain

        def pool_all(x):
            if bottom or right:
                borders = [[0, 0], [0, bottom], [0, right], [0, 0]]
                x = tf.pad(x, borders, constant_values=x.dtype.min)
            return pool(x)

        return self.run(pool_all, x)

    def _over(self, side: int) -> int:
        """How far the last window reaches over the edge."""
        steps = -(-(side - self.size) // self.stride)
        return max(0, steps * self.stride + self.size - side) if self.ceil else 0


@functools.cache
def _max_pool(size: int, stride: int) -> tuple[Callable, Callable]:
    """Max pooling as TensorFlow has it, and with a gradient that is not inlined.

    oneDNN's gradient reads what its forward op leaves behind; without that, TensorFlow
    takes a kernel of its own, which adds in another order. In a loop on two devices it
    found the forward op in most processes and not in some: the bits of a run depended
    on it. So both ops are here, outside the loop.
    """

    def pool(x):
        return tf.nn.max_pool2d(x, size, stride, padding="VALID")

    @tf.function(autograph=False, experimental_attributes={"_noinline": True})
    def gradient(x, dy):
        return tf.raw_ops.MaxPoolGrad(
            orig_input=x,
            orig_output=pool(x),
            grad=dy,
            ksize=[1, size, size, 1],
            strides=[1, stride, stride, 1],
            padding="VALID",
        )

    return pool, tf.custom_gradient(lambda x: (pool(x), lambda dy: gradient(x, dy)))


def _joined(parts: list[tf.Tensor], dtype: str) -> tf.Tensor:
    parts = [tf.cast(part, dtype) for part in parts]
    return tf.concat(parts, axis=-1) if len(parts) > 1 else parts[0]


def _list(inputs) -> list:
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def _shapes(input_shape) -> list:
    many = isinstance(input_shape[0], list | tuple)
    return list(input_shape) if many else [input_shape]


def _runs_on_gpu(grid: DeviceGrid | None) -> bool:
    if grid is None:
        return bool(tf.config.list_logical_devices("GPU"))
    return "GPU" in grid.devices[0][0]
