"""What training, evaluation and export make of a run's settings: net and input."""

from collections.abc import Callable

import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.config import DataConfig, ModelConfig, RuntimeConfig
from official.alexnet.data import preprocessing
from official.alexnet.data.statistics import Statistics
from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.distribution.strategy import Placement
from official.alexnet.errors import UserError
from official.alexnet.modeling.alexnet import AlexNet
from official.alexnet.modeling.weights import variables_by_name
from official.alexnet.rate_rows import GROUPS, RateRow
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.rates import Plateau, Schedule


def build_model(
    model: ModelConfig,
    runtime: RuntimeConfig,
    seed: int = 0,
    grid: DeviceGrid | None = None,
) -> keras.Model:
    """The net of the settings, with logits as its output.

    `seed` is of its first weights and its dropout; `grid` says where columns are.
    """
    types = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16", None: None}
    dtype = types[runtime.dtype]
    return AlexNet(
        model.net(),
        model.num_classes,
        num_columns=model.num_columns,
        classifier_activation=None,
        seed=seed,
        grid=grid,
        dtype=dtype if dtype == "float32" else f"mixed_{dtype}",
        exchange_dtype=types[runtime.exchange_dtype],
    )


def make_normalize(
    data: DataConfig, image_size: int, statistics: Statistics
) -> Callable[..., tf.Tensor]:
    """The function from uint8 crops of a size, and noise, to the model's input."""
    mean = preprocessing.central_mean(statistics, image_size)
    scale = preprocessing.input_scale(statistics, data.input_scale)

    def normalize(images: tf.Tensor, noise: tf.Tensor | None = None) -> tf.Tensor:
        factor = scale
        if noise is not None and data.color_noise == "standard_deviations":
            # The 2012 source, so that noisy pixels are about as large as others.
            factor = scale / (1 + data.color_noise_sigma)
        return preprocessing.normalize(images, mean, noise=noise, input_scale=factor)

    return normalize


def make_color_noise(
    data: DataConfig, batch_size: int, seed: int, statistics: Statistics
) -> Callable[[tf.Tensor, slice], tf.Tensor] | None:
    """The function from the steps taken and a part of the global batch to its noise."""
    if data.color_noise == "none":
        return None

    def color_noise(step: tf.Tensor, part: slice) -> tf.Tensor:
        key = tf.stack([tf.constant(seed, tf.int64), tf.cast(step, tf.int64)])
        gaussians = tf.random.stateless_normal([batch_size, 3], key, alg="philox")
        return preprocessing.color_noise(
            statistics,
            gaussians[part],
            sigma=data.color_noise_sigma,
            scale=data.color_noise,
        )

    return color_noise


def check_batch_size(batch_size: int, num_replicas: int) -> None:
    """Raises UserError where the replicas do not share a batch out evenly."""
    if batch_size % num_replicas:
        raise UserError(
            f"--batch_size={batch_size} does not divide by {num_replicas} replicas"
        )


def check_layers(model: keras.Model, schedule: Schedule) -> None:
    """Raises UserError where `--rates` name no layer or weight, or leave none."""
    weights = list(variables_by_name(model))
    layers = list(dict.fromkeys(name.partition("/")[0] for name in weights))
    for row in map(RateRow.parse, schedule.train.rates):
        if row.what not in [*GROUPS, *layers, *weights]:
            raise UserError(
                f"--rates: there is no {row.what!r} in this net, which has "
                f"{', '.join(layers)}"
            )
    for step in [0, *schedule.changes()]:
        if not any(map(schedule.rates(step, Plateau()).of, weights)):
            raise UserError(f"--rates leave no layer to train from step {step} on")


def check_placement(
    model: keras.Model, optimizer: PaperSGD, placement: Placement
) -> None:
    """Checks that each column's weights, statistics and velocities are with it."""
    if placement.grid is None:
        return
    for layer in filter(lambda layer: layer.weights, model.layers):
        velocities = map(optimizer.velocity_of, layer.trainable_weights)
        found = [variable.value for variable in (*layer.weights, *velocities)]
        placement.grid.check(layer.column, found)
