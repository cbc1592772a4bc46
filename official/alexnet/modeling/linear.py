"""What is linear in a layer: grouped convolution, matrix product and bias.

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


@tf.custom_gradient
def product(x: tf.Tensor, kernel: tf.Tensor):
    """x times kernel, with a gradient that reads the kernel as it is stored.

    The gradient for x, `dy kernel^T`, is computed as `(kernel dy^T)^T`: for a batch
    that is small beside the kernel, a CPU takes two thirds of the time. x is (batch,
    inputs) and the kernel (inputs, units); all are of one type.
    """

    def gradient(dy):
        dx = tf.transpose(tf.matmul(kernel, dy, transpose_b=True))
        return dx, tf.matmul(x, dy, transpose_a=True)

    return tf.matmul(x, kernel), gradient


@tf.custom_gradient
def add_bias(x: tf.Tensor, bias: tf.Tensor):
    """x plus a bias a map or unit, with a gradient that is a sum of its own.

    TensorFlow fuses its own bias gradient into the kernel's where nothing else waits
    for it, and the fused sum has other bits: two columns would differ by it. x is (...,
    channels), the bias (channels,) in x's type; its gradient is summed in float32.
    """

    def gradient(dy):
        axes = list(range(len(dy.shape) - 1))
        sums = tf.reduce_sum(tf.cast(dy, tf.float32), axes)
        return dy, tf.cast(sums, bias.dtype)

    return tf.nn.bias_add(x, bias), gradient
