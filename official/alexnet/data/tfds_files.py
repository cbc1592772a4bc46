"""The files of TensorFlow Datasets: where they are, and how many records each has."""

import json
import pathlib
import re

from official.alexnet import paths
from official.alexnet.errors import UserError

# What TFDS datasets call the split this project calls by the key.
SPLITS = {"train": ("train",), "validation": ("validation", "val", "test")}

# A TFDS version directory lies at most <dataset>/<config>/<version> below data_dir.
MAX_DEPTH = 3

# `huggingface:cifar10`, but not `cifar10:3.0.2`.
_NAMESPACE = re.compile(r"[^/:]*:(?!(\d|\*)|experimental_latest$)")


def open_by_name(name: str, data_dir: str | None, download: bool) -> pathlib.Path:
    """The version directory of a dataset by name: `imagenette/320px-v2:1.0.0`.

    In TFDS's `data_dir`; None is its own default. Raises UserError where TFDS does not
    know the name or cannot prepare the dataset, or it is not prepared and TFDS may not
    `download` and prepare it.
    """
    if _NAMESPACE.match(name):
        raise UserError(
            f"--tfds_name={name}: a dataset that is not TFDS's own is code from the "
            "network; prepare it yourself and give --data_dir"
        )
    # Only a dataset given by name needs TFDS, which is slow to import.
    import tensorflow_datasets as tfds  # noqa: PLC0415

    root = str(paths.local(data_dir, "--data_dir")) if data_dir else None
    try:
        builder = tfds.builder(name, data_dir=root)
    except Exception as error:  # TFDS raises its own, ValueError, OSError, ...
        raise UserError(
            f"TFDS cannot open {name!r}: {_first_line(error)}; see `tfds.list_builders`"
        ) from error
    folder = pathlib.Path(builder.data_dir)
    if folder.is_dir():
        return folder
    if not download:
        raise UserError(
            f"TFDS dataset {name!r} is not prepared in {folder}; pass --tfds_download "
            "to let TFDS download and prepare it"
        )
    try:
        builder.download_and_prepare()
    except Exception as error:  # network, disk, checksums, manual downloads
        raise UserError(
            f"TFDS could not prepare {name!r}: {_first_line(error)}"
        ) from error
    return folder


def find(root: pathlib.Path) -> pathlib.Path | None:
    """The only directory at or below `root` that holds a TFDS dataset."""
    for depth in range(MAX_DEPTH + 1):
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


def shards(version_dir: pathlib.Path, split: str) -> dict[pathlib.Path, int]:
    """A split's files and the records that TFDS counts in each; none is opened."""
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
    wanted = SPLITS[split]
    found = next((name for name in wanted if splits.get(name)), None)
    if found is None or sum(splits[found]) == 0:
        raise UserError(
            f"{version_dir}: no {split} records: looked for a split named "
            f"{' or '.join(wanted)}, found {', '.join(sorted(splits)) or 'no split'}"
        )
    name, total = f"{dataset_name}-{found}.tfrecord", len(splits[found])
    names = [f"{name}-{i:05d}-of-{total:05d}" for i in range(total)]
    paths = all_there(version_dir, names, "let TFDS prepare it again")
    return dict(zip(paths, splits[found], strict=True))


def all_there(
    folder: pathlib.Path, names: list[str], remedy: str
) -> list[pathlib.Path]:
    """The paths of all files of a split; `remedy` is the advice if one is missing."""
    missing = [name for name in names if not (folder / name).is_file()]
    if missing:
        raise UserError(
            f"{folder}: {len(missing)} of {len(names)} shards missing, the first is "
            f"{missing[0]}; {remedy}"
        )
    return [folder / name for name in names]


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
