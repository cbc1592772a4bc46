"""Checks record files against what is said of them, shard by shard."""

import collections
import dataclasses
import hashlib
import io
import pathlib

import tensorflow as tf
from PIL import Image

from official.alexnet.data import framing, pictures, preprocessing, schemas
from official.alexnet.data.statistics import IMAGE_SHAPE
from official.alexnet.errors import UserError

# Bad records of a shard that are described; more are only counted.
_DESCRIBED = 5
_READ_BYTES = 1 << 20


@dataclasses.dataclass(frozen=True)
class Job:
    """A shard to check.

    Attributes:
        path: of the file.
        schema: of its records.
        manifest: its line of the manifest (num_examples, bytes, sha256), or None.
        synsets: WordNet id of each class in label order, or None if they are not known.
        is_prepared: whether pictures should be as tools/prepare_imagenet.py has them.
        decode: whether to decode the pictures.
        num_examples: how many TFDS counts in it, where there is no manifest.
    """

    path: pathlib.Path
    schema: schemas.Schema
    manifest: dict | None
    synsets: tuple[str, ...] | None
    is_prepared: bool
    decode: bool
    num_examples: int | None = None


@dataclasses.dataclass
class Report:
    """What was found in a shard.

    Attributes:
        file: its name.
        problems: one line each, none if all is well.
        num_examples: records read.
        num_bytes: size of the file.
        labels: stored label -> how many records have it.
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


def check_shard(job: Job) -> Report:
    """Checks one shard: size, checksums, number of records, and each record.

    Returns:
        What was found; nothing is raised for a damaged file.
    """
    report = Report(job.path.name)
    try:
        report.num_bytes = job.path.stat().st_size
        if job.manifest:
            _check_file(job, report)
        # Lengths first: TensorFlow would ask for as much memory as a length says.
        count = framing.count_records(job.path)
        if job.manifest and count != job.manifest["num_examples"]:
            problem = f"{count} records, the manifest counts "
            problem += str(job.manifest["num_examples"])
            if not report.is_damaged:
                problem += "; its sha256 is right, its count wrong"
            report.problems.append(problem)
        if job.num_examples is not None and count != job.num_examples:
            report.add_damage(f"{count} records, TFDS counts {job.num_examples}")
        _check_records(job, report)
    except OSError as error:
        report.add_damage(error.strerror or str(error))
    except UserError as error:
        report.add_damage(str(error).removeprefix(f"{job.path}: "))
    except tf.errors.OpError as error:
        reason = error.message.splitlines()[0].split(" [Op:")[0].split("}} ")[-1]
        report.add_damage(f"record {report.num_examples}: {reason}")
    return report


def _check_file(job: Job, report: Report) -> None:
    if report.num_bytes != job.manifest["bytes"]:
        report.add_damage(
            f"{report.num_bytes} bytes, the manifest says {job.manifest['bytes']}"
        )
        return
    digest = hashlib.sha256()
    with job.path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            digest.update(chunk)
    if digest.hexdigest() != job.manifest["sha256"]:
        report.add_damage("sha256 is not the manifest's")


def _check_records(job: Job, report: Report) -> None:
    """Reads the records, which checks their checksums."""
    num_bad = 0
    records = tf.data.TFRecordDataset(str(job.path), buffer_size=_READ_BYTES)
    for number, serialized in enumerate(records.as_numpy_iterator()):
        fault = _fault(serialized, job, report)
        if fault and num_bad < _DESCRIBED:
            report.problems.append(f"record {number} {fault}")
        num_bad += fault is not None
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
        if job.manifest is None or report.is_damaged:
            return fault
        if report.labels_fault is None:
            report.labels_fault = f"record {report.num_examples} {fault}"
    if job.decode:
        return _fault_of_image(schemas.encoded_image(serialized, job.schema), job)
    return None


def _fault_of_label(serialized: bytes, label: int, job: Job) -> str | None:
    if not job.synsets:
        return None
    first = job.schema.first_label
    if not first <= label < first + len(job.synsets):
        return f"has label {label}, outside {first}..{first + len(job.synsets) - 1}"
    features = tf.train.Example.FromString(serialized).features.feature
    stored = features["image/class/synset"].bytes_list.value
    wanted = job.synsets[label - first]
    if stored and stored[0].decode(errors="replace") != wanted:
        return (
            f"has label {label}, which is {wanted}, but synset "
            f"{stored[0].decode(errors='replace')}"
        )
    return None


def _fault_of_image(encoded: bytes, job: Job) -> str | None:
    try:
        shape = tuple(_decoded_shape(tf.constant(encoded)).numpy())
    except (tf.errors.OpError, UnicodeDecodeError):
        fault = pictures.fault(tf.constant(encoded)).numpy().decode()
        return f"has an image that {fault}"
    if job.is_prepared:
        with Image.open(io.BytesIO(encoded)) as image:
            kind = (image.format, image.mode)
        if kind != ("JPEG", "RGB") or shape != IMAGE_SHAPE:
            return (
                f"has a {kind[0]} of {shape[1]}x{shape[0]} {kind[1]}, not a JPEG of "
                "256x256 RGB"
            )
    return None


@tf.function(input_signature=[tf.TensorSpec((), tf.string)])
def _decoded_shape(encoded: tf.Tensor) -> tf.Tensor:
    return tf.shape(preprocessing.decode_image(encoded))
