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
from official.alexnet.serving.formats import check_mean, ending

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
        path, mean, input_scale: as of `onnx.write_onnx`.
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
    kind = "float32" if mean is None else "uint8"
    images = keras.Input(model.input_shape[1:], batch_size, dtype=kind, name="images")
    x = images
    if mean is not None:
        x = keras.ops.cast(images, "float32") - np.float32(mean)
        x *= np.float32(input_scale)
    if ending(model.layers[-1], "LiteRT") == "softmax":
        model = keras.Model(model.input, model.layers[-1].input)
    logits = model(x)
    answers = {"probabilities": keras.ops.softmax(logits), "logits": logits}
    converter = tf.lite.TFLiteConverter.from_keras_model(keras.Model(images, answers))
    if quantization == "dynamic_range":
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # Keras prints the signatures of the SavedModel that the converter reads.
    with portable(), contextlib.redirect_stdout(io.StringIO()):
        content = converter.convert()
    pathlib.Path(path).write_bytes(content)
