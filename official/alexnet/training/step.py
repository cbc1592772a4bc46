"""The train step, and the compiled loop that repeats it."""

import dataclasses
import typing
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.training.evaluation import score
from official.alexnet.training.loss_scale import LossScale
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.rates import Rates


class Totals(typing.NamedTuple):
    """What a step adds up over its images and replicas; float32 scalars."""

    # As `evaluation.score` has them.
    loss: tf.Tensor
    top_1: tf.Tensor
    top_5: tf.Tensor
    examples: tf.Tensor
    # Above 0 if the loop is to stop.
    stop: tf.Tensor
    # Replicas in which a gradient overflowed.
    overflows: tf.Tensor


@dataclasses.dataclass(frozen=True)
class Steps:
    """What one call of the compiled loop did.

    Attributes:
        count: steps taken.
        sums: (4,) of `evaluation.score`, over these steps.
        last_loss: mean cross-entropy of the last of them, in nats.
        stopped: whether `TrainStep.stop` was seen.
    """

    count: int
    sums: np.ndarray
    last_loss: float
    stopped: bool

    @classmethod
    def of(cls, outputs: tuple[tf.Tensor, ...]) -> "Steps":
        """From what `TrainStep.loop` returned."""
        sums, loss, done, stop = outputs
        return cls(int(done), sums.numpy(), float(loss), stopped=float(stop) > 0)


@dataclasses.dataclass(eq=False, kw_only=True)
class TrainStep:
    """Steps of a model under its strategy.

    Attributes:
        strategy: the model's.
        model: net with logits as its output.
        optimizer: its optimizer, built.
        loss_scale: the factor that float16 needs.
        normalize: from uint8 crops and noise to the model's input.
        color_noise: from the number of steps taken, and the part of the global batch,
            to its colour noise, (count, 1, 1, 3) grey levels; None: there is none.
        batch_size: images of a global batch.
        loss_upper_bound: the loop ends after a step whose loss is above it, or NaN.
        enable_xla: compile a replica's step with XLA.
        stop: float32; at 1 the loop ends after the step under way, in all workers.
        loop: the compiled loop, from an iterator of global batches and a number of
            steps to what `Steps.of` reads. It takes fewer steps if it is told to stop,
            and none after one whose loss is out of bounds.
    """

    strategy: tf.distribute.Strategy
    model: keras.Model
    optimizer: PaperSGD
    loss_scale: LossScale
    normalize: Callable[..., tf.Tensor]
    color_noise: Callable[[tf.Tensor, slice], tf.Tensor] | None
    batch_size: int
    loss_upper_bound: float
    enable_xla: bool

    def __post_init__(self):
        self.stop = tf.Variable(0.0, trainable=False)
        self._traced_for = None

    def set_rates(self, rates: Rates, has_noise: bool) -> None:
        """Prepares the steps up to the next change of a rate or of the noise.

        Only weights that freeze or thaw, and the noise, need another trace.
        """
        optimizer = self.optimizer
        # Where the others are frozen, a rate that some weight has.
        shown = rates.learning_rate or max(map(rates.of, optimizer.names))
        optimizer.learning_rate.assign(shown)
        optimizer.set_multiples(lambda name: rates.of(name) / shown)
        frozen = [name for name in optimizer.names if rates.of(name) == 0]
        traced_for = (frozen, has_noise)
        if traced_for != self._traced_for:
            self._traced_for = traced_for
            self._has_noise = has_noise and self.color_noise is not None
            self.loop = tf.function(self._repeat)

    def _repeat(self, batches, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Float32's sums in float64 are exact: the same wherever a call is cut short.
        sums, loss, stop = tf.zeros(4, tf.float64), tf.zeros([]), tf.zeros([])
        done, goes_on = tf.constant(0), tf.constant(True)
        while done < count and goes_on:
            totals = self.train_step(next(batches))
            sums += tf.cast(tf.stack(totals[:4]), tf.float64)
            loss = totals.loss / tf.maximum(totals.examples, 1.0)
            stop = totals.stop
            # False for NaN, too.
            goes_on = tf.logical_and(loss <= self.loss_upper_bound, stop == 0)
            done += 1
        return sums, loss, done, stop

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch) -> Totals:
        """One step of every replica on its part of a global batch."""
        replica_step = self._replica_step
        if self.enable_xla:
            replica_step = tf.function(replica_step, jit_compile=True)
        sums = self.strategy.run(replica_step, args=(batch,))
        sums = self.strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)
        totals = Totals(*tf.unstack(sums))
        self.loss_scale.update(overflows=totals.overflows)
        return totals

    def _replica_step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Forward, backward and update; returns (6,) float32, a replica's `Totals`.

        Gradients are summed over the replicas.
        """
        images = self.normalize(batch["image"], self._noise_here())
        trainable = self.model.trainable_variables
        variables = [v for v in trainable if self.optimizer.multiple(v) > 0]
        with tf.GradientTape() as tape:
            logits = self.model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                batch["label"], logits
            )
            loss = tf.reduce_sum(losses) / self.batch_size * self.loss_scale.scale
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        gradients, overflow = self.loss_scale.unscale(gradients)
        self.optimizer.apply(gradients, variables)
        sums = score(batch["label"], losses, logits, tf.ones_like(losses))
        # Last, so that a signal during this step ends the loop after it.
        with tf.control_dependencies(gradients):
            stop = self.stop.read_value()
        return tf.concat([sums, [stop, overflow]], axis=0)

    def _noise_here(self) -> tf.Tensor | None:
        """The replica's part of the global batch's colour noise."""
        if not self._has_noise:
            return None
        replica = tf.distribute.get_replica_context()
        count = self.batch_size // replica.num_replicas_in_sync
        start = replica.replica_id_in_sync_group * count
        step = tf.cast(self.optimizer.iterations.value, tf.int32)
        return self.color_noise(step, slice(start, start + count))
