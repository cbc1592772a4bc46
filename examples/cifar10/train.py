"""One run of a CIFAR-10 net on Keras's `fit` and `PaperSGD`."""

import itertools
import math

import keras
import numpy as np
import tensorflow as tf
from data import SIDE, Split
from nets import build

from official.alexnet.training.optimizer import PaperSGD

BATCH = 128
# The training error is that of the last epoch's images, looked at so often an epoch.
WINDOWS = 4


def train(
    net: str,
    rate: float,
    epochs: int,
    training: Split,
    test: Split,
    *,
    activation: str = "relu",
    seed: int = 0,
    stop_error: float | None = None,
) -> tuple[dict, dict]:
    """Trains a net as section 3.1 or 3.3 has it.

    With `stop_error` (Figure 1): whole images, no decay, one rate. Without: random
    crops and flips, decay, and the rate divided by 10 after 80 and 90 % of the run, the
    biases' rate kept.

    Args:
        net: of `nets.NETS`.
        rate: of kernels; twice that for biases.
        epochs: at most.
        training: images to train on.
        test: images to score.
        activation: `relu` or `tanh`.
        seed: of initial weights, order, crops and flips.
        stop_error: end once the training error of an epoch is not above this.

    Returns:
        The results, a row of runs.csv; and the curves: `training_error` and
        `test_error`, as pairs of epoch and error.
    """
    augments = stop_error is None
    model = build(net, activation=activation, decays=augments, seed=seed)
    side = model.input_shape[1]
    border = (SIDE - side) // 2
    mean = training.images.mean(0, dtype=np.float64).astype(np.float32)
    # The centre of the mean image, wherever the crop is.
    mean = mean[border : border + side, border : border + side]
    optimizer = PaperSGD(rate, 0.9, decay=0.0, bias_learning_rate=2.0)
    stop = _Curves(test, mean, stop_error, len(training.labels))
    done, model.stop_training = 0, False
    for share, factor in ((0.8, 1), (0.9, 10), (1, 100)) if augments else ((1, 1),):
        if model.stop_training:  # The loss was NaN.
            break
        # Compiled anew: the step holds the biases' multiple.
        optimizer.learning_rate = rate / factor
        optimizer.bias_learning_rate = 2.0 * factor
        model.compile(
            optimizer,
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=False,
        )
        last = round(share * epochs * WINDOWS)
        model.fit(
            _batches(training, mean, seed, crops=augments, skip=done),
            steps_per_epoch=stop.steps,
            initial_epoch=done,
            epochs=last,
            callbacks=[stop, keras.callbacks.TerminateOnNaN()],
            shuffle=False,  # The batches are.
            verbose=0,
        )
        done = last
    return stop.results(), {
        "training_error": stop.points(),
        "test_error": stop.test_errors,
    }


class _Curves(keras.callbacks.Callback):
    """Notes the errors, and ends a run of Figure 1.

    Each training image is judged just before the net learns from it; a point is the
    mean over an epoch, at that epoch's middle.
    """

    def __init__(self, test: Split, mean: np.ndarray, stop_error, num_examples: int):
        super().__init__()
        self.test, self.mean, self.stop_error = test, mean, stop_error
        self.score = tf.function(
            lambda crops: tf.nn.softmax(self.model(tf.cast(crops, tf.float32) - mean))
        )
        self.steps = math.ceil(num_examples / BATCH / WINDOWS)
        # An epoch's windows may hold a few images more than it has.
        self.epoch = self.steps * WINDOWS * BATCH / num_examples
        self.windows: list[float] = []
        self.test_errors: list[tuple[float, float]] = []

    def on_epoch_end(self, epoch, logs=None):
        if not math.isfinite(logs["loss"]):
            self.windows.append(math.inf)
            return
        self.windows.append(1 - logs["accuracy"])
        passed = len(self.windows)
        if passed % WINDOWS == 0:
            error = self.error()
            self.test_errors.append((passed / WINDOWS * self.epoch, error))
        points = self.points()
        if self.stop_error and points and points[-1][1] <= self.stop_error:
            self.model.stop_training = True

    def points(self) -> list[tuple[float, float]]:
        """Epoch and training error."""
        spans = range(WINDOWS, len(self.windows) + 1)
        return [
            (
                (last / WINDOWS - 0.5) * self.epoch,
                float(np.mean(self.windows[last - WINDOWS : last])),
            )
            for last in spans
        ]

    def error(self, offsets: tuple[int, ...] = ()) -> float:
        """Test error of the central crop, or of the mean of crops at all offsets."""
        side = self.mean.shape[0]
        places = offsets or ((SIDE - side) // 2,)
        total = 0.0
        for top, left in itertools.product(places, repeat=2):
            crops = self.test.images[:, top : top + side, left : left + side]
            batches = [crops[i : i + 500] for i in range(0, len(crops), 500)]
            total += np.concatenate([self.score(batch).numpy() for batch in batches])
        return float(np.mean(total.argmax(1) != self.test.labels))

    def results(self) -> dict:
        points = self.points()
        found = {
            "epochs": len(self.windows) / WINDOWS * self.epoch,
            "training_error": points[-1][1] if points else math.inf,
        }
        if not math.isfinite(found["training_error"]):
            return found
        for (x0, y0), (x1, y1) in itertools.pairwise(points):
            if self.stop_error and y0 > self.stop_error >= y1:
                share = (y0 - self.stop_error) / (y0 - y1)
                found["epochs_to_error"] = x0 + share * (x1 - x0)
        found["test_error"] = self.error()
        border = SIDE - self.mean.shape[0]
        if border:
            offsets = (0, border // 2, border)
            found["test_error_9_crops"] = self.error(offsets)
        return found


def _batches(
    training: Split, mean: np.ndarray, seed: int, *, crops: bool, skip: int
) -> tf.data.Dataset:
    """Batches without end; each epoch is another order of all images."""
    side, count = mean.shape[0], len(training.labels)
    images, labels = tf.constant(training.images), tf.constant(training.labels)

    def order(epoch: tf.Tensor) -> tf.data.Dataset:
        indices = tf.random.experimental.stateless_shuffle(
            tf.range(count), [seed, epoch]
        )
        return tf.data.Dataset.from_tensor_slices(indices)

    def example(number: tf.Tensor, index: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image = images[index]
        if crops:
            places = tf.stack([tf.cast(seed, tf.int64), number])
            image = tf.image.stateless_random_crop(image, (side, side, 3), places)
            image = tf.image.stateless_random_flip_left_right(image, places)
        return tf.cast(image, tf.float32) - mean, labels[index]

    steps = math.ceil(count / BATCH / WINDOWS)
    stream = tf.data.Dataset.range(2**20).map(lambda e: tf.cast(e, tf.int32))
    numbered = stream.flat_map(order).enumerate().skip(skip * steps * BATCH)
    examples = numbered.map(example, tf.data.AUTOTUNE)
    return examples.batch(BATCH, drop_remainder=True).prefetch(2)
