"""Normalisation by neighbouring pixels (2012 source) and by the batch (2015)."""

from collections.abc import Callable

import tensorflow as tf

from official.alexnet.modeling.columns import ColumnLayer, is_portable, read, register
from official.alexnet.modeling.lrn import inverse_power
from official.alexnet.modeling.variants import LRN


def spatial_response_normalization(
    x: tf.Tensor, norm: LRN, *, plain: bool = False
) -> tf.Tensor:
    """Divides each pixel by its neighbours in the same map.

        y = x / (k + alpha * sum of x^2 over the n x n pixels around it)^beta

    `rnorm` of the 2012 source. Outside the map there are zeros. The gradient is
    written out, as that of `lrn`, of which this is the spatial form.

    Args:
        x: (batch, height, width, channels), any float type; computed in float32.
        norm: k, n, alpha and beta; alpha multiplies the sum.
        plain: take TensorFlow's gradients, for graphs that leave this package.

    Returns:
        A tensor of x's shape and type.
    """
    values = tf.cast(x, tf.float32)
    if plain:
        y, _ = _normalize(values, norm)
    else:
        y = tf.custom_gradient(lambda values: _normalize(values, norm))(values)
    return tf.cast(y, x.dtype)


def _normalize(
    x: tf.Tensor, norm: LRN
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    border = [norm.n // 2] * 2

    def window(values: tf.Tensor) -> tf.Tensor:
        padded = tf.pad(values, [[0, 0], border, border, [0, 0]])
        return norm.n**2 * tf.nn.avg_pool2d(padded, norm.n, strides=1, padding="VALID")

    d = norm.k + norm.alpha * window(tf.square(x))
    factor = inverse_power(d, norm.beta)

    def gradient(dy: tf.Tensor) -> tf.Tensor:
        direct = dy * factor
        return direct - (2 * norm.alpha * norm.beta) * x * window(direct * x / d)

    return x * factor, gradient


@register
class SpatialResponseNormalization(ColumnLayer):
    """`spatial_response_normalization` as a layer."""

    k: float = 1.0
    n: int = 5
    alpha: float = 4e-5
    beta: float = 0.75

    @property
    def norm(self) -> LRN:
        return LRN(self.k, self.n, self.alpha, self.beta)

    def call(self, x):
        plain = is_portable()

        def normalize(x):
            return spatial_response_normalization(x, self.norm, plain=plain)

        return self.run(normalize, x)


@register
class BatchNormalization(ColumnLayer):
    """Batch normalisation of each map (Ioffe and Szegedy 2015).

    A map's statistics are its own, so a column needs nothing of the other. Each
    replica normalises by its own part of the batch, as is usual; the moving
    statistics, which are used when not training, are averaged over the replicas.

    `momentum` is the share of them that a step keeps; `epsilon` is added to the
    variance.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    def build(self, input_shape):
        def add(name: str, initializer: str, trainable: bool):
            return self.add_weight(
                name=name,
                shape=input_shape[-1:],
                initializer=initializer,
                trainable=trainable,
                autocast=False,
                aggregation="none" if trainable else "mean",
            )

        with self.variables_here():
            self.gamma = add("gamma", "ones", trainable=True)
            self.beta = add("beta", "zeros", trainable=True)
            self.moving_mean = add("moving_mean", "zeros", trainable=False)
            self.moving_variance = add("moving_variance", "ones", trainable=False)

    def call(self, x, training=False):
        scale_and_offset = read(self.gamma, self.beta)
        moving = read(self.moving_mean, self.moving_variance)
        if not (training and self.trainable):
            normalize = lambda *inputs: self._normalize(*inputs)[0]  # noqa: E731
            return self.run(normalize, x, *scale_and_offset, *moving)
        y, *measured = self.run(self._normalize, x, *scale_and_offset)
        updated = self.run(self._moved, *moving, *measured)
        self.moving_mean.assign(updated[0])
        self.moving_variance.assign(updated[1])
        return y

    def _normalize(self, x, gamma, beta, *moving) -> list[tf.Tensor]:
        """y, and the mean and the unbiased variance of the batch."""
        mean, variance = moving or ([], [])
        outputs = tf.raw_ops.FusedBatchNormV3(
            x=x,
            scale=gamma,
            offset=beta,
            mean=mean,
            variance=variance,
            epsilon=self.epsilon,
            is_training=not moving,
        )
        return [outputs.y, outputs.batch_mean, outputs.batch_variance]

    def _moved(self, *values: tf.Tensor) -> list[tf.Tensor]:
        pairs = zip(values[:2], values[2:], strict=True)
        return [old + (1 - self.momentum) * (new - old) for old, new in pairs]
