"""Suites input and scaling: JPEG records to batches of crops, in images a second."""

import concurrent.futures
import contextlib
import functools
import pathlib
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import tensorflow as tf

from benchmarking import records
from benchmarking.child import Child, peak_memory
from benchmarking.report import Fact, Suite
from benchmarking.settings import Settings, wait_until_idle
from benchmarking.timing import Row, enter
from official.alexnet.config import DataConfig
from official.alexnet.data import pipeline as data_pipeline
from official.alexnet.data import preprocessing

# More batches than the pipeline holds ready: they would cost a sample no time.
_HELD_BATCHES = 8
_SETS = ("small set", "large set")


@contextlib.contextmanager
def input_pipeline(settings: Settings, work_dir: pathlib.Path) -> Suite:
    """Our pipeline, a bare decoding loop and PyTorch's loader.

    The pipeline reads a large set: in a small one, a lane begins within a file and
    reads what stands before.
    """
    data_dir, whole = records.find(settings, work_dir), work_dir / "whole"
    jpegs = records.read_jpegs(settings, data_dir)
    records.repeat(data_dir, whole, settings.record_counts[-1])
    take, count = training_batches(settings, str(whole)), settings.batches
    row = functools.partial(Row, images=count * settings.batch_size, calls=count)
    with contextlib.ExitStack() as children:

        def loader() -> list[Row]:
            folder = work_dir / "jpegs"
            folder.mkdir()
            for i, jpeg in enumerate(jpegs):
                (folder / f"{i:06d}.jpg").write_bytes(jpeg)
            child = Child("torch_loader:one_pass", settings, folder)
            ask = children.enter_context(child).ask
            note = f"{settings.threads} workers, PIL, float tensors"
            return [row("PyTorch DataLoader", lambda: float(ask()), note=note)]

        def bare_loop() -> list[Row]:
            note = f"bare loop, {settings.threads} threads, {preprocessing.DCT_METHOD}"
            return [row("libjpeg-turbo", _decoder(settings, jpegs), note=note)]

        yield (
            [
                row(
                    "ours",
                    functools.partial(take, count),
                    prepare=functools.partial(take, _HELD_BATCHES),
                    note="cropped, mirrored uint8",
                ),
                *enter(settings.peers, {"simplejpeg": bare_loop, "torch": loader}),
            ],
            [Fact("Python's part of an image, at most", _python_part(jpegs), "us")],
        )


def _python_part(jpegs: list[bytes]) -> float:
    """Time in which one image keeps others from Python, with what the call costs.

    Args:
        jpegs: files of whose length those are that are decoded: squares of 8 pixels,
            so that next to no time goes into that.
    """
    tiny, length = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes(), 128
    mean = sum(map(len, jpegs)) // len(jpegs)
    batch = tf.constant([tiny.ljust(mean, b"\0")] * length)
    whole = tf.zeros((length, 2), tf.int32), tf.zeros((length,), tf.bool)
    decode = data_pipeline.decoder(8, 8)
    times = []
    for _ in range(50):
        started = time.perf_counter()
        decode(batch, *whole)
        times.append(time.perf_counter() - started)
    return 1e6 * statistics.median(times) / length


def training_batches(settings: Settings, data_dir: str) -> Callable[[int], None]:
    """A function that waits for so many batches of this project's training input."""
    split, data = records.find_train(data_dir), DataConfig(data_dir=data_dir)
    sizes = settings.batch_size, settings.input_size
    batches = iter(split.training(data, *sizes, 0, 0, tf.distribute.InputContext()))

    def take(count: int) -> None:
        for _ in range(count):
            next(batches)

    return take


def _decoder(settings: Settings, jpegs: list[bytes]) -> Callable[[], object]:
    """Decodes whole images into nothing, a thread a core, with our choice of DCT."""
    import simplejpeg  # noqa: PLC0415

    fast = preprocessing.DCT_METHOD == "INTEGER_FAST"
    count, threads = settings.batches * settings.batch_size, settings.threads
    pool = concurrent.futures.ThreadPoolExecutor(threads)

    def decode(first: int) -> None:
        for i in range(first, count, threads):
            simplejpeg.decode_jpeg(jpegs[i % len(jpegs)], "RGB", fastdct=fast)

    return lambda: list(pool.map(decode, range(threads)))


@contextlib.contextmanager
def scaling(settings: Settings, work_dir: pathlib.Path) -> Suite:
    """A small and a large set: way to the first batch, speed, peaks of memory."""
    source = records.find(settings, work_dir)
    folders = {name: work_dir / name.replace(" ", "_") for name in _SETS}
    counts = dict(zip(_SETS, settings.record_counts, strict=True))
    sizes = {
        name: records.repeat(source, folders[name], counts[name]) for name in _SETS
    }
    starts: dict[str, list[float]] = {name: [] for name in _SETS}
    facts: list[Fact] = []
    with contextlib.ExitStack() as stack:

        def start(name: str, context: contextlib.ExitStack) -> Child:
            child = Child("pipelines:pipeline", settings, folders[name])
            context.enter_context(child)
            # Answers when TensorFlow is imported: that is not the pipeline's time.
            child.ask("rest")
            started = time.perf_counter()
            child.ask("start")
            starts[name].append(time.perf_counter() - started)
            return child

        for _ in range(0 if settings.small else 2):
            for name in _SETS:
                with contextlib.ExitStack() as once:
                    start(name, once)
        children = {name: start(name, stack) for name in _SETS}

        def rest_and_drain(child: Child) -> None:
            for each in children.values():
                each.ask("rest")
            child.ask("drain")

        yield (
            [
                Row(
                    name,
                    functools.partial(child.ask, "run"),
                    settings.batches * settings.batch_size,
                    calls=settings.batches,
                    prepare=functools.partial(rest_and_drain, child),
                    against=_SETS[0],
                    note=f"{sizes[name]:,} records",
                )
                for name, child in children.items()
            ],
            facts,
        )
        # After the samples: the peaks are of all of them.
        for name, child in children.items():
            first = statistics.median(starts[name])
            facts += [
                Fact(f"{name}: first batch", first, "s"),
                Fact(f"{name}: peak memory", child.ask("rest")["peak_mb"], "MB"),
            ]


def pipeline(settings: Settings, data_dir: pathlib.Path) -> Callable:
    """Task of a child: training batches, and the process's peak of memory."""
    batches = None

    def answer(question: str) -> dict:
        nonlocal batches
        if question == "start":
            batches = training_batches(settings, str(data_dir))
        if question == "rest":
            wait_until_idle()
        else:
            counts = {"start": 1, "drain": _HELD_BATCHES, "run": settings.batches}
            batches(counts[question])
        return {"peak_mb": peak_memory()}

    return answer
