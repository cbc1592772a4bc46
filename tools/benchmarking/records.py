"""The records that input pipelines read: given, drawn, or repeated by links."""

import io
import itertools
import json
import pathlib

import make_sample_imagenet
import numpy as np
import tensorflow as tf

from benchmarking.settings import Settings
from official.alexnet import paths
from official.alexnet.config import DataConfig
from official.alexnet.data import framing, reading, schemas
from official.alexnet.data.dataset import Split, find_split
from official.alexnet.data.labels import ANY_CLASSES
from official.alexnet.errors import UserError

# More batches than the pipeline holds ready.
_HELD_BATCHES = 8


def find(settings: Settings, work_dir: pathlib.Path) -> str:
    """The directory of records: `--data_dir`, or drawn pictures."""
    if settings.data_dir:
        return settings.data_dir
    folder = work_dir / "drawn"
    if not folder.exists():
        print(f"no --data_dir: drawing {settings.drawn_pictures} pictures", flush=True)
        _draw(folder, settings.drawn_pictures)
    return str(folder)


def _draw(folder: pathlib.Path, count: int) -> None:
    """Writes pictures as prepare_imagenet.py stores them: 256x256, quality 95."""
    folder.mkdir()
    labels = len(make_sample_imagenet.CLASSES)
    shards = 2
    for shard in range(shards):
        path = folder / f"train-{shard:05d}-of-{shards:05d}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in range(shard, count, shards):
                rng = np.random.default_rng(number)
                label = number % labels
                buffer = io.BytesIO()
                image = make_sample_imagenet.draw(rng, label, 256, 256)
                image.save(buffer, "JPEG", quality=95)
                writer.write(
                    schemas.classic_example(
                        buffer.getvalue(),
                        height=256,
                        width=256,
                        label=label,
                        synset=make_sample_imagenet.CLASSES[label][0],
                        text=make_sample_imagenet.CLASSES[label][1],
                        filename=f"{number}.JPEG",
                    )
                )


def find_train(settings: Settings, data_dir: str) -> Split:
    return find_split(DataConfig(data_dir=data_dir), "train", ANY_CLASSES)


def read_jpegs(settings: Settings, data_dir: str) -> list[bytes]:
    """The encoded images of the first records, as many as a sample takes at most."""
    records = find_train(settings, data_dir).records
    dataset = (
        tf.data.TFRecordDataset(records.files)
        .enumerate()
        .batch(1)
        .map(lambda _, batch: reading.parse_records(batch, records)[0][0])
    )
    count = settings.batches * settings.batch_size
    return list(itertools.islice(dataset.as_numpy_iterator(), count))


def repeat(data_dir: str, folder: pathlib.Path, count: int) -> int:
    """Makes a data directory of about `count` records by linking shards again.

    Args:
        data_dir: of a training split in the classic layout.
        folder: the new directory.
        count: records it should seem to hold.

    Returns:
        How many it holds.

    Raises:
        UserError: the records are of another layout.
    """
    source = paths.local(data_dir, "--data_dir")
    shards = sorted(
        itertools.chain.from_iterable(
            place.glob("train-*-of-*") for place in (source, source / "train")
        )
    )
    if not shards:
        raise UserError(
            f"--data_dir={data_dir}: the suite scaling needs train-?????-of-????? "
            "files; leave --data_dir out to draw pictures"
        )
    sizes = [framing.count_records(shard) for shard in shards]
    links = max(1, round(count * len(shards) / sum(sizes)))
    folder.mkdir()
    described = []
    for i in range(links):
        shard, size = shards[i % len(shards)], sizes[i % len(shards)]
        name = f"train-{i:05d}-of-{links:05d}"
        (folder / name).symlink_to(shard.resolve())
        described.append(
            {"file": name, "num_examples": size, "bytes": shard.stat().st_size}
        )
    # As prepared records have one: nothing is counted at the start.
    manifest = {"splits": {"train": {"shards": described}}}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return sum(shard["num_examples"] for shard in described)


class TrainingBatches:
    """This project's training input, batch after batch.

    Args:
        settings: of the benchmark.
        data_dir: of the records.
    """

    def __init__(self, settings: Settings, data_dir: str):
        data = DataConfig(data_dir=data_dir)
        self._batches = iter(
            find_train(settings, data_dir).training(
                data,
                settings.batch_size,
                settings.input_size,
                0,
                0,
                tf.distribute.InputContext(),
            )
        )

    def take(self, count: int) -> None:
        """Waits for so many batches."""
        for _ in range(count):
            next(self._batches)

    def drain(self) -> None:
        """Takes the batches that lay ready, which would cost a sample no time."""
        self.take(_HELD_BATCHES)
