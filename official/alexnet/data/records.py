"""Finds the TFRecords of one split on disk, and says what was found."""

import dataclasses
import json
import pathlib
import re
from collections.abc import Collection, Sequence

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
        schema: the feature keys of a record.
        first_label: the label stored for class 0.
        file_sizes: number of records in each file.
        num_classes: labels lie in [first_label, first_label + num_classes).
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


@dataclasses.dataclass(frozen=True)
class _Wanted:
    """What the net and the flags say of the labels; see `find_records`."""

    num_classes: int
    max_bad_records: int
    label_base: str
    classes: tuple[str, ...] | None


def find_records(
    data_dir: str,
    split: str,
    num_classes: int,
    max_bad_records: int = 0,
    label_base: str = "auto",
    classes: Sequence[str] | None = None,
) -> Records:
    """Finds a split in the classic or the TFDS layout, by looking.

    Classic files are `train-?????-of-?????` and `validation-?????-of-?????` in
    `data_dir` or in a folder of the split's name. A TFDS dataset is a directory with
    `dataset_info.json` and `features.json`: `data_dir` itself, or the only such
    directory up to three levels below it. TensorFlow's devices are not touched, so
    this may run before they are configured.

    Args:
        data_dir: the directory to look in.
        split: `train` or `validation`; where a TFDS dataset has no `validation`, its
            `val` or `test` is taken.
        num_classes: number of classes of the model, or `labels.ANY_CLASSES`.
        max_bad_records: how many of the records looked at may be bad.
        label_base: the label of class 0, `0` or `1`; `auto`: as the manifest, TFDS,
            labels.txt or all labels of all splits say.
        classes: names of the model's classes, for data that may have others; None:
            not known.

    Returns:
        The files, their layout, the label base and the number of examples.

    Raises:
        UserError: nothing is found, shards are missing or cut short, there are no
            records, a label does not fit `num_classes`, it cannot be told where
            labels begin, or a class of the data is not one of `classes`.
    """
    if split not in tfds_files.SPLITS:
        raise ValueError(f"split must be train or validation, not {split!r}")
    root = paths.local(data_dir, "--data_dir")
    if not data_dir or not root.is_dir():
        raise UserError(
            f"--data_dir={data_dir}: no such directory; name the one that holds the "
            "TFRecords"
        )
    wanted = _Wanted(num_classes, max_bad_records, label_base, classes and (*classes,))
    if files := _classic_files(root, split):
        return _classic_records(root, split, files, wanted)
    version_dir = tfds_files.find(root)
    if version_dir is not None:
        return _tfds_records(version_dir, split, wanted)
    raise UserError(
        f"{root}: no {split} records: looked for {split}-?????-of-????? here and in "
        f"{split}/, and for a TFDS dataset (dataset_info.json and features.json) down "
        f"to {tfds_files.MAX_DEPTH} levels below; found {_listing(root)}; make records "
        "with tools/prepare_imagenet.py or name another --data_dir"
    )


def tfds_records(
    name: str,
    data_dir: str | None,
    split: str,
    num_classes: int,
    *,
    download: bool = False,
    max_bad_records: int = 0,
    label_base: str = "auto",
    classes: Sequence[str] | None = None,
) -> Records:
    """Finds a split of a TensorFlow Datasets dataset by the dataset's name.

    Args:
        name: a TFDS name such as `imagenet2012` or `imagenette/320px-v2:1.0.0`.
        data_dir: TFDS's data directory; None is TFDS's own default.
        split: as in `find_records`.
        num_classes: as in `find_records`.
        download: whether TFDS may download and prepare a dataset that is not on disk.
        max_bad_records, label_base, classes: as in `find_records`.

    Returns:
        The same as `find_records`.

    Raises:
        UserError: TFDS does not know the name or cannot prepare the dataset, it is
            not prepared and `download` is false, or as in `find_records`.
    """
    wanted = _Wanted(num_classes, max_bad_records, label_base, classes and (*classes,))
    version_dir = tfds_files.open_by_name(name, data_dir, download)
    return _tfds_records(version_dir, split, wanted)


def describe(records: Records) -> str:
    """Says in one line what was found: layout, counts, and the label base with why."""
    one = len(records.files) == 1
    files = records.files[0] if one else f"{records.files[0]} ..."
    return (
        f"{records.num_examples:,} examples, {records.schema.name} layout, "
        f"{len(records.files)} file{'' if one else 's'} ({files}), "
        f"labels {records.first_label}..{records.last_label}: {records.label_reason}"
    )


def _shards(root: pathlib.Path, split: str) -> tuple[pathlib.Path, list[re.Match]]:
    """The names of a split's files in `root`, or else in its folder, sorted."""
    pattern = re.compile(rf"{split}-(\d{{5}})-of-(\d{{5}})")
    for folder in (root, root / split):
        names = sorted(path.name for path in folder.glob(f"{split}-*-of-*"))
        matches = [match for name in names if (match := pattern.fullmatch(name))]
        if matches:
            return folder, matches
    return root, []


def _classic_files(root: pathlib.Path, split: str) -> list[pathlib.Path]:
    """Lists a split's shards, none if there are none; all must be there."""
    folder, matches = _shards(root, split)
    if not matches:
        return []
    totals = sorted({int(match[2]) for match in matches})
    if len(totals) > 1:
        raise UserError(
            f"{folder}: {split} shards of {len(totals)} different sets, "
            f"-of-{totals[0]:05d} and -of-{totals[1]:05d}; keep one set"
        )
    total = totals[0]
    expected = [f"{split}-{i:05d}-of-{total:05d}" for i in range(total)]
    remedy = "copy it here or prepare the records again"
    tfds_files.check_all_there(folder, expected, remedy)
    return [folder / name for name in expected]


def _classic_records(
    root: pathlib.Path, split: str, files: list[pathlib.Path], wanted: _Wanted
) -> Records:
    names = class_names.read_names(root / "labels.txt")
    sizes = _manifest_sizes(root / "manifest.json", split, files)
    if sizes is not None:
        certain = (1, "as tools/prepare_imagenet.py has it")
        return _with_certain_base(files, schemas.CLASSIC, sizes, names, certain, wanted)
    everything = list(files)
    for other in tfds_files.SPLITS.keys() - {split}:
        folder, matches = _shards(root, other)
        everything += [folder / match[0] for match in matches]
    counts = labels.count_labels(sorted(everything), schemas.CLASSIC, root)
    own = {path: counts[path] for path in files}
    sizes = [counts.num_examples for counts in own.values()]
    if sum(sizes) == 0:
        raise UserError(f"{files[0].parent}: the {split} files hold no records")
    stored = {label for each in counts.values() for label in each.labels}
    names, said = foreign_names(root, names, stored, wanted.label_base)
    label_map, num_classes = _fit_names(root, names, wanted)
    named = names and num_classes != labels.ANY_CLASSES
    found = labels.settle(
        counts.values(),
        len(names) if named else num_classes,
        said,
        wanted.max_bad_records,
        root,
    )
    found = dataclasses.replace(found, num_classes=num_classes)
    labels.check(own, found, wanted.max_bad_records)
    return _records(files, schemas.CLASSIC, sizes, names, found, label_map)


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
    names, first = class_names.without_numbers(names)
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


def _manifest_sizes(
    manifest: pathlib.Path, split: str, files: list[pathlib.Path]
) -> list[int] | None:
    """The examples a manifest counts in each file, if it lists just these files.

    Raises:
        UserError: one has another size than the manifest says.
    """
    try:
        shards = json.loads(manifest.read_text("utf-8"))["splits"][split]["shards"]
        listed = {shard["file"]: shard["bytes"] for shard in shards}
        sizes = {shard["file"]: int(shard["num_examples"]) for shard in shards}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    found = {path.name: path.stat().st_size for path in files}
    if listed.keys() != found.keys():
        return None
    for name, size in found.items():
        if size != listed[name]:
            raise UserError(
                f"{files[0].with_name(name)} has {size:,} bytes, {manifest} says "
                f"{listed[name]:,}; tools/validate_records.py says what to make again. "
                f"If the files are other ones on purpose, delete {manifest.name}"
            )
    return [sizes[path.name] for path in files]


def _tfds_records(version_dir: pathlib.Path, split: str, wanted: _Wanted) -> Records:
    shards = tfds_files.shards(version_dir, split)
    names = class_names.read_names(version_dir / "label.labels.txt")
    return _with_certain_base(
        list(shards),
        schemas.TFDS,
        list(shards.values()),
        names,
        (0, "as TFDS has it"),
        wanted,
    )


def _with_certain_base(
    files: list[pathlib.Path],
    schema: schemas.Schema,
    sizes: list[int],
    names: tuple[str, ...] | None,
    certain: tuple[int, str],
    wanted: _Wanted,
) -> Records:
    """Describes files whose label base is known, after a look at the first labels."""
    base, source = certain
    folder = files[0].parent
    if sum(sizes) == 0:
        raise UserError(f"{folder}: the files hold no records")
    if wanted.label_base not in ("auto", str(base)):
        raise UserError(
            f"--label_base={wanted.label_base}, but in {folder} {base} is class 0, "
            f"{source}: leave the flag out"
        )
    label_map, num_classes = _fit_names(folder, names, wanted)
    found = labels.Labels(base, num_classes, f"{base} is class 0, {source}")
    counts, left = {}, _LABELS_READ
    for path in files:
        counts[path] = labels.count_file(path, schema, left)
        left -= counts[path].num_examples
        if left <= 0:
            break
    labels.check(counts, found, wanted.max_bad_records)
    return _records(files, schema, sizes, names, found, label_map)


def _fit_names(
    folder: pathlib.Path, names: tuple[str, ...] | None, wanted: _Wanted
) -> tuple[tuple[int, ...] | None, int]:
    """The net's class for each of the data's, if they differ, and how many these are.

    Raises:
        UserError: a class is not the net's, or there are more than the net has.
    """
    label_map = class_names.positions(names, wanted.classes, str(folder))
    if label_map is not None:
        return label_map, len(names)
    if names and len(names) > wanted.num_classes:
        raise UserError(
            f"{folder} names {len(names)} classes, the net has {wanted.num_classes}; "
            f"pass --num_classes={len(names)}"
        )
    return None, wanted.num_classes


def _records(
    files: list[pathlib.Path],
    schema: schemas.Schema,
    sizes: list[int],
    names: tuple[str, ...] | None,
    found: labels.Labels,
    label_map: tuple[int, ...] | None,
) -> Records:
    return Records(
        files=tuple(str(path) for path in files),
        schema=schema,
        first_label=found.first,
        file_sizes=tuple(sizes),
        num_classes=found.num_classes,
        label_names=names,
        label_reason=found.reason,
        label_map=label_map,
    )


def _listing(root: pathlib.Path) -> str:
    names = sorted(path.name for path in root.iterdir())
    if not names:
        return "an empty directory"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more
