"""Top-1 and top-5 of every example once, with one crop or with ten (section 4.1)."""

import dataclasses
import pathlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet import config as config_lib
from official.alexnet.config import Config
from official.alexnet.data import dataset, pipeline, preprocessing
from official.alexnet.distribution.strategy import place
from official.alexnet.training import checkpoints, run


@dataclasses.dataclass(frozen=True)
class Result:
    """What an evaluation found.

    Attributes:
        loss: mean cross-entropy, in nats.
        accuracy: share of examples whose class came first, 0..1.
        top_5_accuracy: share of examples whose class was among the first five.
        num_examples: how many examples were scored.
    """

    loss: float
    accuracy: float
    top_5_accuracy: float
    num_examples: int

    @classmethod
    def from_sums(cls, sums: np.ndarray) -> "Result":
        """From sums over examples as `score` gives them."""
        loss, top_1, top_5, count = (float(value) for value in sums)
        count = max(count, 1)
        return cls(loss / count, top_1 / count, top_5 / count, round(count))


def score(
    labels: tf.Tensor, losses: tf.Tensor, scores: tf.Tensor, weights: tf.Tensor
) -> tf.Tensor:
    """Sums a batch's results.

    Args:
        labels: (batch,) int32.
        losses: (batch,) float32.
        scores: (batch, num_classes), logits or probabilities.
        weights: (batch,) float32: 1, or 0 where there is no example.

    Returns:
        (4,) float32: loss, examples right at first, right among five, examples.
    """
    # top_k breaks ties by index: a net that gives every class the same score is
    # right as often as chance, not always.
    best = tf.math.top_k(scores, min(5, scores.shape[-1])).indices
    hits = tf.cast(tf.equal(best, labels[:, None]), tf.float32) * weights[:, None]
    return tf.stack(
        [
            tf.reduce_sum(losses * weights),
            tf.reduce_sum(hits[:, 0]),
            tf.reduce_sum(hits),
            tf.reduce_sum(weights),
        ]
    )


def predict_views(
    model: keras.Model,
    images: tf.Tensor,
    normalize: Callable[[tf.Tensor], tf.Tensor],
    crops: int,
) -> tf.Tensor:
    """Averages the probabilities of one or ten crops of each image.

    Args:
        model: net with logits as its output.
        images: (batch, 256, 256, 3) uint8.
        normalize: from uint8 crops to the model's input.
        crops: 1 or 10.

    Returns:
        (batch, num_classes) float32.
    """
    size = model.input_shape[1]
    views = [preprocessing.center_crop(images, size)]
    if crops == 10:
        views = preprocessing.ten_crops(images, size)
    total = tf.zeros([])
    for view in views:
        # One view after another: memory for one crop an image.
        with tf.control_dependencies([total]):
            crop = normalize(tf.identity(view))
        total += tf.nn.softmax(model(crop))
    return total / crops


class Evaluator:
    """Evaluates a model under its strategy; the graph is traced once.

    Args:
        strategy: the model's.
        model: net with logits as its output.
        normalize: from uint8 crops to the model's input.
        crops: 1 or 10.
    """

    def __init__(
        self,
        strategy: tf.distribute.Strategy,
        model: keras.Model,
        normalize: Callable[[tf.Tensor], tf.Tensor],
        crops: int,
    ):
        self._strategy = strategy
        self._model = model
        self._normalize = normalize
        self._crops = crops

    def __call__(
        self,
        make_dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
        num_steps: int,
    ) -> Result:
        """Scores `num_steps` global batches."""
        dataset = self._strategy.distribute_datasets_from_function(make_dataset)
        iterator = iter(dataset)
        sums = np.zeros(4)
        for _ in range(num_steps):
            sums += self._step(next(iterator)).numpy()
        return Result.from_sums(sums)

    @tf.function
    def _step(self, batch):
        sums = self._strategy.run(self._replica_step, args=(batch,))
        return self._strategy.reduce(tf.distribute.ReduceOp.SUM, sums, axis=None)

    def _replica_step(self, batch):
        probabilities = predict_views(
            self._model, batch["image"], self._normalize, self._crops
        )
        losses = keras.losses.sparse_categorical_crossentropy(
            batch["label"], probabilities
        )
        return score(batch["label"], losses, probabilities, batch["weight"])


def evaluate(evaluator: Evaluator, split: dataset.Split, batch_size: int) -> Result:
    """Scores every example of a split once, the last partial batch too.

    Raises:
        UserError: a record cannot be read, or its label is out of range.
    """
    steps = pipeline.evaluation_steps(split.num_examples, batch_size)
    try:
        return evaluator(lambda context: split.evaluation(batch_size, context), steps)
    except tf.errors.OpError as error:
        raise dataset.explained(error, split) from error


def evaluate_run(
    config: Config, model_dir: str, checkpoint_path: str | None = None
) -> dict:
    """Scores a checkpoint on the validation images, each of them once.

    Args:
        config: settings of the run.
        model_dir: directory of the run.
        checkpoint_path: such as `model_dir/ckpt-300`; the latest by default.

    Returns:
        Loss, accuracy, top-5 accuracy, and what they were measured on.

    Raises:
        UserError: no checkpoint, one of another net, or a mistake in the data.
    """
    config_lib.check(config)
    folder = pathlib.Path(model_dir)
    path = checkpoint_path or checkpoints.latest(folder)
    placement = place(config.runtime, config.model.num_columns)
    run.check_batch_size(config, placement)
    split = dataset.find_split(config.data, "validation", config.model.num_classes)
    statistics = dataset.find_statistics(config.data, folder)
    with placement.strategy.scope():
        model = run.build_model(config, placement)
    step = checkpoints.load_weights(model, path)
    crops = config.train.eval_crops
    logging.info("%s; %d crop(s) an image", placement.describe(), crops)
    evaluator = Evaluator(
        placement.strategy, model, run.make_normalize(config, statistics), crops
    )
    result = evaluate(evaluator, split, config.train.batch_size)
    logging.info(
        "%d images | loss %.4f | top-1 %.2f %% (error %.2f %%) | top-5 %.2f %% "
        "(error %.2f %%)",
        result.num_examples,
        result.loss,
        100 * result.accuracy,
        100 * (1 - result.accuracy),
        100 * result.top_5_accuracy,
        100 * (1 - result.top_5_accuracy),
    )
    return {
        "accuracy": result.accuracy,
        "top_5_accuracy": result.top_5_accuracy,
        "loss": result.loss,
        "num_examples": result.num_examples,
        "eval_crops": crops,
        "checkpoint": path,
        "step": step,
    }
