"""The order of the examples, and which files a worker reads for it."""

import io
import itertools
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from record_files import write_records
from slow_cases import slow_but

from official.alexnet.data import lanes, reading
from official.alexnet.data.lanes import Share
from official.alexnet.data.records import Records, find_records

BATCH = 24
EPOCHS = 3
SHARDS = (3, 1, 0, 9, 2, 4, 4, 7, 5)
NUM_EXAMPLES = sum(SHARDS)  # 35: coprime to 24, and lanes take 2 or 3 of them.
STEPS = EPOCHS * NUM_EXAMPLES // BATCH


def make_records(folder: pathlib.Path, sizes: tuple[int, ...]) -> Records:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8)).save(buffer, "JPEG")
    folder.mkdir(exist_ok=True)
    write_records(folder, "train", [[(buffer.getvalue(), 0)] * size for size in sizes])
    return find_records(str(folder), "train", 1)


@pytest.fixture(scope="module")
def records(tmp_path_factory) -> Records:
    return make_records(tmp_path_factory.mktemp("records"), SHARDS)


def places(dataset: tf.data.Dataset, count: int) -> list[tuple[int, int]]:
    """The (file, record) of the first `count` examples."""
    tags = itertools.chain.from_iterable(
        block.tolist() for block, _ in dataset.as_numpy_iterator()
    )
    return [reading.place_of(tag) for tag in itertools.islice(tags, count)]


def share_of(
    records: Records,
    steps: int,
    worker: int = 0,
    workers: int = 1,
    *,
    batch: int = BATCH,
    start_step: int = 0,
    shuffle_buffer: int = 64,
    seed: int = 5,
) -> np.ndarray:
    """A worker's examples, (steps, positions, 2)."""
    dataset = lanes.training_blocks(
        records,
        Share.of(batch, None, worker, workers),
        seed=seed,
        start_step=start_step,
        shuffle_buffer=shuffle_buffer,
    )
    found = places(dataset, steps * batch // workers)
    return np.array(found).reshape(steps, batch // workers, 2)


def expected_order(records: Records, epoch: int, seed: int, batch: int) -> list:
    """An epoch's examples where nothing is shuffled but the files, by counting."""
    count = min(16, batch)
    key = tf.constant([seed, -1 - epoch], tf.int64)
    shape = (len(records.files) + count,)
    draws = tf.random.stateless_uniform(
        shape, key, 0, tf.int64.max, tf.int64, alg="philox"
    )
    files = np.argsort(draws[: len(records.files)], kind="stable")
    sequence = [(f, i) for f in files.tolist() for i in range(records.file_sizes[f])]
    numbers = range(epoch * NUM_EXAMPLES, (epoch + 1) * NUM_EXAMPLES)
    lane_of_position = [
        lane
        for lane in range(count)
        for _ in range((lane + 1) * batch // count - lane * batch // count)
    ]
    lane_of = [lane_of_position[k % batch] for k in numbers]
    stretches = []
    for lane in range(count):
        taken = lane_of.count(lane)
        stretches.append(iter(sequence[:taken]))
        sequence = sequence[taken:]
    assert not sequence
    return [next(stretches[lane]) for lane in lane_of]


@pytest.mark.parametrize("batch", [24, 13, 1, 50])
def test_lanes_read_what_counting_says(records, batch):
    expected = [
        example
        for epoch in range(EPOCHS)
        for example in expected_order(records, epoch, 5, batch)
    ]
    steps = EPOCHS * NUM_EXAMPLES // batch
    found = share_of(records, steps, batch=batch, shuffle_buffer=1)
    assert [tuple(e) for e in found.reshape(-1, 2)] == expected[: steps * batch]


def test_each_example_comes_once_an_epoch_whatever_is_shuffled(records):
    everything = sorted((f, i) for f, size in enumerate(SHARDS) for i in range(size))
    found = share_of(records, STEPS + 1).reshape(-1, 2)
    unshuffled = share_of(records, STEPS + 1, shuffle_buffer=1).reshape(-1, 2)
    orders = set()
    for epoch in range(EPOCHS):
        part = slice(epoch * NUM_EXAMPLES, (epoch + 1) * NUM_EXAMPLES)
        order = [tuple(example) for example in found[part]]
        assert sorted(order) == everything
        assert order != [tuple(example) for example in unshuffled[part]]
        orders.add(tuple(order))
    assert len(orders) == EPOCHS
    assert (share_of(records, 1, seed=6) != found[:BATCH]).any()


@pytest.mark.parametrize("workers", slow_but([3], [2, 3, 4]))
def test_workers_together_read_what_one_reads(records, workers):
    whole = share_of(records, STEPS)
    shares = [share_of(records, STEPS, w, workers) for w in range(workers)]
    np.testing.assert_array_equal(np.concatenate(shares, axis=1), whole)


@pytest.mark.parametrize(("worker", "workers"), slow_but([(1, 3)], [(0, 1), (1, 3)]))
def test_any_step_can_come_first(records, worker, workers):
    whole = share_of(records, STEPS, worker, workers)
    for step in range(1, STEPS):
        resumed = share_of(records, 1, worker, workers, start_step=step)
        np.testing.assert_array_equal(resumed[0], whole[step])


@pytest.mark.parametrize("workers", [1, 3, 4])
def test_evaluation_reads_each_example_once(records, workers):
    shares = [
        places(
            lanes.evaluation_blocks(records, Share.of(BATCH, None, w, workers)),
            NUM_EXAMPLES,
        )
        for w in range(workers)
    ]
    # 35 = 24 + 11: the last batch ends in its eleventh position.
    size = BATCH // workers
    lengths = [size + min(max(11 - w * size, 0), size) for w in range(workers)]
    assert [len(share) for share in shares] == lengths
    everything = [(f, i) for f, size in enumerate(SHARDS) for i in range(size)]
    assert sorted(itertools.chain.from_iterable(shares)) == everything


@pytest.mark.parametrize("workers", slow_but([4], [2, 3, 4]))
def test_a_worker_reads_its_part_of_the_files(tmp_path, workers):
    """With all other files gone, its epoch is the same."""
    num_files, size, batch = 48, 4, 12
    steps = num_files * size // batch
    whole = make_records(tmp_path / "whole", (size,) * num_files)
    read = []
    for worker in range(workers):
        own = share_of(whole, steps, worker, workers, batch=batch)
        files = {int(file) for file, _ in own.reshape(-1, 2)}
        copy = tmp_path / f"of-{worker}"
        shutil.copytree(tmp_path / "whole", copy)
        part = find_records(str(copy), "train", 1)
        for index, path in enumerate(part.files):
            if index not in files:
                pathlib.Path(path).unlink()
        again = share_of(part, steps, worker, workers, batch=batch)
        np.testing.assert_array_equal(again, own)
        read.append(files)
    # Twelve lanes: they end where the workers do; a file may lie across a border.
    assert set.union(*read) == set(range(num_files))
    assert all(len(files) <= num_files // workers + 1 for files in read)
    # Other ones in the next epoch.
    later = share_of(whole, steps, 0, workers, batch=batch, start_step=steps)
    assert {int(file) for file, _ in later.reshape(-1, 2)} != read[0]


def test_the_order_does_not_depend_on_where_the_files_are(records, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(pathlib.Path(records.files[0]).parent, moved)
    other = find_records(str(moved), "train", 1)
    assert other.files != records.files
    np.testing.assert_array_equal(share_of(other, STEPS), share_of(records, STEPS))
