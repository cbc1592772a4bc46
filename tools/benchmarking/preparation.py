"""Suite preparation: originals to records, beside a converter that does no more."""

import concurrent.futures
import contextlib
import functools
import itertools
import multiprocessing
import pathlib
import shutil

import cv2
import make_sample_imagenet
import numpy as np

from benchmarking.report import Fact, Suite
from benchmarking.settings import Settings
from benchmarking.timing import Row
from official.alexnet.data import image_files
from official.alexnet.errors import UserError
from official.alexnet.preparation import prepare
from official.alexnet.preparation.sources import Entry, Listing


@contextlib.contextmanager
def preparation(settings: Settings, work_dir: pathlib.Path) -> Suite:
    """Records, checksums and statistics; JPEGs alone. Both start their processes."""
    folder = pathlib.Path(
        settings.originals or _drawn(settings, work_dir / "originals")
    )
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    files = [path for path in files if not image_files.kind(path.name)]
    if not files:
        raise UserError(f"--originals={folder}: there is no picture in it")
    pictures = [
        Entry(path.name, str(path), 0, path.stat().st_size, 0) for path in files
    ]
    count, workers = 64 if settings.small else 4096, settings.threads
    entries = list(itertools.islice(itertools.cycle(pictures), count))
    output, shards = work_dir / "prepared", 4 * workers

    def ours() -> None:
        prepare.prepare(
            Listing(("n00000000",), ("any",), {"train": entries}, {}),
            output,
            num_shards={"train": shards},
            seed=0,
            max_bad_images=0,
            num_workers=workers,
        )

    def plain() -> None:
        context = multiprocessing.get_context("spawn")
        with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
            parts = [entries[i::shards] for i in range(shards)]
            list(pool.map(_convert, parts, [output / str(i) for i in range(shards)]))

    def empty() -> None:
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()

    note = f"{workers} workers"
    row = functools.partial(Row, images=count, prepare=empty, note=note)
    size = sum(entry.size for entry in entries) / count / 1000
    yield [row("ours", ours), row("plain converter", plain)], [Fact("file", size, "kB")]


def _drawn(settings: Settings, folder: pathlib.Path) -> pathlib.Path:
    """Pictures of the size of ImageNet's: 500x375, about 110 kB."""
    folder.mkdir()
    for number in range(16 if settings.small else 128):
        label = number % len(make_sample_imagenet.CLASSES)
        rng = np.random.default_rng(number)
        image = make_sample_imagenet.draw(rng, label, 500, 375)
        image.save(folder / f"{number}.jpg", quality=96)
    return folder


def _convert(entries: list[Entry], output: pathlib.Path) -> None:
    """One file of JPEGs: all that has to be done to an image, and nothing else."""
    cv2.setNumThreads(1)
    encoding = [cv2.IMWRITE_JPEG_QUALITY, 95, cv2.IMWRITE_JPEG_SAMPLING_FACTOR]
    encoding.append(cv2.IMWRITE_JPEG_SAMPLING_FACTOR_420)
    with output.open("wb") as file:
        for entry in entries:
            image = cv2.imdecode(np.frombuffer(entry.read(), np.uint8), 1)
            shorter = min(image.shape[:2])
            height, width = (round(side * 256 / shorter) for side in image.shape[:2])
            method = cv2.INTER_AREA if shorter > 256 else cv2.INTER_CUBIC
            image = cv2.resize(image, (width, height), interpolation=method)
            top, left = (height - 256) // 2, (width - 256) // 2
            image = image[top : top + 256, left : left + 256]
            file.write(cv2.imencode(".jpg", image, encoding)[1])
