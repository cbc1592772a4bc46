"""The train step, and the compiled loop that repeats it."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.config import Config
from official.alexnet.data import preprocessing
from official.alexnet.data.statistics import Statistics
from official.alexnet.training.evaluation import score
from official.alexnet.training.loss_scale import LossScale
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.rates import Rates


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


class TrainStep:
    """Steps of a model under its strategy.

    Args:
        config: settings of the run.
        strategy: the model's.
        model: net with logits as its output.
        optimizer: its optimizer, built.
        loss_scale: the factor that float16 needs.
        statistics: colour PCA, for the noise.
        normalize: from uint8 crops and noise to the model's input.

    Attributes:
        stop: float32; at 1 the loop ends after the step under way, in all workers.
    """

    def __init__(
        self,
        config: Config,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        optimizer: PaperSGD,
        loss_scale: LossScale,
        statistics: Statistics,
        normalize: Callable[..., tf.Tensor],
    ):
        self.stop = tf.Variable(0.0, trainable=False)
        self._config = config
        self._strategy = strategy
        self._model = model
        self._optimizer = optimizer
        self._loss_scale = loss_scale
        self._statistics = statistics
        self._normalize = normalize
        self._traced_for = None

    def set_rates(self, rates: Rates, has_noise: bool) -> None:
        """Prepares the steps up to the next change of a rate or of the noise.

        Only weights that freeze or thaw, and the noise, need another trace."""
        optimizer = self._optimizer
        # Where the others are frozen, a rate that some weight has.
        shown = rates.learning_rate or max(map(rates.of, optimizer.names))
        optimizer.learning_rate.assign(shown)
        optimizer.set_multiples(lambda name: rates.of(name) / shown)
        traced_for = (optimizer.frozen, has_noise)
        if traced_for != self._traced_for:
            self._traced_for = traced_for
            self._has_noise = has_noise
            self._loop = tf.function(self._repeat)

    def trace(self, batches: tf.distribute.DistributedIterator) -> None:
        """Traces the loop, which takes seconds, without taking a step."""
        self._loop.get_concrete_function(batches, tf.constant(1))

    def run(self, batches: tf.distribute.DistributedIterator, count: int) -> Steps:
        """Takes `count` steps.

        Fewer if it is told to stop, and none after one whose loss is no number or
        above `loss_upper_bound`.
        """
        sums, loss, done = self._loop(batches, tf.constant(count))
        sums = sums.numpy()
        return Steps(int(done), sums[:4], float(loss), stopped=sums[4] > 0)

    def _repeat(self, batches, count: tf.Tensor) -> tuple[tf.Tensor, ...]:
        # Float32's sums in float64 are exact: the same wherever a call is cut short.
        sums, loss = tf.zeros(5, tf.float64), tf.zeros([])
        done, goes_on = tf.constant(0), tf.constant(True)
        while done < count and goes_on:
            step_sums = self.train_step(next(batches))
            sums += tf.cast(step_sums, tf.float64)
            loss = step_sums[0] / tf.maximum(step_sums[3], 1.0)
            # False for NaN, too.
            fits = loss <= self._config.train.loss_upper_bound
            goes_on = tf.logical_and(fits, step_sums[4] == 0)
            done += 1
        return sums, loss, done

    @tf.autograph.experimental.do_not_convert
    def train_step(self, batch) -> tf.Tensor:
        """One step of every replica on its part of a global batch.

        Returns:
            (5,) float32: the sums of `evaluation.score`, and above 0 if the loop is to
            stop.
        """
        replica_step = self._replica_step
        if self._config.runtime.enable_xla:
            replica_step = tf.function(replica_step, jit_compile=True)
        sums = self._strategy.run(replica_step, args=(batch,))
        sums = self._strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)
        self._loss_scale.update(overflows=sums[5])
        return sums[:5]

    def _replica_step(self, batch: dict[str, tf.Tensor]) -> tf.Tensor:
        """Forward, backward and update; gradients are summed over the replicas.

        Returns:
            The sums of `evaluation.score`, `stop`, and 1 where a gradient overflowed.
        """
        images = self._normalize(batch["image"], self._color_noise())
        variables = [
            variable
            for variable in self._model.trainable_variables
            if self._optimizer.multiple(variable) > 0
        ]
        with tf.GradientTape() as tape:
            logits = self._model(images, training=True)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(
                batch["label"], logits
            )
            # Without bad records all count.
            weights = batch.get("weight", tf.ones_like(losses))
            loss = tf.reduce_sum(weights * losses) / self._config.train.batch_size
            loss *= self._loss_scale.scale
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        gradients, overflow = self._loss_scale.unscale(gradients)
        self._optimizer.apply(gradients, variables)
        sums = score(batch["label"], losses, logits, weights)
        # Last, so that a signal during this step ends the loop after it.
        with tf.control_dependencies(gradients):
            stop = self.stop.read_value()
        return tf.concat([sums, [stop, overflow]], axis=0)

    def _color_noise(self) -> tf.Tensor | None:
        """Noise of the replica's images, drawn for the global batch of this step."""
        data = self._config.data
        if data.color_noise == "none" or not self._has_noise:
            return None
        replica = tf.distribute.get_replica_context()
        batch_size = self._config.train.batch_size
        count = batch_size // replica.num_replicas_in_sync
        start = replica.replica_id_in_sync_group * count
        step = tf.cast(self._optimizer.iterations.value, tf.int32)
        gaussians = tf.random.stateless_normal(
            [batch_size, 3], [self._config.train.seed, step], alg="philox"
        )
        return preprocessing.color_noise(
            self._statistics,
            gaussians[start : start + count],
            sigma=data.color_noise_sigma,
            scale=data.color_noise,
        )
