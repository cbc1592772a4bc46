"""A layer that lives with its column, and the places where columns meet.

A layer of the grouped form is column 0 of one; a layer of the columns form is column
0 or 1 of two. `num_columns` says into how many columns the layer's own tensor is
divided: 2 in the grouped form of a two-column net, 1 everywhere else.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.distribution.grid import DeviceGrid, run_on

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


def is_portable() -> bool:
    """Whether `portable` holds."""
    return _portable.get()


class ColumnLayer(keras.layers.Layer):
    """A layer whose weights and ops, forward and backward, live with its column.

    Args:
        column: index of the column.
        grid: where the columns are; None leaves the placement to TensorFlow. It is
            not saved with the layer: a loaded model runs anywhere.
    """

    def __init__(self, column: int = 0, grid: DeviceGrid | None = None, **kwargs):
        # Each casts what it reads beside its own device, so that less goes there.
        super().__init__(autocast=False, **kwargs)
        self.column = column
        self.grid = grid

    def get_config(self) -> dict:
        return super().get_config() | {"column": self.column}

    def compute_output_shape(self, input_shape):
        # Without it Keras would trace `call`, and TensorFlow keeps what the custom
        # gradients in a traced graph refer to, weights too, for good.
        return input_shape

    def variables_here(self) -> contextlib.AbstractContextManager:
        """Variables created inside are placed with the column."""
        if self.grid is None:
            return contextlib.nullcontext()
        return self.grid.variables_of(self.column)

    def here(self) -> contextlib.AbstractContextManager:
        """Ops created inside are placed with the column."""
        if self.grid is None:
            return contextlib.nullcontext()
        return tf.device(self.grid.device(self.column))

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


def read(*variables: keras.Variable) -> list[tf.Tensor]:
    """Values of variables, as inputs of `ColumnLayer.run`."""
    return [tf.convert_to_tensor(variable.value) for variable in variables]


@register
class Exchange(ColumnLayer):
    """Where columns meet: hands a column's output to every column that reads it.

    One copy a reader, so that the gradients that come back are added on the column's
    own device.

    Args:
        readers: columns that read it.
        sends: dtype of what goes to the others, and of the gradients that come back,
            as in net 170-quant; None: as it is.
    """

    def __init__(self, readers: int = 2, sends: str | None = None, **kwargs):
        super().__init__(**kwargs)
        self.readers = readers
        self.sends = sends

    def compute_output_shape(self, input_shape):
        return [input_shape] * self.readers

    def call(self, x):
        def copies(x):
            is_cast = [self.sends and reader != self.column for reader in readers]
            return [tf.cast(x, self.sends) if c else tf.identity(x) for c in is_cast]

        readers = range(self.readers)
        return self.run(copies, x)

    def get_config(self) -> dict:
        return super().get_config() | {"readers": self.readers, "sends": self.sends}


@register
class Edges(ColumnLayer):
    """Where LRN reaches over into the next column: hands out the outermost maps.

    Returns the column's maps, the first `width` of them where there is a column
    before it, and the last where there is one after it. The gradients that come back
    are added on the column's own device.

    Args:
        width: maps that are handed out.
        num_columns: columns there are; None: both edges are handed out.
        sends: as in `Exchange`.
    """

    def __init__(
        self,
        width: int = 2,
        num_columns: int | None = None,
        sends: str | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.sends = sends
        self.width = width
        self.num_columns = num_columns

    def _edges(self) -> list[slice]:
        first, last = slice(self.width), slice(-self.width, None)
        if self.num_columns is None:
            return [first, last]
        is_last = self.column == self.num_columns - 1
        return [first] * (self.column > 0) + [last] * (not is_last)

    def compute_output_shape(self, input_shape):
        edge = (*input_shape[:-1], self.width)
        return [input_shape] + [edge] * len(self._edges())

    def call(self, x):
        def cut(x):
            edges = [x[..., edge] for edge in self._edges()]
            return [tf.identity(x), *(tf.cast(e, self.sends or e.dtype) for e in edges)]

        return self.run(cut, x)

    def get_config(self) -> dict:
        return super().get_config() | {
            "width": self.width,
            "num_columns": self.num_columns,
            "sends": self.sends,
        }
