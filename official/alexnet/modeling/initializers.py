"""Initial weights that do not depend on how a layer is cut into columns."""

import keras
import tensorflow as tf


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
        *others, size = shape
        whole = tf.random.stateless_normal(
            [*others, size * self.num_columns],
            [self.seed, 0],
            stddev=self.stddev,
            alg="philox",
        )
        part = whole[..., self.column * size : (self.column + 1) * size]
        return tf.cast(part, dtype or "float32")

    def get_config(self) -> dict:
        return {
            "stddev": self.stddev,
            "seed": self.seed,
            "column": self.column,
            "num_columns": self.num_columns,
        }
