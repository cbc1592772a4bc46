"""What crosses between the columns' devices: Figure 2's arrows, to the byte.

Maps of a column at an eighth of the published width, and what they are multiplied by,
worked out from the sizes of section 3.5; float32 has 4 bytes.
"""

import pathlib
import sys

import pytest
import tensorflow as tf

from official.alexnet.config import (
    Config,
    DataConfig,
    ModelConfig,
    RuntimeConfig,
    TrainConfig,
)
from official.alexnet.distribution.strategy import place
from official.alexnet.training.trainer import Trainer

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))

from benchmarking.crossing import crossings

BATCH = 3
CONV3, FC6, FC7 = 13 * 13 * (256 // 2 // 8), 6 * 6 * (256 // 2 // 8), 4096 // 2 // 8
CONV6 = 6 * 6 * (256 // 2 // 8)
# LRN over 5 maps reaches over to 2 of the other column.
NORM1, NORM2 = 55 * 55 * 2, 27 * 27 * 2
# Values an image that each column sends the other, besides fc8's.
EXCHANGED = {
    "paper": [CONV3, FC6, FC7],
    "original": [CONV3, FC6, FC7],
    "conv6": [CONV3, CONV6, FC6, FC7],
    "caffe": [NORM1, NORM2, CONV3, FC6, FC7],
    "original_no_exchange": [],
}


def config(variant: str, replicas: int, exchange_dtype: str | None = None) -> Config:
    return Config(
        ModelConfig(variant, num_classes=10, num_columns=2, width=0.125),
        DataConfig(use_synthetic_data=True),
        TrainConfig(batch_size=BATCH * replicas, train_steps=1, schedule="constant"),
        RuntimeConfig(
            "one_device" if replicas == 1 else "mirrored",
            logical_cpus=2 * replicas,
            num_gpus=0,
            exchange_dtype=exchange_dtype,
        ),
    )


@pytest.mark.parametrize(
    ("variant", "replicas", "exchange_dtype"),
    [
        ("paper", 1, None),
        *(
            pytest.param(variant, replicas, None, marks=pytest.mark.slow)
            for variant in EXCHANGED
            for replicas in (1, 2)
            if (variant, replicas) not in (("paper", 1), ("caffe", 1))
        ),
        ("caffe", 1, None),
        # Half of the bytes, as in 170-quant.
        ("original", 1, "fp16"),
        pytest.param("caffe", 1, "fp16", marks=pytest.mark.slow),
        pytest.param("paper", 2, "bf16", marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_what_crosses_is_what_figure_2_draws(
    tmp_path, variant, replicas, exchange_dtype, training
):
    settings = config(variant, replicas, exchange_dtype)
    placement = place(settings.runtime, 2)
    trainer = Trainer(settings, tmp_path, placement, clean=False)
    side = trainer.model.input_shape[1]
    if training:
        batches = iter(trainer.batches(0))
        found = crossings(tf.function(lambda: trainer.step.train_step(next(batches))))
    else:
        evaluator = trainer.evaluator
        batches = iter(evaluator._batches)
        step = type(evaluator)._step.python_function
        found = crossings(tf.function(lambda: step(evaluator, next(batches))))
    exchanged = EXCHANGED[variant]
    passes = 1 + training
    # Column 1 reads the images, and column 0 what fc8 reads of fc7.
    each = 2 if exchange_dtype else 4
    images = 4 * side * side * 3
    to_1 = [images, *(each * n for n in [*exchanged * passes, *[FC7] * training])]
    to_0 = [each * n for n in [*exchanged * passes, FC7]]
    tensors: dict[tuple, list[int]] = {}
    for crossing in found:
        if crossing.bytes > 8:
            pair = (crossing.source, crossing.target)
            tensors.setdefault(pair, []).append(crossing.bytes)
    devices = [[f"CPU:{c * replicas + r}" for r in range(replicas)] for c in (0, 1)]
    for first, second in zip(*devices, strict=True):
        for pair, values in (((first, second), to_1), ((second, first), to_0)):
            wanted = sorted(BATCH * value for value in values)
            assert sorted(tensors.pop(pair)) == wanted, pair
    # Replicas exchange gradients column by column, and get their images.
    assert all({*pair} <= {*devices[0]} or {*pair} <= {*devices[1]} for pair in tensors)
    assert bool(tensors) == (replicas > 1)


def test_a_scalar_is_all_that_is_sent_besides(tmp_path):
    """Learning rates, what orders ops, and where a replica's noise begins."""
    settings = config("paper", 1)
    placement = place(settings.runtime, 2)
    trainer = Trainer(settings, tmp_path, placement, clean=False)
    batches = iter(trainer.batches(0))
    found = crossings(tf.function(lambda: trainer.step.train_step(next(batches))))
    small = [crossing for crossing in found if crossing.bytes <= 8]
    assert small
    assert {crossing.shape for crossing in small} == {()}
    # Nothing of column 1 but what Figure 2 draws comes from its device.
    names = [crossing.name for crossing in found if crossing.source == "CPU:1"]
    assert len([name for name in names if "ctrl" not in name]) == 7
