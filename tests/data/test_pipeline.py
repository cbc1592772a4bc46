"""The input pipeline: order, resume, sharing out, crops, filling."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from record_files import encode, photographs, pil_pixels, write_records
from slow_cases import slow_but

from official.alexnet.data import jpegs, pipeline
from official.alexnet.data.lanes import Share
from official.alexnet.data.records import Records, find_records
from official.alexnet.errors import UserError

# Small squares keep this quick.
SIZE = 24
CROP = 17
NUM_EXAMPLES = 13


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return photographs(NUM_EXAMPLES, SIZE)


@pytest.fixture(scope="module")
def records(images, tmp_path_factory) -> Records:
    """Thirteen examples in three shards; an example's label is its number."""
    folder = tmp_path_factory.mktemp("records")
    examples = list(zip(images, range(NUM_EXAMPLES), strict=True))
    for split in ("train", "validation"):
        write_records(folder, split, [examples[:4], examples[4:5], examples[5:]])
    return find_records(str(folder), "train", NUM_EXAMPLES)


def train(
    records: Records, steps: int, share: Share | int = 4, **options
) -> list[dict[str, np.ndarray]]:
    settings = {
        "seed": 7,
        "image_size": SIZE,
        "crop_size": CROP,
        "shuffle_buffer": 5,
    } | options
    share = Share.of(share) if isinstance(share, int) else share
    dataset = pipeline.training_dataset(records, share, **settings)
    return list(dataset.take(steps).as_numpy_iterator())


def test_a_batch_that_fails_though_its_records_are_good(records, monkeypatch):
    """For lack of memory, say: it is no batch of black pictures."""
    decode = jpegs.decode_crops

    def fail(encoded, *given, **sizes):
        if len(encoded) > 1:
            raise MemoryError
        return decode(encoded, *given, **sizes)

    monkeypatch.setattr(jpegs, "decode_crops", fail)
    pipeline.decoder.cache_clear()
    try:
        with pytest.raises(tf.errors.OpError):
            train(records, 1)
    finally:
        pipeline.decoder.cache_clear()


def labels_of(batches: list[dict[str, np.ndarray]]) -> list[int]:
    return np.concatenate([batch["label"] for batch in batches]).tolist()


def assert_same(batches, expected):
    assert len(batches) == len(expected)
    for batch, other in zip(batches, expected, strict=True):
        assert batch.keys() == other.keys()
        for key in batch:
            np.testing.assert_array_equal(batch[key], other[key])


def window_of(crop: np.ndarray, whole: np.ndarray) -> tuple[int, int, bool]:
    """Where in the whole image a crop was taken: top, left, mirrored."""
    height, width = crop.shape[:2]
    hits = [
        (top, left, mirrored)
        for mirrored, view in ((False, crop), (True, crop[:, ::-1]))
        for top in range(whole.shape[0] - height + 1)
        for left in range(whole.shape[1] - width + 1)
        if np.array_equal(view, whole[top : top + height, left : left + width])
    ]
    assert len(hits) == 1
    return hits[0]


@pytest.fixture(scope="module")
def uninterrupted(records) -> list[dict[str, np.ndarray]]:
    """Sixteen steps of four: almost five epochs of thirteen."""
    return train(records, 16)


def test_batches_are_uint8_crops_and_int32_labels(records):
    spec = pipeline.training_dataset(records, Share.of(4), seed=0).element_spec
    assert spec == {
        "image": tf.TensorSpec((4, 224, 224, 3), tf.uint8),
        "label": tf.TensorSpec((4,), tf.int32),
    }


def test_each_example_comes_once_an_epoch_and_batches_span_epochs(uninterrupted):
    labels = labels_of(uninterrupted)
    epochs = [labels[i : i + NUM_EXAMPLES] for i in range(0, 52, NUM_EXAMPLES)]
    for epoch in epochs:
        assert sorted(epoch) == list(range(NUM_EXAMPLES))
    # No two epochs in one order, and none in the order of the files.
    assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    assert list(range(NUM_EXAMPLES)) not in epochs
    assert len(labels) == 64


@pytest.mark.parametrize("start_step", slow_but((2, 13), range(15)))
def test_resumed_run_continues_bit_for_bit(records, uninterrupted, start_step):
    # Step 13 begins epoch 4; every other step but 0 lies inside an epoch.
    # The program's own seed must not matter.
    tf.random.set_seed(start_step)
    resumed = train(records, 2, start_step=start_step)
    assert_same(resumed, uninterrupted[start_step : start_step + 2])


def test_batch_larger_than_the_dataset_spans_several_epochs(records):
    batches = train(records, 2, share=30)
    labels = labels_of(batches)
    for epoch in range(4):
        part = labels[epoch * NUM_EXAMPLES : (epoch + 1) * NUM_EXAMPLES]
        assert sorted(part) == list(range(NUM_EXAMPLES))
    assert_same(train(records, 1, share=30, start_step=1), batches[1:])


def test_seed_changes_order_and_crops(records, uninterrupted):
    other = train(records, 16, seed=8)
    assert labels_of(other) != labels_of(uninterrupted)
    windows = [
        [batch["image"].tobytes() for batch in train(records, 1, seed=seed)]
        for seed in (7, 7, 8)
    ]
    assert windows[0] == windows[1] != windows[2]


@pytest.mark.parametrize(
    ("workers", "replicas", "batch"),
    slow_but([(3, 2, 24)], [(2, 2, 4), (3, 2, 24), (1, 2, 4), (2, 1, 4), (4, 1, 4)]),
)
def test_union_over_workers_and_replicas_is_the_global_batch(
    records, workers, replicas, batch
):
    expected = train(records, 6, batch, start_step=2)
    per_worker = [
        train(
            records,
            6 * replicas,
            Share.of(batch, batch // (workers * replicas), worker, workers),
            start_step=2,
        )
        for worker in range(workers)
    ]
    for step in range(6):
        parts = [
            batch
            for batches in per_worker
            for batch in batches[step * replicas : (step + 1) * replicas]
        ]
        joined = {
            key: np.concatenate([part[key] for part in parts])
            for key in ("image", "label")
        }
        assert_same([joined], [expected[step]])


def test_crops_are_windows_of_the_example_and_differ_between_epochs(
    images, uninterrupted
):
    windows = {}
    for batch in uninterrupted:
        for crop, label in zip(batch["image"], batch["label"], strict=True):
            window = window_of(crop, pil_pixels(images[label]))
            windows.setdefault(int(label), []).append(window)
    everything = [window for taken in windows.values() for window in taken]
    assert {mirrored for _, _, mirrored in everything} == {False, True}
    # An example has a new window each epoch: four draws out of 128 rarely agree.
    assert all(len(set(taken)) > 1 for taken in windows.values())


def test_offsets_cover_0_to_32_evenly_and_half_are_mirrored(tmp_path):
    # Red is the column, green the row: a crop's mean colour tells its offset.
    ramp = np.arange(256, dtype=np.uint8)
    whole = np.stack(
        [
            np.tile(ramp, (256, 1)),
            np.tile(ramp[:, None], (1, 256)),
            np.zeros((256,) * 2),
        ],
        axis=-1,
    ).astype(np.uint8)
    write_records(tmp_path, "train", [[(encode(whole), 0)] * 64])
    records = find_records(str(tmp_path), "train", 1)
    batches = train(records, 16, share=64, image_size=256, crop_size=224)
    crops = np.concatenate([batch["image"] for batch in batches])
    left = np.rint(crops[:, 112, :, 0].mean(1) - 111.5)
    top = np.rint(crops[:, :, 112, 1].mean(1) - 111.5)
    mirrored = crops[:, 112, 0, 0] > crops[:, 112, -1, 0]
    for offsets in (left, top):
        assert sorted(set(offsets)) == list(range(33))
        # Chi-squared with 32 degrees of freedom: 62.5 has probability 0.001.
        counts = np.bincount(offsets.astype(int), minlength=33)
        assert ((counts - 1024 / 33) ** 2 / (1024 / 33)).sum() < 62.5
    assert abs(np.corrcoef(left, top)[0, 1]) < 0.1
    assert abs(np.corrcoef(left, mirrored)[0, 1]) < 0.1
    assert 0.45 < mirrored.mean() < 0.55


def test_without_augmentation_every_crop_is_the_centre(records, images):
    border = (SIZE - CROP) // 2
    for batch in train(records, 4, augment=False):
        for crop, label in zip(batch["image"], batch["label"], strict=True):
            whole = pil_pixels(images[label])
            expected = whole[border : border + CROP, border : border + CROP]
            np.testing.assert_array_equal(crop, expected)


def test_subsampled_jpeg_crops_as_the_whole_decodes(tmp_path):
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    encoded = encode(pixels, subsampling=2)
    write_records(tmp_path, "train", [[(encoded, 0)] * 8])
    records = find_records(str(tmp_path), "train", 1)
    batches = train(records, 3, share=8, image_size=64, crop_size=41)
    for batch in batches:
        for crop in batch["image"]:
            window_of(crop, pil_pixels(encoded))


@pytest.mark.parametrize(
    ("workers", "replicas", "batch"),
    [(1, 1, 8), (2, 1, 8), (1, 2, 8), (2, 2, 8), (1, 1, 13), (2, 1, 26), (2, 2, 48)],
)
def test_evaluation_sees_each_example_once_on_any_grid(
    records, images, workers, replicas, batch
):
    steps = -(-NUM_EXAMPLES // batch)
    replica_batch = batch // (workers * replicas)
    per_worker = [
        list(
            pipeline.evaluation_dataset(
                records,
                Share.of(batch, replica_batch, worker, workers),
                image_size=SIZE,
            ).as_numpy_iterator()
        )
        for worker in range(workers)
    ]
    seen, position = [], 0
    for batches in per_worker:
        assert len(batches) == steps * replicas
    for step in range(steps):
        for batches in per_worker:
            for part in batches[step * replicas : (step + 1) * replicas]:
                assert part["image"].shape == (replica_batch, SIZE, SIZE, 3)
                assert part["image"].dtype == np.uint8
                assert part["label"].dtype == np.int32
                assert part["weight"].dtype == np.float32
                for image, label, weight in zip(*part.values(), strict=True):
                    # Filling stands at the end of the last global batch only.
                    assert weight == (position < NUM_EXAMPLES)
                    position += 1
                    if weight:
                        seen.append(int(label))
                        np.testing.assert_array_equal(image, pil_pixels(images[label]))
                    else:
                        assert label == 0
                        assert not image.any()
    assert sorted(seen) == list(range(NUM_EXAMPLES))
    assert position == steps * batch


def test_other_sizes_and_formats_become_squares(tmp_path):
    pixels = np.random.default_rng(2).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    grey = Image.fromarray(pixels).convert("L")
    cmyk, grey_jpeg = io.BytesIO(), io.BytesIO()
    Image.fromarray(pixels).convert("CMYK").save(cmyk, "JPEG", quality=95)
    grey.save(grey_jpeg, "JPEG", quality=95)
    wide = np.kron(pixels, np.ones((2, 4, 1), np.uint8))
    small = np.kron(pixels[:12, :12], np.ones((1, 2, 1), np.uint8))
    encoded = [
        encode(pixels, "PNG"),
        cmyk.getvalue(),
        grey_jpeg.getvalue(),
        encode(wide, "PNG"),
        encode(small, "PNG"),
    ]
    examples = list(zip(encoded, range(5), strict=True))
    write_records(tmp_path, "validation", [examples])
    records = find_records(str(tmp_path), "validation", 5)
    dataset = pipeline.evaluation_dataset(records, Share.of(5), image_size=SIZE)
    batch = next(dataset.as_numpy_iterator())
    got = batch["image"][np.argsort(batch["label"])].astype(int)
    np.testing.assert_array_equal(got[0], pixels)
    np.testing.assert_array_equal(got[1], pil_pixels(encoded[1]))
    np.testing.assert_array_equal(got[2], pil_pixels(encoded[2]))
    # 48x96 shrinks to 24x48 by exact blocks of 2x2, of which the middle stays.
    blocks_of_wide = wide.reshape(SIZE, 2, 2 * SIZE, 2, 3).mean((1, 3))
    middle = blocks_of_wide[:, SIZE // 2 : SIZE // 2 + SIZE]
    np.testing.assert_array_equal(got[3], middle)
    # Pillow's float mode, channel by channel, does not clip between its two passes.
    for channel in range(3):
        plane = Image.fromarray(small[:, :, channel].astype(np.float32))
        enlarged = np.asarray(plane.resize((48, 24), Image.Resampling.BICUBIC))
        expected = enlarged[:, 12:36].clip(0, 255)
        np.testing.assert_allclose(got[4][:, :, channel], expected, atol=0.51)


def test_synthetic_batches_repeat_and_look_like_real_ones(records):
    options = {"replica_batch_size": 4, "num_classes": 3, "seed": 5}
    training = pipeline.synthetic_dataset(image_size=CROP, **options)
    real = pipeline.training_dataset(
        records, Share.of(4), seed=0, image_size=SIZE, crop_size=CROP
    )
    assert training.element_spec == real.element_spec
    first, second = training.take(2).as_numpy_iterator()
    assert_same([first], [second])
    assert set(first["label"]) <= {0, 1, 2}
    assert first["image"].min() < 16
    assert first["image"].max() > 240
    evaluation = pipeline.synthetic_dataset(
        image_size=SIZE, weighted=True, num_batches=3, **options
    )
    real = pipeline.evaluation_dataset(records, Share.of(4), image_size=SIZE)
    assert evaluation.element_spec == real.element_spec
    batches = list(evaluation.as_numpy_iterator())
    assert [batch["weight"].tolist() for batch in batches] == [[1.0] * 4] * 3


@pytest.mark.parametrize("grid", [(6, 4, 1), (6, 3, 4), (8, 8, 2)])
def test_a_batch_that_does_not_divide_is_refused(grid):
    batch, replica_batch, workers = grid
    with pytest.raises(UserError, match=f"--batch_size={batch} does not"):
        Share.of(batch, replica_batch, 0, workers)
