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


def train(
    net: str,
    activation: str,
    rate: float,
    epochs: int,
    training: Split,
    test: Split,
    seed: int = 0,
    stop_error: float | None = None,
) -> dict:
    """Trains a net of `nets.build` as section 3.1 or 3.3 has it.

    With `stop_error` (Figure 1): whole images, no decay, one rate, until the training
    error of an epoch is not above it. Without: random crops and flips, decay, and the
    kernels' rate divided by 10 after 80 and 90 % of the run. The biases' stays at twice
    `rate`. All that is random is of the `seed`.

    Returns:
        The results, and as pairs of epoch and error `errors` in training (each image is
        judged just before the net learns from it; an epoch's mean stands at its
        middle), and `test_errors`.
    """
    augments = stop_error is None
    model = build(net, activation=activation, decays=augments, seed=seed)
    side = model.input_shape[1]
    border = (SIDE - side) // 2
    mean = training.images.mean(0, dtype=np.float64).astype(np.float32)
    # The centre of the mean image, wherever the crop is.
    mean = mean[border : border + side, border : border + side]
    optimizer = PaperSGD(rate, 0.9, decay=0.0, bias_learning_rate=2.0)

    def divide_rate(epoch: int, _) -> None:
        divisor = 10 ** ((epoch >= 0.8 * epochs) + (epoch >= 0.9 * epochs))
        if augments and divisor > 1:
            optimizer.learning_rate = rate / divisor
            optimizer.set_multiples(lambda name: 2 * divisor if "bias" in name else 1)

    def stop(_, logs: dict) -> None:
        if stop_error and 1 - logs["accuracy"] <= stop_error:
            model.stop_training = True

    def crops(top: int, left: int) -> np.ndarray:
        return test.images[:, top : top + side, left : left + side] - mean

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], jit_compile=False)
    rates = keras.callbacks.LambdaCallback(divide_rate, stop)
    history = model.fit(
        batches(training, mean, seed, crops=augments),
        epochs=epochs,
        validation_data=(crops(border, border), test.labels),
        callbacks=[rates, keras.callbacks.TerminateOnNaN()],
        shuffle=False,  # The batches are.
        verbose=0,
    ).history
    losses = zip(history["loss"], history["accuracy"], strict=True)
    errors = [1 - right if math.isfinite(loss) else math.inf for loss, right in losses]
    points = [(epoch + 0.5, error) for epoch, error in enumerate(errors)]
    tested = [(i, 1 - right) for i, right in enumerate(history["val_accuracy"], 1)]
    found = {"errors": points, "test_errors": tested, "training_error": errors[-1]}
    for (x, before), (_, after) in itertools.pairwise(points):
        if stop_error and before > stop_error >= after:
            found["epochs_to_error"] = x + (before - stop_error) / (before - after)
    if border and math.isfinite(errors[-1]):
        places = itertools.product((0, border, 2 * border), repeat=2)
        sums = sum(tf.nn.softmax(model.predict(crops(*p), 500, 0)) for p in places)
        wrong = np.argmax(sums, axis=1) != test.labels
        found["test_error_9_crops"] = float(wrong.mean())
    return found


def batches(
    training: Split, mean: np.ndarray, seed: int, *, crops: bool
) -> tf.data.Dataset:
    """An epoch's batches; each time in another order, with other crops and flips."""

    def example(pair: Split, place: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        image, label = pair
        if crops:
            place = tf.stack([place, 0])
            image = tf.image.stateless_random_crop(image, mean.shape, place)
            image = tf.image.stateless_random_flip_left_right(image, place)
        return tf.cast(image, tf.float32) - mean, label

    pairs = tf.data.Dataset.from_tensor_slices(training)
    pairs = pairs.shuffle(len(training.labels), seed=seed)
    places = tf.data.Dataset.random(seed, rerandomize_each_iteration=True)
    numbered = tf.data.Dataset.zip(pairs, places)
    return numbered.map(example, tf.data.AUTOTUNE).batch(BATCH).prefetch(2)
