"""The tf.data input: from TFRecords to batches of uint8 crops on the host.

Mean, colour noise and the cast to float are left to the device (`preprocessing`).

The batch at step n is a function of (seed, n, batch size) alone. Example k = n * global
batch + position belongs to epoch k // N; which record it is hangs on (seed, epoch), see
`lanes`, its crop on (seed, k). A worker reads the records of its own positions of each
global batch, so the union over any grid of workers and replicas is the same batch, and
training resumes anywhere by skipping records before they are decoded.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from official.alexnet.data import (
    bad_records,
    lanes,
    pictures,
    preprocessing,
    reading,
)
from official.alexnet.data.records import Records
from official.alexnet.errors import UserError

# About 330 MB of 256x256 JPEGs.
SHUFFLE_BUFFER = 8192

_PREFETCHED_BATCHES = 4
_END_OF_JPEG = b"\xff\xd9"


# Branches are tf.cond: AutoGraph would find nothing, and takes seconds of every start.
_as_written = tf.autograph.experimental.do_not_convert


@_as_written
def training_dataset(
    records: Records,
    *,
    global_batch_size: int,
    replica_batch_size: int,
    num_input_pipelines: int = 1,
    input_pipeline_id: int = 0,
    seed: int,
    start_step: int = 0,
    image_size: int = 256,
    crop_size: int = 224,
    shuffle_buffer: int = SHUFFLE_BUFFER,
    augment: bool = True,
    skip_bad: bool = False,
    num_batches: int = -1,
) -> tf.data.Dataset:
    """Shuffled batches of random crops and mirrors (section 4.1).

    Each example comes once an epoch, and a batch may span epochs. An input pipeline
    reads and decodes its own share.

    Args:
        records: what to read.
        global_batch_size: examples a step, over all replicas.
        replica_batch_size: examples a batch of this dataset.
        num_input_pipelines: workers that share a global batch, evenly.
        input_pipeline_id: this worker's place among them.
        seed: of order, crops and mirrors.
        start_step: the step whose batch comes first.
        image_size: side of the square the crops are taken from.
        crop_size: side of a crop; offsets are uniform in 0..image_size - crop_size.
        shuffle_buffer: undecoded records that all input pipelines hold to draw from.
        augment: False takes every centre crop, unmirrored.
        skip_bad: a record that cannot be used becomes zeros of weight 0 in its place;
            otherwise it raises an error.
        num_batches: batches in the dataset; -1 is endless.

    Returns:
        A dataset of {"image": uint8 (replica_batch_size, crop_size, crop_size, 3),
        "label": int32 (replica_batch_size,), 0-based}, with `skip_bad` also "weight":
        float32 (replica_batch_size,), 1 or 0. A worker's replica batches of a step
        come one after another.

    Raises:
        UserError: the batch does not divide over workers and replicas.
    """
    _check_shares(
        global_batch_size, replica_batch_size, num_input_pipelines, input_pipeline_id
    )
    share = lanes.Share.of(input_pipeline_id, num_input_pipelines, global_batch_size)
    border = image_size - crop_size

    load = _loader(records, crop_size, image_size, skip_bad)

    def prepare(numbers: tf.Tensor, batch: tuple) -> dict[str, tf.Tensor]:
        if augment:
            offsets, mirrored = _draws(seed, numbers, border)
        else:
            offsets = tf.fill((replica_batch_size, 2), border // 2)
            mirrored = tf.fill((replica_batch_size,), False)
        images, labels, weights = load(*batch, offsets, mirrored)
        examples = {"image": images, "label": labels}
        return examples | {"weight": weights} if skip_bad else examples

    replicas = global_batch_size // num_input_pipelines // replica_batch_size

    def number(index: tf.Tensor, batch: tuple) -> tuple:
        """Adds the numbers k of a batch's examples."""
        step, replica = start_step + index // replicas, index % replicas
        first = step * global_batch_size + share.first + replica * replica_batch_size
        return first + tf.range(replica_batch_size, dtype=tf.int64), batch

    dataset = lanes.training_blocks(
        records,
        share,
        seed=seed,
        start_step=start_step,
        shuffle_buffer=shuffle_buffer,
    )
    # A batch is prepared as one element: its images one after another, batches side by
    # side. Element by element, tf.data's own work took longer than decoding.
    return (
        dataset.rebatch(replica_batch_size, drop_remainder=True)
        .take(num_batches)
        .enumerate()
        .map(number)
        .map(prepare, tf.data.AUTOTUNE, deterministic=True)
        .prefetch(_PREFETCHED_BATCHES)
        .with_options(_options())
    )


@_as_written
def evaluation_dataset(
    records: Records,
    *,
    global_batch_size: int,
    replica_batch_size: int,
    num_input_pipelines: int = 1,
    input_pipeline_id: int = 0,
    image_size: int = 256,
    skip_bad: bool = False,
) -> tf.data.Dataset:
    """Each example once, whole squares; the last global batch is filled up.

    Args:
        records: what to read.
        global_batch_size: examples a step, over all replicas.
        replica_batch_size: examples a batch of this dataset.
        num_input_pipelines: workers that share a global batch, evenly.
        input_pipeline_id: this worker's place among them.
        image_size: side of the square.
        skip_bad: a record that cannot be used becomes zeros of weight 0 in its place;
            otherwise it raises an error.

    Returns:
        A dataset of {"image": uint8 (replica_batch_size, image_size, image_size, 3),
        "label": int32 (replica_batch_size,), "weight": float32
        (replica_batch_size,)}. The weight is 1 for an example and 0 for the zeros
        that fill up the last batch, so every replica has `evaluation_steps` batches.

    Raises:
        UserError: the batch does not divide over workers and replicas.
    """
    _check_shares(
        global_batch_size, replica_batch_size, num_input_pipelines, input_pipeline_id
    )

    load = _loader(records, image_size, image_size, skip_bad)
    whole = tf.zeros((1, 2), tf.int32), tf.constant([False])

    def prepare(tag: tf.Tensor, serialized: tf.Tensor) -> dict[str, tf.Tensor]:
        parts = load(tag[None], serialized[None], *whole)
        return dict(
            zip(("image", "label", "weight"), (p[0] for p in parts), strict=True)
        )

    share = lanes.Share.of(input_pipeline_id, num_input_pipelines, global_batch_size)
    filling = {
        "image": tf.zeros((image_size, image_size, 3), tf.uint8),
        "label": tf.constant(0),
        "weight": tf.constant(0.0),
    }
    last_batch = (records.num_examples - 1) % global_batch_size + 1
    missing = share.stop - min(max(last_batch, share.first), share.stop)
    fillings = tf.data.Dataset.from_tensors(filling).repeat(missing)
    return (
        lanes.evaluation_blocks(records, share)
        .unbatch()
        .map(prepare, tf.data.AUTOTUNE, deterministic=True)
        .concatenate(fillings)
        .batch(replica_batch_size, drop_remainder=True)
        .prefetch(_PREFETCHED_BATCHES)
        .with_options(_options())
    )


def evaluation_steps(num_examples: int, global_batch_size: int) -> int:
    """Steps that see each example once, the last perhaps with filling."""
    return -(-num_examples // global_batch_size)


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

    Args:
        replica_batch_size: examples a batch.
        image_size: side of an image: the crop's for training, the whole for evaluation.
        num_classes: labels are uniform in 0..num_classes - 1.
        seed: of pixels and labels.
        weighted: whether to add "weight", all ones, as `evaluation_dataset` has.
        num_batches: batches in the dataset; -1 is endless.

    Returns:
        A dataset of the same elements as `training_dataset` or `evaluation_dataset`.
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
    dataset = tf.data.Dataset.from_tensors(batch).repeat(num_batches)
    return dataset.prefetch(_PREFETCHED_BATCHES).with_options(_options())


def _check_shares(
    global_batch_size: int,
    replica_batch_size: int,
    num_input_pipelines: int,
    input_pipeline_id: int,
) -> None:
    if not 0 <= input_pipeline_id < num_input_pipelines:
        raise ValueError(
            f"input_pipeline_id {input_pipeline_id} not in 0..{num_input_pipelines - 1}"
        )
    if global_batch_size % (num_input_pipelines * replica_batch_size):
        raise UserError(
            f"--batch_size={global_batch_size} does not divide into batches of "
            f"{replica_batch_size} a replica on {num_input_pipelines} workers; pass a "
            "multiple of the number of replicas"
        )


def _options() -> tf.data.Options:
    options = tf.data.Options()
    options.deterministic = True
    # Sharding is done here, by position in the global batch.
    options.experimental_distribute.auto_shard_policy = (
        tf.data.experimental.AutoShardPolicy.OFF
    )
    return options


def _draws(seed: int, numbers: tf.Tensor, border: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Offsets, int32 (batch, 2) in 0..border, and which examples are mirrored.

    One block of Philox an example: its key is the seed, its counter the example's
    number; the examples of a batch follow one another.
    """
    words = tf.raw_ops.StatelessRandomUniformFullIntV2(
        shape=(numbers.shape[0], 4),
        key=tf.constant([seed % 2**64], tf.uint64),
        counter=tf.stack([tf.cast(numbers[0], tf.uint64), tf.constant(0, tf.uint64)]),
        alg=tf.random.Algorithm.PHILOX.value,
        dtype=tf.uint32,
    )
    # The high half of a product with a 32-bit draw is uniform in 0..border.
    products = tf.cast(words[:, :2], tf.uint64) * (border + 1)
    offsets = tf.bitwise.right_shift(products, tf.constant(32, tf.uint64))
    return tf.cast(offsets, tf.int32), words[:, 2] < 2**31


def _loader(
    records: Records, size: int, image_size: int, skip_bad: bool
) -> Callable[..., tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """The function from a batch of records and crops to images, labels and weights.

    A batch is loaded as a whole. Where that fails, it is loaded once more, record by
    record, to tell the good ones from the bad.
    """
    log = bad_records.Log(records)
    decode = _decoder(size, image_size)

    def load_all(tags, serialized, offsets, mirrored):
        encoded, labels = reading.parse_records(serialized, records)
        images = tf.map_fn(
            lambda one: decode(*one),
            (encoded, offsets, mirrored),
            fn_output_signature=tf.TensorSpec((size, size, 3), tf.uint8),
        )
        return images, labels, tf.ones_like(labels, tf.float32)

    def load_one(serialized, offset, mirrored):
        encoded, labels = reading.parse_records(serialized[None], records)
        return decode(encoded[0], offset, mirrored), labels[0], 1.0

    def nothing(*_):
        return tf.zeros((size, size, 3), tf.uint8), 0, 0.0

    def load_each(tags, serialized, offsets, mirrored):
        images, labels, weights = tf.map_fn(
            lambda one: pictures.attempt(load_one, one, nothing),
            (serialized, offsets, mirrored),
            fn_output_signature=(
                tf.TensorSpec((size, size, 3), tf.uint8),
                tf.TensorSpec((), tf.int32),
                tf.TensorSpec((), tf.float32),
            ),
        )
        if skip_bad:
            bad = weights == 0
            first = tf.numpy_function(log, [tags[bad], serialized[bad]], [])
        else:
            first = reading.refuse(tags, weights > 0)
        with tf.control_dependencies([first]):
            return tf.identity(images), labels, weights

    return lambda *batch: pictures.attempt(load_all, batch, load_each)


@functools.cache
def _decoder(size: int, image_size: int) -> Callable[..., tf.Tensor]:
    """`_decode_crop` of these sizes, traced once for all pipelines of a process."""

    @tf.function(autograph=False)
    def decode(encoded, offset, mirrored):
        return _decode_crop(encoded, offset, mirrored, size, image_size)

    return decode


def _decode_crop(
    encoded: tf.Tensor,
    offset: tf.Tensor,
    mirrored: tf.Tensor,
    size: int,
    image_size: int,
) -> tf.Tensor:
    """Decodes a crop; of a square JPEG, which a prepared record holds, only that.

    Where chroma is stored at half resolution, libjpeg interpolates it up to the window
    decoded, so a crop's outermost columns can differ a little from the whole image's.
    """

    def is_square() -> tf.Tensor:
        # Of a JPEG that was cut short below the crop, the crop would be decoded. And
        # CMYK is for `decode_image` to judge.
        shape = tf.io.extract_jpeg_shape(encoded)
        is_whole = tf.strings.substr(encoded, -2, 2) == _END_OF_JPEG
        return tf.reduce_all(shape[:2] == image_size) & (shape[2] != 4) & is_whole

    def decode_crop() -> tf.Tensor:
        if size == image_size:
            return preprocessing.decode_image(encoded)
        return tf.io.decode_and_crop_jpeg(
            encoded,
            tf.concat([offset, [size, size]], 0),
            channels=3,
            dct_method=preprocessing.DCT_METHOD,
        )

    def decode_whole() -> tf.Tensor:
        image = preprocessing.decode_image(encoded)
        square = preprocessing.resize_to_square(image, image_size)
        top, left = tf.unstack(offset)
        return square[top : top + size, left : left + size]

    is_prepared = tf.cond(tf.io.is_jpeg(encoded), is_square, lambda: False)
    image = tf.cond(is_prepared, decode_crop, decode_whole)
    image = tf.cond(mirrored, lambda: tf.reverse(image, [1]), lambda: image)
    return tf.ensure_shape(image, (size, size, 3))
