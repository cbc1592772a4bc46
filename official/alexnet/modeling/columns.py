"""A layer that lives with its column, and the places where columns meet.

A layer of the grouped form is column 0 of one; a layer of the columns form is column
0 or 1 of two. `num_columns` says into how many columns the layer's own tensor is
divided: 2 in the grouped form of a two-column net, 1 everywhere else.
"""

import contextlib
import contextvars
import inspect
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

    The annotated attributes of a class are its settings, as in a dataclass: keywords
    of its constructor, which are saved with it.

    Attributes:
        column: index of the column.
        grid: where the columns are; None leaves the placement to TensorFlow. It is
            not saved with the layer: a loaded model runs anywhere.
    """

    column: int = 0

    def __init__(self, *, grid: DeviceGrid | None = None, **kwargs):
        given = {name: kwargs.pop(name) for name in self._settings() if name in kwargs}
        # Each casts what it reads beside its own device, so that less goes there.
        super().__init__(autocast=False, **kwargs)
        # XLA would compile all columns for one device: `compile` is not to choose it.
        self.supports_jit = grid is None or len(grid.devices) == 1
        self.grid = grid
        for name, value in given.items():
            setattr(self, name, tuple(value) if isinstance(value, list) else value)

    @classmethod
    def _settings(cls) -> list[str]:
        layers = (base for base in cls.__mro__ if issubclass(base, ColumnLayer))
        return [name for layer in layers for name in inspect.get_annotations(layer)]

    def get_config(self) -> dict:
        settings = {name: getattr(self, name) for name in self._settings()}
        return super().get_config() | settings

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


def read(*variables: keras.Variable) -> list[tf.Tensor]:
    """Values of variables, as inputs of `ColumnLayer.run`."""
    return [tf.convert_to_tensor(variable.value) for variable in variables]


@register
class Exchange(ColumnLayer):
    """Where columns meet: hands a column's output to every column that reads it.

    One copy for each of the `readers`, so that the gradients that come back are added
    on the column's own device. `sends` is the dtype of what goes to the others, and of
    the gradients that come back, as in net 170-quant; None: as it is.
    """

    readers: int = 2
    sends: str | None = None

    def compute_output_shape(self, input_shape):
        return [input_shape] * self.readers

    def call(self, x):
        def copies(x):
            return [
                tf.cast(x, self.sends)
                if self.sends and reader != self.column
                else tf.identity(x)
                for reader in range(self.readers)
            ]

        return self.run(copies, x)


@register
class Edges(ColumnLayer):
    """Where LRN reaches over into the next column: hands out the outermost maps.

    Returns the column's maps, the first `width` of them where there is a column
    before it, and the last where there is one after it; both where `num_columns` is
    None, as in older files. The gradients that come back are added on the column's own
    device. `sends` is as in `Exchange`.
    """

    width: int = 2
    num_columns: int | None = None
    sends: str | None = None

    def _edges(self) -> list[slice]:
        last = None if self.num_columns is None else self.num_columns - 1
        is_first = last is not None and self.column == 0
        edges = [] if is_first else [slice(self.width)]
        return edges if self.column == last else [*edges, slice(-self.width, None)]

    def compute_output_shape(self, input_shape):
        edge = (*input_shape[:-1], self.width)
        return [input_shape] + [edge] * len(self._edges())

    def call(self, x):
        def cut(x):
            edges = [x[..., edge] for edge in self._edges()]
            return [tf.identity(x), *(tf.cast(e, self.sends or e.dtype) for e in edges)]

        return self.run(cut, x)
