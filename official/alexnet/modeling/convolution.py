"""Grouped convolution on `tf.nn.conv2d`.

`keras.layers.Conv2D(groups=2)` is not used: on the TensorFlow backend it always runs
under XLA, which on a CPU is many times slower and cannot be kept out of a SavedModel.
"""

import tensorflow as tf

from official.alexnet.distribution.capabilities import grouped_kernels_run_here


def grouped_conv2d(
    x: tf.Tensor,
    kernel: tf.Tensor,
    *,
    groups: int = 1,
    stride: int = 1,
    padding: tuple[int, int] = (0, 0),
    split: bool | None = None,
) -> tf.Tensor:
    """Convolves each group of input maps with its own group of kernels.

    Args:
        x: (batch, height, width, channels).
        kernel: (size, size, channels / groups, filters); the first filters / groups
            kernels read the first channels / groups maps, and so on.
        groups: number of groups.
        stride: in both directions.
        padding: zeros at the top and left, and at the bottom and right.
        split: run one convolution a group, which any TensorFlow can. By default
            only where the device at hand refuses a grouped kernel.

    Returns:
        (batch, height, width, filters), in x's type.
    """
    if x.shape[0] == 0:
        # oneDNN, which a CPU runs, would give back an empty tensor of x's own shape.
        one = tf.concat([x, tf.zeros([1, *x.shape[1:]], x.dtype)], axis=0)
        return grouped_conv2d(
            one, kernel, groups=groups, stride=stride, padding=padding, split=split
        )[:0]
    keeps_size = stride == 1 and padding == (kernel.shape[0] // 2,) * 2
    if any(padding) and not keeps_size:
        # A CPU convolves a padded tensor twice as fast as with explicit padding.
        x = tf.pad(x, [[0, 0], padding, padding, [0, 0]])

    def conv(x: tf.Tensor, kernel: tf.Tensor) -> tf.Tensor:
        mode = "SAME" if keeps_size else "VALID"
        return tf.nn.conv2d(x, kernel, strides=stride, padding=mode)

    if split is None:
        split = not grouped_kernels_run_here(x.dtype)
    if groups == 1 or not split:
        return conv(x, kernel)
    pairs = zip(
        tf.split(x, groups, axis=-1), tf.split(kernel, groups, axis=-1), strict=True
    )
    return tf.concat([conv(*pair) for pair in pairs], axis=-1)
