"""The order of the examples, and which records a worker reads for it.

A global batch of B positions is cut into up to 16 lanes of neighbouring positions.
Each lane reads a stretch of its own of every epoch's records, so that a worker reads
the files of its own positions only. An epoch may end inside a batch: lane l takes as
many of its records as it has positions among them.

    epoch e:          examples e*N .. (e+1)*N - 1; example k = step * B + position
    its sequence:     the files permuted by (seed, e), one after the other
    lane l's stretch: starts where that of lane l - 1 ends; shuffled by (seed, e, l)

None of this depends on the number of workers. Where it divides 16, lanes end where
workers do; else a lane across a border is read by the workers on both sides of it.
"""

import dataclasses

import numpy as np
import tensorflow as tf

from official.alexnet.data import reading
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError

# A constant: the order of the examples depends on it.
NUM_LANES = 16

_MAX_INT32 = 2**31 - 1


@dataclasses.dataclass(frozen=True)
class Share:
    """A worker's positions first..stop - 1 of each global batch of `batch_size`."""

    batch_size: int
    first: int
    stop: int
    replica_batch_size: int

    @classmethod
    def of(
        cls,
        batch_size: int,
        replica_batch_size: int | None = None,
        worker: int = 0,
        num_workers: int = 1,
    ) -> "Share":
        """The share of one worker; UserError where not all workers are alike."""
        replica_batch_size = replica_batch_size or batch_size // num_workers
        if batch_size % (num_workers * replica_batch_size):
            raise UserError(
                f"--batch_size={batch_size} does not divide into batches of "
                f"{replica_batch_size} a replica on {num_workers} workers; pass a "
                "multiple of the number of replicas"
            )
        size = batch_size // num_workers
        return cls(batch_size, worker * size, (worker + 1) * size, replica_batch_size)


def training_blocks(
    records: Records, share: Share, *, seed: int, start_step: int, shuffle_buffer: int
) -> tf.data.Dataset:
    """A worker's records in the order of its positions, epoch after epoch.

    Records before those of `start_step` are skipped; `shuffle_buffer` are held to draw
    from, over all lanes of a global batch. Returns an endless dataset of blocks of
    neighbouring records: tags, int64 (n,), and serialized examples, string (n,).
    """
    lanes = _Lanes(records, share.batch_size)
    first_example = start_step * share.batch_size
    first_epoch = first_example // records.num_examples
    buffer = max(1, shuffle_buffer // lanes.count)
    epoch_start = lanes.below(first_epoch * records.num_examples)
    skipped = lanes.below(first_example) - epoch_start

    def read_epoch(epoch: tf.Tensor, lane: tf.Tensor) -> tf.data.Dataset:
        num_files = len(records.files)
        # Crops are keyed by (seed, k >= 0); negative keys keep epochs apart from them.
        key = tf.stack([tf.cast(seed, tf.int64), -1 - epoch])
        draws = tf.random.stateless_uniform(
            (num_files + lanes.count,), key, 0, tf.int64.max, tf.int64, alg="philox"
        )
        files = tf.argsort(draws[:num_files], stable=True)
        # Dataset.shuffle mixes in the graph's seed, which would be the program's. This
        # sets it for this function's own graph only.
        tf.compat.v1.set_random_seed(1)
        return lanes.read_stretch(lane, epoch, files).shuffle(
            buffer,
            seed=draws[num_files + lane] % _MAX_INT32,
            reshuffle_each_iteration=False,
        )

    def read_lane(lane: tf.Tensor) -> tf.data.Dataset:
        epochs = tf.data.Dataset.range(first_epoch, tf.int64.max)
        stream = epochs.flat_map(lambda epoch: read_epoch(epoch, lane))
        return stream.skip(tf.gather(skipped, lane))

    return lanes.interleave(read_lane, share)


def evaluation_blocks(records: Records, share: Share) -> tf.data.Dataset:
    """A worker's records of one epoch, files and records in their own order.

    Blocks as of `training_blocks`, as many records as the worker has positions among
    the first `num_examples`.
    """
    lanes = _Lanes(records, share.batch_size)
    files = tf.range(len(records.files))
    epoch = tf.constant(0, tf.int64)
    return lanes.interleave(lambda lane: lanes.read_stretch(lane, epoch, files), share)


class _Lanes:
    """The lanes of a global batch: a batch smaller than 16 has one a position."""

    def __init__(self, records: Records, batch_size: int):
        self.count = min(NUM_LANES, batch_size)
        self._records = records
        self._batch_size = batch_size
        bounds = np.arange(self.count + 1) * batch_size // self.count
        self._first, self._stop = bounds[:-1], bounds[1:]

    def below(self, example: int | tf.Tensor) -> tf.Tensor:
        """How many examples below a number each lane has; int64 (count,)."""
        example = tf.cast(example, tf.int64)
        batches, position = example // self._batch_size, example % self._batch_size
        sizes = self._stop - self._first
        return batches * sizes + tf.clip_by_value(position - self._first, 0, sizes)

    def read_stretch(self, lane, epoch, files) -> tf.data.Dataset:
        """A lane's records of an epoch whose files come in the order given."""
        examples = self._records.num_examples
        taken = self.below((epoch + 1) * examples) - self.below(epoch * examples)
        stop = tf.cumsum(taken)[lane]
        start = stop - taken[lane]
        sizes = tf.gather(tf.constant(self._records.file_sizes, tf.int64), files)
        begin = tf.cumsum(sizes, exclusive=True)
        first = tf.clip_by_value(start - begin, 0, sizes)
        last = tf.clip_by_value(stop - begin, 0, sizes)
        pieces = tf.data.Dataset.from_tensor_slices(
            tuple(tf.boolean_mask(x, first < last) for x in (files, first, last))
        )
        return reading.read_pieces(pieces, self._records)

    def interleave(self, read_lane, share: Share) -> tf.data.Dataset:
        """The lanes' records in the order of the worker's positions, in blocks."""
        own = np.flatnonzero((self._stop > share.first) & (self._first < share.stop))
        first, stop = self._first[own], self._stop[own]
        # Of a lane's positions in a batch, begin..end - 1 are this worker's.
        begin = np.maximum(share.first, first) - first
        end = np.minimum(share.stop, stop) - first
        all_whole = (end - begin == stop - first).all()

        def read_blocks(lane, size, begin, end) -> tf.data.Dataset:
            blocks = read_lane(lane).batch(size)
            if all_whole:  # The usual case: a call a block would cost 7 us a record.
                return blocks
            return blocks.map(lambda tags, found: (tags[begin:end], found[begin:end]))

        return tf.data.Dataset.from_tensor_slices(
            (own, stop - first, begin, end)
        ).interleave(
            read_blocks,
            cycle_length=len(own),
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )
