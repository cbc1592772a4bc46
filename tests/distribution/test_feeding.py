import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.distribution import feeding


def _dataset(context: tf.distribute.InputContext) -> tf.data.Dataset:
    """Batches of two of the numbers 0, 1, ...: the pipelines take turns."""
    batches = tf.data.Dataset.range(100).batch(2)
    batches = batches.shard(context.num_input_pipelines, context.input_pipeline_id)
    return batches.map(lambda x: x, tf.data.AUTOTUNE).prefetch(2)


@pytest.mark.parametrize(
    ("make", "num_replicas"),
    [
        (tf.distribute.get_strategy, 1),
        (lambda: tf.distribute.OneDeviceStrategy("CPU:0"), 1),
        (lambda: tf.distribute.MirroredStrategy(["CPU:0"]), 1),
        (lambda: tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]), 2),
    ],
)
def test_a_global_batch_is_the_replicas_batches_in_order(make, num_replicas):
    strategy = make()
    batches = iter(feeding.distribute(strategy, _dataset))
    for step in range(3):
        replicas = strategy.experimental_local_results(next(batches))
        assert len(replicas) == num_replicas
        expected = np.arange(2 * num_replicas) + 2 * num_replicas * step
        np.testing.assert_array_equal(np.concatenate(replicas), expected)


def test_no_thread_tunes_what_ends_with_the_run():
    dataset = feeding.distribute(tf.distribute.OneDeviceStrategy("CPU:0"), _dataset)
    assert dataset.options().autotune.enabled is False
