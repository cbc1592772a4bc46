"""Each column fits a card of 2012: its memory at the published size, by hand."""

import pytest
import tensorflow as tf
from device_memory import peak_bytes

from official.alexnet.config import (
    Config,
    DataConfig,
    ModelConfig,
    RuntimeConfig,
    TrainConfig,
)
from official.alexnet.distribution.strategy import place
from official.alexnet.modeling import layers
from official.alexnet.training import optimizer
from official.alexnet.training.trainer import Trainer

BATCH = 128
# Weights of one column; fc8 is in column 0.
CONVOLUTIONS = (
    (11 * 11 * 3 * 48 + 48)
    + (5 * 5 * 48 * 128 + 128)
    + (3 * 3 * 256 * 192 + 192)
    + (3 * 3 * 192 * 192 + 192)
    + (3 * 3 * 192 * 128 + 128)
)
FC6, FC7, FC8 = 9216 * 2048 + 2048, 4096 * 2048 + 2048, 4096 * 1000 + 1000
# What the gradients read again, an image: the image with its zeros, layers 1 and 2
# after ReLU, LRN and pooling, and what each later layer reads and hands out.
KEPT = (
    227 * 227 * 3
    + (2 * 55 * 55 + 27 * 27) * 48
    + (2 * 27 * 27 + 13 * 13) * 128
    + 13 * 13 * (256 + 192 + 192 + 128)
    + 6 * 6 * (128 + 256)
)


@pytest.mark.slow
def test_a_column_fits_three_gigabytes(tmp_path, monkeypatch):
    """In the ops that a GPU runs: TensorFlow's LRN, and an update without XLA."""
    monkeypatch.setattr(layers, "_runs_on_gpu", lambda _: True)
    monkeypatch.setattr(optimizer, "xla_runs_here", lambda: False)
    config = Config(
        ModelConfig("paper", num_columns=2),
        DataConfig(use_synthetic_data=True),
        TrainConfig(
            batch_size=BATCH, train_steps=2, schedule="constant", skip_eval=True
        ),
        RuntimeConfig("one_device", logical_cpus=2, num_gpus=0),
    )
    trainer = Trainer(config, tmp_path, place(config.runtime, 2), clean=False)
    trainer.set_rates(0)
    batches = iter(trainer.batches(0))
    variables = [
        v.value for v in (*trainer.model.weights, *trainer.optimizer.velocities)
    ]
    peaks = peak_bytes(lambda: trainer.step.loop(batches, tf.constant(1)), variables)
    # The worst moment: fc6's kernel is updated, with its gradient and its decay, while
    # all that the convolutions' gradients read is still there.
    step = BATCH * KEPT + 2 * FC6
    # Weights and velocities.
    of_column_1 = 2 * (CONVOLUTIONS + FC6 + FC7) + step
    by_hand = {"CPU:0": 4 * (of_column_1 + 2 * FC8), "CPU:1": 4 * of_column_1}
    print({device: f"{size / 1e6:.0f} MB" for device, size in peaks.items()})
    assert peaks == pytest.approx(by_hand, rel=0.1)
    assert max(peaks.values()) < 3 * 2**30
