"""AlexNet (Krizhevsky, Sutskever and Hinton, NIPS 2012) as a functional Keras model.

Figure 2: two columns, each on a device of its own, that meet where lines cross. The
image has 224 x 224 pixels; side x side x maps are those of a layer before pooling.

        conv1      conv2        conv3      conv4      conv5        fc6     fc7     fc8
        11x11 /4   5x5          3x3        3x3        3x3

      ,-55x55x48---27x27x128-. ,-13x13x192-13x13x192-13x13x128-. ,-2048-. ,-2048-.
image<  LRN, pool  LRN, pool  X                       pool      X        X        >-1000
      `-55x55x48---27x27x128-' `-13x13x192-13x13x192-13x13x128-' `-2048-' `-2048-'

ReLU follows every layer but fc8. `variants.PAPER` is this drawing as a row, and
`builder.Builder` turns any row into layers.
"""

from collections.abc import Callable, Collection

from official.alexnet.backend import keras
from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.errors import UserError
from official.alexnet.modeling import options
from official.alexnet.modeling.builder import Builder
from official.alexnet.modeling.variants import Variant


def AlexNet(
    variant: str | Variant = "paper",
    num_classes: int | None = None,
    *,
    num_columns: int = 1,
    classifier_activation: str | None = "softmax",
    weights: str | Callable[[keras.Model, Variant], None] | None = None,
    input_size: int | None = None,
    width: float = 1.0,
    activation: str | None = None,
    normalization: str | None = None,
    dropout: float | None = None,
    pool_size: int | None = None,
    pool_stride: int | None = None,
    remove: Collection[str] = (),
    init: str = "published",
    seed: int = 0,
    grid: DeviceGrid | None = None,
    dtype: str | keras.DTypePolicy | None = None,
    exchange_dtype: str | None = None,
    name: str = "alexnet",
) -> keras.Model:
    """Builds AlexNet.

    One net, two forms. With `num_columns=1` it is *grouped*: one tensor runs through
    it, and the kernels of conv2, conv4 and conv5 are in two groups. With
    `num_columns=2` it is made of *columns*, as on the two GPUs of 2012: two tensors
    that meet only at conv3, fc6, fc7 and fc8. Given the same weights, both compute
    the same numbers; `weights.copy_weights` carries the weights from one to the other.

    Args:
        variant: name of a row of `variants.VARIANTS`, a file that `net_files.read`
            reads, or a row of your own.
        num_classes: size of the output; the variant's own (1000) by default.
        num_columns: 1 for the grouped form, 2 for the columns form.
        classifier_activation: `softmax` for probabilities, None for logits.
        weights: a file of trained weights or a run, as `run_weights.read` takes it.
            Only `official.alexnet.AlexNet` takes a path; this function takes what
            gives the model and its net their weights.
        input_size: side of the input image; the variant's own by default.
        width: multiplies the number of kernels and hidden units.
        activation: `relu` or `tanh`; the variant's own (relu) by default.
        normalization: `lrn`, `batch_norm` (before each convolution's nonlinearity)
            or `none`; the variant's own by default.
        dropout: rate of dropout; the variant's own (0.5) by default.
        pool_size: side of the pooling windows; the variant's own by default.
        pool_stride: distance of the pooling windows; the variant's own by default.
        remove: names of convolutional layers to leave out, such as `conv3`. Their
            pooling stays, and the layer after them reads what they read.
        init: `published` (the variant's own) or `source` (the 2012 source's).
        seed: of the initial weights and of dropout. Both forms draw the same.
        grid: devices of the columns, under a distribution strategy.
        dtype: Keras dtype policy, such as `mixed_bfloat16`.
        exchange_dtype: of what the columns exchange, such as `float16`.
        name: of the model.

    Returns:
        A model from images, (batch, input_size, input_size, 3) float32 RGB in
        0..255 with the mean image subtracted (what `weights` were trained on may
        differ), to (batch, num_classes) probabilities or logits in float32.

    Raises:
        UserError: an unknown variant or option, a number of another kind or out of
            range, a number of columns the variant does not have, or a net that does
            not fit together.
    """
    net = options.find(variant)
    num_classes = net.num_classes if num_classes is None else num_classes
    options.check_whole(num_classes=num_classes, num_columns=num_columns)
    options.check_whole(least=0, seed=seed)
    net = options.change(
        net,
        width=width,
        init=init,
        input_size=input_size,
        activation=activation,
        normalization=normalization,
        dropout=dropout,
        pool_size=pool_size,
        pool_stride=pool_stride,
        remove=remove,
    )
    if num_columns not in (1, net.num_columns):
        raise UserError(
            f"variant {net.name} has {net.num_columns} column(s): "
            f"--num_columns={num_columns} does not fit"
        )
    policy = keras.dtype_policies.get(dtype)
    build = Builder(net, num_columns, seed, grid, policy, exchange_dtype)

    size = net.input_size
    images = keras.Input((size, size, 3), name="images", dtype="float32")
    columns = [images] * num_columns
    for conv in net.convolutions:
        columns = build.convolution(conv, columns)
        columns = build.operations(conv, columns)
    for dense in net.dense:
        columns = build.hidden(dense, columns)
        columns = build.operations(dense, columns)
    outputs = build.output(num_classes, columns, classifier_activation)
    model = keras.Model(images, outputs, name=name)

    if isinstance(weights, str):
        raise UserError("weights by path are for official.alexnet.AlexNet")
    if weights is not None:
        weights(model, net)
    return model
