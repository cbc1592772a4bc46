"""Initial weights that do not depend on how a layer is cut into columns.

Each draws for the whole layer and takes one column's part of the draw.
"""

import dataclasses

import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.modeling.columns import register


@dataclasses.dataclass(eq=False)
class _Sliced(keras.initializers.Initializer):
    """Part `column` of `num_columns`, counted along the last axis, of a seeded draw.

    A subclass has `_draw`, of a shape and a seed of two numbers.
    """

    seed: int
    column: int = 0
    num_columns: int = 1

    def __call__(self, shape, dtype=None) -> tf.Tensor:
        *others, size = shape
        whole = self._draw([*others, size * self.num_columns], [self.seed, 0])
        part = whole[..., self.column * size : (self.column + 1) * size]
        return tf.cast(part, dtype or "float32")

    def get_config(self) -> dict:
        return dataclasses.asdict(self)


@register
@dataclasses.dataclass(eq=False, kw_only=True)
class SlicedNormal(_Sliced):
    """N(0, stddev^2), which is not truncated (2012 source)."""

    stddev: float

    def _draw(self, shape, seed):
        return tf.random.stateless_normal(shape, seed, stddev=self.stddev, alg="philox")


@register
@dataclasses.dataclass(eq=False, kw_only=True)
class SlicedUniform(_Sliced):
    """Uniform in [-limit, limit).

    PyTorch's default has limit = 1/sqrt(inputs of a unit), for biases too.
    """

    limit: float

    def _draw(self, shape, seed):
        return tf.random.stateless_uniform(
            shape, seed, -self.limit, self.limit, alg="philox"
        )
