"""Finds the TFRecords of one split on disk, and says what was found."""

import dataclasses
import json
import pathlib
import re
import typing
from collections.abc import Sequence

from official.alexnet import paths
from official.alexnet.data import classes as class_names
from official.alexnet.data import labels, schemas, tfds_files
from official.alexnet.errors import UserError

# Labels looked at where the base is known: two shards of a prepared ImageNet.
_LABELS_READ = 2048


@dataclasses.dataclass(frozen=True)
class Records:
    """The examples of one split.

    Attributes:
        files: paths of the TFRecord files, sorted.
        first_label: the label stored for class 0.
        file_sizes: number of records in each file.
        label_names: name of each class in label order, where the directory has them.
        label_reason: why labels are taken to begin at `first_label`, in words.
        label_map: the net's class for each of the data's; None: the same number.
    """

    files: tuple[str, ...]
    schema: schemas.Schema
    first_label: int
    file_sizes: tuple[int, ...]
    num_classes: int
    label_names: tuple[str, ...] | None = None
    label_reason: str = ""
    label_map: tuple[int, ...] | None = None

    @property
    def num_examples(self) -> int:
        """The number of records in all files together."""
        return sum(self.file_sizes)

    @property
    def last_label(self) -> int:
        """The label stored for the last class."""
        return self.first_label + self.num_classes - 1


class Found(typing.NamedTuple):
    """A split's files with their sizes, which may be None as the label base may."""

    files: dict[pathlib.Path, int | None]
    schema: schemas.Schema
    names: tuple[str, ...] | None
    base: tuple[int, str] | None


def find_records(
    data_dir: str,
    split: str,
    num_classes: int,
    label_base: str = "auto",
    classes: Sequence[str] | None = None,
) -> Records:
    """Finds a split in the classic or the TFDS layout, by looking.

    Classic files are `train-?????-of-?????` and `validation-?????-of-?????` in
    `data_dir` or in a folder of the split's name. A TFDS dataset is a directory with
    `dataset_info.json` and `features.json`: `data_dir` itself, or the only such
    directory up to three levels below it. TensorFlow's devices are not touched, so
    this may be called before they are configured.

    Args:
        split: `train` or `validation`; for that, TFDS's `val` or `test` will do.
        num_classes: number of classes of the model, or `labels.ANY_CLASSES`.
        label_base: the label of class 0, `0` or `1`; `auto`: as the manifest, TFDS,
            labels.txt or all labels of all splits say.
        classes: names of the model's classes, for data that may have others.

    Raises UserError where nothing is found, shards are missing or cut short, there are
    no records, it cannot be told where labels begin, or classes do not fit.
    """
    root = paths.local(data_dir, "--data_dir")
    if not data_dir or not root.is_dir():
        raise UserError(
            f"--data_dir={data_dir}: no such directory; name the one that holds the "
            "TFRecords"
        )
    found = look(root, split)
    folder = next(iter(found.files)).parent
    if found.base is None:
        other = "validation" if split == "train" else "train"
        everything = sorted([*found.files, *_shards(root, other)])
        counts = labels.count_labels(everything, found.schema, root)
    else:
        counts = labels.count_first(found.files, found.schema, _LABELS_READ)
    own = {path: counts[path] for path in found.files if path in counts}
    sizes = tuple(
        own[path].num_examples if size is None else size
        for path, size in found.files.items()
    )
    if sum(sizes) == 0:
        raise UserError(f"{folder}: the {split} files hold no records")
    names, said = found.names, found.base
    stored = {label for each in counts.values() for label in each.labels}
    if not said:
        names, said = labels.foreign_names(root, names, stored, label_base)
    elif label_base not in ("auto", str(said[0])):
        raise UserError(
            f"--label_base={label_base}, but in {folder} {said[0]} is class 0, "
            f"{said[1]}: leave the flag out"
        )
    label_map = class_names.positions(names, classes, str(folder))
    if label_map is not None:
        num_classes = len(names)
    elif names and num_classes not in (len(names), labels.ANY_CLASSES):
        raise UserError(
            f"{folder} names {len(names)} classes, the net has {num_classes}; pass "
            f"--num_classes={len(names)}, or name the data of the net's classes"
        )
    base, reason = found.base or labels.settle(stored, num_classes, said, root)
    if found.base:
        reason = f"{base} is class 0, {reason}"
    files = tuple(map(str, found.files))
    records = Records(
        *(files, found.schema, base, sizes, num_classes), *(names, reason, label_map)
    )
    labels.check(own, base, records.last_label, reason)
    labels.check_names(own, base, names)
    return records


def describe(records: Records) -> str:
    """Says in one line what was found: layout, counts, and the label base with why."""
    file, *more = records.files
    files = f"{len(more) + 1} files ({file} ...)" if more else f"1 file ({file})"
    return (
        f"{records.num_examples:,} examples, {records.schema.name} layout, {files}, "
        f"labels {records.first_label}..{records.last_label}: {records.label_reason}"
    )


def _shards(root: pathlib.Path, split: str) -> list[pathlib.Path]:
    """A split's classic files in `root`, or else in its folder, sorted."""
    pattern = re.compile(rf"{split}-\d{{5}}-of-\d{{5}}")
    for folder in (root, root / split):
        found = sorted(folder.glob(f"{split}-*-of-*"))
        if found := [path for path in found if pattern.fullmatch(path.name)]:
            return found
    return []


def look(root: pathlib.Path, split: str) -> Found:
    """Finds a split's files, and what is said beside them; UserError if not all."""
    if files := _shards(root, split):
        totals = sorted({path.name[-5:] for path in files})
        if len(totals) > 1:
            raise UserError(
                f"{files[0].parent}: {split} shards of {len(totals)} different sets, "
                f"-of-{totals[0]} and -of-{totals[1]}; keep one set"
            )
        names = [f"{split}-{i:05d}-of-{totals[0]}" for i in range(int(totals[0]))]
        remedy = "copy it here or prepare the records again"
        files = tfds_files.all_there(files[0].parent, names, remedy)
        names = class_names.read_names(root / "labels.txt")
        sizes = _manifest_sizes(root / "manifest.json", split, files)
        base = sizes and (1, "as tools/prepare_imagenet.py has it")
        return Found(sizes or dict.fromkeys(files), schemas.CLASSIC, names, base)
    if version_dir := tfds_files.find(root):
        files = tfds_files.shards(version_dir, split)
        names = class_names.read_names(version_dir / "label.labels.txt")
        return Found(files, schemas.TFDS, names, (0, "as TFDS has it"))
    names = sorted(path.name for path in root.iterdir())
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    raise UserError(
        f"{root}: no {split} records: looked for {split}-?????-of-????? here and in "
        f"{split}/, and for a TFDS dataset (dataset_info.json and features.json) down "
        f"to {tfds_files.MAX_DEPTH} levels below; found "
        f"{', '.join(names[:4]) or 'an empty directory'}{more}; make records with "
        "tools/prepare_imagenet.py or name another --data_dir"
    )


def _manifest_sizes(
    manifest: pathlib.Path, split: str, files: list[pathlib.Path]
) -> dict[pathlib.Path, int] | None:
    """The examples a manifest counts in each file, if it lists just these files."""
    try:
        listed = json.loads(manifest.read_text("utf-8"))["splits"][split]["shards"]
        listed = {x["file"]: (int(x["bytes"]), int(x["num_examples"])) for x in listed}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    if listed.keys() != {path.name for path in files}:
        return None
    for path in files:
        size, expected = path.stat().st_size, listed[path.name][0]
        if size != expected:
            raise UserError(
                f"{path} has {size:,} bytes, {manifest} says {expected:,}; "
                "tools/validate_records.py says what to make again. If the files are "
                f"other ones on purpose, delete {manifest.name}"
            )
    return {path: listed[path.name][1] for path in files}
