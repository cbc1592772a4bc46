"""Initial weights that do not depend on how a layer is cut into columns.

Each draws for the whole layer and takes one column's part of the draw.
"""

import tensorflow as tf

from official.alexnet.backend import keras


@keras.saving.register_keras_serializable("official.alexnet")
class SlicedNormal(keras.initializers.Initializer):
    """One column's part of a Gaussian drawn for the whole layer.

    Args:
        stddev: of the Gaussian, whose mean is 0; it is not truncated (2012 source).
        seed: of the draw.
        column: which part, counted along the last axis.
        num_columns: number of parts.
    """

    def __init__(self, stddev: float, seed: int, column: int = 0, num_columns: int = 1):
        self.stddev = stddev
        self.seed = seed
        self.column = column
        self.num_columns = num_columns

    def __call__(self, shape, dtype=None) -> tf.Tensor:
        whole = tf.random.stateless_normal(
            [*shape[:-1], shape[-1] * self.num_columns],
            [self.seed, 0],
            stddev=self.stddev,
            alg="philox",
        )
        return _part(whole, self.column, self.num_columns, dtype)

    def get_config(self) -> dict:
        return {
            "stddev": self.stddev,
            "seed": self.seed,
            "column": self.column,
            "num_columns": self.num_columns,
        }


@keras.saving.register_keras_serializable("official.alexnet")
class SlicedUniform(keras.initializers.Initializer):
    """One column's part of a uniform draw from [-limit, limit) for the whole layer.

    PyTorch's default has limit = 1/sqrt(inputs of a unit), for biases too.

    Args:
        limit: largest absolute value.
        seed, column, num_columns: as in `SlicedNormal`.
    """

    def __init__(self, limit: float, seed: int, column: int = 0, num_columns: int = 1):
        self.limit = limit
        self.seed = seed
        self.column = column
        self.num_columns = num_columns

    def __call__(self, shape, dtype=None) -> tf.Tensor:
        whole = tf.random.stateless_uniform(
            [*shape[:-1], shape[-1] * self.num_columns],
            [self.seed, 0],
            -self.limit,
            self.limit,
            alg="philox",
        )
        return _part(whole, self.column, self.num_columns, dtype)

    def get_config(self) -> dict:
        return {
            "limit": self.limit,
            "seed": self.seed,
            "column": self.column,
            "num_columns": self.num_columns,
        }


def _part(whole: tf.Tensor, column: int, num_columns: int, dtype) -> tf.Tensor:
    size = whole.shape[-1] // num_columns
    part = whole[..., column * size : (column + 1) * size]
    return tf.cast(part, dtype or "float32")
