"""The tf.data input: from TFRecords to batches of uint8 crops on the host.

Mean, colour noise and the cast to float are left to the device (`preprocessing`).

The batch at step n is a function of (seed, n, batch size) alone. Example k = n * global
batch + position belongs to epoch k // N; which record it is depends on (seed, epoch),
see `lanes`, its crop on (seed, k). A worker reads the records of its own positions of
each global batch, so the union over any grid of workers and replicas is the same batch,
and training resumes anywhere by skipping records before they are decoded.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from official.alexnet.data import jpegs, lanes, pictures, preprocessing, reading
from official.alexnet.data.records import Records

_PREFETCHED_BATCHES = 4


# Branches are tf.cond: AutoGraph would find nothing, and takes seconds of every start.
_as_written = tf.autograph.experimental.do_not_convert


@_as_written
def training_dataset(
    records: Records,
    share: lanes.Share,
    *,
    seed: int,
    start_step: int = 0,
    image_size: int = 256,
    crop_size: int = 224,
    shuffle_buffer: int = 8192,
    augment: bool = True,
    num_batches: int = -1,
) -> tf.data.Dataset:
    """Shuffled batches of random crops and mirrors (section 4.1).

    Each example comes once an epoch, and a batch may span epochs. Offsets are uniform
    in 0..image_size - crop_size; without `augment` all crops are the centre's. All
    workers together hold `shuffle_buffer` undecoded records to draw from. -1 batches,
    from that of `start_step` on, are endless.

    Returns a dataset of {"image": uint8 (replica_batch_size, crop_size, crop_size, 3),
    "label": int32 (replica_batch_size,), 0-based}. A worker's replica batches of a step
    come one after another. A record that cannot be used raises an error; see
    `reading.as_user_error`.
    """
    size, border = share.replica_batch_size, image_size - crop_size
    replicas = (share.stop - share.first) // size
    load = _loader(records, crop_size, image_size)

    def prepare(first: tf.Tensor, batch: tuple) -> dict[str, tf.Tensor]:
        if augment:
            return load(*batch, *_draws(seed, first, size, border))
        centre = tf.fill((size, 2), border // 2)
        return load(*batch, centre, tf.fill((size,), False))

    def number(index: tf.Tensor, batch: tuple) -> tuple:
        """Adds the number k of a batch's first example."""
        step, replica = start_step + index // replicas, index % replicas
        return step * share.batch_size + share.first + replica * size, batch

    blocks = lanes.training_blocks(
        records, share, seed=seed, start_step=start_step, shuffle_buffer=shuffle_buffer
    )
    # A batch is prepared as one element: its images one after another, batches side by
    # side. Element by element, tf.data's own work took longer than decoding.
    batches = blocks.rebatch(size, drop_remainder=True).take(num_batches)
    numbered = batches.enumerate().map(number)
    return _ready(numbered.map(prepare, tf.data.AUTOTUNE, deterministic=True))


@_as_written
def evaluation_dataset(
    records: Records, share: lanes.Share, *, image_size: int = 256
) -> tf.data.Dataset:
    """Each example once, whole squares; the last global batch is filled up.

    As of `training_dataset`, and "weight": float32 (replica_batch_size,), 1 for an
    example and 0 for the zeros that fill up the last batch, so that every replica has
    as many batches.
    """
    load = _loader(records, image_size, image_size)

    def prepare(tags: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        count = tf.shape(tags)[0]
        whole = tf.zeros((count, 2), tf.int32), tf.zeros((count,), tf.bool)
        return load(tags, serialized, *whole) | {"weight": tf.ones((count,))}

    size = share.replica_batch_size
    batches = lanes.evaluation_blocks(records, share).rebatch(size)
    batches = batches.map(prepare, tf.data.AUTOTUNE, deterministic=True)
    last_batch = (records.num_examples - 1) % share.batch_size + 1
    missing = share.stop - min(max(last_batch, share.first), share.stop)
    if missing:
        filling = {
            name: tf.zeros((missing, *spec.shape[1:]), spec.dtype)
            for name, spec in batches.element_spec.items()
        }
        batches = batches.concatenate(tf.data.Dataset.from_tensors(filling))
    # Of the last batches only: one of the right size is passed on as it is.
    return _ready(batches.rebatch(size, drop_remainder=True))


def synthetic_dataset(
    *,
    replica_batch_size: int,
    image_size: int,
    num_classes: int,
    seed: int = 0,
    weighted: bool = False,
    num_batches: int = -1,
) -> tf.data.Dataset:
    """One batch of noise over and over, to time a step without reading anything.

    Elements are as of `training_dataset` or, if `weighted`, `evaluation_dataset`;
    labels are uniform in 0..num_classes - 1. -1 batches are endless.
    """
    shape = (replica_batch_size, image_size, image_size, 3)

    def draw(shape: tuple[int, ...], end: int, stream: int) -> tf.Tensor:
        return tf.random.stateless_uniform(
            shape, (seed, stream), 0, end, tf.int32, alg="philox"
        )

    batch = {
        "image": tf.cast(draw(shape, 256, 0), tf.uint8),
        "label": draw((replica_batch_size,), num_classes, 1),
    }
    if weighted:
        batch["weight"] = tf.ones((replica_batch_size,))
    return _ready(tf.data.Dataset.from_tensors(batch).repeat(num_batches))


def _ready(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.deterministic = True
    # Sharding is done here, by position in the global batch.
    off = tf.data.experimental.AutoShardPolicy.OFF
    options.experimental_distribute.auto_shard_policy = off
    return dataset.prefetch(_PREFETCHED_BATCHES).with_options(options)


def _draws(
    seed: int, first: tf.Tensor, size: int, border: int
) -> tuple[tf.Tensor, tf.Tensor]:
    """Offsets, int32 (size, 2) in 0..border, and which examples are mirrored.

    One block of Philox an example: its key is the seed, its counter the example's
    number k; those of a batch follow one another from `first` on.
    """
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=(size, 4),
        key=tf.constant([seed % 2**64], tf.uint64),
        counter=tf.stack([tf.cast(first, tf.uint64), tf.constant(0, tf.uint64)]),
        alg=tf.random.Algorithm.PHILOX.value,
        dtype=tf.uint32,
    )
    # The high half of a product with a 32-bit draw is uniform in 0..border.
    products = tf.cast(words[:, :2], tf.uint64) * (border + 1)
    offsets = tf.bitwise.right_shift(products, tf.constant(32, tf.uint64))
    return tf.cast(offsets, tf.int32), words[:, 2] < 2**31


def _loader(
    records: Records, size: int, image_size: int
) -> Callable[..., dict[str, tf.Tensor]]:
    """The function from a batch of records and crops to images and labels.

    A batch is loaded as a whole. Where that fails, its records are loaded one by one,
    to name the first that cannot be used.
    """
    decode = decoder(size, image_size)

    def load(tags, serialized, offsets, mirrored):
        encoded, labels = reading.parse_records(serialized, records)
        images = decode(encoded, offsets, mirrored)
        images = tf.ensure_shape(images, (*encoded.shape, size, size, 3))
        return {"image": images, "label": labels}

    def is_good(*one):
        with tf.control_dependencies(load(*(part[None] for part in one)).values()):
            return tf.constant(True)

    def refuse(*batch):
        good = tf.map_fn(
            lambda one: pictures.attempt(is_good, one, lambda *_: False),
            batch,
            fn_output_signature=tf.bool,
        )
        # Where no record is to blame, for lack of memory say: that is raised then.
        with tf.control_dependencies([reading.refuse(batch[0], good)]):
            return load(*map(tf.identity, batch))

    return lambda *batch: pictures.attempt(load, batch, refuse)


@functools.cache
def decoder(size: int, image_size: int) -> Callable[..., tf.Tensor]:
    """A function that decodes a batch of crops of side `size`, traced once a process.

    From encoded pictures, string (batch,), made squares of side `image_size`, offsets,
    int32 (batch, 2), and mirrored, bool (batch,), to uint8 (batch, size, size, 3).
    """
    decode_crops = functools.partial(
        jpegs.decode_crops, size=size, image_size=image_size
    )

    def decode_any(image, decoded, encoded, offset, mirrored) -> tf.Tensor:
        def decode() -> tf.Tensor:
            whole = preprocessing.decode_image(encoded)
            square = preprocessing.resize_to_square(whole, image_size)
            top, left = tf.unstack(offset)
            window = square[top : top + size, left : left + size]
            return tf.cond(mirrored, lambda: window[:, ::-1], lambda: window)

        return tf.ensure_shape(tf.cond(decoded, lambda: image, decode), image.shape)

    shapes = ((None,), tf.string), ((None, 2), tf.int32), ((None,), tf.bool)

    @tf.function(autograph=False, input_signature=[tf.TensorSpec(*x) for x in shapes])
    def decode(encoded, offsets, mirrored) -> tf.Tensor:
        batch = encoded, offsets, mirrored
        images, decoded = tf.numpy_function(
            decode_crops, batch, (tf.uint8, tf.bool), stateful=False
        )
        images = tf.ensure_shape(images, (None, size, size, 3))
        decoded = tf.ensure_shape(decoded, (None,))
        return tf.cond(
            tf.reduce_all(decoded),
            lambda: images,
            lambda: tf.map_fn(
                lambda one: decode_any(*one),
                (images, decoded, *batch),
                fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
            ),
        )

    return decode
