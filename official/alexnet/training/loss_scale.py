"""Loss scaling, without which small float16 gradients vanish."""

from collections.abc import Callable

import tensorflow as tf

_INITIAL = 2.0**15
_STEPS_TO_GROW = 2000


class LossScale:
    """A factor on the loss: halved when a gradient overflows, else doubled at times.

    A step in which any gradient of any replica overflowed changes no weight: `unscale`
    turns every gradient into NaN, which stays NaN in the sum over replicas, and
    `PaperSGD(skip_nan=True)` leaves such a step out. Where it is not enabled, the
    factor is 1 and stays 1, as float32 and bfloat16 need it.
    """

    def __init__(self, enabled: bool):
        self.enabled = enabled
        self.scale = tf.Variable(_INITIAL if enabled else 1.0, trainable=False)
        self.steps = tf.Variable(0, trainable=False)

    def unscale(self, gradients: list[tf.Tensor]) -> tuple[list[tf.Tensor], tf.Tensor]:
        """In a replica: its gradients divided by the factor.

        Also float32: 1 where one of them overflowed, else 0.
        """
        if not self.enabled:
            return gradients, tf.zeros([])

        def each(function: Callable) -> list[tf.Tensor]:
            # Beside it: the gradients of another column stay on its device.
            found = []
            for gradient in gradients:
                with tf.device(gradient.device):
                    found.append(function(gradient))
            return found

        finite = each(lambda g: tf.reduce_all(tf.math.is_finite(g)))
        finite = tf.reduce_all(tf.stack(finite))
        factor = tf.where(finite, 1 / self.scale, float("nan"))
        return each(lambda g: g * factor), 1 - tf.cast(finite, tf.float32)

    def update(self, overflows: tf.Tensor) -> None:
        """Sets the next step's factor, by how many replicas had an overflow in this."""
        if not self.enabled:
            return
        finite = overflows == 0
        steps = tf.where(finite, self.steps + 1, 0)
        grows = steps == _STEPS_TO_GROW
        grown = tf.where(grows, 2.0, 1.0)
        scale = self.scale * tf.where(finite, grown, 0.5)
        self.scale.assign(tf.clip_by_value(scale, 1.0, 2.0**24))
        self.steps.assign(tf.where(grows, 0, steps))

    def state(self) -> list[float]:
        """For a checkpoint; empty where there is no factor."""
        values = [float(self.scale.numpy()), int(self.steps.numpy())]
        return values if self.enabled else []

    def restore(self, state: list[float]) -> None:
        """From a checkpoint; one of a run in another dtype is left aside."""
        if self.enabled and state:
            self.scale.assign(state[0])
            self.steps.assign(state[1])
