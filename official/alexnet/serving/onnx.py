"""Writes the grouped form as an ONNX file, layer by layer, with its own weights.

Inside, maps are (batch, channels, height, width), ONNX's only order. A tensor has the
name of the layer it comes from, a weight its name in the Keras model (`conv1/kernel`).
"""

import itertools
import pathlib
from collections.abc import Callable

import numpy as np

import official.alexnet
from official.alexnet.backend import keras
from official.alexnet.errors import UserError
from official.alexnet.modeling import dropout, layers, normalization
from official.alexnet.serving.formats import check_mean, check_onnx, ending

# The oldest version that has every operator used here: the most runtimes read it.
OPSET = 13
# Protocol buffers, of which an ONNX file is one, end at 2 GiB.
_MAX_BYTES = 2**31 - 2**20


def write_onnx(
    model: keras.Model,
    path: str | pathlib.Path,
    *,
    mean: np.ndarray | None = None,
    input_scale: float | np.ndarray = 1.0,
    batch_size: int | None = None,
) -> None:
    """Writes a net, with logits or with probabilities as its output, as ONNX.

    The file's outputs are `probabilities` and `logits`, (batch, num_classes) float32.
    Its input is `images`: without a `mean`, the Keras model's own input, but
    channels first, (batch, 3, size, size) float32; with one, pixels, (batch, size,
    size, 3) uint8 RGB in 0..255, of which the net sees (images - mean) * input_scale.

    Args:
        model: the grouped form (`num_columns=1`), of any dtype policy; the file
            computes in float32.
        path: of the file; one that is there is replaced.
        mean: grey levels, (size, size, 3) or what broadcasts to it; None if the
            caller subtracts it.
        input_scale: factor of the mean-subtracted pixels, one or one a channel;
            read only where there is a `mean`.
        batch_size: None for any.

    Raises:
        UserError: the package onnx is missing, the model is in two columns or holds a
            layer that this writer does not know, the mean is of another size, or the
            file would be over 2 GiB.
    """
    check_onnx()
    from onnx import TensorProto, checker, helper, save_model  # noqa: PLC0415

    _check_chain(model)
    size = model.input_shape[1]
    check_mean(mean, size)
    graph = _Graph()
    batch = batch_size or "batch"
    if mean is None:
        kind, shape, x = TensorProto.FLOAT, [batch, 3, size, size], "images"
    else:
        kind, shape = TensorProto.UINT8, [batch, size, size, 3]
        x = _preprocess(graph, mean, input_scale)
    for layer in model.layers[1:]:
        if type(layer) not in _WRITERS:
            raise UserError(
                f"ONNX: the writer does not know {type(layer).__name__}, the kind of "
                f"the layer {layer.name}; export the net as saved_model, or write it "
                "with another tool"
            )
        x = _WRITERS[type(layer)](graph, layer, x)
    graph.nodes[-1].output[:] = ["logits"]
    graph.node("Softmax", "probabilities", "logits", axis=1)
    answer = [batch, model.output_shape[-1]]
    graph_proto = helper.make_graph(
        graph.nodes,
        model.name,
        [helper.make_tensor_value_info("images", kind, shape)],
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, answer)
            for name in ("probabilities", "logits")
        ],
        graph.initializers,
    )
    if graph_proto.ByteSize() > _MAX_BYTES:
        raise UserError(
            f"{path}: the net is over 2 GiB, the end of an ONNX file; export it as "
            "saved_model"
        )
    opsets = [helper.make_opsetid("", OPSET)]
    proto = helper.make_model(
        graph_proto,
        opset_imports=opsets,
        ir_version=helper.find_min_ir_version_for(opsets),
        producer_name="official.alexnet",
        producer_version=official.alexnet.__version__,
    )
    checker.check_model(proto)
    save_model(proto, str(path))


class _Graph:
    """Nodes and constants so far; every node has one output, called as itself."""

    def __init__(self):
        self.nodes = []
        self.initializers = []

    def node(self, operator: str, name: str, *inputs: str, **attributes) -> str:
        from onnx import helper  # noqa: PLC0415

        self.nodes.append(
            helper.make_node(operator, inputs, [name], name=name, **attributes)
        )
        return name

    def constant(self, name: str, array, dtype=np.float32) -> str:
        from onnx import numpy_helper  # noqa: PLC0415

        array = np.ascontiguousarray(array, dtype).reshape(np.shape(array))
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def reshape(self, name: str, x: str, *shape: int) -> str:
        """The same numbers in another shape; -1 stands for what is left."""
        return self.node(
            "Reshape", name, x, self.constant(f"{name}/shape", shape, np.int64)
        )

    def weight(self, layer: keras.layers.Layer, name: str, *axes: int) -> str:
        """A weight of a layer, its axes in another order."""
        array = keras.ops.convert_to_numpy(getattr(layer, name))
        return self.constant(
            f"{layer.name}/{name}", array.transpose(axes) if axes else array
        )


def _check_chain(model: keras.Model) -> None:
    for before, layer in itertools.pairwise(model.layers):
        if layer.input is not before.output:
            raise UserError(
                f"ONNX is written from the grouped form, where each layer reads the "
                f"one before, but {layer.name} does not read {before.name} alone: "
                "build AlexNet with num_columns=1 and give it the weights with "
                "modeling.weights.copy_weights"
            )


def _preprocess(graph: _Graph, mean: np.ndarray, scale: float | np.ndarray) -> str:
    from onnx import TensorProto  # noqa: PLC0415

    x = graph.node("Cast", "pixels", "images", to=TensorProto.FLOAT)
    x = graph.node("Sub", "centred", x, graph.constant("mean", mean))
    if np.any(np.asarray(scale) != 1):
        x = graph.node("Mul", "scaled", x, graph.constant("input_scale", scale))
    return graph.node("Transpose", "channels_first", x, perm=[0, 3, 1, 2])


def _convolution(graph: _Graph, layer: layers.Convolution, x: str) -> str:
    before, after = layer.padding
    return graph.node(
        "Conv",
        layer.name,
        x,
        graph.weight(layer, "kernel", 3, 2, 0, 1),
        graph.weight(layer, "bias"),
        kernel_shape=[layer.size] * 2,
        strides=[layer.stride] * 2,
        pads=[before, before, after, after],
        group=layer.groups,
    )


def _dense(graph: _Graph, layer: layers.Dense, x: str) -> str:
    kernel = keras.ops.convert_to_numpy(layer.kernel)
    if layer.groups > 1:
        # A convolution of one place has groups, too.
        *sides, maps = (1, 1, *layer.input.shape[1:])[-3:]
        kernel = kernel.reshape(*sides, -1, layer.units).transpose(3, 2, 0, 1)
        y = graph.node(
            "Conv",
            f"{layer.name}/units",
            graph.reshape(f"{layer.name}/maps", x, -1, maps, *sides),
            graph.constant(f"{layer.name}/kernel", kernel),
            graph.weight(layer, "bias"),
            group=layer.groups,
        )
        return graph.reshape(layer.name, y, -1, layer.units)
    if len(layer.input.shape) == 4:
        # Here maps are flattened with the columns of a row fastest.
        maps = layer.input.shape[1:]
        kernel = kernel.reshape(*maps, layer.units).transpose(2, 0, 1, 3)
        kernel = kernel.reshape(-1, layer.units)
        x = graph.node("Flatten", f"{layer.name}/flat", x, axis=1)
    return graph.node(
        "Gemm",
        layer.name,
        x,
        graph.constant(f"{layer.name}/kernel", kernel),
        graph.weight(layer, "bias"),
    )


def _lrn(graph: _Graph, layer: layers.LocalResponseNormalization, x: str) -> str:
    _, height, width, channels = layer.input.shape
    columns = layer.num_columns
    if columns > 1:
        # Each column as an image of its own: no window reaches over a seam.
        x = graph.reshape(
            f"{layer.name}/columns", x, -1, channels // columns, height, width
        )
    n = 2 * (layer.lrn.n // 2) + 1
    x = graph.node(
        "LRN",
        f"{layer.name}/normalized" if columns > 1 else layer.name,
        x,
        size=n,
        # ONNX divides alpha by the number of maps; the paper does not.
        alpha=layer.lrn.alpha * n,
        beta=layer.lrn.beta,
        bias=float(layer.lrn.k),
    )
    if columns > 1:
        x = graph.reshape(layer.name, x, -1, channels, height, width)
    return x


def _spatial_norm(
    graph: _Graph, layer: normalization.SpatialResponseNormalization, x: str
) -> str:
    norm, name = layer.norm, layer.name
    x_squared = graph.node("Mul", f"{name}/squares", x, x)
    window = {"kernel_shape": [norm.n] * 2, "pads": [norm.n // 2] * 4}
    means = graph.node(
        "AveragePool", f"{name}/means", x_squared, count_include_pad=1, **window
    )
    alpha = graph.constant(f"{name}/alpha", norm.alpha * norm.n**2)
    weighted = graph.node("Mul", f"{name}/weighted", means, alpha)
    d = graph.node("Add", f"{name}/d", weighted, graph.constant(f"{name}/k", norm.k))
    power = graph.constant(f"{name}/power", -norm.beta)
    factor = graph.node("Pow", f"{name}/factor", d, power)
    return graph.node("Mul", name, x, factor)


def _batch_norm(graph: _Graph, layer: normalization.BatchNormalization, x: str) -> str:
    names = ("gamma", "beta", "moving_mean", "moving_variance")
    weights = [graph.weight(layer, name) for name in names]
    epsilon = layer.epsilon
    return graph.node("BatchNormalization", layer.name, x, *weights, epsilon=epsilon)


def _max_pool(graph: _Graph, layer: layers.MaxPool, x: str) -> str:
    return graph.node(
        "MaxPool",
        layer.name,
        x,
        kernel_shape=[layer.size] * 2,
        strides=[layer.stride] * 2,
        ceil_mode=int(layer.ceil),
    )


def _dropout(graph: _Graph, layer: dropout.Dropout, x: str) -> str:
    if layer.inverted or not layer.rate:
        return x
    keep = graph.constant(f"{layer.name}/keep", 1 - layer.rate)
    return graph.node("Mul", layer.name, x, keep)


def _activation(graph: _Graph, layer: keras.layers.Activation, x: str) -> str:
    """The net's end: the logits, whether or not a softmax follows."""
    ending(layer, "ONNX")
    return x


_WRITERS: dict[type, Callable[[_Graph, keras.layers.Layer, str], str]] = {
    layers.Convolution: _convolution,
    layers.Dense: _dense,
    layers.ReLU: lambda graph, layer, x: graph.node("Relu", layer.name, x),
    layers.Tanh: lambda graph, layer, x: graph.node("Tanh", layer.name, x),
    layers.LocalResponseNormalization: _lrn,
    layers.MaxPool: _max_pool,
    normalization.SpatialResponseNormalization: _spatial_norm,
    normalization.BatchNormalization: _batch_norm,
    dropout.Dropout: _dropout,
    keras.layers.Activation: _activation,
}
