"""Top-1 and top-5 of every example once, with one crop or with ten (section 4.1)."""

import dataclasses
import functools
import itertools
import operator
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet import config as config_lib
from official.alexnet import run_files
from official.alexnet.backend import keras
from official.alexnet.config import Config
from official.alexnet.data import classes, dataset, preprocessing
from official.alexnet.distribution import feeding
from official.alexnet.distribution.strategy import Placement, place
from official.alexnet.errors import Interrupted, UserError
from official.alexnet.training import agreement, building, checkpoints, predictions


@dataclasses.dataclass(frozen=True)
class Result:
    """What an evaluation of `num_examples` found."""

    loss: float  # Mean cross-entropy, in nats.
    accuracy: float  # Share of examples whose class came first, 0..1.
    top_5_accuracy: float  # Share of those whose class was among the first five.
    num_examples: int

    @classmethod
    def from_sums(cls, sums: np.ndarray) -> "Result":
        """From sums over examples as `score` gives them."""
        loss, top_1, top_5, count = (float(value) for value in sums)
        count = max(count, 1)
        return cls(loss / count, top_1 / count, top_5 / count, round(count))

    def __str__(self) -> str:
        return (
            f"loss {self.loss:.4f} | top-1 {100 * self.accuracy:.1f} % | "
            f"top-5 {100 * self.top_5_accuracy:.1f} %"
        )

    def scalars(self) -> dict[str, float]:
        """The values that TensorBoard and metrics.jsonl get."""
        values = dataclasses.asdict(self)
        del values["num_examples"]
        return values


def score(
    labels: tf.Tensor, losses: tf.Tensor, scores: tf.Tensor, weights: tf.Tensor
) -> tf.Tensor:
    """Sums of a batch, (4,) float32: loss, right at first, among five, examples.

    Labels are (batch,) int32, losses and weights (batch,) float32, a weight 1, or 0
    where there is no example; scores, (batch, num_classes), logits or probabilities.
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
    """Averages the probabilities of 1 or 10 crops of each image.

    From (batch, 256, 256, 3) uint8, by a net with logits as its output, to (batch,
    num_classes) float32; `normalize` makes the net's input of uint8 crops.
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


@dataclasses.dataclass(frozen=True)
class Member:
    """One of the models that an evaluation averages, as `predict_views` takes it."""

    model: keras.Model
    normalize: Callable[[tf.Tensor], tf.Tensor]
    weight: float = 1.0  # Of its probabilities; all weights add up to 1.


@dataclasses.dataclass(eq=False)
class Evaluator:
    """Evaluates models under their strategy; input and graph are traced once.

    Several models are evaluated as one whose probabilities are the weighted average
    of theirs (the paper's "5 CNNs"; `avg-test.py` of the 2012 source).

    Attributes:
        strategy: the models'.
        members: the models.
        split: what to score them on.
        batch_size: images of a global batch.
        crops: 1 or 10.
        stop: float32; at 1 the evaluation ends after the batch under way.
        add_predictions: gets what is said of each batch; one replica.
    """

    strategy: tf.distribute.Strategy
    members: Sequence[Member]
    split: dataset.Split
    batch_size: int
    crops: int
    stop: tf.Variable | None = None
    add_predictions: Callable[..., None] | None = None

    def __call__(self) -> list[Result]:
        """Scores every example once: the average of the models first, then each.

        Raises:
            UserError: a record cannot be used.
            Interrupted: it was told to stop.
        """
        sums = np.zeros((1 + len(self.members), 4))
        # The last perhaps with filling.
        steps = -(-self.split.num_examples // self.batch_size)
        with dataset.explaining(self.split):
            batches = iter(self._batches)
            for _ in range(steps):
                found, said = self._step(next(batches))
                *rows, (stop, *_) = found.numpy()
                if stop:
                    raise Interrupted("stopped by a signal during an evaluation")
                sums += rows
                if self.add_predictions:
                    self.add_predictions(*(value.numpy() for value in said))
        return [Result.from_sums(row) for row in sums]

    @functools.cached_property
    def _batches(self) -> tf.data.Dataset | tf.distribute.DistributedDataset:
        return feeding.distribute(
            self.strategy,
            lambda context: self.split.evaluation(self.batch_size, context),
        )

    @tf.function(autograph=False)
    def _step(self, batch):
        sums, said = self.strategy.run(self._replica_step, args=(batch,))
        return self.strategy.reduce("sum", sums, axis=None), said

    def _replica_step(self, batch):
        average, rows = 0.0, []
        for member in self.members:
            probabilities = predict_views(
                member.model, batch["image"], member.normalize, self.crops
            )
            average += member.weight * probabilities
            rows.append(_score_probabilities(batch, probabilities))
        # In all workers after the same batch.
        stop = tf.zeros([]) if self.stop is None else self.stop.read_value()
        sums = [_score_probabilities(batch, average), *rows, tf.fill([4], stop)]
        wanted = self.add_predictions is not None
        said = (batch["label"], average, batch["weight"]) if wanted else ()
        return tf.stack(sums), said


def _score_probabilities(batch, probabilities: tf.Tensor) -> tf.Tensor:
    losses = keras.losses.sparse_categorical_crossentropy(batch["label"], probabilities)
    return score(batch["label"], losses, probabilities, batch["weight"])


@dataclasses.dataclass(frozen=True)
class Run:
    """A trained net: the settings of a run, and its directory."""

    config: Config
    model_dir: str
    checkpoint_path: str | None = None  # Such as `model_dir/ckpt-300`; or the latest.
    weight: float = 1.0  # Of its probabilities in an average, 0 or more.


def evaluate_run(
    config: Config,
    model_dir: str,
    checkpoint_path: str | None = None,
    predictions_file: str | None = None,
) -> dict:
    """Scores a checkpoint on the validation images; see `evaluate_runs`."""
    run = Run(config, model_dir, checkpoint_path)
    results = evaluate_runs([run], predictions_file)
    (model,) = results.pop("models")
    return results | {"checkpoint": model["checkpoint"], "step": model["step"]}


def evaluate_runs(runs: Sequence[Run], predictions_file: str | None = None) -> dict:
    """Scores the average of several nets on the validation images, each image once.

    Each net has its own variant, input size, statistics and input scale.

    Args:
        runs: the nets; images, batch size, crops and devices are the first one's.
        predictions_file: a new .csv file, a line an image; see `predictions.writing`.

    Returns:
        Loss, accuracy and top-5 accuracy of the average of the probabilities, what
        they were measured on, and under `models` the same for each net alone.

    Raises:
        UserError: no checkpoint, one of another net, nets of other classes or images,
            several replicas where each image is written, or a mistake in the data.
    """
    config = runs[0].config
    for each in runs:
        config_lib.check(each.config)
    for pair in itertools.combinations(runs, 2):  # The first may not name its classes.
        _check_alike(*pair)
    placement = place(config.runtime, config.model.num_columns)
    if predictions_file and placement.strategy.num_replicas_in_sync > 1:
        raise UserError("--predictions_file is written by one replica: use one device")
    with placement.watch:
        return _evaluate_on(placement, runs, predictions_file)


def find_images(runs: Sequence[Run], placement: Placement) -> dataset.Split:
    """The validation images that nets are scored on, as the first one's settings say.

    Raises UserError where there are none, or their labels or the batch size do not fit.
    """
    config = runs[0].config
    replicas = placement.strategy.num_replicas_in_sync
    building.check_batch_size(config.train.batch_size, replicas)
    return dataset.find_split(
        config.data, "validation", config.model.num_classes, _class_names(runs)
    )


def _class_names(runs: Sequence[Run]) -> tuple[str, ...] | None:
    known = (run_files.class_names(each.model_dir) for each in runs)
    return next(filter(None, known), None)


def make_member(run: Run, placement: Placement, weight: float) -> Member:
    """A run's net without its weights, and its input."""
    data, image_size = run.config.data, run.config.model.image_size
    statistics = dataset.find_statistics(data, pathlib.Path(run.model_dir))
    with placement.strategy.scope():
        model = building.build_model(
            run.config.model, run.config.runtime, grid=placement.grid
        )
    normalize = building.make_normalize(data, image_size, statistics)
    return Member(model, normalize, weight)


def _evaluate_on(
    placement: Placement, runs: Sequence[Run], predictions_file: str | None
) -> dict:
    config = runs[0].config
    split = find_images(runs, placement)
    total = sum(each.weight for each in runs)
    members, models = [], []
    for each in runs:
        folder, weight = pathlib.Path(each.model_dir), each.weight / total
        path, contents = checkpoints.find(folder, each.checkpoint_path)
        members.append(make_member(each, placement, weight))
        models.append(
            {
                "model_dir": each.model_dir,
                "checkpoint": path,
                "step": checkpoints.set_weights(members[-1].model, path, contents),
                "variant": each.config.model.net().name,
                "weight": weight,
            }
        )
    crops, size = config.train.eval_crops, config.train.batch_size
    steps = [(model["step"], model["weight"]) for model in models]
    values = agreement.settings(config, (None, split))
    placement.watch.agree(values | {"checkpoints of steps and weights": steps})
    logging.info("%s; %d crop(s) an image", placement.describe(), crops)
    classes = _class_names(runs) or split.label_names
    with predictions.writing(predictions_file, split, size, classes) as add:
        result, *own = Evaluator(
            *(placement.strategy, members, split, size, crops), add_predictions=add
        )()
    for model, each in zip(models, own, strict=True):
        model.update(each.scalars())
        if len(models) > 1:
            _log(f"{model['checkpoint']}, weight {model['weight']:.3g}", each)
    _log(f"average of {len(models)} models" if len(models) > 1 else path, result)
    found = dataclasses.asdict(result) | {"eval_crops": crops, "models": models}
    return found | ({"predictions_file": predictions_file} if predictions_file else {})


def _check_alike(first: Run, other: Run) -> None:
    """Checks that two nets tell the same classes of the same images apart."""
    pair = f"--model_dir: {first.model_dir} and {other.model_dir}"
    here, there = first.config, other.config
    if here.model.num_classes != there.model.num_classes:
        raise UserError(
            f"{pair} tell {here.model.num_classes} and {there.model.num_classes} "
            "classes apart: they cannot be averaged"
        )
    images = operator.attrgetter("data_dir", "tfds_name", "use_synthetic_data")
    if images(here.data) != images(there.data):
        raise UserError(
            f"{pair} were trained on other data: say with --data_dir or --tfds_name on "
            "which to evaluate them"
        )
    names = [run_files.class_names(run.model_dir) for run in (first, other)]
    if all(names) and not classes.are_same(*names):
        raise UserError(f"{pair} have other classes, or in another order (labels.txt)")


def _log(what: str, result: Result) -> None:
    top_1, top_5 = 100 * result.accuracy, 100 * result.top_5_accuracy
    logging.info(
        "%s | %d images | loss %.4f | top-1 %.2f %% (error %.2f %%) | top-5 %.2f %% "
        "(error %.2f %%)",
        *(what, result.num_examples, result.loss),
        *(top_1, 100 - top_1, top_5, 100 - top_5),
    )
