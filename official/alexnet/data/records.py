"""Finds the TFRecords of one split on disk, and says what was found."""

import concurrent.futures
import dataclasses
import json
import pathlib
import re

from official.alexnet.data import framing, schemas
from official.alexnet.data.labels import find_labels, read_names
from official.alexnet.errors import UserError

# What TFDS datasets call the split this project calls by the key.
_TFDS_SPLITS = {"train": ("train",), "validation": ("validation", "val", "test")}

# A TFDS version directory lies at most <dataset>/<config>/<version> below data_dir.
# `huggingface:cifar10`, but not `cifar10:3.0.2`.
_NAMESPACE = re.compile(r"[^/:]*:(?!(\d|\*)|experimental_latest$)")
_TFDS_MAX_DEPTH = 3


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
    """

    files: tuple[str, ...]
    schema: schemas.Schema
    first_label: int
    file_sizes: tuple[int, ...]
    num_classes: int
    label_names: tuple[str, ...] | None = None
    label_reason: str = ""

    @property
    def num_examples(self) -> int:
        """The number of records in all files together."""
        return sum(self.file_sizes)

    @property
    def last_label(self) -> int:
        """The label stored for the last class."""
        return self.first_label + self.num_classes - 1


def find_records(
    data_dir: str, split: str, num_classes: int, max_bad_records: int = 0
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
        num_classes: number of classes of the model.
        max_bad_records: how many of the records looked at may be bad.

    Returns:
        The files, their layout, the label base and the number of examples.

    Raises:
        UserError: nothing is found, shards are missing or cut short, there are no
            records, or a label does not fit `num_classes`.
    """
    if split not in _TFDS_SPLITS:
        raise ValueError(f"split must be train or validation, not {split!r}")
    root = pathlib.Path(data_dir).expanduser()
    if not data_dir or not root.is_dir():
        raise UserError(
            f"--data_dir={data_dir}: no such directory; name the one that holds the "
            "TFRecords"
        )
    for folder in (root, root / split):
        files = _classic_files(folder, split)
        if files:
            return _classic_records(root, split, files, num_classes, max_bad_records)
    version_dir = _tfds_version_dir(root)
    if version_dir is not None:
        return _tfds_records(version_dir, split, num_classes, max_bad_records)
    raise UserError(
        f"{root}: no {split} records: looked for {split}-?????-of-????? here and in "
        f"{split}/, and for a TFDS dataset (dataset_info.json and features.json) down "
        f"to {_TFDS_MAX_DEPTH} levels below; found {_listing(root)}; make records with "
        "tools/prepare_imagenet.py or name another --data_dir"
    )


def tfds_records(
    name: str,
    data_dir: str | None,
    split: str,
    num_classes: int,
    *,
    download: bool = False,
    max_bad_records: int = 0,
) -> Records:
    """Finds a split of a TensorFlow Datasets dataset by the dataset's name.

    Args:
        name: a TFDS name such as `imagenet2012` or `imagenette/320px-v2:1.0.0`.
        data_dir: TFDS's data directory; None is TFDS's own default.
        split: as in `find_records`.
        num_classes: as in `find_records`.
        download: whether TFDS may download and prepare a dataset that is not on disk.
        max_bad_records: as in `find_records`.

    Returns:
        The same as `find_records`.

    Raises:
        UserError: TFDS does not know the name or cannot prepare the dataset, it is
            not prepared and `download` is false, or as in `find_records`.
    """
    if _NAMESPACE.match(name):
        raise UserError(
            f"--tfds_name={name}: a dataset that is not TFDS's own is code from the "
            "network; prepare it yourself and give --data_dir"
        )
    # Only a dataset given by name needs TFDS, which is slow to import.
    import tensorflow_datasets as tfds  # noqa: PLC0415

    try:
        builder = tfds.builder(name, data_dir=data_dir or None)
    except Exception as error:  # TFDS raises its own, ValueError, OSError, ...
        raise UserError(
            f"TFDS cannot open {name!r}: {_first_line(error)}; see `tfds.list_builders`"
        ) from error
    if not pathlib.Path(builder.data_dir).is_dir():
        if not download:
            raise UserError(
                f"TFDS dataset {name!r} is not prepared in {builder.data_dir}; pass "
                "--tfds_download to let TFDS download and prepare it"
            )
        try:
            builder.download_and_prepare()
        except Exception as error:  # network, disk, checksums, manual downloads
            raise UserError(
                f"TFDS could not prepare {name!r}: {_first_line(error)}"
            ) from error
    return _tfds_records(
        pathlib.Path(builder.data_dir), split, num_classes, max_bad_records
    )


def tfds_shards(data_dir: pathlib.Path, split: str) -> dict[pathlib.Path, int]:
    """A split's files and the records that TFDS counts in each; none is opened.

    Args:
        data_dir: as in `find_records`.
        split: as in `find_records`.

    Returns:
        The counts by file, none where there is no TFDS dataset.

    Raises:
        UserError: its description is damaged, it has no such split, or files are
            missing.
    """
    version_dir = _tfds_version_dir(data_dir)
    return _tfds_shards(version_dir, split) if version_dir else {}


def describe(records: Records) -> str:
    """Says in one line what was found: layout, counts, and the label base with why."""
    one = len(records.files) == 1
    files = records.files[0] if one else f"{records.files[0]} ..."
    return (
        f"{records.num_examples:,} examples, {records.schema.name} layout, "
        f"{len(records.files)} file{'' if one else 's'} ({files}), "
        f"labels {records.first_label}..{records.last_label}: {records.label_reason}"
    )


def _classic_files(folder: pathlib.Path, split: str) -> list[pathlib.Path]:
    """Lists a split's shards, none if there are none; all must be there."""
    pattern = re.compile(rf"{split}-(\d{{5}})-of-(\d{{5}})")
    paths = {path.name: path for path in folder.glob(f"{split}-*-of-*")}
    matches = [match for name in paths if (match := pattern.fullmatch(name))]
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
    _check_all_there(folder, expected, "copy it here or prepare the records again")
    return [paths[name] for name in expected]


def _check_all_there(folder: pathlib.Path, names: list[str], remedy: str) -> None:
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(names)} shards missing, the first is "
            f"{missing[0]}; {remedy}"
        )


def _classic_records(
    root: pathlib.Path,
    split: str,
    files: list[pathlib.Path],
    num_classes: int,
    max_bad_records: int,
) -> Records:
    sizes = _manifest_sizes(root / "manifest.json", split, files)
    is_prepared = sizes is not None
    if not is_prepared:
        # Headers are far apart: the time goes into waiting for the disk.
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            sizes = list(pool.map(framing.count_records, files))
    if sum(sizes) == 0:
        raise UserError(f"{files[0].parent}: the {split} files hold no records")
    return _with_labels(
        files,
        schemas.CLASSIC,
        sizes,
        num_classes,
        root / "labels.txt",
        max_bad_records,
        is_prepared,
    )


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


def _tfds_version_dir(root: pathlib.Path) -> pathlib.Path | None:
    """The only directory at or below `root` that holds a TFDS dataset."""
    for depth in range(_TFDS_MAX_DEPTH + 1):
        found = sorted(
            path.parent
            for path in root.glob("*/" * depth + "dataset_info.json")
            if path.with_name("features.json").is_file()
        )
        if len(found) > 1:
            raise UserError(
                f"{root}: {len(found)} TFDS datasets below it, among them {found[0]} "
                f"and {found[1]}; name one of them as --data_dir"
            )
        if found:
            return found[0]
    return None


def _tfds_records(
    version_dir: pathlib.Path, split: str, num_classes: int, max_bad_records: int
) -> Records:
    shards = _tfds_shards(version_dir, split)
    return _with_labels(
        list(shards),
        schemas.TFDS,
        list(shards.values()),
        num_classes,
        version_dir / "label.labels.txt",
        max_bad_records,
    )


def _tfds_shards(version_dir: pathlib.Path, split: str) -> dict[pathlib.Path, int]:
    try:
        info = json.loads((version_dir / "dataset_info.json").read_text("utf-8"))
        splits = {
            entry["name"]: [int(length) for length in entry.get("shardLengths", ())]
            for entry in info["splits"]
        }
        dataset_name = info["name"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{version_dir / 'dataset_info.json'}: not TFDS's description of a dataset "
            f"({_first_line(error)}); let TFDS prepare it again"
        ) from error
    file_format = info.get("fileFormat", "tfrecord")
    if file_format != "tfrecord":
        raise UserError(
            f"{version_dir}: TFDS files of the format {file_format}, only tfrecord is "
            "read; prepare the dataset again with file_format=tfrecord"
        )
    wanted = _TFDS_SPLITS[split]
    found = next((name for name in wanted if splits.get(name)), None)
    if found is None or sum(splits[found]) == 0:
        raise UserError(
            f"{version_dir}: no {split} records: looked for a split named "
            f"{' or '.join(wanted)}, found {', '.join(sorted(splits)) or 'no split'}"
        )
    total = len(splits[found])
    names = [
        f"{dataset_name}-{found}.tfrecord-{i:05d}-of-{total:05d}" for i in range(total)
    ]
    _check_all_there(version_dir, names, "let TFDS prepare it again")
    paths = (version_dir / name for name in names)
    return dict(zip(paths, splits[found], strict=True))


def _with_labels(
    files: list[pathlib.Path],
    schema: schemas.Schema,
    sizes: list[int],
    num_classes: int,
    names_file: pathlib.Path,
    max_bad_records: int,
    is_prepared: bool = False,
) -> Records:
    """Describes the files after a look at their labels."""
    names = read_names(names_file, num_classes)
    labels = find_labels(
        files,
        schema,
        sum(sizes),
        num_classes,
        max_bad_records=max_bad_records,
        is_prepared=is_prepared,
    )
    return Records(
        files=tuple(str(path) for path in files),
        schema=schema,
        first_label=labels.first,
        file_sizes=tuple(sizes),
        num_classes=num_classes,
        label_names=names,
        label_reason=labels.reason,
    )


def _listing(root: pathlib.Path) -> str:
    names = sorted(path.name for path in root.iterdir())
    if not names:
        return "an empty directory"
    more = f" and {len(names) - 4} more" if len(names) > 4 else ""
    return ", ".join(names[:4]) + more


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
