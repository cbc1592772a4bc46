"""Suite input: JPEG records to batches of crops, in images a second."""

import concurrent.futures
import pathlib

from benchmarking import peers, records
from benchmarking.bars import Fact
from benchmarking.child import Child
from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row, interleave
from official.alexnet.data import preprocessing


def measure(settings: Settings, work_dir: pathlib.Path) -> tuple[list[Row], list[Fact]]:
    """Times our pipeline, a bare decoding loop and PyTorch's loader."""
    data_dir = records.find(settings, work_dir)
    jpegs = records.read_jpegs(settings, data_dir)
    ours = records.TrainingBatches(settings, data_dir)
    children: list[Child] = []
    contenders = [
        Contender(
            "ours",
            lambda: ours.take(settings.batches),
            settings.batches * settings.batch_size,
            calls=settings.batches,
            prepare=ours.drain,
            note="cropped, mirrored uint8",
        )
    ]
    entered, skipped = peers.enter(
        settings,
        {
            "simplejpeg": lambda: [_bare_loop(settings, jpegs)],
            "torch": lambda: [_loader(settings, jpegs, work_dir, children)],
        },
    )
    try:
        rows = interleave(
            contenders + entered,
            settings.rounds,
            settings.warmup,
            report=lambda line: print(f"input: {line}", flush=True),
        )
    finally:
        for child in children:
            child.__exit__()
    return rows + skipped, []


def _bare_loop(settings: Settings, jpegs: list[bytes]) -> Contender:
    """Decodes whole images into nothing, a thread a core, with our choice of DCT."""
    import simplejpeg  # noqa: PLC0415

    fast = preprocessing.DCT_METHOD == "INTEGER_FAST"
    count = settings.batches * settings.batch_size
    threads = settings.threads
    shares = [
        [jpegs[i % len(jpegs)] for i in range(first, count, threads)]
        for first in range(threads)
    ]
    pool = concurrent.futures.ThreadPoolExecutor(threads)

    def decode(share: list[bytes]) -> None:
        for jpeg in share:
            simplejpeg.decode_jpeg(jpeg, "RGB", fastdct=fast)

    return Contender(
        "libjpeg-turbo",
        lambda: list(pool.map(decode, shares)),
        count,
        calls=settings.batches,
        note=f"bare loop, {threads} threads, {preprocessing.DCT_METHOD}",
    )


def _loader(
    settings: Settings,
    jpegs: list[bytes],
    work_dir: pathlib.Path,
    children: list[Child],
) -> Contender:
    folder = work_dir / "jpegs"
    folder.mkdir()
    for i, jpeg in enumerate(jpegs):
        (folder / f"{i:06d}.jpg").write_bytes(jpeg)
    child = Child("loader", settings, jpegs=str(folder))
    children.append(child)

    def run() -> None:
        child.ask("run")

    return Contender(
        "PyTorch DataLoader",
        run,
        settings.batches * settings.batch_size,
        calls=settings.batches,
        note=f"{settings.threads} workers, PIL, float tensors",
    )
