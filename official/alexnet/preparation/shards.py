"""Writes one shard of TFRecords, and beside it what a later run has to know of it."""

import contextlib
import dataclasses
import hashlib
import json
import pathlib
import warnings

import cv2
import numpy as np

from official.alexnet import disk
from official.alexnet.data import framing, schemas
from official.alexnet.data.statistics import OF_DAMAGED_ZIPS, StatisticsAccumulator
from official.alexnet.errors import UserError
from official.alexnet.preparation import conversion
from official.alexnet.preparation.sources import Entry

# Everything that is not a result lives in this folder of the output directory.
WORK_DIR = ".prepare"


@dataclasses.dataclass(frozen=True)
class ShardJob:
    """A shard to write: `file`, such as `train-00000-of-01024`, of `entries` in order.

    `synsets` and `words` are those of the classes, by label; `with_statistics` says
    whether its images count for the statistics.
    """

    file: str
    output_dir: pathlib.Path
    entries: list[Entry]
    synsets: tuple[str, ...]
    words: tuple[str, ...]
    with_statistics: bool

    @property
    def notes(self) -> pathlib.Path:
        """Where the result and the sums are kept until the set is finished."""
        return self.output_dir / WORK_DIR / f"{self.file}.npz"


@dataclasses.dataclass(frozen=True)
class ShardResult:
    """A shard as written.

    `record` is its line of the manifest: file, num_examples, bytes, sha256.
    `bad_images` are the shard, name and reason of each image left out.
    """

    record: dict
    bad_images: list[dict]


def write_shard(job: ShardJob, known: ShardResult | None = None) -> ShardResult:
    """Converts the images of a shard, and writes it and then its notes.

    Killed between the two, a later run writes the same shard once more, the same bytes.
    `known` is how it came out before it was lost. Raises UserError where the disk is
    full, or it comes out otherwise than before.
    """
    cv2.setNumThreads(1)  # There is a process for each core.
    sums, bad_images, count = StatisticsAccumulator(), [], 0
    digest = hashlib.sha256()
    path = job.output_dir / job.file
    with disk.atomic_write(path) as temporary:
        with temporary.open("wb") as file, warnings.catch_warnings():
            # Of Pillow: what is wrong with a picture is a reason, or nothing.
            warnings.simplefilter("ignore")
            for entry in job.entries:
                try:
                    stored = conversion.convert_image(entry.read())
                except (OSError, MemoryError, conversion.BadImageError) as error:
                    reason = getattr(error, "strerror", None) or str(error)
                    # It was there when it was listed: this may pass.
                    if entry.size and not isinstance(error, conversion.BadImageError):
                        reason = reason or "there is no memory to read it"
                        raise UserError(
                            f"{entry.path}: {reason}; once that is mended, the same "
                            "command resumes here"
                        ) from error
                    bad = {"file": job.file, "name": entry.name, "reason": reason}
                    bad_images.append(bad)
                    continue
                if job.with_statistics:
                    sums.add(stored.pixels)
                example = schemas.classic_example(
                    stored.jpeg,
                    height=conversion.STORED_SIZE,
                    width=conversion.STORED_SIZE,
                    label=entry.label,
                    synset=job.synsets[entry.label],
                    text=job.words[entry.label],
                    filename=pathlib.PurePosixPath(entry.name).name,
                )
                digest.update(record := framing.framed(example))
                file.write(record)
                count += 1
            size = file.tell()
        line = {"file": job.file, "num_examples": count, "bytes": size}
        line["sha256"] = digest.hexdigest()
        if known and known.record != line:
            raise UserError(
                f"{path} was lost, and comes out otherwise now (another OpenCV or "
                "Pillow?); prepare into a new --output_dir"
            )
    result = ShardResult(line, bad_images)
    arrays = {"state": np.array(json.dumps(dataclasses.asdict(result)))}
    if job.with_statistics:
        smallest = np.min_scalar_type(sums.pixel_sums.max())
        arrays["pixel_sums"] = sums.pixel_sums.astype(smallest)
        arrays["products"] = sums.products
    with disk.atomic_write(job.notes) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)
    return result


def read_notes(
    job: ShardJob, sums: StatisticsAccumulator | None = None
) -> ShardResult | None:
    """How a shard came out by its notes; None where there are none, or damaged ones.

    The shard's sums are added to `sums`, if they are wanted.
    """
    with contextlib.suppress(*OF_DAMAGED_ZIPS, KeyError, TypeError):
        with np.load(job.notes, allow_pickle=False) as file:
            result = ShardResult(**json.loads(str(file["state"])))
            if sums:
                pixel_sums, products = file["pixel_sums"], file["products"]
                sums.pixel_sums += pixel_sums.astype(np.int64)
                sums.products += products
                sums.num_images += result.record["num_examples"]
        return result
    return None
