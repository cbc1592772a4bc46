"""From images as they were downloaded to sharded TFRecords with their statistics."""

import concurrent.futures
import contextlib
import functools
import hashlib
import json
import multiprocessing
import os
import pathlib
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator
from concurrent.futures.process import BrokenProcessPool

import numpy as np
import tqdm

from official.alexnet import disk
from official.alexnet.data.statistics import STATISTICS_FILE, StatisticsAccumulator
from official.alexnet.errors import UserError
from official.alexnet.preparation import conversion, folder
from official.alexnet.preparation.shards import (
    WORK_DIR,
    ShardJob,
    ShardResult,
    read_notes,
    write_shard,
)
from official.alexnet.preparation.sources import Listing

# A shard to write, and how it came out before it was lost.
Todo = list[tuple[ShardJob, ShardResult | None]]
# Calls write_shard(*task) for each of a list, anywhere, and yields (job, result).
Engine = Callable[[Todo], Iterator[tuple[ShardJob, ShardResult]]]


def prepare(
    listing: Listing,
    output_dir: pathlib.Path,
    *,
    num_shards: dict[str, int],
    seed: int,
    max_bad_images: int,
    num_workers: int,
    remake: Collection[str] = (),
    task: tuple[int, int] | None = None,
    engine: Engine | None = None,
) -> dict | None:
    """Writes shards, statistics.npz, labels.txt and manifest.json.

    Killed at any moment and run again, it resumes with the next shard and ends with
    the same files, bit for bit. The number of workers and tasks changes no bit either.
    Arguments and errors are those of `official.alexnet.prepare`, but for these:

    Args:
        num_shards: split -> number of files.
        num_workers: processes; 1 works in this one.
        task: (i, n) writes shards i, i + n, i + 2n, ... and nothing else; any number
            of tasks may write to one folder at once, on any number of machines. A
            last call without it writes what is missing, and the other files.
        engine: a generator function that has the shards written, on machines which
            all see the folder; None for processes of this one.

    Returns:
        The manifest; None of a task.
    """
    for split, entries in listing.splits.items():
        if not 1 <= num_shards[split] <= len(entries):
            raise UserError(
                f"--{split}_shards={num_shards[split]}: with {len(entries)} images "
                f"give 1 to {len(entries)}"
            )
    settings = _settings(listing, num_shards, seed)
    jobs = list(_jobs(listing, num_shards, seed, output_dir))
    for name in remake:
        if name not in {job.file for job in jobs}:
            raise UserError(
                f"--remake={name}: there is no such shard; the first is {jobs[0].file}"
            )
    work_dir, name = output_dir / WORK_DIR, f"--output_dir={output_dir}"
    with disk.locked(work_dir, name, is_shared=task is not None):
        if not task:  # Others may be writing beside a task.
            disk.remove_unfinished(output_dir)
            disk.remove_unfinished(work_dir)
        finished = folder.begin(output_dir, settings)
        noted = {job.file: notes for job in jobs if (notes := read_notes(job))}
        known = finished | noted
        # Sums are in the notes until they are in the statistics.
        is_counted = (output_dir / STATISTICS_FILE).exists()
        done = {
            job.file: known[job.file]
            for job in jobs
            if job.file not in remake
            and _is_there(output_dir, known.get(job.file))
            and (job.file in noted or is_counted or not job.with_statistics)
        }
        _check_bad_images(done, max_bad_images)
        mine = jobs[task[0] :: task[1]] if task else jobs
        # Of a finished set a shard must come out as it was.
        todo = [(job, finished.get(job.file)) for job in mine if job.file not in done]
        if not todo or not engine:
            engine = functools.partial(_write_shards, num_workers=num_workers)
        with (
            _progress_bar(mine, todo) as bar,
            # Closed at the first error, or the workers would work on to the end.
            contextlib.closing(engine(todo)) as written,
        ):
            for job, result in written:
                done[job.file] = result
                bar.update(len(job.entries))
                for bad in result.bad_images:
                    line = f"bad image {bad['name']}: {bad['reason']}"
                    bar.write(line, file=sys.stderr)
                _check_bad_images(done, max_bad_images)
        return None if task else _finish(done, listing, jobs, output_dir, settings)


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
        **conversion.SETTINGS,
    }


def _jobs(
    listing: Listing, num_shards: dict[str, int], seed: int, output_dir: pathlib.Path
) -> Iterator[ShardJob]:
    for split, entries in listing.splits.items():
        order = np.arange(len(entries))
        if split == "train":
            # RandomState: NumPy has frozen its stream for good.
            order = np.random.RandomState(seed).permutation(len(entries))
        count = num_shards[split]
        for number, chosen in enumerate(np.array_split(order, count)):
            yield ShardJob(
                file=f"{split}-{number:05d}-of-{count:05d}",
                output_dir=output_dir,
                entries=[entries[i] for i in chosen],
                synsets=listing.synsets,
                words=listing.words,
                with_statistics=split == "train",
            )


def _is_there(output_dir: pathlib.Path, known: ShardResult | None) -> bool:
    """Whether a shard is finished and still there, as far as its size tells."""
    if not known:
        return False
    path = output_dir / known.record["file"]
    return path.is_file() and path.stat().st_size == known.record["bytes"]


class _Lines:
    """Standard error as a log file: a bar becomes lines."""

    def write(self, text: str) -> None:
        if text.strip():
            print(text.strip(), file=sys.stderr, flush=True)


def _progress_bar(jobs: list[ShardJob], todo: Todo) -> tqdm.tqdm:
    total = sum(len(job.entries) for job in jobs)
    left = sum(len(job.entries) for job, _ in todo)
    is_moving = sys.stderr.isatty()
    return tqdm.tqdm(
        total=total,
        initial=total - left,
        unit="image",
        mininterval=0.2 if is_moving else 30,
        file=sys.stderr if is_moving else _Lines(),
    )


def _write_shards(
    todo: Todo, num_workers: int
) -> Iterator[tuple[ShardJob, ShardResult]]:
    """Yields each shard as it is written, in any order."""
    num_workers = min(num_workers, len(todo))
    if num_workers <= 1:
        yield from ((job, write_shard(job, known)) for job, known in todo)
        return
    executor = concurrent.futures.ProcessPoolExecutor(
        num_workers,
        # A fork of a process with threads in it may hang.
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
    )
    waiting = {}
    try:
        for job, known in todo:
            waiting[executor.submit(write_shard, job, known)] = job
        for future in concurrent.futures.as_completed(waiting):
            yield waiting[future], future.result()
    except BrokenProcessPool:
        raise UserError(
            "a worker process died (out of memory?); start again to resume, perhaps "
            "with fewer --num_workers"
        ) from None
    finally:
        # Each by itself: shutdown(wait=False, cancel_futures=True) cancels nothing once
        # the executor is collected. And no waiting: Ctrl-C is to end at once.
        for future in waiting:
            future.cancel()
        executor.shutdown(wait=False)


def _start_worker() -> None:
    # Ctrl-C is for the parent to answer; a worker ends when its parent is gone,
    # however it went, and does not wait for ever for its next shard.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def _check_bad_images(done: dict[str, ShardResult], limit: int) -> None:
    bad = [image for result in done.values() for image in result.bad_images]
    if len(bad) > limit:
        raise UserError(
            f"{len(bad)} unreadable image(s), such as {bad[0]['name']} "
            f"({bad[0]['reason']}), are more than --max_bad_images={limit}; raise it "
            "to prepare without them (nothing done is lost)"
        )


def _finish(
    done: dict[str, ShardResult],
    listing: Listing,
    jobs: list[ShardJob],
    output_dir: pathlib.Path,
    settings: dict,
) -> dict:
    """Writes statistics, labels and, as the sign that all is done, the manifest."""
    splits = {}
    for split, entries in listing.splits.items():
        results = [done[job.file] for job in jobs if job.file.startswith(f"{split}-")]
        records = [result.record for result in results]
        count = sum(record["num_examples"] for record in records)
        if count == 0:
            raise UserError(f"not one image of {split} can be read")
        splits[split] = {"num_examples": count, "shards": records}
        bad = {bad["name"] for result in results for bad in result.bad_images}
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
    manifest = {
        "format": 1,
        "splits": splits,
        "num_classes": len(listing.synsets),
        "settings": settings,
        "bad_images": [bad for job in jobs for bad in done[job.file].bad_images],
    }
    if not (output_dir / STATISTICS_FILE).exists():
        sums = StatisticsAccumulator()
        for job in jobs:
            if job.with_statistics and not read_notes(job, sums):
                job.notes.unlink(missing_ok=True)
                raise UserError(
                    f"{job.notes} was damaged: the same command writes that shard again"
                )
        sums.result().save(output_dir / STATISTICS_FILE)
    classes = zip(listing.synsets, listing.words, strict=True)
    labels = "".join(f"{synset} {words}\n" for synset, words in classes)
    disk.write_text(output_dir / folder.LABELS_FILE, labels)
    text = json.dumps(manifest, indent=1) + "\n"
    disk.write_text(output_dir / folder.MANIFEST_FILE, text)
    for job in jobs:
        job.notes.unlink(missing_ok=True)
    return manifest
