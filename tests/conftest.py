"""Four logical CPUs for every test, and small records to train on."""

import dataclasses
import gc
import io
import os
import pathlib
import resource

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# As the binaries do.
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.python.framework import ops

from official.alexnet.config import (
    Config,
    DataConfig,
    ModelConfig,
    RuntimeConfig,
    TrainConfig,
)
from official.alexnet.data import dataset
from official.alexnet.data.schemas import classic_example

NUM_CLASSES = 3

(_cpu,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    _cpu, [tf.config.LogicalDeviceConfiguration()] * 4
)
# A card is two of 2012.
for _gpu in tf.config.list_physical_devices("GPU"):
    tf.config.set_logical_device_configuration(
        _gpu, [tf.config.LogicalDeviceConfiguration(3072)] * 2
    )
tf.config.list_logical_devices()

# Nets are in reference cycles, and tracing makes millions of small objects: freed once
# a module, they cost less than in passing.
gc.set_threshold(50_000, 10, 10)
gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The files with long tests first: none is left to one process at the end."""
    first = ("reliability", "training", "distribution", "tests")
    items.sort(key=lambda item: item.path.parent.name not in first)


@pytest.fixture(autouse=True)
def _free_nets():
    """A net of full size is few objects and much memory: freed once it is felt."""
    before = _peak_memory()
    yield
    if _peak_memory() > 1.1 * before:
        gc.collect()


def _peak_memory() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


@pytest.fixture(scope="module", autouse=True)
def _free_graphs():
    """Also frees the graphs that TensorFlow keeps for custom gradients, for ever."""
    registry = ops.gradient_registry._registry
    before = set(registry)
    yield
    for name in set(registry) - before:
        del registry[name]
    gc.collect()


@pytest.fixture(scope="session")
def records_dir(tmp_path_factory) -> pathlib.Path:
    """48 training and 13 validation images of three classes in classic TFRecords."""
    folder = tmp_path_factory.mktemp("records")
    rng = np.random.default_rng(0)
    for split, count in (("train", 48), ("validation", 13)):
        for shard in range(2):
            path = folder / f"{split}-{shard:05d}-of-00002"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for i in range(shard, count, 2):
                    writer.write(_example(rng, i))
    names = "".join(f"n0000000{i} class {i}\n" for i in range(NUM_CLASSES))
    (folder / "labels.txt").write_text(names)
    # As tools/prepare_imagenet.py writes them: else each run measures them anew.
    measured = dataset.find_statistics(DataConfig(data_dir=str(folder)), None)
    measured.save(folder / dataset.STATISTICS_FILE)
    return folder


def _example(rng: np.random.Generator, i: int) -> bytes:
    """Stripes whose width tells the class, in colours that do not."""
    label = i % NUM_CLASSES
    stripes = np.arange(256) // (4 * 3**label) % 2
    colors = rng.integers(0, 256, (2, 3))
    image = np.broadcast_to(colors[stripes], (256, 256, 3)).astype(np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "JPEG", quality=95)
    return classic_example(
        buffer.getvalue(),
        height=256,
        width=256,
        label=label,
        synset=f"n0000000{label}",
        text=f"class {label}",
        filename=f"{i}.JPEG",
    )


@pytest.fixture
def tiny_config(records_dir) -> Config:
    """A narrow net on small crops: five steps take a second."""
    return Config(
        model=ModelConfig(
            num_classes=NUM_CLASSES, width=0.125, input_size=64, init="unit_variance"
        ),
        data=DataConfig(data_dir=str(records_dir), input_scale="unit_variance"),
        train=TrainConfig(
            batch_size=8,
            train_steps=5,
            schedule="constant",
            skip_eval=True,
            steps_per_loop=5,
            seed=3,
        ),
        runtime=RuntimeConfig(),
    )


@pytest.fixture
def quick_config(tiny_config) -> Config:
    """Without records: a run starts in half the time."""
    data = dataclasses.replace(tiny_config.data, data_dir=None, use_synthetic_data=True)
    return dataclasses.replace(tiny_config, data=data)
