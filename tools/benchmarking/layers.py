"""Suite lrn, and the limit: single layers of the net, forward and backward."""

import contextlib
import functools
import pathlib
from collections.abc import Callable

import tensorflow as tf

from benchmarking import networks
from benchmarking.report import Suite
from benchmarking.settings import NUM_CLASSES, POLICIES, Settings
from benchmarking.timing import Row
from official.alexnet.distribution.capabilities import grouped_kernels_run_here
from official.alexnet.errors import UserError
from official.alexnet.modeling.layers import LocalResponseNormalization
from official.alexnet.modeling.structure import stages, weight_shapes
from official.alexnet.modeling.variants import Variant

_TYPES = {"fp32": tf.float32, "bf16": tf.bfloat16}


@contextlib.contextmanager
def lrn(settings: Settings, _: pathlib.Path) -> Suite:
    """LRN at the shapes of conv1's and conv2's maps, against TensorFlow's own."""
    net, rows = networks.net_of(settings), []
    for dtype in settings.dtypes:
        layer = LocalResponseNormalization(
            num_columns=net.num_columns, dtype=POLICIES[dtype]
        )
        native = functools.partial(
            networks.native_lrn, lrn=net.lrn, num_columns=net.num_columns
        )
        for name, shape in lrn_shapes(net, settings.batch_size).items():
            # What ReLU leaves of conv1's outputs: half zeros, tens of grey levels.
            x = tf.nn.relu(500 * _draw(shape, _TYPES[dtype]))
            dy = _draw(shape, _TYPES[dtype])
            ways = (("ours", layer, ""), ("tf.nn", native, "computes in float32"))
            for who, normalize, note in ways:
                rows.append(
                    Row(
                        f"{who}, {name}",
                        _both_ways(normalize, x, dy),
                        shape[0],
                        dtype,
                        against=f"ours, {name}",
                        note=note,
                    )
                )
    yield rows, []


def lrn_shapes(net: Variant, batch_size: int) -> dict[str, tuple[int, ...]]:
    """The maps LRN reads, by the layer that makes them."""
    return {
        stage.conv.name: (batch_size, stage.side, stage.side, stage.maps)
        for stage in stages(net)
        if "lrn" in stage.conv.then
    }


def _both_ways(normalize: Callable, x: tf.Tensor, dy: tf.Tensor) -> Callable:
    def forward_and_backward(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = normalize(x)
        # One number of each: both are computed, neither is copied out.
        return tf.reshape(y, [-1])[0] + tf.reshape(tape.gradient(y, x, dy), [-1])[0]

    return _compiled(forward_and_backward, x, dy)


def limit(settings: Settings, dtype: str, *, backward: bool) -> Row:
    """A step's convolutions and matrix products alone, one after another.

    Raises:
        UserError: TensorFlow has no such grouped kernels for this CPU.
    """
    if not grouped_kernels_run_here(_TYPES[dtype]):
        raise UserError(
            f"TensorFlow refuses grouped kernels in {dtype} on this CPU: there is no "
            "limit to measure; leave that --dtype out"
        )
    products = operations(
        networks.net_of(settings), settings.batch_size, dtype, backward=backward
    )

    def run() -> None:
        for product in products.values():
            product()

    note = f"{len(products)} convolutions and products alone"
    return Row("limit", run, settings.batch_size, dtype, note=note)


def operations(
    net: Variant, batch_size: int, dtype: str, *, backward: bool
) -> dict[str, Callable[[], object]]:
    """Each product of a step, by name; the images need no gradient."""
    shapes, made, side = weight_shapes(net, NUM_CLASSES), {}, net.input_size
    for stage in stages(net):
        conv = stage.conv
        padding = "SAME" if networks.keeps_size(conv) else "VALID"
        size = side if padding == "SAME" else side + sum(conv.padding)
        x, kernel = (batch_size, size, size, stage.maps_in), f"{conv.name}/kernel"
        convolve = functools.partial(tf.nn.conv2d, strides=conv.stride, padding=padding)
        made |= _products(conv.name, convolve, x, shapes[kernel], dtype, backward)
        side = stage.pooled
    for name in [*(dense.name for dense in net.dense), "fc8"]:
        kernel = shapes[f"{name}/kernel"]
        x = (batch_size, kernel[0])
        made |= _products(name, tf.matmul, x, kernel, dtype, backward)
    made.pop("conv1 input gradient", None)
    return made


def _products(
    name: str, multiply: Callable, x_shape, kernel_shape, dtype: str, backward: bool
) -> dict[str, Callable[[], object]]:
    x, kernel = (_draw(shape, _TYPES[dtype]) for shape in (x_shape, kernel_shape))
    bias = _draw(kernel_shape[-1:], _TYPES[dtype])

    def forward(x, kernel):
        y = multiply(x, kernel)
        # TensorFlow fuses both into a convolution, at no cost.
        return tf.nn.relu(tf.nn.bias_add(y, bias)) if len(kernel_shape) == 4 else y

    made = {f"{name} forward": _compiled(forward, x, kernel)}
    if not backward:
        return made
    dy = tf.ones_like(multiply(x, kernel))
    for i, source in enumerate(("input", "kernel")):
        # The forward product is not needed for it, and pruned.
        made[f"{name} {source} gradient"] = _compiled(
            lambda x, kernel, dy, i=i: tf.gradients(
                multiply(x, kernel), (x, kernel)[i], dy
            )[0],
            *(x, kernel, dy),
        )
    return made


def _draw(shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
    return tf.cast(tf.random.stateless_normal(shape, (0, 0), stddev=0.1), dtype)


def _compiled(function: Callable, *operands: tf.Tensor) -> Callable[[], object]:
    @tf.function(autograph=False, jit_compile=False)
    def first_number(*operands):
        # The whole result is computed; copying it out would be timed as well.
        return tf.reshape(function(*operands), [-1])[0]

    compiled = first_number.get_concrete_function(*operands)
    return lambda: compiled(*operands).numpy()
