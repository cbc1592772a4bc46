"""Which number stands for which class in the records of a split."""

import dataclasses
import pathlib

from official.alexnet.data import framing, schemas
from official.alexnet.errors import UserError

# As a number of classes: any label will do, nobody looks at them.
ANY_CLASSES = 2**31 - 1

# Labels read to settle the label base: two shards of a prepared ImageNet.
_LABELS_READ = 2048


@dataclasses.dataclass(frozen=True)
class Labels:
    """The labels stored in the records of one split.

    Attributes:
        first: the label stored for class 0.
        num_classes: labels lie in [first, first + num_classes).
        reason: why labels are taken to begin at `first`, in words.
    """

    first: int
    num_classes: int
    reason: str

    @property
    def last(self) -> int:
        """The label stored for the last class."""
        return self.first + self.num_classes - 1


def find_labels(
    files: list[pathlib.Path],
    schema: schemas.Schema,
    num_examples: int,
    num_classes: int,
    *,
    max_bad_records: int = 0,
    is_prepared: bool = False,
) -> Labels:
    """Settles the label base by a look at the records, and checks what it sees.

    Args:
        files: the TFRecord files of the split, of `num_examples` records together.
        schema: the feature keys of a record.
        num_examples: number of records.
        num_classes: number of classes of the model, or `ANY_CLASSES`.
        max_bad_records: how many of the records looked at may be bad.
        is_prepared: the files are tools/prepare_imagenet.py's.

    Returns:
        The label of class 0, and why.

    Raises:
        UserError: more records are bad, or labels do not fit, than may be, or it
            cannot be told whether labels begin at 0 or 1.
    """
    read = _read_labels(files, schema, max_bad_records, _LABELS_READ)
    if is_prepared:
        first, reason = 1, "1 is class 0, as tools/prepare_imagenet.py has it"
    elif schema.first_label == 0:
        first, reason = 0, "0 is class 0, as TFDS has it"
    elif all(label for _, _, label in read):
        first = 1
        reason = f"1 is class 0, as no label 0 was among the first {len(read):,} read"
    else:
        first, reason = 0, "0 is class 0, as label 0 was read"
        if max_bad_records and num_classes != ANY_CLASSES:
            first, reason = _settled_base(
                files, schema, num_examples, num_classes, max_bad_records
            )
    labels = Labels(first, num_classes, reason)
    _check_labels(read, labels, max_bad_records)
    return labels


def read_names(path: pathlib.Path, num_classes: int) -> tuple[str, ...] | None:
    """Reads the name of each class, a line each; None where there is no such file.

    Raises:
        UserError: there are more names than classes.
    """
    if not path.is_file():
        return None
    names = tuple(line for line in path.read_text("utf-8").splitlines() if line)
    if len(names) > num_classes:
        raise UserError(
            f"{path} names {len(names)} classes, the model has {num_classes}; pass "
            f"--num_classes={len(names)}"
        )
    return names


def _settled_base(
    files: list[pathlib.Path],
    schema: schemas.Schema,
    num_examples: int,
    num_classes: int,
    max_bad_records: int,
) -> tuple[int, str]:
    """The label of class 0 where a label 0 may be a bad one, by all labels.

    To take a bad one for class 0 would shift every label without a sign.
    """
    labels = _read_labels(files, schema, max_bad_records, num_examples)
    stored = [label for _, _, label in labels]
    zeros, lasts = stored.count(0), stored.count(num_classes)
    counts = f"{zeros:,} labels are 0 and {lasts:,} are {num_classes}"
    if zeros > max_bad_records:
        return 0, f"0 is class 0, as {counts}"
    if lasts > max_bad_records:
        return 1, f"1 is class 0, as {counts}"
    raise UserError(
        f"{files[0].parent}: {counts}, and --max_bad_records={max_bad_records} lets "
        "either be bad: it cannot be told whether labels begin at 0 or 1; lower it "
        "below one of them"
    )


def _read_labels(
    files: list[pathlib.Path],
    schema: schemas.Schema,
    max_bad_records: int,
    count: int,
) -> list[tuple[pathlib.Path, int, int]]:
    """Reads the first labels as (file, number of the record in it, stored label)."""
    labels: list[tuple[pathlib.Path, int, int]] = []
    num_bad = 0
    for path in files:
        with path.open("rb") as file:
            for number, (start, length) in enumerate(framing.spans(path)):
                if len(labels) == count:
                    return labels
                file.seek(start)
                try:
                    label = schemas.stored_label(file.read(length), schema)
                except ValueError as error:
                    num_bad += 1
                    if num_bad > max_bad_records:
                        raise UserError(
                            f"{path}: record {number} {error}; prepare it again"
                        ) from None
                    continue
                labels.append((path, number, label))
    return labels


def _check_labels(
    labels: list[tuple[pathlib.Path, int, int]],
    expected: Labels,
    max_bad_records: int,
) -> None:
    first, last, reason = expected.first, expected.last, expected.reason
    outside = [found for found in labels if not first <= found[2] <= last]
    if len(outside) <= max_bad_records:
        return
    path, number, label = outside[0]
    if label < first:
        raise UserError(
            f"{path}: record {number} has label {label}, below {first} "
            f"({reason}); a split without labels cannot be used"
        )
    needed = max(value for _, _, value in labels) - first + 1
    raise UserError(
        f"{path}: record {number} has label {label}, outside {first}..{last} "
        f"({reason}); pass --num_classes={needed} or more"
    )
