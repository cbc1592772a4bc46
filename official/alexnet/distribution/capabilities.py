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

    A GPU does, and a CPU with oneDNN in the types that it computes in; others refuse
    the gradients.
    """
    # The gradient's own operations: init_scope stops a tape.
    with tf.init_scope():
        x, kernel = tf.ones((1, 4, 4, 2), dtype), tf.ones((3, 3, 1, 2), dtype)
        same = {"strides": [1, 1, 1, 1], "padding": "SAME"}
        try:
            y = tf.nn.conv2d(x, kernel, 1, "SAME")
            tf.raw_ops.Conv2DBackpropInput(
                input_sizes=x.shape, filter=kernel, out_backprop=y, **same
            )
            tf.raw_ops.Conv2DBackpropFilter(
                input=x, filter_sizes=kernel.shape, out_backprop=y, **same
            )
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            return False
    return True
