"""Which number stands for which class in a set of records: one base for all splits."""

import concurrent.futures
import contextlib
import dataclasses
import functools
import json
import pathlib
import re
import time
from collections.abc import Collection, Iterable, Sequence

from absl import logging

from official.alexnet import disk
from official.alexnet.data import classes, framing, schemas
from official.alexnet.errors import UserError

# As a number of classes: any label will do, nobody looks at them.
ANY_CLASSES = 2**31 - 1

# Kept beside records that do not say what their labels are.
COUNTS_FILE = "label_counts.json"
# A class with the label it is stored as, as TF-Slim writes it: `0:background`.
_NUMBERED = re.compile(r"(\d+)[:,\s]\s*(\S.*)")


@dataclasses.dataclass
class Counts:
    """The labels of one file.

    Attributes:
        num_examples: records in the file, the bad ones included.
        labels: stored label -> the number of the first record that has it, and the
            WordNet id there, if there is one.
        fault: of the first that holds none, such as `record 7 is not an Example`.
    """

    num_examples: int = 0
    labels: dict[int, tuple[int, str | None]] = dataclasses.field(default_factory=dict)
    fault: str | None = None


def count_labels(
    files: Sequence[pathlib.Path], schema: schemas.Schema, folder: pathlib.Path
) -> dict[pathlib.Path, Counts]:
    """Reads the labels of all splits' files, once: `folder` keeps label_counts.json."""
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
            counts = [Counts(**each) for each in stored["counts"]]
            for each in counts:
                each.labels = {int(x): tuple(y) for x, y in each.labels.items()}
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
    files: Iterable[pathlib.Path], schema: schemas.Schema, limit: int
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
    """Reads the labels of a file's records, or of the first `limit`."""
    counts = Counts()
    for number, record in enumerate(framing.read(path, limit)):
        counts.num_examples += 1
        try:
            label = schemas.stored_label(record, schema)
        except ValueError as error:
            counts.fault = counts.fault or f"record {number} {error}"
            continue
        if label not in counts.labels:
            counts.labels[label] = number, schemas.synset(record)
    return counts


def foreign_names(
    root: pathlib.Path,
    names: tuple[str, ...] | None,
    stored: Collection[int],
    label_base: str = "auto",
) -> tuple[tuple[str, ...] | None, tuple[int, str] | None]:
    """The classes that others' labels.txt names, and the label of the first.

    TF-Slim's ImageNet has labels from 1 on, and a class more in its labels.txt, whose
    lines are `names`: `0:background`. `stored` are all labels of all splits. The label
    comes with who says so; None: not known. UserError where the user's `label_base`,
    `auto`, `0` or `1`, and the file contradict each other.
    """
    said = None if label_base == "auto" else (int(label_base), "as --label_base says")
    if not names:
        return None, said
    found = [match for line in names if (match := _NUMBERED.fullmatch(line))]
    numbers = [int(match[1]) for match in found]
    ranges = {base: list(range(base, base + len(names))) for base in (0, 1)}
    first = next((base for base in ranges if numbers == ranges[base]), None)
    if first is not None:
        names = tuple(match[2] for match in found)
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
    stored: Collection[int],
    num_classes: int,
    said: tuple[int, str] | None,
    folder: pathlib.Path,
) -> tuple[int, str]:
    """Settles which label is class 0, and why, by all labels `stored` in a set.

    As is `said`, with who says so, where that can be right. Raises UserError where it
    cannot, or where the label cannot be told.
    """
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
    """Refuses a bad record, and a label outside first..last, known by `reason`."""
    for path, each in counts.items():
        if each.fault:
            raise UserError(f"{path}: {each.fault}; prepare it again")
    outside = [
        (path, number, label)
        for path, each in counts.items()
        for label, (number, _) in each.labels.items()
        if not first <= label <= last
    ]
    if not outside:
        return
    path, number, label = outside[0]
    where, advice = f"below {first}", "a split without labels cannot be used"
    if label >= first:
        needed = max(label for *_, label in outside) - first + 1
        where = f"outside {first}..{last}"
        advice = f"pass --num_classes={needed} or more"
    raise UserError(
        f"{path}: record {number} has label {label}, {where} ({reason}); {advice}"
    )


def check_names(
    counts: dict[pathlib.Path, Counts], first: int, names: Sequence[str] | None
) -> None:
    """Refuses names, from label `first` on, in another order than the WordNet ids."""
    said = {first + place: classes.key(name) for place, name in enumerate(names or ())}
    own = [
        (path, label, number, synset)
        for path, each in counts.items()
        for label, (number, synset) in each.labels.items()
        if synset
    ]
    synsets = {label: synset for _, label, _, synset in own}
    known = {*synsets.values()}
    if len(synsets) != len(known) or not known <= {*said.values()}:
        return  # They are not of these classes: nothing follows from them.
    for path, label, number, synset in own:
        if synset != said.get(label, synset):
            raise UserError(
                f"{path}: record {number} has label {label} and synset {synset}, "
                f"but labels.txt has {said[label]} there: put its lines in the order "
                "of the labels"
            )
