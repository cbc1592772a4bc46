"""From the flags to a distribution strategy and its device grid."""

import dataclasses
import functools

import tensorflow as tf
from absl import logging
from tensorflow.compiler.xla.tsl.protobuf.coordination_config_pb2 import CoordinatedJob
from tensorflow.python.distribute import multi_worker_util
from tensorflow.python.eager import context

from official.alexnet.distribution import devices, launcher
from official.alexnet.distribution.cluster import Cluster
from official.alexnet.distribution.grid import DeviceGrid
from official.alexnet.distribution.watch import Watch
from official.alexnet.errors import UserError
from official.alexnet.machine import MULTI_WORKER, RuntimeConfig


@dataclasses.dataclass(frozen=True)
class Placement:
    """Where a run takes place.

    Attributes:
        strategy: replicates the model over the grid's first devices.
        grid: devices of every column; None when there is one column, which needs no
            device but its replica's own.
        is_chief: whether this process writes checkpoints and logs.
        watch: ties to the other workers, where there are any.
    """

    strategy: tf.distribute.Strategy
    grid: DeviceGrid | None
    is_chief: bool
    watch: Watch

    def describe(self) -> str:
        """One line for the log."""
        replicas = self.strategy.num_replicas_in_sync
        if self.grid is None:
            return f"{replicas} replica(s) of one device each"
        rows = "; ".join(
            f"column {column} on {', '.join(map(_short, devices))}"
            for column, devices in enumerate(self.grid.devices)
        )
        return f"{replicas} replica(s) x {len(self.grid.devices)} columns: {rows}"


def place(runtime: RuntimeConfig, num_columns: int) -> Placement:
    """Lays the grid of replicas and columns over the devices.

    Call it before anything else touches a device: it may split the CPU.

    Args:
        runtime: flags of the machine.
        num_columns: devices a replica needs.

    Raises:
        UserError: too few devices, a number the columns do not divide, or workers that
            cannot be meant.
        WorkerLost: another worker did not come up.
    """
    role = launcher.find(runtime, trains=False)
    if runtime.names_launcher or runtime.distribution_strategy == MULTI_WORKER:
        logging.info("%s", role)
    runtime = dataclasses.replace(
        runtime, distribution_strategy=_strategy_of(runtime, role.cluster)
    )
    if role.cluster:
        _check_not_started()
    devices.prepare(runtime)
    if role.cluster:
        return _place_workers(runtime, num_columns, role.cluster)
    kind, count = devices.found(runtime)
    name = runtime.distribution_strategy
    most = _whole_replicas(kind, count, num_columns, runtime)
    num_replicas = most if name == "mirrored" else 1
    own = [f"{kind}:{i}" for i in range(num_replicas)]
    if name == "mirrored":
        # The default all-reduce is made for one device a replica: it would take
        # column 1's gradients to column 0's devices. This one sums where they are.
        sum_in_place = kind == "CPU" or num_columns > 1
        strategy = tf.distribute.MirroredStrategy(
            own, tf.distribute.ReductionToOneDevice() if sum_in_place else None
        )
    elif name == "one_device":
        strategy = tf.distribute.OneDeviceStrategy(own[0])
    else:
        strategy = tf.distribute.get_strategy()
    host = "/job:localhost/replica:0/task:0"
    grid = _grid(host, kind, num_replicas, num_columns)
    return Placement(strategy, grid, is_chief=True, watch=Watch())


def _strategy_of(runtime: RuntimeConfig, workers: Cluster | None) -> str:
    """One process that could have been several mirrors its devices."""
    given = runtime.distribution_strategy
    if workers:
        return MULTI_WORKER
    is_open = given == MULTI_WORKER or (given == "off" and runtime.names_launcher)
    return "mirrored" if is_open else given


def _check_not_started() -> None:
    if context.context()._context_handle is not None:
        raise UserError(
            "TensorFlow has started in this process already, and knows no other "
            "workers: train with many of them once a process, before anything else"
        )


def _whole_replicas(
    kind: str, count: int, num_columns: int, runtime: RuntimeConfig
) -> int:
    flag = "--num_gpus" if kind == "GPU" else "--logical_cpus"
    if count < num_columns:
        advice = f"--logical_cpus={num_columns}, or --num_columns=1"
        if kind == "GPU":
            advice = (
                f"--num_gpus={num_columns}, --logical_gpus={num_columns} to split "
                f"each, or --logical_cpus={num_columns} to try it on the CPU"
            )
        raise UserError(
            f"--num_columns={num_columns} needs {num_columns} devices and there is "
            f"{count} {kind}: give {advice}"
        )
    if count % num_columns and runtime.distribution_strategy != "off":
        raise UserError(
            f"{count} {kind}s cannot be shared out to replicas of {num_columns} "
            f"columns: give an even number with {flag}"
        )
    return count // num_columns


def _place_workers(
    runtime: RuntimeConfig, num_columns: int, workers: Cluster
) -> Placement:
    kind, count = devices.found(runtime)
    # On a CPU, MultiWorkerMirroredStrategy makes one replica a worker.
    most = _whole_replicas(kind, count, num_columns, runtime)
    num_replicas = most if kind == "GPU" else 1
    watch = Watch(workers, runtime.worker_timeout)
    # Else the strategies would wait for one another without a word.
    watch.agree({"--num_columns": num_columns, f"replicas on {kind}s": num_replicas})
    resolver = _OneDeviceAReplica(workers, {kind: num_replicas})
    _set_heartbeat(resolver.cluster_spec(), runtime.worker_timeout)
    try:
        strategy = tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)
    except tf.errors.OpError as error:
        watch.explain(error)
        raise
    watch.barrier = tf.function(
        lambda: strategy.reduce("sum", strategy.run(tf.ones, [()]), axis=None)
    )
    watch.abort = functools.partial(
        context.context().abort_collective_ops, tf.errors.UNAVAILABLE
    )
    first = tf.DeviceSpec.from_string(strategy.extended.worker_devices[0])
    host = first.replace(device_type=None, device_index=None).to_string()
    grid = _grid(host, kind, num_replicas, num_columns)
    return Placement(strategy, grid, is_chief=workers.index == 0, watch=watch)


def _set_heartbeat(spec: tf.train.ClusterSpec, seconds: float) -> None:
    """Sets how long TensorFlow's coordination service waits for a silent worker.

    The strategy takes a service that is configured, and would else configure one of
    10 s. There is no public way to do that.
    """
    context.context().configure_coordination_service(
        service_type="standalone",
        service_leader=multi_worker_util.coordination_leader(spec),
        coordinated_jobs=[
            CoordinatedJob(name=job, num_tasks=spec.num_tasks(job)) for job in spec.jobs
        ],
        cluster_register_timeout_in_ms=round(1000 * seconds),
        heartbeat_timeout_in_ms=round(1000 * seconds),
    )


class _OneDeviceAReplica(tf.distribute.cluster_resolver.SimpleClusterResolver):
    """Tells the strategy of the first column's devices only, one a replica.

    To TensorFlow all are workers, the chief the first of them: it reads no TF_CONFIG,
    where some jobs stop it.
    """

    def __init__(self, workers: Cluster, own_devices: dict[str, int]):
        spec = tf.train.ClusterSpec({"worker": list(workers.hosts)})
        super().__init__(spec, task_type="worker", task_id=workers.index)
        self._own_devices = own_devices

    def num_accelerators(self, *args, **kwargs) -> dict[str, int]:
        return dict(self._own_devices)


def _grid(
    host: str, kind: str, num_replicas: int, num_columns: int
) -> DeviceGrid | None:
    if num_columns == 1:
        return None
    return DeviceGrid(
        tuple(
            tuple(
                f"{host}/device:{kind}:{column * num_replicas + replica}"
                for replica in range(num_replicas)
            )
            for column in range(num_columns)
        )
    )


def _short(device: str) -> str:
    return device.rpartition("device:")[-1]
