"""From images as they were downloaded to sharded TFRecords with their statistics."""

import concurrent.futures
import contextlib
import hashlib
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Collection, Iterator
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import tqdm

from official.alexnet import cli
from official.alexnet.data import atomic
from official.alexnet.data.statistics import STATISTICS_FILE
from official.alexnet.errors import UserError
from official.alexnet.preparation import conversion
from official.alexnet.preparation.progress import (
    LABELS_FILE,
    MANIFEST_FILE,
    RESULT_FILES,
    WORK_DIR,
    Progress,
    ShardJob,
    ShardResult,
    exclusive,
)
from official.alexnet.preparation.sources import Listing


def prepare(
    listing: Listing,
    output_dir: pathlib.Path,
    *,
    num_shards: dict[str, int],
    seed: int,
    max_bad_images: int,
    num_workers: int,
    remake: Collection[str] = (),
) -> dict:
    """Writes shards, statistics.npz, labels.txt and manifest.json.

    Killed at any moment and run again, it goes on with the next shard and ends with
    the same files, bit for bit. The number of workers changes no bit either.

    Args:
        listing: the images.
        output_dir: where to; made if it is not there.
        num_shards: split -> number of files.
        seed: of the one shuffle of the training list.
        max_bad_images: how many unreadable images may be left out.
        num_workers: processes; 1 works in this one.
        remake: names of shards to write once more, though they are there.

    Returns:
        The manifest.

    Raises:
        UserError: too many bad images, a class without any, too many shards, no such
            shard to remake, or a folder in use otherwise.
    """
    for split, entries in listing.splits.items():
        if not 1 <= num_shards[split] <= len(entries):
            raise UserError(
                f"--{split}_shards={num_shards[split]}: with {len(entries)} images "
                f"give 1 to {len(entries)}"
            )
    settings = _settings(listing, num_shards, seed)
    reject_foreign(output_dir)
    with exclusive(output_dir) as work_dir:
        progress = Progress(output_dir, settings)
        jobs = list(_jobs(listing, num_shards, seed, work_dir))
        for name in remake:
            if name not in {job.file for job in jobs}:
                raise UserError(
                    f"--remake={name}: there is no such shard; the first is "
                    f"{jobs[0].file}"
                )
        progress.begin(jobs)
        _check_bad_images(progress, max_bad_images)
        todo = [j for j in jobs if j.file in remake or not progress.is_done(j.file)]
        total = sum(len(job.entries) for job in jobs)
        with (
            tqdm.tqdm(
                total=total,
                initial=total - sum(len(job.entries) for job in todo),
                unit="image",
                # A log file gets a line now and then, a terminal a moving bar.
                mininterval=0.2 if sys.stderr.isatty() else 30,
            ) as bar,
            # Closed at the first error, or the workers would go on to the end.
            contextlib.closing(_write_shards(todo, num_workers)) as written,
        ):
            for job, result in written:
                progress.finish(result, job.temporary)
                bar.update(len(job.entries))
                for bad in result.bad_images:
                    bar.write(
                        f"bad image {bad['name']}: {bad['reason']}", file=sys.stderr
                    )
                _check_bad_images(progress, max_bad_images)
        return _finish(progress, listing, jobs, output_dir)


def _settings(listing: Listing, num_shards: dict[str, int], seed: int) -> dict:
    digest = hashlib.sha256()
    for split, entries in listing.splits.items():
        for entry in entries:
            line = (split, entry.name, entry.size, listing.synsets[entry.label])
            digest.update(repr(line).encode())
    digest.update(repr(listing.words).encode())
    return {
        "input_sha256": digest.hexdigest(),
        "seed": seed,
        "shards": {split: num_shards[split] for split in listing.splits},
        "image_size": conversion.STORED_SIZE,
        "jpeg_quality": conversion.JPEG_QUALITY,
        "jpeg_subsampling": conversion.JPEG_SUBSAMPLING,
    }


def reject_foreign(output_dir: pathlib.Path) -> None:
    """Refuses a folder with records that `prepare` did not write.

    Args:
        output_dir: where they would go.

    Raises:
        UserError: it holds records, or is a file.
    """
    if output_dir.exists() and not output_dir.is_dir():
        raise UserError(f"--output_dir: {output_dir} is a file")
    if not output_dir.exists() or _is_own(output_dir):
        return
    for pattern in ("*-?????-of-?????", *RESULT_FILES):
        for path in output_dir.glob(pattern):
            raise UserError(
                f"{path} is there already, and not from a run that can be continued; "
                "choose another --output_dir"
            )


def _is_own(output_dir: pathlib.Path) -> bool:
    """Whether `prepare` has begun a set in a folder, or finished it."""
    if (output_dir / WORK_DIR).is_dir():
        return True
    try:
        return "settings" in json.loads((output_dir / MANIFEST_FILE).read_text("utf-8"))
    except (OSError, ValueError, TypeError):
        return False


def _jobs(
    listing: Listing, num_shards: dict[str, int], seed: int, work_dir: pathlib.Path
) -> Iterator[ShardJob]:
    for split, entries in listing.splits.items():
        order = np.arange(len(entries))
        if split == "train":
            # RandomState: NumPy has frozen its stream for good.
            order = np.random.RandomState(seed).permutation(len(entries))
        count = num_shards[split]
        for number, chosen in enumerate(np.array_split(order, count)):
            file = f"{split}-{number:05d}-of-{count:05d}"
            yield ShardJob(
                file=file,
                temporary=work_dir / f"{file}.{os.getpid()}.tmp",
                entries=[entries[i] for i in chosen],
                synsets=listing.synsets,
                words=listing.words,
                with_statistics=split == "train",
            )


def _write_shards(
    jobs: list[ShardJob], num_workers: int
) -> Iterator[tuple[ShardJob, ShardResult]]:
    """Yields each shard as it is written, in any order."""
    num_workers = min(num_workers, len(jobs))
    if num_workers <= 1:
        for job in jobs:
            cli.start_tensorflow()
            yield job, _write_shard(job)
        return
    executor = concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # A fork of a process with TensorFlow's threads in it may hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    # Results are large: a future is let go as soon as it was looked at.
    waiting = {}
    try:
        for job in jobs:
            waiting[executor.submit(_write_shard, job)] = job
        while waiting:
            done, _ = concurrent.futures.wait(
                waiting, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in done:
                yield waiting.pop(future), future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died (out of memory?); run again to go on, perhaps with "
            "fewer --num_workers"
        ) from None
    finally:
        # Each by itself: shutdown(wait=False, cancel_futures=True) cancels nothing once
        # the executor is collected. And no waiting: Ctrl-C is to end at once.
        for future in waiting:
            future.cancel()
        executor.shutdown(wait=False)


def _write_shard(job: ShardJob) -> ShardResult:
    # Here, and not at the top: the parent can do without TensorFlow, and says what
    # is wrong with the flags or the folders without waiting for it.
    from official.alexnet.preparation import shards  # noqa: PLC0415

    return shards.write_shard(job)


def _start_worker() -> None:
    # Ctrl-C is for the parent to answer; a worker ends when its parent is gone,
    # however it went, and does not wait for ever for its next shard.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    # An error is not lost: the first shard imports again.
    with contextlib.suppress(ImportError):
        cli.start_tensorflow()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _check_bad_images(progress: Progress, limit: int) -> None:
    bad = [image for images in progress.bad_images.values() for image in images]
    if len(bad) > limit:
        raise UserError(
            f"{len(bad)} unreadable image(s), such as {bad[0]['name']} "
            f"({bad[0]['reason']}), are more than --max_bad_images={limit}; raise it "
            "to go on without them (nothing done is lost)"
        )


def _finish(
    progress: Progress, listing: Listing, jobs: list[ShardJob], output_dir: pathlib.Path
) -> dict:
    """Writes statistics, labels and, as the sign that all is done, the manifest."""
    splits = {}
    for split in listing.splits:
        records = [
            progress.shards[job.file]
            for job in jobs
            if job.file.startswith(f"{split}-")
        ]
        splits[split] = {
            "num_examples": sum(record["num_examples"] for record in records),
            "shards": records,
        }
        if splits[split]["num_examples"] == 0:
            raise UserError(f"not one image of {split} can be read")
    _check_classes(progress, listing)
    manifest = {
        "format": 1,
        "splits": splits,
        "num_classes": len(listing.synsets),
        "settings": progress.settings,
        "bad_images": [bad for job in jobs for bad in progress.bad_images[job.file]],
    }
    labels = [
        f"{synset} {words}\n"
        for synset, words in zip(listing.synsets, listing.words, strict=True)
    ]
    if not (output_dir / STATISTICS_FILE).exists():
        progress.statistics.result().save(output_dir / STATISTICS_FILE)
    atomic.write_text(output_dir / LABELS_FILE, "".join(labels))
    atomic.write_text(output_dir / MANIFEST_FILE, json.dumps(manifest, indent=1) + "\n")
    return manifest


def _check_classes(progress: Progress, listing: Listing) -> None:
    """Looks for classes whose images were all left out, or that never had any."""
    bad = {image["name"] for images in progress.bad_images.values() for image in images}
    for split, entries in listing.splits.items():
        seen = {entry.label for entry in entries if entry.name not in bad}
        empty = [s for label, s in enumerate(listing.synsets) if label not in seen]
        if not empty:
            continue
        text = f"{len(empty)} class(es) without an image in {split}, such as {empty[0]}"
        if split == "train":
            raise UserError(
                f"{text}: mend their images or take the classes out of the input, and "
                "prepare into a new --output_dir"
            )
        print(f"warning: {text}", file=sys.stderr)
