"""Initial weights: another run's, and such as give every output unit variance."""

import dataclasses
from collections.abc import Callable, Collection, Sequence

import numpy as np
import tensorflow as tf
from absl import logging

from official.alexnet import paths, run_files
from official.alexnet.backend import keras
from official.alexnet.config import ModelConfig, RuntimeConfig, TrainConfig
from official.alexnet.data import classes
from official.alexnet.errors import UserError
from official.alexnet.modeling import weights
from official.alexnet.modeling.variants import Variant
from official.alexnet.training import building, checkpoints, run_weights
from official.alexnet.weights import files, inspection
from official.alexnet.weights.preprocessing import published

OUTPUT_LAYER = "fc8"


def from_source(
    model: keras.Model,
    settings: ModelConfig,
    train: TrainConfig,
    input_scale: str,
    names: Sequence[str] | None = None,
) -> dict[str, np.ndarray]:
    """Reads the weights that a net starts with from another one's, by layer name.

    In 2012 the net of 1,000 classes gave its convolutional layers to that of 10,184,
    and so on (`initw.py`): weights are taken, momentum is not.

    Args:
        model: net of either form.
        settings: of the net.
        train: `init_from` is the model_dir of a run, a checkpoint or a weight file;
            `init_layers` are the layers to take. Where none are named: all, but the
            last where it has other classes.
        input_scale: what the net's input is divided by; see `DataConfig`.
        names: of the net's classes; None: not known.

    Returns:
        Weights by name, such as `conv1/kernel`; none without a source.

    Raises:
        UserError: the source cannot be read, or a layer that should be taken is not
            in both nets, or of another shape.
    """
    path, layers = train.init_from, train.init_layers
    if path is None:
        return {}
    found = _read(path, settings.net())
    inspection.warn(path, found.weights, settings.net())
    source = found.weights
    there = _by_layer({name: array.shape for name, array in source.items()})
    here = _by_layer(weights.whole_shapes(weights.variables_by_name(model)))
    for layer in layers:
        if layer not in here:
            raise UserError(
                f"--init_layers={layer}: this net has {', '.join(here)} only"
            )
    wanted = list(layers) or list({**here, **there})
    theirs = run_files.class_names(paths.local(path))
    has_other_classes = names and theirs and not classes.are_same(names, theirs)
    if has_other_classes and OUTPUT_LAYER in layers:
        raise UserError(
            f"--init_layers={OUTPUT_LAYER}: the classes of --init_from={path} are "
            f"others, or in another order: leave {OUTPUT_LAYER} out, to start it anew"
        )
    if not layers and (has_other_classes or _is_other_head(here, there)):
        wanted.remove(OUTPUT_LAYER)
    fitting = [layer for layer in here if here[layer] == there.get(layer)]
    for layer in wanted:
        if layer not in fitting:
            raise UserError(
                f"--init_from={path}: {layer} is {_show(there.get(layer))} there and "
                f"{_show(here.get(layer))} here; "
                + (f"--init_layers={','.join(fitting)} fit" if fitting else "none fits")
            )
    if next(iter(here)) in wanted:
        _check_input(path, found, settings, input_scale)
    new = [layer for layer in here if layer not in wanted]
    logging.info(
        "From %s: %s. New: %s.", path, ", ".join(wanted), ", ".join(new) or "none"
    )
    taken = {f"{layer}/{name}" for layer in wanted for name in here[layer]}
    return {name: array for name, array in source.items() if name in taken}


def initialize(
    model: keras.Model,
    settings: ModelConfig,
    runtime: RuntimeConfig,
    seed: int,
    source: dict[str, np.ndarray],
    sample: Callable[[], tf.Tensor],
) -> None:
    """Gives a model, whose weights were drawn as published, those it starts with.

    They are what `from_source` returned and, where the settings say so, those that
    `unit_variance` makes of the images that `sample` gives.
    """
    if settings.init != "unit_variance":
        _assign(model, source)
        return
    images = sample()
    logging.info("Measuring unit-variance initial weights on %d images.", len(images))
    net = dataclasses.replace(settings, num_columns=1)
    grouped = building.build_model(net, runtime, seed)
    _assign(grouped, source)
    kept = {name.partition("/")[0] for name in source}
    unit_variance(grouped, images, kept)
    weights.copy_weights(grouped, model)


def _assign(model: keras.Model, source: dict[str, np.ndarray]) -> None:
    variables = weights.variables_by_name(model)
    for name, array in source.items():
        weights.assign_parts(variables[name], array)


def _read(path: str, net: Variant) -> files.WeightFile:
    file = paths.local(path, "--init_from")
    if not file.exists() and not file.with_name(file.name + ".index").is_file():
        raise UserError(f"--init_from={path}: there is no such run, checkpoint or file")
    if file.is_dir() and not checkpoints.exists(file):
        raise UserError(
            f"--init_from={path} holds no checkpoint: name the directory of a run, "
            "a checkpoint, or a weight file"
        )
    return run_weights.read(path, net)


def _check_input(
    path: str, found: files.WeightFile, settings: ModelConfig, here: str
) -> None:
    """Raises UserError where the first layer was trained on other pixels."""
    size = settings.image_size
    known = found.preprocessing or published(settings.net().name, size)
    if known is None:
        logging.info(
            "%s does not say what its net's input was; here it is --input_scale=%s, "
            "with the mean image of --statistics or the data.",
            *(path, here),
        )
        return
    scale = known.input_scale()
    if scale != here:
        advice = f"give --input_scale={scale} here too, in place of {here}"
        if scale is None:
            advice = "no --input_scale does that; leave it out with --init_layers"
        raise UserError(
            f"--init_from={path}: its first layer was trained on {known.formula()}: "
            + advice
        )
    logging.info(
        "%s was trained on %s; --statistics says what mean is subtracted here.",
        *(path, known.formula()),
    )


def _by_layer(shapes: dict[str, tuple]) -> dict[str, dict[str, tuple]]:
    layers: dict[str, dict[str, tuple]] = {}
    for name, shape in shapes.items():
        layer, _, weight = name.partition("/")
        layers.setdefault(layer, {})[weight] = tuple(shape)
    return layers


def _is_other_head(here: dict[str, dict], there: dict[str, dict]) -> bool:
    """Whether the last layers differ in the number of classes, and in that only."""
    pair = [layers.get(OUTPUT_LAYER, {}) for layers in (here, there)]
    classes = [layer.get("bias") for layer in pair]
    inputs = [layer.get("kernel", ())[:-1] for layer in pair]
    return None not in classes and classes[0] != classes[1] and inputs[0] == inputs[1]


def _show(layer: dict[str, tuple] | None) -> str:
    if layer is None:
        return "absent"
    return str(layer.get("kernel") or next(iter(layer.values())))


def unit_variance(
    model: keras.Model, images: tf.Tensor, kept: Collection[str] = ()
) -> None:
    """Scales each layer's weights so that its output has variance 1 on `images`.

    The published initialisation keeps the loss at chance for long: with raw pixels
    the signal dies out in some layers, and the biases of 1 hide what is left. Here
    biases are 0 and each kernel, drawn from a Gaussian, is divided by the standard
    deviation of its output, layer after layer (Mishkin and Matas, "All you need is a
    good init", 2016). The inputs should have unit variance as well, so that conv1's
    gradients have the size of the others: `--input_scale=unit_variance`.

    Args:
        model: the grouped form, whose layers are a chain.
        images: (batch, size, size, 3) float32, as the model reads them.
        kept: layers that stay as they are.
    """
    x = images
    for layer in model.layers[1:]:
        if hasattr(layer, "kernel") and layer.name not in kept:
            layer.bias.assign(tf.zeros_like(layer.bias))
            fan_in = np.prod(layer.kernel.shape[:-1])
            layer.kernel.assign(
                layer.kernel / tf.math.reduce_std(layer.kernel) / np.sqrt(fan_in)
            )
            deviation = tf.math.reduce_std(tf.cast(layer(x), tf.float32))
            layer.kernel.assign(layer.kernel / deviation)
        x = layer(x)
