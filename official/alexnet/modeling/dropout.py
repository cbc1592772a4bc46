"""Dropout, as published and as it is done today."""

import tensorflow as tf

from official.alexnet.backend import keras
from official.alexnet.modeling.columns import ColumnLayer, register


@register
class Dropout(ColumnLayer):
    """Dropout as published (section 4.2): no rescaling while training.

    While training each unit is kept with probability 1 - rate; otherwise all are used
    and multiplied by 1 - rate. The inverted form of Caffe and PyTorch divides while
    training instead, and so trains the layers above on twice the signal.

    The mask of example i of the global batch is a function of the seed, the number of
    calls, i and the column alone: the same on any grid of devices, grouped or not,
    and after a restart from a checkpoint or a Keras file that holds `seed_generator`.

    Attributes:
        rate: probability that a unit is dropped.
        seed: of the masks.
        num_columns: columns that lie side by side in the layer's input.
        inverted: divide the units that are kept by 1 - rate while training.
    """

    rate: float
    seed: int = 0
    num_columns: int = 1
    inverted: bool = False

    def __init__(self, rate: float = 0.5, **kwargs):
        super().__init__(rate=rate, **kwargs)
        with self.variables_here():
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def call(self, x, training=False):
        keep = 1 - self.rate
        if not training:
            scale = 1 if self.inverted else keep
            return self.run(lambda x: x * tf.cast(scale, x.dtype), x)
        scale = 1 / keep if self.inverted else 1
        with self.here():
            count = self.seed_generator.next()
        index, replicas = _replica()
        batch = tf.shape(x)[0]
        *sides, units = x.shape[1:]

        def drop(x):
            masks = []
            for column in range(self.column, self.column + self.num_columns):
                seed = tf.stack([count[0] + column, count[1]])
                draws = tf.random.stateless_uniform(
                    [replicas * batch, *sides, units // self.num_columns],
                    seed,
                    alg="philox",
                )
                masks.append(draws[index * batch : (index + 1) * batch] < keep)
            mask = tf.ensure_shape(tf.concat(masks, axis=-1), x.shape)
            return x * (tf.cast(mask, x.dtype) * tf.cast(scale, x.dtype))

        return self.run(drop, x)

    def save_own_variables(self, store):
        # Keras leaves it out: the first masks would come again after each loading.
        store["seed_generator"] = self.seed_generator.state

    def load_own_variables(self, store):
        if "seed_generator" in store:  # Older files have none.
            self.seed_generator.state.assign(store["seed_generator"])


def _replica() -> tuple[int, int]:
    """Index of the replica being traced, and how many there are."""
    context = tf.distribute.get_replica_context()
    if context is None:
        return 0, 1
    index = tf.get_static_value(context.replica_id_in_sync_group)
    return int(index), context.num_replicas_in_sync
