"""One task of TF_CONFIG: prints what it is fed, as without GPUs and as with them."""

import json
import sys
from unittest import mock

import tensorflow as tf

from official.alexnet.config import RuntimeConfig
from official.alexnet.distribution import feeding
from official.alexnet.distribution.strategy import place

NUMBERS, STEPS = 12, 2


def batches(context: tf.distribute.InputContext) -> tf.data.Dataset:
    """This task's part of an epoch of the numbers 0, 1, ..."""
    size = context.get_per_replica_batch_size(NUMBERS // STEPS)
    shard = (context.num_input_pipelines, context.input_pipeline_id)
    return tf.data.Dataset.range(NUMBERS).batch(size).shard(*shard)


def main() -> None:
    placement = place(RuntimeConfig("multi_worker_mirrored", num_gpus=0), 1)
    strategy, fed = placement.strategy, []
    with placement.watch:
        for gpus in ([], ["GPU:0"]):
            listed = mock.Mock(return_value=gpus)
            with mock.patch.object(tf.config, "list_logical_devices", listed):
                steps = iter(feeding.distribute(strategy, batches))
            for _ in range(STEPS):
                (batch,) = strategy.experimental_local_results(next(steps))
                fed += batch.numpy().tolist()
    json.dump(fed, sys.stdout)


if __name__ == "__main__":
    main()
