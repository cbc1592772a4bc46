"""Writes the grouped form as a LiteRT (TensorFlow Lite) file of built-in operators."""

import contextlib
import io
import pathlib
from typing import Literal

import numpy as np
import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.errors import UserError
from official.alexnet.modeling.columns import portable
from official.alexnet.serving.formats import check_mean

Quantization = Literal["none", "dynamic_range"]


def write_litert(
    model: keras.Model,
    path: str | pathlib.Path,
    *,
    mean: np.ndarray | None = None,
    input_scale: float | np.ndarray = 1.0,
    batch_size: int | None = None,
    quantization: Quantization = "none",
) -> None:
    """Writes a net, with logits or with probabilities as its output, as LiteRT.

    The file has one signature, `serving_default`. Its outputs are `probabilities` and
    `logits`, (batch, num_classes) float32. Its input is `images`: without a `mean`,
    the Keras model's own, (batch, size, size, 3) float32; with one, pixels, (batch,
    size, size, 3) uint8 RGB in 0..255, of which the net sees (images - mean) *
    input_scale.

    Args:
        model: the grouped form (`num_columns=1`), of the dtype policy float32.
        path: of the file; one that is there is replaced.
        mean: grey levels, (size, size, 3) or what broadcasts to it; None if the
            caller subtracts it.
        input_scale: factor of the mean-subtracted pixels, one or one a channel;
            read only where there is a `mean`.
        batch_size: None for any, which some accelerators do not take.
        quantization: `none`, or `dynamic_range`: weights in 8 bits, a quarter of the
            file, and activations in 8 bits where the runtime gains by it.

    Raises:
        UserError: the model is of another dtype policy or ends with another
            activation, the mean is of another size, or TensorFlow has no tf.lite.
    """
    if not hasattr(tf, "lite"):
        raise UserError(
            f"LiteRT: TensorFlow {tf.__version__} has no tf.lite, which writes it: "
            "leave litert out of --formats, or export with TensorFlow 2.21"
        )
    check_mean(mean, model.input_shape[1])
    if any(layer.compute_dtype != "float32" for layer in model.layers):
        raise UserError("LiteRT is written from a net with dtype float32 alone")
    net = _with_preprocessing(model, mean, input_scale, batch_size)
    converter = tf.lite.TFLiteConverter.from_keras_model(net)
    if quantization == "dynamic_range":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # Keras prints the signatures of the SavedModel that the converter reads.
    with portable(), contextlib.redirect_stdout(io.StringIO()):
        content = converter.convert()
    pathlib.Path(path).write_bytes(content)


def _with_preprocessing(
    model: keras.Model,
    mean: np.ndarray | None,
    input_scale: float | np.ndarray,
    batch_size: int | None,
) -> keras.Model:
    images = keras.Input(
        model.input_shape[1:],
        batch_size,
        dtype="float32" if mean is None else "uint8",
        name="images",
    )
    x = images
    if mean is not None:
        mean, scale = np.float32(mean), np.float32(input_scale)
        x = (keras.ops.cast(images, "float32") - mean) * scale
    head = model.layers[-1]
    activation = getattr(head, "activation", keras.activations.linear)
    if activation is keras.activations.softmax:
        model = keras.Model(model.input, head.input)
    elif activation is not keras.activations.linear:
        raise UserError(
            f"LiteRT: the net ends with {activation.__name__}; the writer knows the "
            "classifier_activation None and softmax"
        )
    logits = model(x)
    return keras.Model(
        images, {"probabilities": keras.ops.softmax(logits), "logits": logits}
    )
