"""How much memory a step takes on each device, from what its ops allocate."""

import collections
import pathlib
import tempfile
from collections.abc import Callable, Iterable

import tensorflow as tf
from tensorflow.python.eager import context
from tensorflow.tsl.profiler.protobuf import xplane_pb2


def peak_bytes(step: Callable, variables: Iterable[tf.Variable]) -> dict[str, int]:
    """Variables and, at the worst moment of a step, the tensors of each device.

    Logical CPUs share an allocator, so each tensor is counted where the partitioned
    graphs place the op that allocated it. What a compiled op allocates has no name:
    the step should have none.

    Args:
        step: takes one step; the first call traces it.
        variables: all that live as long as the step, one a replica.

    Returns:
        Bytes by device, such as `CPU:0`.
    """
    context.enable_run_metadata()
    try:
        step()
        ran = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    # Of a name that is in several, that of the largest: the step's.
    ran = sorted(ran, key=lambda each: each.ByteSize())
    graphs = [graph for each in ran for graph in each.partition_graphs]
    homes = {node.name: _short(node.device) for g in graphs for node in g.node}
    held: collections.Counter = collections.Counter()
    for variable in variables:
        size = variable.shape.num_elements() * variable.dtype.size
        held[_short(variable.device)] += size
    with tempfile.TemporaryDirectory() as folder:
        options = tf.profiler.experimental.ProfilerOptions(host_tracer_level=3)
        tf.profiler.experimental.start(folder, options)
        step()
        tf.profiler.experimental.stop()
        (path,) = pathlib.Path(folder).rglob("*.xplane.pb")
        space = xplane_pb2.XSpace.FromString(path.read_bytes())
    live: dict[int, tuple[str, int]] = {}
    peaks = held.copy()
    for name, stats in _events(space):
        if name == "MemoryAllocation":
            home = homes[stats["tf_op"]]
            live[stats["addr"]] = home, stats["requested_bytes"]
            held[home] += stats["requested_bytes"]
            peaks[home] = max(peaks[home], held[home])
        elif stats["addr"] in live:
            home, size = live.pop(stats["addr"])
            held[home] -= size
    return dict(peaks)


def _events(space) -> list[tuple[str, dict]]:
    """Allocations and what was freed, in order of time."""
    found = []
    for plane in space.planes:
        kinds, keys = plane.event_metadata, plane.stat_metadata
        for line in plane.lines:
            for event in line.events:
                name = kinds[event.metadata_id].name
                if name not in ("MemoryAllocation", "MemoryDeallocation"):
                    continue
                stats = {
                    keys[stat.metadata_id].name: getattr(stat, stat.WhichOneof("value"))
                    for stat in event.stats
                }
                if isinstance(stats.get("tf_op"), int):
                    stats["tf_op"] = keys[stats["tf_op"]].name
                time = line.timestamp_ns * 1000 + event.offset_ps
                found.append((time, name, stats))
    return [event[1:] for event in sorted(found, key=lambda event: event[0])]


def _short(device: str) -> str:
    return device.rpartition("device:")[2]
