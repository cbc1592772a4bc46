"""Suite lrn: the layer forward and backward, against TensorFlow's own."""

import pathlib
from collections.abc import Callable

import tensorflow as tf

from benchmarking.bars import Fact
from benchmarking.networks import native_lrn, net_of
from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row, interleave
from official.alexnet.modeling.layers import LocalResponseNormalization


def measure(settings: Settings, _: pathlib.Path) -> tuple[list[Row], list[Fact]]:
    """Times both at the shapes of conv1's and conv2's maps."""
    contenders = []
    for dtype in settings.dtypes:
        for name, shape in shapes(settings).items():
            contenders += _pair(settings, dtype, name, shape)
    rows = interleave(
        contenders,
        settings.rounds,
        settings.warmup,
        report=lambda line: print(f"lrn: {line}", flush=True),
    )
    return rows, []


def shapes(settings: Settings) -> dict[str, tuple[int, ...]]:
    """The maps LRN reads, by the layer that makes them."""
    net, side, found = net_of(settings.width), settings.input_size, {}
    for conv in net.convolutions:
        side = (side + sum(conv.padding) - conv.size) // conv.stride + 1
        if "lrn" in conv.then:
            found[conv.name] = (settings.batch_size, side, side, conv.filters)
        if "pool" in conv.then:
            side = (side - net.pool_size) // net.pool_stride + 1
    return found


def _pair(
    settings: Settings, dtype: str, name: str, shape: tuple[int, ...]
) -> list[Contender]:
    net = net_of(settings.width)
    policy = {"fp32": "float32", "bf16": "mixed_bfloat16"}[dtype]
    layer = LocalResponseNormalization(num_columns=net.num_columns, dtype=policy)
    kind = tf.bfloat16 if dtype == "bf16" else tf.float32
    # What ReLU leaves of conv1's outputs: half zeros, tens of grey levels.
    x = tf.cast(tf.nn.relu(50 * tf.random.stateless_normal(shape, (0, 1))), kind)
    dy = tf.cast(tf.random.stateless_normal(shape, (0, 2)), kind)

    def native(x: tf.Tensor) -> tf.Tensor:
        return native_lrn(x, net.lrn, net.num_columns)

    against = f"ours, {name}"
    return [
        Contender(against, _both_ways(layer, x, dy), shape[0], dtype, against=against),
        Contender(
            f"tf.nn, {name}",
            _both_ways(native, x, dy),
            shape[0],
            dtype,
            against=against,
            note="computes in float32",
        ),
    ]


def _both_ways(
    normalize: Callable[[tf.Tensor], tf.Tensor], x: tf.Tensor, dy: tf.Tensor
) -> Callable[[], object]:
    @tf.function(autograph=False)
    def forward_and_backward(x, dy):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = normalize(x)
        dx = tape.gradient(y, x, dy)
        # One number of each: both are computed, neither is copied out.
        return tf.reshape(y, [-1])[0] + tf.reshape(dx, [-1])[0]

    compiled = forward_and_backward.get_concrete_function(x, dy)
    return lambda: compiled(x, dy).numpy()
