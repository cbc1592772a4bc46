"""What a served AlexNet answers to: images in, probabilities out."""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.data import pictures, preprocessing
from official.alexnet.errors import UserError
from official.alexnet.modeling.normalization import BatchNormalization
from official.alexnet.modeling.structure import whole_name

# 33 megapixels: 100 MB when decoded, and as many pictures as _DECODED_AT_ONCE are in
# memory at a time.
MAX_PIXELS = 2**25
_DECODED_AT_ONCE = 16


class ServedAlexNet(tf.Module):
    """The net with its preprocessing.

    Args:
        model: either form, with logits as its output.
        mean: (size, size, 3) float32, grey levels: central crop of the mean image.
        input_scale: factor of the mean-subtracted pixels, one or one a channel.
        features: layers whose outputs the `features` signature gives besides fc7's.

    Raises:
        UserError: the net has no such layer.
    """

    def __init__(
        self,
        model: keras.Model,
        mean: np.ndarray,
        input_scale: float | np.ndarray,
        features: Sequence[str] = (),
    ):
        super().__init__(name="alexnet")
        known = layer_outputs(model)
        for name in features:
            if name not in known:
                raise UserError(
                    f"--features={name}: this net has {', '.join(known)} only"
                )
        outputs = {"features": known["fc7"]} | {name: known[name] for name in features}
        net = keras.Model(model.input, [model.output, outputs])
        # A module's attributes are saved: a Keras model would be saved with two copies
        # of each weight, of which a session restores one and reads the other.
        self.run_net = functools.partial(net, training=False)
        self.weights = [weight.value for weight in model.weights]
        self.mean = tf.constant(mean)
        self.input_scale = input_scale
        self.size = model.input_shape[1]

    def signatures(self) -> dict[str, tf.types.experimental.ConcreteFunction]:
        """The signatures of the SavedModel.

        - `serving_default`: `image_bytes`, (batch,) strings of JPEG or PNG, to
          `probabilities` and `logits`, (batch, num_classes) float32, and `classes`,
          (batch,) int64: the class of the highest probability.
        - `image_tensor`: `images`, (batch, height, width, 3) uint8 RGB of any size,
          to the same.
        - `features`: `image_bytes` to `features`, (batch, 4096) float32: fc7 after
          its ReLU (or tanh), the vectors of section 6.1; and to each layer asked for
          by its name, (batch, ...) float32, see `layer_outputs`.

        A batch may be empty. A picture is taken as it is stored, as the training
        pictures are: EXIF's orientation is not read.

        A picture that cannot be decoded, or has more than `MAX_PIXELS` pixels, fails
        the call with an INVALID_ARGUMENT error that names its place in the batch and
        what is wrong with it. Size is read from the header, before decoding. The error
        for an input of another shape says which shape it should have.
        """
        image_bytes = tf.TensorSpec([None], tf.string, "image_bytes")
        images = tf.TensorSpec([None, None, None, 3], tf.uint8, "images")
        return {
            "serving_default": self.classify_bytes.get_concrete_function(image_bytes),
            "image_tensor": self.classify_images.get_concrete_function(images),
            "features": self.features_of_bytes.get_concrete_function(image_bytes),
        }

    @tf.function
    def classify_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Labels encoded images."""
        return self._classify(self._decode(image_bytes))

    @tf.function
    def classify_images(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """Labels decoded images."""
        images = _shaped(images, "images", [None, None, None, 3])
        height, width = tf.unstack(tf.shape(images, tf.int64)[1:3])
        given = [tf.strings.as_string(side) for side in (width, height)]
        limits = f"images of 1 to {MAX_PIXELS:,} pixels are taken, not of "
        check = tf.debugging.Assert(
            (height > 0) & (width > 0) & (height * width <= MAX_PIXELS),
            [limits + tf.strings.join(given, "x")],
        )
        with tf.control_dependencies([check]):
            images = tf.identity(images)

        def resized() -> tf.Tensor:
            return tf.map_fn(
                preprocessing.resize_to_square,
                images,
                fn_output_signature=tf.TensorSpec((256, 256, 3), tf.uint8),
                parallel_iterations=_DECODED_AT_ONCE,
            )

        are_squares = tf.reduce_all(tf.shape(images)[1:3] == 256)
        squares = tf.cond(are_squares, lambda: images, resized)
        return self._classify(tf.ensure_shape(squares, (None, 256, 256, 3)))

    @tf.function
    def features_of_bytes(self, image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        """Features of encoded images."""
        _, features = self._run(self._decode(image_bytes))
        return {name: tf.cast(x, tf.float32) for name, x in features.items()}

    def _decode(self, image_bytes: tf.Tensor) -> tf.Tensor:
        """Decodes to squares; raises an error that names the first bad picture."""
        image_bytes = _shaped(image_bytes, "image_bytes", [None])

        def load(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            image = preprocessing.decode_image(encoded, MAX_PIXELS)
            return preprocessing.resize_to_square(image), tf.constant(True)

        def nothing(_) -> tuple[tf.Tensor, tf.Tensor]:
            return tf.zeros((256, 256, 3), tf.uint8), tf.constant(False)

        squares, is_good = tf.map_fn(
            lambda encoded: pictures.attempt(load, encoded, nothing),
            image_bytes,
            fn_output_signature=(
                tf.TensorSpec((256, 256, 3), tf.uint8),
                tf.TensorSpec((), tf.bool),
            ),
            parallel_iterations=_DECODED_AT_ONCE,
        )

        def refuse() -> tf.Operation:
            first = tf.argmin(tf.cast(is_good, tf.int32))
            reason = pictures.fault(image_bytes[first], MAX_PIXELS)
            message = tf.strings.join(
                ["image ", tf.strings.as_string(first), " of the batch ", reason]
            )
            return tf.debugging.Assert(False, [message])

        check = tf.cond(tf.reduce_all(is_good), tf.no_op, refuse)
        with tf.control_dependencies([check]):
            return tf.identity(squares)

    def _run(self, squares: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        crops = preprocessing.center_crop(squares, self.size)
        # An empty batch gets one image on the way: see `grouped_conv2d`.
        count = tf.shape(crops)[0]
        borders = [[0, tf.cast(count == 0, tf.int32)], [0, 0], [0, 0], [0, 0]]
        crops = tf.pad(crops, borders)
        logits, features = self.run_net(
            preprocessing.normalize(crops, self.mean, input_scale=self.input_scale)
        )
        return logits[:count], {name: x[:count] for name, x in features.items()}

    def _classify(self, squares: tf.Tensor) -> dict[str, tf.Tensor]:
        logits, _ = self._run(squares)
        return {
            "probabilities": tf.nn.softmax(logits),
            "logits": logits,
            "classes": tf.argmax(logits, axis=-1),
        }


def layer_outputs(model: keras.Model) -> dict[str, keras.KerasTensor]:
    """The outputs of a net's layers by name: conv1, norm1, pool1, ..., fc8.

    All but those of LRN and fc8, which are the logits, are after the nonlinearity, and
    a convolution's are before pooling: some nets pool first, to the same numbers.
    Columns stand side by side.
    """
    outputs: dict[str, dict[int, keras.KerasTensor]] = {}
    weighted = ""
    for layer in model.layers:
        name, output = whole_name(layer.name), layer.output
        if name.startswith(("conv", "fc")):
            weighted = name
        elif isinstance(layer, BatchNormalization):
            outputs[weighted][layer.column] = output
        elif name.startswith(("relu", "tanh")):
            pooled = outputs.get(f"pool{name[4:]}", {})
            if layer.column in pooled:
                pooled[layer.column] = output
            function = keras.ops.relu if name.startswith("relu") else keras.ops.tanh
            name, output = weighted, function(outputs[weighted][layer.column])
        elif not name.startswith(("norm", "pool")):
            continue
        outputs.setdefault(name, {})[layer.column] = output
    return {
        name: keras.ops.concatenate(list(parts.values()), -1)
        if len(parts) > 1
        else parts[0]
        for name, parts in outputs.items()
    }


def _shaped(x: tf.Tensor, name: str, sides: list[int | None]) -> tf.Tensor:
    """x; raises an error that says what is wanted where it has another shape."""
    wanted = {1: "(batch,)", 4: "(batch, height, width, 3)"}[len(sides)]
    # TensorFlow takes a signature's shape as given and checks nothing: forget it.
    x = tf.compat.v1.placeholder_with_default(x, None)
    shape = tf.shape(x)
    fits = (tf.size(shape) == len(sides)) & tf.reduce_all(shape[3:] == 3)
    found = tf.strings.reduce_join(tf.strings.as_string(shape), separator=", ")
    words = [f"{name} should have the shape {wanted}, not (", found, ")"]
    with tf.control_dependencies([tf.debugging.Assert(fits, [tf.strings.join(words)])]):
        return tf.ensure_shape(x, sides)
