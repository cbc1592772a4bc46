"""What training, evaluation and export make of a run's settings: net and input."""

from collections.abc import Callable

import keras
import tensorflow as tf

from official.alexnet.config import Config
from official.alexnet.data import preprocessing
from official.alexnet.data.statistics import Statistics
from official.alexnet.distribution.strategy import Placement
from official.alexnet.errors import UserError
from official.alexnet.modeling.alexnet import AlexNet
from official.alexnet.training.optimizer import PaperSGD


def build_model(config: Config, placement: Placement | None = None) -> keras.Model:
    """The net of the settings, with logits as its output."""
    model = config.model
    policies = {"fp32": "float32", "fp16": "mixed_float16", "bf16": "mixed_bfloat16"}
    dtype = policies[config.runtime.dtype]
    return AlexNet(
        model.variant,
        model.num_classes,
        num_columns=model.num_columns,
        classifier_activation=None,
        input_size=model.input_size,
        width=model.width,
        dropout=model.dropout,
        init="source" if model.init == "source" else "published",
        seed=config.train.seed,
        grid=placement.grid if placement else None,
        dtype=dtype,
    )


def make_normalize(config: Config, statistics: Statistics) -> Callable[..., tf.Tensor]:
    """The function from uint8 crops, and noise, to the model's input."""
    mean = preprocessing.central_mean(statistics, config.model.input_size)
    scale = preprocessing.input_scale(statistics, config.data.input_scale)

    def normalize(images: tf.Tensor, noise: tf.Tensor | None = None) -> tf.Tensor:
        return preprocessing.normalize(images, mean, noise=noise, input_scale=scale)

    return normalize


def check_batch_size(config: Config, placement: Placement) -> None:
    """Checks that the replicas share a batch out evenly.

    Raises:
        UserError: they do not.
    """
    size, replicas = config.train.batch_size, placement.strategy.num_replicas_in_sync
    if size % replicas:
        raise UserError(f"--batch_size={size} does not divide by {replicas} replicas")


def check_placement(
    model: keras.Model, optimizer: PaperSGD, placement: Placement
) -> None:
    """Checks that each column's weights and velocities are on its devices."""
    if placement.grid is None:
        return
    slots = zip(model.trainable_variables, optimizer.velocities, strict=True)
    slot_of = {id(variable): slot for variable, slot in slots}
    placed: dict[int, list] = {}
    for layer in model.layers:
        for variable in layer.trainable_weights:
            pair = [variable.value, slot_of[id(variable)].value]
            placed.setdefault(layer.column, []).extend(pair)
    placement.grid.check(placed)
