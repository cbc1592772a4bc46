"""The same network as a peer's user would write it, given the same weights."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.modeling import options
from official.alexnet.modeling.variants import LRN, Conv, Variant, find_variant
from official.alexnet.modeling.weights import get_weights

# Weight decay of the paper; a penalty c * w^2 has the gradient 2 * c * w.
WEIGHT_DECAY = 0.0005


def net_of(width: float) -> Variant:
    """The published net, or a narrow one."""
    return options.change(find_variant("paper"), width=width)


def peer_weights(model: keras.Model, net: Variant) -> dict[str, np.ndarray]:
    """Weights of the grouped form for nets with today's dropout.

    The published dropout multiplies by 1 - rate when it does not drop; today's does
    not. The factor goes into the layers that read the dropped units.

    Returns:
        By name: convolution kernels (height, width, in, out), those of fully
        connected layers (in, out) with inputs in the order (height, width, channel).
    """
    weights = get_weights(model)
    for name in ("fc7/kernel", "fc8/kernel"):
        weights[name] = weights[name] * np.float32(1 - net.dropout)
    return weights


def groups_of(conv: Conv, net: Variant) -> int:
    return net.num_columns if conv.reads == "own" else 1


def keeps_size(conv: Conv) -> bool:
    """Whether the padding is what frameworks call `same`."""
    return conv.stride == 1 and conv.padding == (conv.size // 2,) * 2


def native_lrn(x: tf.Tensor, lrn: LRN, num_columns: int) -> tf.Tensor:
    """TensorFlow's own LRN within each column; it has no bfloat16 kernel.

    Args:
        x: (batch, height, width, channels).
        lrn: its constants.
        num_columns: columns that lie side by side in the channels.
    """
    height, width, channels = x.shape[1:]
    columns = tf.reshape(
        tf.cast(x, tf.float32),
        [-1, height, width * num_columns, channels // num_columns],
    )
    y = tf.nn.local_response_normalization(
        columns, lrn.n // 2, lrn.k, lrn.alpha, lrn.beta
    )
    return tf.cast(tf.reshape(y, [-1, height, width, channels]), x.dtype)


def plain_keras(
    net: Variant,
    input_size: int,
    weights: Mapping[str, np.ndarray],
    dtype: str,
    *,
    softmax: bool,
) -> keras.Model:
    """The net in Keras's own layers."""
    layers = keras.layers
    policy = {"fp32": "float32", "bf16": "mixed_bfloat16"}[dtype]
    decay = keras.regularizers.L2(WEIGHT_DECAY / 2)
    common = {
        "dtype": policy,
        "kernel_regularizer": decay,
        "bias_regularizer": decay,
    }
    x = inputs = keras.Input((input_size, input_size, 3))
    for conv in net.convolutions:
        same = keeps_size(conv)
        if not same and any(conv.padding):
            x = layers.ZeroPadding2D((conv.padding, conv.padding), dtype=policy)(x)
        x = layers.Conv2D(
            conv.filters,
            conv.size,
            conv.stride,
            padding="same" if same else "valid",
            groups=groups_of(conv, net),
            activation="relu",
            name=conv.name,
            **common,
        )(x)
        if "lrn" in conv.then:
            x = layers.Lambda(
                native_lrn,
                output_shape=x.shape[1:],
                arguments={"lrn": net.lrn, "num_columns": net.num_columns},
                dtype=policy,
            )(x)
        if "pool" in conv.then:
            x = layers.MaxPooling2D(net.pool_size, net.pool_stride, dtype=policy)(x)
    x = layers.Flatten(dtype=policy)(x)
    for dense in net.dense:
        x = layers.Dense(dense.units, "relu", name=dense.name, **common)(x)
        x = layers.Dropout(net.dropout, dtype=policy)(x)
    x = layers.Dense(len(weights["fc8/bias"]), name="fc8", **common)(x)
    activation = "softmax" if softmax else "linear"
    model = keras.Model(inputs, layers.Activation(activation, dtype="float32")(x))
    for name, value in weights.items():
        layer, variable = name.split("/")
        getattr(model.get_layer(layer), variable).assign(value)
    return model


def torch_net(net: Variant, input_size: int, weights: Mapping[str, np.ndarray]):
    """The net in PyTorch's own modules, from (batch, 3, size, size) to logits."""
    import torch  # noqa: PLC0415
    from torch import nn  # noqa: PLC0415

    class ColumnLRN(nn.Module):
        def __init__(self, lrn: LRN, num_columns: int):
            super().__init__()
            # PyTorch divides alpha by n.
            self.norm = nn.LocalResponseNorm(lrn.n, lrn.alpha * lrn.n, lrn.beta, lrn.k)
            self.num_columns = num_columns

        def forward(self, x):
            batch, channels, height, width = x.shape
            columns = batch * self.num_columns
            split = x.reshape(columns, channels // self.num_columns, height, width)
            return self.norm(split).reshape(x.shape)

    modules, named, channels = [], {}, 3
    for conv in net.convolutions:
        before, after = conv.padding
        if before != after:
            modules.append(nn.ZeroPad2d((before, after, before, after)))
        named[conv.name] = nn.Conv2d(
            channels,
            conv.filters,
            conv.size,
            conv.stride,
            before if before == after else 0,
            groups=groups_of(conv, net),
        )
        modules += [named[conv.name], nn.ReLU()]
        if "lrn" in conv.then:
            modules.append(ColumnLRN(net.lrn, net.num_columns))
        if "pool" in conv.then:
            modules.append(nn.MaxPool2d(net.pool_size, net.pool_stride))
        channels = conv.filters
    modules.append(nn.Flatten())
    for dense in net.dense:
        named[dense.name] = nn.Linear(len(weights[f"{dense.name}/kernel"]), dense.units)
        modules += [named[dense.name], nn.ReLU(), nn.Dropout(net.dropout)]
    named["fc8"] = nn.Linear(net.dense[-1].units, len(weights["fc8/bias"]))
    modules.append(named["fc8"])
    with torch.no_grad():
        for name, module in named.items():
            kernel = channels_first(name, weights[f"{name}/kernel"], channels)
            kernel = kernel.T if kernel.ndim == 2 else kernel
            module.weight.copy_(torch.from_numpy(np.ascontiguousarray(kernel)))
            module.bias.copy_(torch.from_numpy(weights[f"{name}/bias"]))
    return nn.Sequential(*modules)


def channels_first(name: str, kernel: np.ndarray, maps: int) -> np.ndarray:
    """A kernel for nets whose tensors are (batch, channels, height, width).

    Args:
        name: of the layer.
        kernel: (height, width, in, out), or (in, out).
        maps: channels of the maps that fc6 reads.

    Returns:
        (out, in, height, width), or (in, out) with fc6's inputs in the order
        (channel, height, width).
    """
    if kernel.ndim == 4:
        return kernel.transpose(3, 2, 0, 1)
    if name != "fc6":
        return kernel
    side = round((len(kernel) / maps) ** 0.5)
    by_place = kernel.reshape(side, side, maps, -1)
    return by_place.transpose(2, 0, 1, 3).reshape(kernel.shape)
