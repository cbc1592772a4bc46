"""Writes one shard of TFRecords; runs in a process of its own."""

import contextlib
import hashlib
import pathlib

import tensorflow as tf

from official.alexnet.data import atomic, schemas
from official.alexnet.data.statistics import StatisticsAccumulator
from official.alexnet.errors import UserError
from official.alexnet.preparation import conversion
from official.alexnet.preparation.progress import ShardJob, ShardResult
from official.alexnet.preparation.sources import Entry


def write_shard(job: ShardJob) -> ShardResult:
    """Converts the images of a shard and writes them to its temporary file.

    Args:
        job: what to write.

    Returns:
        What was written; the same bytes whenever the same job is done.

    Raises:
        UserError: the shard cannot be written.
    """
    statistics = StatisticsAccumulator()
    bad_images = []
    try:
        with tf.io.TFRecordWriter(str(job.temporary)) as writer:
            for entry in job.entries:
                try:
                    stored = conversion.convert_image(_read(entry))
                except conversion.BadImageError as error:
                    bad_images.append({"name": entry.name, "reason": str(error)})
                    continue
                statistics.add(stored.pixels)
                writer.write(_example(stored.jpeg, entry, job))
        digest = _sha256(job.temporary)
    except (OSError, tf.errors.OpError) as error:
        with contextlib.suppress(OSError):
            job.temporary.unlink()
        raise (
            atomic.explained(error, job.temporary)
            or UserError(f"cannot write {job.temporary}: {_one_line(error)}")
        ) from None
    record = {
        "file": job.file,
        "num_examples": statistics.num_images,
        "bytes": job.temporary.stat().st_size,
        "sha256": digest,
    }
    return ShardResult(record, bad_images, statistics if job.with_statistics else None)


def _sha256(path: pathlib.Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _read(entry: Entry) -> bytes:
    try:
        return entry.read()
    except OSError as error:
        raise conversion.BadImageError(error.strerror or str(error)) from None


def _example(jpeg: bytes, entry: Entry, job: ShardJob) -> bytes:
    return schemas.classic_example(
        jpeg,
        height=conversion.STORED_SIZE,
        width=conversion.STORED_SIZE,
        label=entry.label,
        synset=job.synsets[entry.label],
        text=job.words[entry.label],
        filename=pathlib.PurePosixPath(entry.name).name,
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())
