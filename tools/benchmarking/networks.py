"""The same network as a peer's user would write it, given the same weights."""

import functools
import importlib
import pathlib
import sys
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from benchmarking.settings import NUM_CLASSES, POLICIES, Settings
from official.alexnet.backend import keras
from official.alexnet.modeling import options
from official.alexnet.modeling.alexnet import AlexNet
from official.alexnet.modeling.structure import input_factors, stages
from official.alexnet.modeling.variants import LRN, Conv, Variant, find_variant
from official.alexnet.modeling.weights import get_weights, set_weights
from official.alexnet.serving.onnx import write_onnx

# Weight decay of the paper; a penalty c * w^2 has the gradient 2 * c * w.
WEIGHT_DECAY = 0.0005


def net_of(settings: Settings) -> Variant:
    """The published net, or a narrow one."""
    return options.change(
        find_variant("paper"), width=settings.width, input_size=settings.input_size
    )


def our_net(settings: Settings, dtype: str) -> keras.Model:
    """It as this project builds it: the grouped form, with probabilities."""
    return AlexNet(net_of(settings), NUM_CLASSES, dtype=POLICIES[dtype])


def peer_weights(model: keras.Model, net: Variant) -> dict[str, np.ndarray]:
    """Weights of the grouped form for nets with today's dropout.

    The published dropout multiplies by 1 - rate when it does not drop; today's does
    not. The factor goes into the layers that read the dropped units.

    Returns:
        By name: convolution kernels (height, width, in, out), those of fully
        connected layers (in, out) with inputs in the order (height, width, channel).
    """
    weights = get_weights(model)
    for name, factor in input_factors(net).items():
        weights[f"{name}/kernel"] = weights[f"{name}/kernel"] * np.float32(factor)
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
    shape = [-1, height, width * num_columns, channels // num_columns]
    columns = tf.reshape(tf.cast(x, tf.float32), shape)
    y = tf.nn.local_response_normalization(
        columns, lrn.n // 2, lrn.k, lrn.alpha, lrn.beta
    )
    return tf.cast(tf.reshape(y, [-1, height, width, channels]), x.dtype)


def plain_keras(
    net: Variant, weights: Mapping[str, np.ndarray], dtype: str, *, softmax: bool
) -> keras.Model:
    """The net in Keras's own layers."""
    layers, policy = keras.layers, POLICIES[dtype]
    decay = keras.regularizers.L2(WEIGHT_DECAY / 2)
    common = {"dtype": policy, "kernel_regularizer": decay, "bias_regularizer": decay}
    normalize = functools.partial(native_lrn, lrn=net.lrn, num_columns=net.num_columns)
    x = inputs = keras.Input((net.input_size, net.input_size, 3))
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
            x = layers.Lambda(normalize, output_shape=x.shape[1:], dtype=policy)(x)
        if "pool" in conv.then:
            x = layers.MaxPooling2D(net.pool_size, net.pool_stride, dtype=policy)(x)
    x = layers.Flatten(dtype=policy)(x)
    for dense in net.dense:
        x = layers.Dense(dense.units, "relu", name=dense.name, **common)(x)
        x = layers.Dropout(net.dropout, dtype=policy)(x)
    x = layers.Dense(NUM_CLASSES, name="fc8", **common)(x)
    activation = "softmax" if softmax else "linear"
    model = keras.Model(inputs, layers.Activation(activation, dtype="float32")(x))
    set_weights(model, weights)
    return model


def import_torch():
    """The module `torch`, kept from Triton.

    PyTorch's builds for GPUs bring Triton, and `torch.optim` loads it: beside
    TensorFlow that ends the process with a segmentation fault. Nothing here compiles
    for a GPU.
    """
    sys.modules.setdefault("triton", None)
    return importlib.import_module("torch")


def torch_net(net: Variant, weights: Mapping[str, np.ndarray]):
    """The net in PyTorch's own modules, from (batch, 3, size, size) to logits."""
    torch = import_torch()
    nn = torch.nn

    class ColumnLRN(nn.Module):
        # PyTorch divides alpha by n.
        norm = nn.LocalResponseNorm(
            net.lrn.n, net.lrn.alpha * net.lrn.n, net.lrn.beta, net.lrn.k
        )

        def forward(self, x):
            batch, channels, *sides = x.shape
            columns = (batch * net.num_columns, channels // net.num_columns)
            return self.norm(x.reshape(*columns, *sides)).reshape(x.shape)

    modules, named = [], {}
    for stage in stages(net):
        conv = stage.conv
        before, after = conv.padding
        named[conv.name] = nn.Conv2d(
            *(stage.maps_in, stage.maps, conv.size, conv.stride),
            padding=before if before == after else 0,
            groups=groups_of(conv, net),
        )
        if before != after:
            modules.append(nn.ZeroPad2d((before, after, before, after)))
        modules += [named[conv.name], nn.ReLU()]
        if "lrn" in conv.then:
            modules.append(ColumnLRN())
        if "pool" in conv.then:
            modules.append(nn.MaxPool2d(net.pool_size, net.pool_stride))
    modules.append(nn.Flatten())
    for dense in net.dense:
        named[dense.name] = nn.Linear(*weights[f"{dense.name}/kernel"].shape)
        modules += [named[dense.name], nn.ReLU(), nn.Dropout(net.dropout)]
    named["fc8"] = nn.Linear(*weights["fc8/kernel"].shape)
    modules.append(named["fc8"])
    with torch.no_grad():
        for name, module in named.items():
            kernel = weights[f"{name}/kernel"]
            if name == "fc6":  # Whose inputs PyTorch has in another order.
                maps = kernel.reshape(stage.pooled, stage.pooled, stage.maps, -1)
                kernel = maps.transpose(2, 0, 1, 3).reshape(kernel.shape)
            axes = (3, 2, 0, 1) if kernel.ndim == 4 else (1, 0)
            kernel = np.ascontiguousarray(kernel.transpose(axes))
            module.weight.copy_(torch.from_numpy(kernel))
            module.bias.copy_(torch.from_numpy(weights[f"{name}/bias"]))
    return nn.Sequential(*modules)


def onnx_graphs(model: keras.Model, work_dir: pathlib.Path) -> dict[str, bytes]:
    """The net as ONNX, with its own LRN operator, and with LRN as PyTorch writes it.

    Returns:
        By form: a graph from `images`, (batch, 3, size, size) float32, to
        `probabilities`, (batch, num_classes).
    """
    onnx = importlib.import_module("onnx")
    path = work_dir / "net.onnx"
    write_onnx(model, path)
    graphs = {"LRN operator": path.read_bytes()}
    proto = onnx.load(path)
    nodes = []
    for node in proto.graph.node:
        nodes += _averages(node, proto.graph) if node.op_type == "LRN" else [node]
    del proto.graph.node[:]
    proto.graph.node.extend(nodes)
    return graphs | {"LRN of averages": proto.SerializeToString()}


def _averages(lrn, graph) -> list:
    """An LRN node as the operators PyTorch exports it as: averages over channels."""
    from onnx import helper, numpy_helper  # noqa: PLC0415

    nodes = []
    constants = {each.name: each.f or each.i for each in lrn.attribute}
    n = constants["size"]

    def constant(value) -> str:
        name = f"{lrn.name}/constant{len(graph.initializer)}"
        graph.initializer.append(numpy_helper.from_array(np.array(value), name))
        return name

    def add(operator: str, *inputs: str, **attributes) -> str:
        name = f"{lrn.name}/{operator}{len(nodes)}"
        nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    (x,), one, border = lrn.input, constant([1]), n // 2
    squares = add("Unsqueeze", add("Mul", x, x), one)
    pads = constant([0, 0, border, 0, 0, 0, 0, border, 0, 0])
    window = {"kernel_shape": [n, 1, 1], "strides": [1, 1, 1]}
    means = add("Squeeze", add("AveragePool", add("Pad", squares, pads), **window), one)
    scaled = add("Mul", means, constant(np.float32(constants["alpha"])))
    d = add("Add", scaled, constant(np.float32(constants["bias"])))
    power = add("Pow", d, constant(np.float32(constants["beta"])))
    nodes.append(helper.make_node("Div", [x, power], list(lrn.output)))
    return nodes
