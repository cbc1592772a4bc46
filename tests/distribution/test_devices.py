"""How GPUs are split, without one: what TensorFlow is told and what is refused."""

import pytest
import tensorflow as tf

from official.alexnet.distribution import devices
from official.alexnet.errors import UserError
from official.alexnet.machine import RuntimeConfig


@pytest.fixture
def told(monkeypatch) -> list:
    """Two GPUs; what is set of them, in order."""
    calls = []
    for name in ("list_physical_devices", "get_visible_devices"):
        monkeypatch.setattr(
            tf.config, name, lambda kind: [f"{kind}:{i}" for i in (0, 1)]
        )
    monkeypatch.setattr(
        tf.config,
        "set_visible_devices",
        lambda shown, kind: calls.append((kind, shown)),
    )
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda gpu, parts: calls.append((gpu, [part.memory_limit for part in parts])),
    )
    monkeypatch.setattr(
        tf.config.experimental,
        "set_memory_growth",
        lambda gpu, grows: calls.append((gpu, grows)),
    )
    return calls


@pytest.mark.parametrize(
    ("settings", "calls", "found"),
    [
        ({}, [("GPU:0", True), ("GPU:1", True)], ("GPU", 2)),
        (
            {"logical_gpus": 2},
            [("GPU:0", [3072] * 2), ("GPU:1", [3072] * 2)],
            ("GPU", 4),
        ),
        (
            {"logical_gpus": 2, "gpu_memory_mb": 500, "num_gpus": 3},
            [("GPU:0", [500] * 2), ("GPU:1", [500] * 2)],
            ("GPU", 3),
        ),
        (
            {"gpu_memory_mb": 4000, "num_gpus": 1},
            [("GPU:0", [4000]), ("GPU:1", [4000])],
            ("GPU", 1),
        ),
        # Or TensorFlow would put on a GPU what names no device.
        ({"num_gpus": 0}, [("GPU", [])], ("CPU", 1)),
        (
            {"logical_cpus": 3},
            [("CPU:0", [None] * 3), ("CPU:1", [None] * 3), ("GPU", [])],
            ("CPU", 3),
        ),
    ],
)
def test_what_tensorflow_is_told(settings, calls, found, told):
    runtime = RuntimeConfig(**settings)
    runtime.check(num_columns=2)
    devices.prepare(runtime)
    assert told == calls
    assert devices.found(runtime) == found


@pytest.mark.parametrize("flag", ["logical_gpus", "gpu_memory_mb"])
@pytest.mark.parametrize("other", [{"logical_cpus": 2}, {"num_gpus": 0}])
def test_what_is_said_of_gpus_that_are_not_used(flag, other):
    line = f"--{flag} and --{next(iter(other))}.* cannot go together"
    with pytest.raises(UserError, match=line):
        RuntimeConfig(**{flag: 2}, **other).check(num_columns=2)


def test_without_a_gpu_no_memory_is_limited(monkeypatch):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: [])
    line = "--gpu_memory_mb=3072, but TensorFlow sees no GPU here"
    with pytest.raises(UserError, match=line):
        devices.found(RuntimeConfig(gpu_memory_mb=3072))


def test_without_a_gpu_none_is_split(monkeypatch):
    monkeypatch.setattr(tf.config, "get_visible_devices", lambda _: [])
    line = "--logical_gpus=2, but TensorFlow sees no GPU here; --logical_cpus=N"
    with pytest.raises(UserError, match=line):
        devices.found(RuntimeConfig(logical_gpus=2, gpu_memory_mb=3072))


def test_a_gpu_that_has_started_is_not_split_anew(told, monkeypatch):
    def refuse(*_):
        raise RuntimeError("Virtual devices cannot be modified after being initialized")

    monkeypatch.setattr(tf.config, "set_logical_device_configuration", refuse)
    monkeypatch.setattr(tf.config, "list_logical_devices", lambda _: ["a", "b"])
    with pytest.raises(UserError, match="--logical_gpus=2: TensorFlow has started wi"):
        devices.prepare(RuntimeConfig(logical_gpus=2, gpu_memory_mb=3072))
