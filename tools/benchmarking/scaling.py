"""Suite scaling: the input pipeline on a small and on a large set of records."""

import pathlib
import statistics
import time

from benchmarking import records
from benchmarking.bars import Fact
from benchmarking.child import Child
from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row, interleave, wait_until_idle

NAMES = ("small set", "large set")


def measure(settings: Settings, work_dir: pathlib.Path) -> tuple[list[Row], list[Fact]]:
    """Times the way to the first batch, images a second, and peaks of memory."""
    source = records.find(settings, work_dir)
    folders = {name: work_dir / name.replace(" ", "_") for name in NAMES}
    sizes = {
        name: records.repeat(source, folders[name], count)
        for name, count in zip(NAMES, settings.record_counts, strict=True)
    }
    starts: dict[str, list[float]] = {name: [] for name in NAMES}
    for _ in range(settings.fresh_starts - 1):
        for name in NAMES:
            with _process(settings, folders[name]) as child:
                starts[name].append(_seconds_to_first_batch(child))
    with (
        _process(settings, folders[NAMES[0]]) as small,
        _process(settings, folders[NAMES[1]]) as large,
    ):
        children = dict(zip(NAMES, (small, large), strict=True))
        for name, child in children.items():
            starts[name].append(_seconds_to_first_batch(child))
            child.ask("rest")

        def settle() -> None:
            wait_until_idle()
            for child in children.values():
                child.ask("rest")

        rows = interleave(
            [
                Contender(
                    name,
                    lambda child=child: child.ask("run")["peak_mb"],
                    settings.batches * settings.batch_size,
                    calls=settings.batches,
                    prepare=lambda child=child: child.ask("drain"),
                    against=NAMES[0],
                    note=f"{sizes[name]:,} records",
                )
                for name, child in children.items()
            ],
            settings.rounds,
            settings.warmup,
            settle=settle,
            report=lambda line: print(f"scaling: {line}", flush=True),
        )
        peaks = {name: child.ask("rest")["peak_mb"] for name, child in children.items()}
    first = {name: statistics.median(seconds) for name, seconds in starts.items()}
    return rows, [
        *(Fact(f"{name}: first batch", first[name], "s") for name in NAMES),
        *(Fact(f"{name}: peak memory", peaks[name], "MB") for name in NAMES),
    ]


def _process(settings: Settings, folder: pathlib.Path) -> Child:
    child = Child("pipeline", settings, data_dir=str(folder))
    # Answers when TensorFlow is imported: that is not the pipeline's time.
    child.ask("rest")
    return child


def _seconds_to_first_batch(child: Child) -> float:
    started = time.perf_counter()
    child.ask("start")
    return time.perf_counter() - started
