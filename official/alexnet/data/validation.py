"""Checks sets of record files against what is said of them, shard by shard."""

import collections
import dataclasses
import hashlib
import io
import json
import pathlib

import tensorflow as tf
from PIL import Image

from official.alexnet.data import (
    classes,
    framing,
    image_files,
    labels,
    reading,
    records,
    schemas,
    tfds_files,
)
from official.alexnet.data.statistics import STATISTICS_FILE, Statistics
from official.alexnet.errors import UserError

# Bad records of a shard that are described; more are only counted.
_DESCRIBED = 5


@dataclasses.dataclass(frozen=True)
class Job:
    """A shard to check.

    Attributes:
        manifest: its line of the manifest (num_examples, bytes, sha256); with one,
            pictures should be as tools/prepare_imagenet.py has them.
        synsets: WordNet id of each class in label order, if they are known.
        num_examples: how many TFDS counts in it, where there is no manifest.
    """

    path: pathlib.Path
    schema: schemas.Schema
    decode: bool = False
    manifest: dict | None = None
    synsets: tuple[str, ...] | None = None
    num_examples: int | None = None


@dataclasses.dataclass
class Report:
    """What was found in a shard: problems, one line each, and counts.

    Attributes:
        is_damaged: whether its bytes are: its size, sha256, lengths or checksums.
        labels_fault: the first record whose label is not as `Job.synsets` has it, in
            words, where the bytes are the manifest's: then they are not to blame.
    """

    file: str
    problems: list[str] = dataclasses.field(default_factory=list)
    num_examples: int = 0
    num_bytes: int = 0
    labels: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    is_damaged: bool = False
    labels_fault: str | None = None

    def add_damage(self, problem: str) -> None:
        self.problems.append(problem)
        self.is_damaged = True


class Problems(list):
    """What is wrong with a set: dicts of file, problem, and whether to remake it."""

    def add(self, file: str, problem: str, remake: bool = False) -> None:
        """Adds one and prints it."""
        print(f"{file}: {problem}", flush=True)
        self.append({"file": file, "problem": problem, "remake": remake})


def check_shard(job: Job) -> Report:
    """Checks size, checksums, number of records, and each record; raises nothing."""
    report = Report(job.path.name)
    try:
        report.num_bytes = job.path.stat().st_size
        if job.manifest:
            _check_file(job, report)
        # Lengths first: TensorFlow would ask for as much memory as a length says.
        count = framing.count_records(job.path)
        if job.manifest and count != (listed := job.manifest["num_examples"]):
            problem = f"{count} records, the manifest counts {listed}"
            if not report.is_damaged:
                problem += "; its sha256 is right, its count wrong"
            report.problems.append(problem)
        if job.num_examples not in (None, count):
            report.add_damage(f"{count} records, TFDS counts {job.num_examples}")
        _check_records(job, report)
    except OSError as error:
        report.add_damage(error.strerror or str(error))
    except UserError as error:
        report.add_damage(str(error).removeprefix(f"{job.path}: "))
    except tf.errors.OpError as error:
        report.add_damage(f"record {report.num_examples}: {reading.reason_of(error)}")
    return report


def _check_file(job: Job, report: Report) -> None:
    if report.num_bytes != (expected := job.manifest["bytes"]):
        report.add_damage(f"{report.num_bytes} bytes, the manifest says {expected}")
        return
    with job.path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != job.manifest["sha256"]:
            report.add_damage("sha256 is not the manifest's")


def _check_records(job: Job, report: Report) -> None:
    """Reads the records, which checks their checksums."""
    num_bad = 0
    dataset = tf.data.TFRecordDataset(str(job.path), buffer_size=reading.READ_BYTES)
    for serialized in dataset.as_numpy_iterator():
        if fault := _fault(serialized, job, report):
            num_bad += 1
            if num_bad <= _DESCRIBED:
                report.problems.append(f"record {report.num_examples} {fault}")
        report.num_examples += 1
    if num_bad > _DESCRIBED:
        report.problems.append(f"{num_bad - _DESCRIBED} more bad records")


def _fault(serialized: bytes, job: Job, report: Report) -> str | None:
    try:
        label = schemas.stored_label(serialized, job.schema)
    except ValueError as error:
        return str(error)
    report.labels[label] += 1
    if fault := _fault_of_label(serialized, label, job):
        if report.is_damaged:
            return fault
        if report.labels_fault is None:
            report.labels_fault = f"record {report.num_examples} {fault}"
    if not job.decode:
        return None
    encoded = schemas.encoded_image(serialized, job.schema)
    return reading.image_fault(encoded) or (job.manifest and _unprepared(encoded))


def _fault_of_label(serialized: bytes, label: int, job: Job) -> str | None:
    if not job.synsets:
        return None
    first = job.schema.first_label
    if not first <= label < first + len(job.synsets):
        return f"has label {label}, outside {first}..{first + len(job.synsets) - 1}"
    found, wanted = schemas.synset(serialized), job.synsets[label - first]
    if found not in (None, wanted):
        return f"has label {label}, which is {wanted}, but synset {found}"
    return None


def _unprepared(encoded: bytes) -> str | None:
    """How a picture is not as tools/prepare_imagenet.py has them."""
    with Image.open(io.BytesIO(encoded)) as image:
        if (image.format, image.mode, image.size) == ("JPEG", "RGB", (256, 256)):
            return None
        width, height = image.size
        kind = f"{image.format} of {width}x{height} {image.mode}"
    return f"has a {kind}, not a JPEG of 256x256 RGB"


def read_manifest(folder: pathlib.Path, problems: Problems) -> dict | None:
    """The manifest.json of a prepared set; None where there is no whole one."""
    path = folder / "manifest.json"
    if not path.exists():
        return None
    try:
        manifest = json.loads(path.read_text("utf-8"))
        for split in manifest["splits"].values():
            for shard in split["shards"]:
                _ = shard["file"], shard["bytes"], shard["sha256"]
                _ = shard["num_examples"] + 0
        _ = manifest["num_classes"] + 0, manifest["settings"]["shards"].items()
        _ = manifest["splits"]["train"]["num_examples"] + 0
        _ = manifest["settings"]["seed"] + 0, len(manifest.get("bad_images", []))
        return manifest
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        problems.add(path.name, "damaged, or not of prepare_imagenet")
        return None


def find_shards(
    folder: pathlib.Path, manifest: dict | None, decode: bool, problems: Problems
) -> dict[str, list[Job]]:
    """The shards of each split that are there; those that are missing are problems."""
    jobs = {}
    for split in tfds_files.SPLITS if not manifest else ():
        try:
            found = records.look(folder, split)
        except UserError as error:
            if f"no {split} records" not in str(error):
                problems.add(split, str(error))
            continue
        jobs[split] = [
            Job(path, found.schema, decode, num_examples=size)
            for path, size in found.files.items()
        ]
    if not manifest:
        return jobs
    synsets, listed = _synsets(folder), set()
    for split, contents in manifest["splits"].items():
        jobs[split] = []
        for shard in contents["shards"]:
            listed.add(shard["file"])
            if (path := folder / shard["file"]).is_file():
                job = Job(path, schemas.CLASSIC, decode, shard, synsets)
                jobs[split].append(job)
            else:
                problems.add(shard["file"], "missing", True)
    for path in sorted(folder.glob("*-?????-of-?????")):
        if path.name not in listed:
            problems.add(path.name, "not in the manifest; move it away")
    return jobs


def others(
    folder: pathlib.Path, jobs: dict[str, list[Job]], problems: Problems
) -> list[str]:
    """The files beside the records that nothing here looks at, but hidden ones."""
    paths = {job.path for todo in jobs.values() for job in todo}
    known = {path.name for path in paths} | {problem["file"] for problem in problems}
    return sorted(
        image_files.text(path.relative_to(folder))
        for place in {folder, *(path.parent for path in paths)}
        for path in place.iterdir()
        if path.is_file()
        and path.name not in known
        and not path.name.startswith(".")
        # What describes a set: labels, statistics, a manifest, TFDS's own files.
        and path.suffix not in (".txt", ".npz", ".json")
    )


def _synsets(folder: pathlib.Path) -> tuple[str, ...] | None:
    path = folder / "labels.txt"
    if not path.is_file():
        return None
    lines = path.read_text("utf-8", "replace").splitlines()
    return tuple(line.partition(" ")[0] for line in lines)


def check_labels(
    folder: pathlib.Path,
    counts: dict[str, collections.Counter],
    manifest: dict | None,
    is_tfds: bool,
    problems: Problems,
) -> dict[str, int]:
    """Checks labels.txt, and counts the classes of each split that have no image."""
    names, file = _synsets(folder), "labels.txt"
    stored = sum(counts.values(), collections.Counter())
    first = 0 if is_tfds or (not manifest and 0 in stored) else 1
    if not (manifest or is_tfds):
        lines = classes.read_names(folder / file)
        names, said = labels.foreign_names(folder, lines, stored)
        first = said[0] if said else first
    if names is None:
        if manifest:
            problems.add(file, "missing; it is remade with a shard")
        num_classes = max(max(stored, default=0) - first + 1, 0)
    else:
        num_classes = len(names)
        if manifest and num_classes != (expected := manifest["num_classes"]):
            problems.add(
                file, f"{num_classes} lines, the manifest has {expected} classes"
            )
        if len(set(names)) != num_classes:
            problems.add(file, "names a class twice")
    last, empty = first + num_classes - 1, {}
    for split, found in counts.items():
        wrong = [label for label in sorted(found) if not first <= label <= last]
        if wrong and not manifest:
            problems.add(split, f"label {wrong[0]} is outside {first}..{last}")
        # Not as a list: a label, and so the range, may be huge.
        empty[split] = num_classes - (len(found) - len(wrong))
        if empty[split]:
            missing = next(x for x in range(first, last + 1) if x not in found)
            text = f"{empty[split]} class(es) without an image, such as {missing}"
            # A small validation set may have none of a class.
            if split == "train":
                problems.add(split, text)
            else:
                print(f"{split}: {text}")
    return empty


def check_statistics(folder: pathlib.Path, manifest: dict, problems: Problems) -> None:
    """Checks that the statistics are of all training images."""
    expected = manifest["splits"]["train"]["num_examples"]
    try:
        count = Statistics.load(folder / STATISTICS_FILE).num_images
    except UserError as error:
        problems.add(STATISTICS_FILE, str(error))
    else:
        if count != expected:
            problems.add(STATISTICS_FILE, f"of {count} images, not {expected}")
