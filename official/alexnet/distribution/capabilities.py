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
    with tf.init_scope(), tf.GradientTape() as tape:
        kernel = tf.ones((3, 3, 1, 2), dtype)
        tape.watch(kernel)
        try:
            x = tf.ones((1, 4, 4, 2), dtype)
            tape.gradient(tf.nn.conv2d(x, kernel, 1, "SAME"), kernel)
        except (tf.errors.UnimplementedError, tf.errors.InvalidArgumentError):
            return False
    return True
