"""From datasets to a strategy's replicas."""

from collections.abc import Callable

import tensorflow as tf


def distribute(
    strategy: tf.distribute.Strategy,
    make_dataset: Callable[[tf.distribute.InputContext], tf.data.Dataset],
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """Global batches for a strategy; GPUs get them ahead of time.

    Without GPUs nothing has to be copied ahead, and each replica reads its own share.
    So tf.data's tuning can be left off, for which there is no option where batches are
    copied: its thread sleeps for twice as long each time, up to a minute, and at its
    end an iterator may wait for it.

    Args:
        strategy: the model's.
        make_dataset: from the place of an input pipeline among all to its dataset,
            whose batches are of one replica's size.
    """
    if tf.config.list_logical_devices("GPU"):
        return strategy.distribute_datasets_from_function(make_dataset)
    options = tf.data.Options()
    options.autotune.enabled = False

    def pipeline(context: tf.distribute.InputContext) -> tf.data.Dataset:
        return make_dataset(context).with_options(options)

    replicas = strategy.num_replicas_in_sync
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        # On CPUs it has one replica a worker.
        worker = strategy.cluster_resolver.task_id
        return pipeline(tf.distribute.InputContext(replicas, worker, replicas))
    if replicas == 1:
        return pipeline(tf.distribute.InputContext())
    return strategy.distribute_datasets_from_function(
        pipeline,
        tf.distribute.InputOptions(
            experimental_fetch_to_device=False,
            experimental_replication_mode=tf.distribute.InputReplicationMode.PER_REPLICA,
        ),
    )
