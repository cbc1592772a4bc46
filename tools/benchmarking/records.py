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
from official.alexnet.data import framing, schemas
from official.alexnet.data.dataset import Split, find_split
from official.alexnet.data.labels import ANY_CLASSES
from official.alexnet.errors import UserError


def find(settings: Settings, work_dir: pathlib.Path) -> str:
    """The directory of records: `--data_dir`, or pictures drawn as prepared ones."""
    if settings.data_dir:
        return settings.data_dir
    folder, count, shards = work_dir / "drawn", settings.drawn_pictures, 2
    if folder.exists():
        return str(folder)
    print(f"no --data_dir: drawing {count} pictures", flush=True)
    folder.mkdir()
    for shard in range(shards):
        path = folder / f"train-{shard:05d}-of-{shards:05d}"
        with tf.io.TFRecordWriter(str(path)) as writer:
            for number in range(shard, count, shards):
                writer.write(_drawn(number))
    return str(folder)


def _drawn(number: int) -> bytes:
    """A record as prepare_imagenet.py stores it: 256x256, quality 95."""
    label = number % len(make_sample_imagenet.CLASSES)
    synset, text = make_sample_imagenet.CLASSES[label][:2]
    buffer = io.BytesIO()
    rng = np.random.default_rng(number)
    image = make_sample_imagenet.draw(rng, label, 256, 256)
    image.save(buffer, "JPEG", quality=95)
    return schemas.classic_example(
        buffer.getvalue(),
        height=256,
        width=256,
        label=label,
        synset=synset,
        text=text,
        filename=f"{number}.JPEG",
    )


def find_train(data_dir: str) -> Split:
    return find_split(DataConfig(data_dir=data_dir), "train", ANY_CLASSES)


def read_jpegs(settings: Settings, data_dir: str) -> list[bytes]:
    """The encoded images of the first records, as many as a sample takes at most."""
    records = find_train(data_dir).records
    count = settings.batches * settings.batch_size
    serialized = (r for path in records.files for r in framing.read(path, None))
    return [
        schemas.encoded_image(record, records.schema)
        for record in itertools.islice(serialized, count)
    ]


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
    shards = sorted([*source.glob("train-*-of-*"), *source.glob("train/train-*-of-*")])
    if not shards:
        raise UserError(
            f"--data_dir={data_dir}: the suites input and scaling need "
            "train-?????-of-????? files; leave --data_dir out to draw pictures"
        )
    sizes = [framing.count_records(shard) for shard in shards]
    links = max(1, round(count * len(shards) / sum(sizes)))
    folder.mkdir()
    described = []
    for i in range(links):
        shard, size = shards[i % len(shards)], sizes[i % len(shards)]
        name = f"train-{i:05d}-of-{links:05d}"
        (folder / name).symlink_to(shard.resolve())
        bytes_ = shard.stat().st_size
        described.append({"file": name, "num_examples": size, "bytes": bytes_})
    # As prepared records have one: nothing is counted at the start.
    manifest = {"splits": {"train": {"shards": described}}}
    (folder / "manifest.json").write_text(json.dumps(manifest), "utf-8")
    return sum(shard["num_examples"] for shard in described)
