"""The same network as an ONNX graph, for ONNX Runtime and OpenVINO."""

from collections.abc import Mapping
from typing import Literal

import numpy as np

from benchmarking.networks import channels_first, groups_of
from official.alexnet.modeling.variants import Conv, Variant

# The forms of LRN: ONNX's own operator, or the operators PyTorch exports it as.
FORMS = ("LRN operator", "LRN of averages")


def serialized(
    net: Variant,
    input_size: int,
    weights: Mapping[str, np.ndarray],
    form: Literal["LRN operator", "LRN of averages"],
) -> bytes:
    """Builds the graph.

    Args:
        net: the net.
        input_size: side of the input.
        weights: as `networks.peer_weights` gives them.
        form: how LRN is written; always within each column, by a reshape.

    Returns:
        An ONNX model from `images`, (batch, 3, size, size) float32, to
        `probabilities`, (batch, num_classes).
    """
    import onnx  # noqa: PLC0415

    graph = _Graph(onnx)
    x, channels = "images", 3
    for conv in net.convolutions:
        x = _convolution(graph, conv, net, x, weights)
        channels = conv.filters
        for operation in conv.then:
            if operation == "relu":
                x = graph.add("Relu", [x])
            elif operation == "lrn":
                x = _lrn(graph, net, x, channels, form)
            else:
                x = graph.add(
                    "MaxPool",
                    [x],
                    kernel_shape=[net.pool_size] * 2,
                    strides=[net.pool_stride] * 2,
                )
    x = graph.add("Flatten", [x])
    for name in [*[dense.name for dense in net.dense], "fc8"]:
        kernel = channels_first(name, weights[f"{name}/kernel"], channels)
        bias = graph.constant(weights[f"{name}/bias"])
        x = graph.add("Gemm", [x, graph.constant(kernel), bias])
        if name != "fc8":
            x = graph.add("Relu", [x])
    graph.add("Softmax", [x], output="probabilities", axis=1)
    return graph.serialized((3, input_size, input_size), (len(weights["fc8/bias"]),))


def _convolution(graph, conv: Conv, net: Variant, x: str, weights) -> str:
    before, after = conv.padding
    kernel = channels_first(conv.name, weights[f"{conv.name}/kernel"], 0)
    return graph.add(
        "Conv",
        [x, graph.constant(kernel), graph.constant(weights[f"{conv.name}/bias"])],
        kernel_shape=[conv.size] * 2,
        strides=[conv.stride] * 2,
        pads=[before, before, after, after],
        group=groups_of(conv, net),
    )


def _lrn(graph, net: Variant, x: str, channels: int, form: str) -> str:
    """LRN of each column: (N, 2C, H, W) is read as (2N, C, H, W)."""
    lrn, maps = net.lrn, channels // net.num_columns
    whole = graph.constant(np.array([-1, channels, 0, 0]))
    # -1 is the batch times the columns; 0 keeps a side as it is.
    columns = graph.add("Reshape", [x, graph.constant(np.array([-1, maps, 0, 0]))])
    # ONNX, like PyTorch, divides alpha by n.
    if form == "LRN operator":
        y = graph.add(
            "LRN",
            [columns],
            alpha=lrn.alpha * lrn.n,
            beta=lrn.beta,
            bias=lrn.k,
            size=lrn.n,
        )
        return graph.add("Reshape", [y, whole])
    one = graph.constant(np.array([1]))
    squares = graph.add("Unsqueeze", [graph.add("Mul", [columns, columns]), one])
    border = lrn.n // 2
    padded = graph.add(
        "Pad",
        [
            squares,
            graph.constant(np.array([0, 0, border, 0, 0, 0, 0, border, 0, 0])),
        ],
    )
    means = graph.add(
        "AveragePool", [padded], kernel_shape=[lrn.n, 1, 1], strides=[1, 1, 1]
    )
    means = graph.add("Squeeze", [means, one])
    scaled = graph.add("Mul", [means, graph.constant(np.float32(lrn.alpha * lrn.n))])
    d = graph.add("Add", [scaled, graph.constant(np.float32(lrn.k))])
    power = graph.add("Pow", [d, graph.constant(np.float32(lrn.beta))])
    return graph.add("Reshape", [graph.add("Div", [columns, power]), whole])


class _Graph:
    """Nodes and constants, each named by its number."""

    def __init__(self, onnx):
        self._onnx = onnx
        self._nodes = []
        self._constants = []

    def constant(self, value: np.ndarray) -> str:
        name = f"constant{len(self._constants)}"
        array = np.ascontiguousarray(value) if np.ndim(value) else np.asarray(value)
        self._constants.append(self._onnx.numpy_helper.from_array(array, name))
        return name

    def add(
        self, operator: str, inputs: list[str], output: str | None = None, **attributes
    ) -> str:
        output = output or f"{operator}{len(self._nodes)}"
        node = self._onnx.helper.make_node(operator, inputs, [output], **attributes)
        self._nodes.append(node)
        return output

    def serialized(self, input_shape: tuple, output_shape: tuple) -> bytes:
        helper, floats = self._onnx.helper, self._onnx.TensorProto.FLOAT
        graph = helper.make_graph(
            self._nodes,
            "alexnet",
            [helper.make_tensor_value_info("images", floats, ["N", *input_shape])],
            [
                helper.make_tensor_value_info(
                    "probabilities", floats, ["N", *output_shape]
                )
            ],
            self._constants,
        )
        # Versions that runtimes of the last years read.
        model = helper.make_model(
            graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8
        )
        return model.SerializeToString()
