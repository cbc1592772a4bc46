"""The limit: a step's convolutions and matrix products alone, one after another."""

import time
from collections.abc import Callable

import tensorflow as tf

from benchmarking.networks import groups_of, keeps_size
from benchmarking.timing import Contender
from official.alexnet.distribution.capabilities import grouped_kernels_run_here
from official.alexnet.errors import UserError
from official.alexnet.modeling.variants import Conv, Variant

_TYPES = {"fp32": tf.float32, "bf16": tf.bfloat16}


def contender(
    net: Variant,
    input_size: int,
    num_classes: int,
    batch_size: int,
    dtype: str,
    *,
    backward: bool,
) -> Contender:
    """The limit as a contender whose parts are the products.

    Args:
        net: the net.
        input_size: side of the input.
        num_classes: size of the output.
        batch_size: images.
        dtype: `fp32` or `bf16`: of all operands.
        backward: with the products of the backward pass.

    Raises:
        UserError: TensorFlow has no such grouped kernels for this CPU.
    """
    if not grouped_kernels_run_here(_TYPES[dtype]):
        raise UserError(
            f"TensorFlow refuses grouped kernels in {dtype} on this CPU: there is no "
            "limit to measure; leave that --dtype out"
        )
    products = operations(
        net, input_size, num_classes, batch_size, _TYPES[dtype], backward=backward
    )

    def run() -> dict[str, float]:
        seconds = {}
        for name, product in products.items():
            started = time.perf_counter()
            product().numpy()
            seconds[name] = time.perf_counter() - started
        return seconds

    return Contender(
        "limit",
        run,
        batch_size,
        dtype,
        note=f"{len(products)} convolutions and products alone",
    )


def operations(
    net: Variant,
    input_size: int,
    num_classes: int,
    batch_size: int,
    dtype: tf.DType,
    *,
    backward: bool,
) -> dict[str, Callable[[], tf.Tensor]]:
    """Each product as a function that returns one number of its result."""
    made, side, channels = {}, input_size, 3
    for conv in net.convolutions:
        groups = groups_of(conv, net)
        padded = side + sum(conv.padding)
        size = side if keeps_size(conv) else padded
        made |= _convolution(
            conv, (batch_size, size, size, channels), groups, dtype, backward=backward
        )
        side = (padded - conv.size) // conv.stride + 1
        if "pool" in conv.then:
            side = (side - net.pool_size) // net.pool_stride + 1
        channels = conv.filters
    inputs = side * side * channels
    for name, units in [*((d.name, d.units) for d in net.dense), ("fc8", num_classes)]:
        made |= _dense(name, batch_size, inputs, units, dtype, backward=backward)
        inputs = units
    return made


def _convolution(
    conv: Conv, shape: tuple[int, ...], groups: int, dtype: tf.DType, *, backward: bool
) -> dict[str, Callable[[], tf.Tensor]]:
    padding = "SAME" if keeps_size(conv) else "VALID"
    kernel_shape = (conv.size, conv.size, shape[-1] // groups, conv.filters)
    x, kernel = _draw(shape, dtype), _draw(kernel_shape, dtype)
    bias = _draw(kernel_shape[-1:], dtype)
    strides = [1, conv.stride, conv.stride, 1]

    def forward(x, kernel, bias):
        y = tf.nn.conv2d(x, kernel, strides, padding)
        return tf.nn.relu(tf.nn.bias_add(y, bias))

    def input_gradient(kernel, dy):
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=shape,
            filter=kernel,
            out_backprop=dy,
            strides=strides,
            padding=padding,
        )

    def kernel_gradient(x, dy):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=x,
            filter_sizes=kernel_shape,
            out_backprop=dy,
            strides=strides,
            padding=padding,
        )

    made = {f"{conv.name} forward": _compiled(forward, x, kernel, bias)}
    if backward:
        dy = _draw(tuple(forward(x, kernel, bias).shape), dtype)
        # Nobody asks for the gradient of the images.
        if conv.reads != "image":
            name = f"{conv.name} input gradient"
            made[name] = _compiled(input_gradient, kernel, dy)
        made[f"{conv.name} kernel gradient"] = _compiled(kernel_gradient, x, dy)
    return made


def _dense(
    name: str, batch_size: int, inputs: int, units: int, dtype, *, backward: bool
) -> dict[str, Callable[[], tf.Tensor]]:
    x, kernel = _draw((batch_size, inputs), dtype), _draw((inputs, units), dtype)
    made = {f"{name} forward": _compiled(tf.matmul, x, kernel)}
    if backward:
        dy = _draw((batch_size, units), dtype)
        made[f"{name} input gradient"] = _compiled(
            lambda dy, kernel: tf.matmul(dy, kernel, transpose_b=True), dy, kernel
        )
        made[f"{name} kernel gradient"] = _compiled(
            lambda x, dy: tf.matmul(x, dy, transpose_a=True), x, dy
        )
    return made


def _draw(shape: tuple[int, ...], dtype: tf.DType) -> tf.Tensor:
    return tf.cast(tf.random.stateless_normal(shape, (0, 0), stddev=0.1), dtype)


def _compiled(function: Callable, *operands: tf.Tensor) -> Callable[[], tf.Tensor]:
    @tf.function(autograph=False, jit_compile=False)
    def first_number(*operands):
        # The whole result is computed; copying it out would be timed as well.
        return tf.reshape(function(*operands), [-1])[0]

    compiled = first_number.get_concrete_function(*operands)
    return lambda: compiled(*operands)
