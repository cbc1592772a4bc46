"""What is sent from device to device in a call, read in the graphs that ran."""

import dataclasses
import math
import re

import tensorflow as tf
from tensorflow.python.eager import context


@dataclasses.dataclass(frozen=True)
class Crossing:
    """A tensor that one device sends another.

    Attributes:
        source, target: devices, such as `CPU:0`.
        name: of the tensor.
        shape: its own; () for a scalar, and for what only orders ops.
        bytes: its size.
    """

    source: str
    target: str
    name: str
    shape: tuple[int, ...]
    bytes: int


def crossings(function: tf.types.experimental.PolymorphicFunction) -> list[Crossing]:
    """Runs a function without arguments for the first time, and lists what crosses.

    The list is of the partitioned graphs, as TensorFlow runs them: one a device, with
    an op for each tensor that is sent. Shapes are those of the traced graph.
    """
    graph = function.get_concrete_function().graph
    context.enable_run_metadata()
    try:
        function()
        # Small functions that it needs ran, too.
        ran = context.export_run_metadata().function_graphs
        graphs = max(ran, key=lambda each: each.ByteSize())
    finally:
        context.disable_run_metadata()
    parts = [{node.name: node for node in p.node} for p in graphs.partition_graphs]
    return [
        _crossing(node, nodes, graph)
        for nodes in parts
        for node in nodes.values()
        if node.op == "_Send"
    ]


def _crossing(node, nodes: dict, graph: tf.Graph) -> Crossing:
    name, dtype, shape = node.input[0], tf.DType(node.attr["T"].type), None
    while shape is None:
        source = nodes[name.split(":")[0]]
        try:
            whole = name if ":" in name else f"{name}:0"
            shape = tuple(graph.get_tensor_by_name(whole).shape)
        except KeyError:
            # TensorFlow's own: a constant that orders ops, or a tensor handed on.
            if source.op == "Const":
                shape = ()
            elif source.op in ("Identity", "Cast"):
                name = source.input[0]
            else:
                # The other output of a fused op; the edge keeps its own name.
                edge = node.attr["tensor_name"].s.decode()
                own = re.sub(r"^edge_\d+_", "", edge)
                shape = tuple(graph.get_tensor_by_name(f"{own}:0").shape)
    devices = (node.attr[end].s.decode() for end in ("send_device", "recv_device"))
    return Crossing(
        *(device.rpartition("device:")[2] for device in devices),
        node.input[0],
        shape,
        math.prod(shape) * dtype.size,
    )
