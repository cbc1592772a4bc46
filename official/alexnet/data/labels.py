"""Which number stands for which class in a set of records: one base for all splits."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import pathlib
import time
from collections.abc import Collection, Sequence

from absl import logging

from official.alexnet import disk
from official.alexnet.data import classes, framing, schemas
from official.alexnet.errors import UserError

# As a number of classes: any label will do, nobody looks at them.
ANY_CLASSES = 2**31 - 1

# Kept beside records that do not say what their labels are.
COUNTS_FILE = "label_counts.json"


@dataclasses.dataclass
class Counts:
    """The labels of one file.

    Attributes:
        num_examples: records in the file, the bad ones included.
        labels: stored label -> the number of the first record that has it.
        fault: of the first that holds none, such as `record 7 is not an Example`.
        synsets: stored label -> the WordNet id in its first record, if there is one.
    """

    num_examples: int = 0
    labels: dict[int, int] = dataclasses.field(default_factory=dict)
    fault: str | None = None
    synsets: dict[int, str] = dataclasses.field(default_factory=dict)

    @classmethod
    def of(cls, stored: dict) -> "Counts":
        """From what JSON makes of one."""
        labels = {int(label): int(n) for label, n in stored["labels"].items()}
        synsets = {int(label): name for label, name in stored["synsets"].items()}
        return cls(**stored | {"labels": labels, "synsets": synsets})


def count_labels(
    files: Sequence[pathlib.Path], schema: schemas.Schema, folder: pathlib.Path
) -> dict[pathlib.Path, Counts]:
    """Reads the labels of all records, once: the counts are kept in `folder`.

    Args:
        files: all splits' TFRecord files.
        schema: the feature keys of a record.
        folder: where label_counts.json is, or will be.

    Raises:
        UserError: a file ends inside a record.
    """
    status = ((path.name, path.stat()) for path in files)
    marks = tuple((name, one.st_size, one.st_mtime_ns) for name, one in status)
    return _count_all(tuple(files), marks, schema, folder / COUNTS_FILE)


@functools.lru_cache(4)  # Where the folder cannot be written.
def _count_all(
    files: tuple[pathlib.Path, ...],
    marks: tuple[tuple, ...],
    schema: schemas.Schema,
    kept: pathlib.Path,
) -> dict[pathlib.Path, Counts]:
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        stored = json.loads(kept.read_text("utf-8"))
        if [tuple(mark) for mark in stored["files"]] == list(marks):
            counts = [Counts.of(each) for each in stored["counts"]]
            return dict(zip(files, counts, strict=True))
    logging.info("%s: reading all labels: where do they begin?", kept.parent)
    start = time.monotonic()
    # The time goes into waiting for the disk.
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        counts = list(pool.map(lambda path: count_file(path, schema), files))
    total = sum(each.num_examples for each in counts)
    logging.info("Read %d labels in %.1f s.", total, time.monotonic() - start)
    stored = {"files": marks, "counts": [vars(each) for each in counts]}
    try:
        disk.write_text(kept, json.dumps(stored))
    except (OSError, UserError):
        logging.info("%s cannot be kept: the next start reads them again.", kept)
    return dict(zip(files, counts, strict=True))


def count_first(
    files: Sequence[pathlib.Path], schema: schemas.Schema, limit: int
) -> dict[pathlib.Path, Counts]:
    """Reads the first `limit` labels of all files together."""
    counts = {}
    for path in files:
        counts[path] = count_file(path, schema, limit)
        limit -= counts[path].num_examples
        if limit <= 0:
            break
    return counts


def count_file(
    path: pathlib.Path, schema: schemas.Schema, limit: int | None = None
) -> Counts:
    """Reads the labels of a file's records, or of the first `limit`.

    Raises:
        UserError: the file ends inside a record.
    """
    counts = Counts()
    for number, record in enumerate(framing.read(path, limit)):
        counts.num_examples += 1
        try:
            label = schemas.stored_label(record, schema)
        except ValueError as error:
            counts.fault = counts.fault or f"record {number} {error}"
            continue
        if label not in counts.labels:
            counts.labels[label] = number
            if name := schemas.synset(record):
                counts.synsets[label] = name
    return counts


def foreign_names(
    root: pathlib.Path,
    names: tuple[str, ...] | None,
    stored: Collection[int],
    label_base: str = "auto",
) -> tuple[tuple[str, ...] | None, tuple[int, str] | None]:
    """The classes that others' labels.txt names, and what is said of the label base.

    TF-Slim's ImageNet has labels from 1 on, and a class more in its labels.txt:
    `0:background`.

    Args:
        root: where labels.txt is, for messages.
        names: its lines; None: there is no such file.
        stored: all labels of all splits.
        label_base: what the user says: `auto`, `0` or `1`.

    Returns:
        The names, and the label of the first with who says so; None: not known.

    Raises:
        UserError: the user and the file contradict each other.
    """
    said = None
    if label_base != "auto":
        said = (int(label_base), "as --label_base says")
    if not names:
        return None, said
    names, first = classes.without_numbers(names)
    if (
        names[0].strip().lower() == "background"
        and label_base != "0"
        and 0 not in stored
        and (first == 0 or (first is None and max(stored, default=0) < len(names)))
    ):
        return names[1:], (1, "as 0 is the background in labels.txt")
    if said and first not in (None, said[0]):
        raise UserError(
            f"--label_base={label_base}, but {root / 'labels.txt'} counts its classes "
            f"from {first}: correct one of them"
        )
    if first is not None:
        said = (first, "as labels.txt counts its classes")
    return names, said


def settle(
    counts: Collection[Counts],
    num_classes: int,
    said: tuple[int, str] | None,
    folder: pathlib.Path,
) -> tuple[int, str]:
    """Settles which label is class 0, by all labels of a set.

    Args:
        counts: of all its files.
        num_classes: number of classes, or `ANY_CLASSES`.
        said: the label of class 0, and who says so; None: nobody does.
        folder: the set, for messages.

    Returns:
        The label of class 0, and why, in words.

    Raises:
        UserError: it cannot be told, or what is said cannot be right.
    """
    stored = {label for each in counts for label in each.labels}
    if not stored:  # `check` says what is wrong with the records.
        return 1, "there is no label"
    if num_classes == ANY_CLASSES:
        return int(0 not in stored), "any class will do"
    span = f"all labels are {min(stored)}..{max(stored)}"
    fits = [
        0 <= min(stored) - base <= max(stored) - base < num_classes for base in (0, 1)
    ]
    if said:
        base, source = said
        if fits[1 - base] and not fits[base]:
            raise UserError(
                f"{folder}: {span} and there are {num_classes} classes, so "
                f"{1 - base} is class 0, but {base} is {source}: correct that, or "
                "--num_classes"
            )
        return base, f"{base} is class 0 {source}"
    if all(fits):
        raise UserError(
            f"{folder}: {span} and there are {num_classes} classes: it cannot be told "
            "whether 0 or 1 is class 0; say so with --label_base=0 or --label_base=1, "
            f"or give --num_classes={max(stored)} if these are all"
        )
    # Where neither fits, `check` names the first label outside.
    base = fits.index(True) if any(fits) else int(0 not in stored)
    return base, f"{base} is class 0, as {span}"


def check(
    counts: dict[pathlib.Path, Counts], first: int, last: int, reason: str
) -> None:
    """Checks that a split's labels are in first..last, which has a reason in words.

    Raises:
        UserError: a record is bad, or a label does not fit.
    """
    for path, each in counts.items():
        if each.fault:
            raise UserError(f"{path}: {each.fault}; prepare it again")
    outside = [
        (path, number, label)
        for path, each in counts.items()
        for label, number in each.labels.items()
        if not first <= label <= last
    ]
    if not outside:
        return
    path, number, label = outside[0]
    if label < first:
        raise UserError(
            f"{path}: record {number} has label {label}, below {first} "
            f"({reason}); a split without labels cannot be used"
        )
    needed = max(label for *_, label in outside) - first + 1
    raise UserError(
        f"{path}: record {number} has label {label}, outside {first}..{last} "
        f"({reason}); pass --num_classes={needed} or more"
    )


def check_names(
    counts: dict[pathlib.Path, Counts], first: int, names: Sequence[str] | None
) -> None:
    """Checks that labels.txt has no other order than the records' own WordNet ids.

    Args:
        counts: of the files that were looked at.
        first: the label of class 0.
        names: of the classes in label order; None: not known.

    Raises:
        UserError: the ids are those of labels.txt, but at other labels.
    """
    said = {first + place: classes.key(name) for place, name in enumerate(names or ())}
    own = {label: x for each in counts.values() for label, x in each.synsets.items()}
    if len(own) != len({*own.values()}) or not {*own.values()} <= {*said.values()}:
        return  # They are not of these classes: nothing follows from them.
    for path, each in counts.items():
        for label, synset in each.synsets.items():
            if synset != said.get(label, synset):
                raise UserError(
                    f"{path}: record {each.labels[label]} has label {label} and synset "
                    f"{synset}, but labels.txt has {said[label]} there: put its lines "
                    "in the order of the labels"
                )
