"""The device grid: column c of replica r sits on device c * R + r.

The first R devices are the distribution strategy's own, one a replica, and hold
column 0; the next R hold column 1. A layer asks the grid for its column's device;
the answer depends on the replica that is being traced.

Two facts of TensorFlow decide the shape of this module. A mirrored variable is
placed on the devices of its `colocate_with` argument, so a variable creator that
passes an object naming column c's devices puts a column's weights there, and the
optimizer's slots follow. And gradient ops do not follow the device of their forward
op inside `Strategy.run`, so `run_on` records the forward pass on a tape of its own
and plays it back on the same device.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from official.alexnet.errors import UserError


@dataclasses.dataclass(frozen=True)
class DeviceGrid:
    """Replicas by columns.

    Attributes:
        devices: `devices[c][r]` is the full name of the device that holds column c
            of this process's replica r.
    """

    devices: tuple[tuple[str, ...], ...]

    def device(self, column: int) -> str:
        """Device of `column` for the replica being traced (the first outside one)."""
        devices, context = self.devices[column], tf.distribute.get_replica_context()
        if context is None or not tf.distribute.has_strategy():
            return devices[0]
        replica = tf.get_static_value(context.replica_id_in_sync_group)
        return devices[int(replica) % len(devices)]

    @contextlib.contextmanager
    def variables_of(self, column: int) -> Iterator[None]:
        """Variables created inside are placed on `column`'s devices, one a replica."""
        anchor = _Anchor(self.devices[column])

        def creator(next_creator: Callable, **kwargs) -> tf.Variable:
            with tf.device(anchor.device):
                return next_creator(**kwargs | {"colocate_with": anchor})

        with tf.variable_creator_scope(creator):
            yield

    def check(self, column: int, variables: Sequence[tf.Variable]) -> None:
        """Checks that a column's weights and momentum slots are where the grid says.

        Raises:
            UserError: one is elsewhere: this TensorFlow places mirrored variables
                differently from those this package knows.
        """
        for variable in variables:
            found = devices_of(variable)
            if found != self.devices[column]:
                raise UserError(
                    f"TensorFlow {tf.__version__} put {variable.name} of column "
                    f"{column} on {found} and not on {self.devices[column]}; train "
                    "with --num_columns=1, or with a version of TensorFlow this "
                    "package is tested with"
                )


class _Anchor:
    """Names devices the way a variable of the strategy would.

    `MirroredStrategy._create_variable` reads the private attribute `_devices` of
    what a variable is colocated with; `OneDeviceStrategy` reads `device`.
    """

    def __init__(self, devices: tuple[str, ...]):
        self._devices = devices
        self.device = devices[0]


def devices_of(variable: tf.Variable) -> tuple[str, ...]:
    """Full names of the devices that hold a variable, one a local replica."""
    default = tf.distribute.get_strategy()
    strategy = getattr(variable, "distribute_strategy", default)
    replicas = strategy.experimental_local_results(variable)
    return tuple(replica.device for replica in replicas)


def run_on(
    device: str | None, function: Callable, *inputs: tf.Tensor
) -> tf.Tensor | list[tf.Tensor]:
    """Runs `function(*inputs)` and, later, its gradient on one device.

    Args:
        device: full device name; None leaves the placement to TensorFlow.
        function: a function of tensors alone; variables are read by the caller, so
            that their gradients go back to them through `inputs`.
        *inputs: its arguments.

    Returns:
        What the function returns: a tensor or a list of tensors.
    """
    if device is None:
        return function(*inputs)

    @tf.custom_gradient
    def placed(*inputs):
        with tf.device(device), tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(*inputs)

        def gradient(*upstream):
            with tf.device(device):
                return tape.gradient(outputs, inputs, list(upstream))

        return outputs, gradient

    # TensorFlow hands inputs and outputs through an IdentityN, which belongs here too.
    with tf.device(device):
        return placed(*inputs)
