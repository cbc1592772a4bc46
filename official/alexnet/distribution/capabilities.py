"""What the TensorFlow and the devices at hand can do, found by trying."""

import functools

import tensorflow as tf


@functools.cache
def xla_runs_here() -> bool:
    """Whether this TensorFlow compiles for the CPU; a few builds come without XLA."""
    with tf.init_scope(), tf.device("CPU"):
        try:
            tf.function(tf.identity, jit_compile=True)(tf.zeros(1))
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            return False
    return True


@functools.cache
def grouped_kernels_run_here(dtype: tf.DType = tf.float32) -> bool:
    """Whether this TensorFlow runs a grouped kernel forward and backward.

    A GPU does, and a CPU with oneDNN, though not in float16; others refuse the
    gradient.
    """
    # The op itself: inside `init_scope` no tape records.
    with tf.init_scope():
        x, filters = tf.ones((1, 4, 4, 2), dtype), (3, 3, 1, 2)
        try:
            tf.nn.conv2d(x, tf.ones(filters, dtype), 1, "SAME")
            tf.raw_ops.Conv2DBackpropFilter(
                input=x,
                filter_sizes=filters,
                out_backprop=x,
                strides=[1, 1, 1, 1],
                padding="SAME",
            )
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            return False
    return True
