"""The layers of a column, each run on the device of its column.

A layer of the grouped form is column 0 of one; a layer of the columns form is column
0 or 1 of two. `num_columns` says into how many columns the layer's own tensor is
divided: 2 in the grouped form of a two-column net, 1 everywhere else.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import keras
import tensorflow as tf

from official.alexnet.distribution.capabilities import xla_runs_here
from official.alexnet.distribution.grid import DeviceGrid, run_on
from official.alexnet.modeling.convolution import grouped_conv2d
from official.alexnet.modeling.lrn import local_response_normalization
from official.alexnet.modeling.product import product
from official.alexnet.modeling.variants import LRN

_portable = contextvars.ContextVar("portable", default=False)

register = keras.saving.register_keras_serializable("official.alexnet")


@contextlib.contextmanager
def portable() -> Iterator[None]:
    """Layers called inside use ops that any TensorFlow runs on any device."""
    token = _portable.set(True)
    try:
        yield
    finally:
        _portable.reset(token)


class ColumnLayer(keras.layers.Layer):
    """A layer whose weights and ops, forward and backward, live with its column.

    Args:
        column: index of the column.
        grid: where the columns are; None leaves the placement to TensorFlow. It is
            not saved with the layer: a loaded model runs anywhere.
    """

    def __init__(self, column: int = 0, grid: DeviceGrid | None = None, **kwargs):
        super().__init__(**kwargs)
        self.column = column
        self.grid = grid

    def get_config(self) -> dict:
        return super().get_config() | {"column": self.column}

    def variables_here(self) -> contextlib.AbstractContextManager:
        """Variables created inside are placed with the column."""
        if self.grid is None:
            return contextlib.nullcontext()
        return self.grid.variables_of(self.column)

    def run(self, function: Callable, *inputs: tf.Tensor):
        """Runs a function of tensors, and its gradient, with the column."""
        device = None if self.grid is None else self.grid.device(self.column)
        return run_on(device, function, *inputs)

    def add_kernel_and_bias(
        self, shape: tuple[int, ...], kernel_initializer, bias_initializer
    ) -> None:
        """Adds float32 `kernel` and `bias`; `run` casts them beside the device."""
        with self.variables_here():
            self.kernel = self.add_weight(
                name="kernel",
                shape=shape,
                initializer=kernel_initializer,
                autocast=False,
            )
            self.bias = self.add_weight(
                name="bias",
                shape=shape[-1:],
                initializer=bias_initializer,
                autocast=False,
            )


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

    def call(self, inputs):
        split = _portable.get() or None

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
            return tf.nn.bias_add(y, tf.cast(bias, self.compute_dtype))

        return self.run(convolve, *_read(self.kernel, self.bias), *_list(inputs))

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
        kernel_initializer: of the weights.
        bias_initializer: of the biases.
    """

    def __init__(
        self,
        units: int,
        kernel_initializer="glorot_uniform",
        bias_initializer="zeros",
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.units = units
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)

    def build(self, input_shape):
        shapes = _shapes(input_shape)
        inputs = sum(shape[-1] for shape in shapes)
        for side in shapes[0][1:-1]:
            inputs *= side
        self.add_kernel_and_bias(
            (inputs, self.units), self.kernel_initializer, self.bias_initializer
        )

    def call(self, inputs):
        multiply = tf.matmul if _portable.get() else product

        def connect(kernel, bias, *parts):
            parts = [tf.cast(part, self.compute_dtype) for part in parts]
            x = tf.concat(parts, axis=-1) if len(parts) > 1 else parts[0]
            x = tf.reshape(x, [-1, kernel.shape[0]])
            y = multiply(x, tf.cast(kernel, self.compute_dtype))
            return tf.nn.bias_add(y, tf.cast(bias, self.compute_dtype))

        return self.run(connect, *_read(self.kernel, self.bias), *_list(inputs))

    def get_config(self) -> dict:
        return super().get_config() | {
            "units": self.units,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
        }


@register
class ReLU(ColumnLayer):
    """max(0, x) (section 3.1)."""

    def call(self, x):
        return self.run(tf.nn.relu, x)


@register
class LocalResponseNormalization(ColumnLayer):
    """Local response normalisation within a column (section 3.3).

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

    def call(self, x):
        form = self._form()

        def normalize(x):
            return local_response_normalization(
                x, self.lrn, num_columns=self.num_columns, form=form
            )

        return self.run(normalize, x)

    def _form(self) -> str:
        if _portable.get():
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
    """Max pooling; windows overlap where `stride` is less than `size` (section 3.4)."""

    def __init__(self, size: int = 3, stride: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.size = size
        self.stride = stride

    def call(self, x):
        return self.run(
            lambda x: tf.nn.max_pool2d(x, self.size, self.stride, padding="VALID"), x
        )

    def get_config(self) -> dict:
        return super().get_config() | {"size": self.size, "stride": self.stride}


@register
class Dropout(ColumnLayer):
    """Dropout as published (section 4.2): no rescaling while training.

    While training each unit is kept with probability 1 - rate; otherwise all are used
    and multiplied by 1 - rate. (The inverted form of today divides while training,
    and so trains the layers above on twice the signal.)

    The mask of example i of the global batch is a function of the seed, the number of
    calls, i and the column alone: the same on any grid of devices, grouped or not,
    and after a restart from a checkpoint that holds `seed_generator`.

    Args:
        rate: probability that a unit is dropped.
        seed: of the masks.
        num_columns: columns that lie side by side in the layer's input.
    """

    def __init__(
        self, rate: float = 0.5, seed: int = 0, num_columns: int = 1, **kwargs
    ):
        super().__init__(**kwargs)
        self.rate = rate
        self.seed = seed
        self.num_columns = num_columns
        with self.variables_here():
            self.seed_generator = keras.random.SeedGenerator(seed)

    def call(self, x, training=False):
        keep = 1 - self.rate
        if not training:
            return self.run(lambda x: x * tf.cast(keep, x.dtype), x)
        count = self.seed_generator.next()
        index, replicas = _replica()
        batch, units = tf.shape(x)[0], x.shape[-1] // self.num_columns

        def drop(x):
            masks = []
            for column in range(self.column, self.column + self.num_columns):
                seed = tf.stack([count[0] + column, count[1]])
                draws = tf.random.stateless_uniform(
                    [replicas * batch, units], seed, alg="philox"
                )
                masks.append(draws[index * batch : (index + 1) * batch] < keep)
            mask = tf.ensure_shape(tf.concat(masks, axis=-1), x.shape)
            return x * tf.cast(mask, x.dtype)

        return self.run(drop, x)

    def get_config(self) -> dict:
        return super().get_config() | {
            "rate": self.rate,
            "seed": self.seed,
            "num_columns": self.num_columns,
        }


@register
class Exchange(ColumnLayer):
    """Where columns meet: hands a column's output to every column that reads it.

    One copy a reader, so that the gradients that come back are added on the column's
    own device.
    """

    def __init__(self, readers: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.readers = readers

    def call(self, x):
        return self.run(lambda x: [tf.identity(x) for _ in range(self.readers)], x)

    def get_config(self) -> dict:
        return super().get_config() | {"readers": self.readers}


def _list(inputs) -> list:
    return list(inputs) if isinstance(inputs, list | tuple) else [inputs]


def _shapes(input_shape) -> list:
    many = isinstance(input_shape[0], list | tuple)
    return list(input_shape) if many else [input_shape]


def _read(*variables: keras.Variable) -> list[tf.Tensor]:
    return [tf.convert_to_tensor(variable.value) for variable in variables]


def _replica() -> tuple[int, int]:
    """Index of the replica being traced, and how many there are."""
    context = tf.distribute.get_replica_context()
    if context is None:
        return 0, 1
    index = tf.get_static_value(context.replica_id_in_sync_group)
    return int(index), context.num_replicas_in_sync


def _runs_on_gpu(grid: DeviceGrid | None) -> bool:
    if grid is None:
        return bool(tf.config.list_logical_devices("GPU"))
    return "GPU" in grid.devices[0][0]
