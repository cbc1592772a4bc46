"""WebDataset tars: `<key>.jpg` beside `<key>.cls`, or `<key>.json` with a `label`."""

import collections
import contextlib
import json
import pathlib

from official.alexnet.data import image_files
from official.alexnet.errors import UserError
from official.alexnet.preparation import devkit, sources
from official.alexnet.preparation.locations import Tree


def holds_tars(tree: Tree) -> bool:
    """Whether there are tars where a tree has its class folders."""
    is_tree = any(path.is_dir() for path in tree.train.glob("[!.]*"))
    return not is_tree and any(tree.train.glob("[!.]*.tar"))


def list_tars(tree: Tree, index_dir: pathlib.Path) -> sources.Listing:
    """Finds every image in the tars of `train` and `validation`, tar by tar.

    Labels are the numbers in the tars. Line i, from 0, of `tree.synsets`, or of a file
    `classnames.txt` beside the folders, names class i; `index_dir` is as for archives.
    Raises UserError where a tar is damaged, a picture has no class or two, or no such
    class.
    """
    splits, left_out = {"train": [], "validation": []}, {}
    for split, folder in zip(splits, (tree.train, tree.validation), strict=True):
        left_out[split] = collections.Counter()
        for path in sorted(folder.glob("[!.]*.tar")):
            index, others = sources.indexed(path, index_dir / split, _index)
            left_out[split] += others
            splits[split] += [
                sources.Entry(name, str(path), offset, size, int(label))
                for label, images in index.items()
                for name, offset, size in images
            ]
        if not splits[split]:
            line = image_files.said(left_out[split])
            raise UserError(f"{folder} has no .tar with pictures; {line}".strip("; "))
    train, file = splits["train"], tree.train.parent / "classnames.txt"
    names = range(len(train))[: 1 + max(entry.label for entry in train)]
    names = devkit.read_lines(file) if file.exists() else names
    classes = [(f"class_{i:05d}", str(name)) for i, name in enumerate(names)]
    classes = devkit.read_synsets(tree.synsets) if tree.synsets else classes
    for entry in (*train, *splits["validation"]):
        if entry.label >= len(classes):
            text = f"{entry.name}: class {entry.label} of 0 to {len(classes) - 1}"
            raise UserError(f"{entry.path}: {text}")
    return sources.Listing(*zip(*classes, strict=True), splits, left_out)


def _index(path: pathlib.Path, left_out: collections.Counter) -> sources.Index:
    samples, images = collections.defaultdict(dict), collections.defaultdict(list)
    with sources.open_tar(path) as tar:
        for name, member in sources.regular_members(tar, path, left_out):
            kind = "." + name.partition(".")[2].lower()
            sample = samples[member.name[: -len(kind)]]
            kind = ".jpg" if kind in image_files.SUFFIXES else kind
            if name.startswith(".") or kind not in (".jpg", ".cls", ".json"):
                left_out[image_files.kind(name) or kind] += 1
                continue
            if kind in sample:
                raise UserError(f"{path} has two {kind} of one key: {name}")
            sample[kind] = (name, member.offset_data, member.size)
    for sample in samples.values():
        if ".jpg" in sample:
            images[_label(path, sample)].append(sample[".jpg"])
        elif sample:
            left_out["class without a picture"] += 1
    return images


def _label(path: pathlib.Path, sample: dict[str, tuple[str, int, int]]) -> str:
    with contextlib.suppress(ValueError, KeyError, TypeError, RecursionError):
        name, *place = sample.get(".cls") or sample[".json"]
        value = json.loads(sources.Entry(name, str(path), *place, 0).read())
        value = value["label"] if isinstance(value, dict) else value
        if type(value) is int and value >= 0:
            return str(value)
    text = "has no class: expected a .cls with a number, or a .json with such a `label`"
    raise UserError(f"{path}: {sample['.jpg'][0]} {text}")
