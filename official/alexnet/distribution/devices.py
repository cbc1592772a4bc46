"""The devices of this process: how CPU and GPUs are split, and how many there are."""

import contextlib

import tensorflow as tf

from official.alexnet.errors import UserError
from official.alexnet.machine import RuntimeConfig

# TensorFlow wants a limit for a part of a GPU: the memory of a card of 2012.
PART_MB = 3072


def prepare(runtime: RuntimeConfig) -> None:
    """Splits the CPU and the GPUs, or has the GPUs' memory grow as it is needed.

    Raises:
        UserError: TensorFlow has started with other devices already.
    """
    if runtime.logical_cpus:
        part = tf.config.LogicalDeviceConfiguration()
        _split("CPU", "logical_cpus", runtime.logical_cpus, part)
    if runtime.logical_cpus or runtime.num_gpus == 0:
        # Else TensorFlow puts on one what names no device. What has started stays.
        with contextlib.suppress(RuntimeError):
            tf.config.set_visible_devices([], "GPU")
        return
    if runtime.logical_gpus or runtime.gpu_memory_mb:
        limit = runtime.gpu_memory_mb or PART_MB
        part = tf.config.LogicalDeviceConfiguration(limit)
        _split("GPU", "logical_gpus", runtime.logical_gpus or 1, part)
        return
    for gpu in tf.config.list_physical_devices("GPU"):
        # So that others can use the GPU, too. What TensorFlow has started stays.
        with contextlib.suppress(RuntimeError, ValueError):
            tf.config.experimental.set_memory_growth(gpu, True)


def found(runtime: RuntimeConfig) -> tuple[str, int]:
    """Kind and number of the devices that this process may use.

    Raises:
        UserError: there are fewer GPUs than the flags say.
    """
    if runtime.logical_cpus:
        return "CPU", runtime.logical_cpus
    gpus = len(tf.config.get_visible_devices("GPU"))
    for flag in ("logical_gpus", "gpu_memory_mb"):
        if (value := getattr(runtime, flag)) and not gpus:
            raise UserError(
                f"--{flag}={value}, but TensorFlow sees no GPU here; --logical_cpus=N "
                "splits the CPU"
            )
    gpus *= runtime.logical_gpus or 1
    wanted = gpus if runtime.num_gpus is None else runtime.num_gpus
    if wanted > gpus:
        raise UserError(
            f"--num_gpus={wanted}, but TensorFlow sees {gpus} GPU(s) here; "
            "use fewer, or --logical_cpus=N to run on the CPU"
        )
    return ("GPU", wanted) if wanted else ("CPU", 1)


def _split(kind: str, flag: str, count: int, part) -> None:
    for device in tf.config.list_physical_devices(kind):
        try:
            tf.config.set_logical_device_configuration(device, [part] * count)
        except RuntimeError as error:
            devices = len(tf.config.list_physical_devices(kind))
            present = len(tf.config.list_logical_devices(kind)) // devices
            # More parts do no harm, but for the memory that each may take.
            if present < count or part.memory_limit:
                raise UserError(
                    f"--{flag}={count}: TensorFlow has started with {present} "
                    "already; it can only be told before its first operation"
                ) from error
