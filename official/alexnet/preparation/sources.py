"""What there is to convert: archives of ILSVRC as downloaded, or a folder tree.

Archives are not unpacked: each image is known by the file it lies in, its offset
and its size, so that any process can read any image with one seek.
"""

import collections
import contextlib
import dataclasses
import errno
import json
import os
import pathlib
import re
import tarfile
from collections.abc import Callable, Iterator
from typing import IO

from official.alexnet import disk
from official.alexnet.data import image_files
from official.alexnet.errors import UserError
from official.alexnet.preparation import devkit
from official.alexnet.preparation.locations import Archives, Tree

_CLASS_ARCHIVE = re.compile(r"(n\d{8})\.tar")
# Class -> its images: name, offset in the archive, size.
Index = dict[str, list[tuple[str, int, int]]]


@dataclasses.dataclass(frozen=True, slots=True)
class Entry:
    """One image, not yet read: `size` bytes at `offset` of the file `path`.

    `name` is how messages call it, such as `n01440764/n01440764_18.JPEG`; `label` is
    the 0-based index into the synsets.
    """

    name: str
    path: str
    offset: int
    size: int
    label: int

    def read(self) -> bytes:
        """The encoded picture; OSError too where the file was cut since."""
        with pathlib.Path(self.path).open("rb") as file:
            file.seek(self.offset)
            encoded = file.read(self.size)
        if len(encoded) < self.size:
            raise OSError(errno.EIO, "it was cut since it was listed", self.path)
        return encoded


@dataclasses.dataclass(frozen=True)
class Listing:
    """All images to convert: of each split, in the order they were found.

    `synsets` and `words` are the classes' names, in label order. What else lies there
    is counted for each split in `left_out`, by `image_files.kind`.
    """

    synsets: tuple[str, ...]
    words: tuple[str, ...]
    splits: dict[str, list[Entry]]
    left_out: dict[str, collections.Counter]


def list_archives(archives: Archives, index_dir: pathlib.Path) -> Listing:
    """Finds every image in the archives of ILSVRC, without unpacking them.

    Labels follow the sorted WordNet ids of the training archive. What was found is kept
    in `index_dir`, made if it is not there, so that a second run need not look through
    140 GB again. Raises UserError where an archive is missing, cut short, or does not
    fit the others.
    """
    splits, left_out = {}, {}
    path = archives.train_archive
    by_class, left_out["train"] = indexed(path, index_dir, _index_classes)
    if not by_class:
        raise UserError(
            f"{path} holds no class archives nXXXXXXXX.tar; expected "
            "ILSVRC2012_img_train.tar as downloaded"
        )
    synsets = tuple(sorted(by_class))
    labels = {synset: label for label, synset in enumerate(synsets)}
    splits["train"] = [
        Entry(f"{synset}/{name}", str(path), offset, size, label)
        for synset, label in labels.items()
        for name, offset, size in by_class[synset]
    ]
    index, _ = indexed(archives.validation_archive, index_dir, _index_flat)
    names = (archives.validation_archive.name, *(name for name, *_ in index[""]))
    is_2012 = any(name.startswith("ILSVRC2012") for name in names)
    words, identifiers, truth_path, lines = _ground_truth(archives, is_2012)
    # A line of a ground truth is a WordNet id or the number of a class.
    classes = labels | {i: labels[s] for i, s in identifiers.items() if s in labels}
    flat = {"validation": (archives.validation_archive, truth_path, lines)}
    if archives.test_archive:
        truth_path = archives.test_ground_truth
        flat["test"] = archives.test_archive, truth_path, devkit.read_lines(truth_path)
    for split, (path, truth_path, lines) in flat.items():
        index, left_out[split] = indexed(path, index_dir, _index_flat)
        splits[split] = _label_flat(path, index[""], truth_path, lines, classes)
    return Listing(synsets, tuple(words.get(s, s) for s in synsets), splits, left_out)


def list_tree(tree: Tree) -> Listing:
    """Finds every image of a tree `<split>/<class>/<image>`.

    Labels follow the sorted names of the class folders of `train`, in NFC. Raises
    UserError where a folder has no images, or a class of its own or of another folder.
    """
    words = dict(devkit.read_synsets(tree.synsets)) if tree.synsets else {}
    splits, left_out, labels = {}, {}, {}
    for split, parent in (("train", tree.train), ("validation", tree.validation)):
        splits[split], left_out[split] = [], collections.Counter()
        folders = _class_folders(parent, left_out[split])
        labels = labels or {name: label for label, name in enumerate(folders)}
        for name, folder in folders.items():
            if name not in labels:
                text = f"there is no such class in {tree.train}"
                raise UserError(f"{image_files.text(folder)}: {text}")
            splits[split] += _list_folder(folder, labels[name], left_out[split])
    # A line of labels.txt is a class, whatever its folder's name holds.
    texts = tuple(words.get(name, " ".join(name.splitlines())) for name in labels)
    return Listing(tuple(map(_synset, labels)), texts, splits, left_out)


def _synset(name: str) -> str:
    """labels.txt has a blank between the class's id and its words."""
    return re.sub(r"\s", "_", name)


def _class_folders(
    parent: pathlib.Path, left_out: collections.Counter
) -> dict[str, pathlib.Path]:
    """Class -> its folder, sorted by class."""
    found = {}
    for child in parent.iterdir():
        if child.name.startswith(".") or not child.is_dir():
            left_out[image_files.kind(child.name, "outside class folders")] += 1
            continue
        name = image_files.class_name(child.name)
        _, other = found.setdefault(_synset(name), (name, child))
        if other != child:
            raise UserError(
                f"{parent}: {other.name!a} and {child.name!a} are folders of one "
                f"class, {_synset(name)}; rename one, or put them together"
            )
    if not found:
        raise UserError(f"{parent} has no class folders; expected <class>/<image>.jpg")
    return dict(sorted(found.values()))


def _list_folder(
    folder: pathlib.Path, label: int, left_out: collections.Counter
) -> Iterator[Entry]:
    others = collections.Counter()
    class_name, names = image_files.text(folder.name), image_files.scan(folder, others)
    if not names:
        line = f"; {image_files.said(others)}" if others else ""
        raise UserError(f"{folder} has no .jpg, .jpeg or .png image in it{line}")
    left_out += others
    for path in map(folder.joinpath, names):
        size = 0
        # A link that leads nowhere: reading fails.
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            size = path.stat().st_size
        name = f"{class_name}/{image_files.text(path.name)}"
        yield Entry(name, str(path), 0, size, label)


def indexed(
    path: pathlib.Path,
    index_dir: pathlib.Path,
    look: Callable[[pathlib.Path, collections.Counter], Index],
) -> tuple[Index, collections.Counter]:
    """What `look` finds and leaves out, kept in a file until the archive changes."""
    index_file = index_dir / f"index-{path.name}.json"
    if not path.is_file():
        raise UserError(f"no archive {path}")
    status = path.stat()
    key = [look.__name__, str(path.resolve()), status.st_size, status.st_mtime_ns]
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        index = json.loads(index_file.read_text("utf-8"))
        if index["key"] == key:
            return index["members"], collections.Counter(index["left_out"])
    left_out = collections.Counter()
    index = {"key": key, "members": look(path, left_out), "left_out": left_out}
    disk.make_folder(index_dir, str(index_dir))
    disk.write_text(index_file, json.dumps(index))
    return index["members"], left_out


def _index_classes(path: pathlib.Path, left_out: collections.Counter) -> Index:
    """The training archive: synset -> its images as (name, offset, size)."""
    classes = {}
    with open_tar(path) as outer:
        for name, member in regular_members(outer, path, left_out):
            match = _CLASS_ARCHIVE.fullmatch(name)
            if not match:
                left_out[image_files.kind(name, "outside class archives")] += 1
                continue
            where = f"{path}:{name}"
            with open_tar(where, outer.extractfile(member)) as inner:
                images = _images(inner, where, member.offset_data, left_out)
            if not images:
                raise UserError(f"{where} has no images in it")
            classes[match.group(1)] = images
    return classes


def _index_flat(path: pathlib.Path, left_out: collections.Counter) -> Index:
    """A flat archive: its images as (name, offset, size), all under one key."""
    with open_tar(path) as tar:
        return {"": _images(tar, path, 0, left_out)}


def _label_flat(
    path: pathlib.Path,
    images: list[tuple[str, int, int]],
    truth_path: pathlib.Path,
    lines: list[str],
    classes: dict[str, int],
) -> list[Entry]:
    """The images of a flat archive, image number i having the class of line i."""
    if len(images) != len(lines):
        raise UserError(
            f"{path} has {len(images)} images but {truth_path} has {len(lines)} lines"
        )
    entries = []
    for number, (line, image) in enumerate(zip(lines, sorted(images), strict=True), 1):
        name, offset, size = image
        if not re.search(rf"_0*{number}\.\w+$", name):
            raise UserError(f"{path}: expected image number {number}, found {name}")
        if line not in classes:
            raise UserError(
                f"{truth_path} line {number}: {line!r} is not a class of the training "
                "archive"
            )
        entries.append(Entry(name, str(path), offset, size, classes[line]))
    return entries


def _ground_truth(
    archives: Archives, is_2012: bool
) -> tuple[dict[str, str], dict[str, str], pathlib.Path, list[str]]:
    """Synset -> words, id -> synset, and the ground truth's file and lines."""
    words, identifiers, lines = {}, {}, None
    path = archives.devkit
    if path:
        by_id, lines = devkit.read_devkit(path)
        identifiers = {str(i): synset for i, (synset, _) in by_id.items()}
        words = dict(by_id.values())
    if archives.validation_ground_truth:
        path = archives.validation_ground_truth
        lines = devkit.read_lines(path)
    if lines is None:
        raise UserError(
            "no validation ground truth: give --devkit=ILSVRC2012_devkit_t12.tar.gz "
            "or --validation_ground_truth"
        )
    needs_ids = not identifiers and lines and lines[0].isdigit()
    if archives.synsets:
        named = dict(devkit.read_synsets(archives.synsets))
        words |= named
        if needs_ids:
            # The ids of 2012 are not in this order: labels would be wrong unseen.
            if is_2012 and list(named) == sorted(named):
                raise UserError(
                    f"{archives.synsets} is in label order, but the ids of ILSVRC2012 "
                    "follow another: give --devkit, or --synsets in ILSVRC2012_ID order"
                )
            identifiers = {str(i): synset for i, synset in enumerate(named, 1)}
    if needs_ids and not identifiers:
        raise UserError(
            f"{path} holds class ids; give --devkit (its meta.mat says which class "
            "has which id) or --synsets in the order of the ids"
        )
    return words, identifiers, path, lines


def open_tar(
    where: pathlib.Path | str, file: IO[bytes] | None = None
) -> tarfile.TarFile:
    """Opens an archive, or one inside another by its file; UserError if it is none."""
    try:
        # The same names in every locale.
        return tarfile.open(None if file else where, "r:", file, encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read {where}: {error.strerror}") from None
    except tarfile.TarError:
        raise UserError(
            f"{where} is damaged, or not an uncompressed tar archive"
        ) from None


def _images(
    tar: tarfile.TarFile,
    where: str | os.PathLike,
    base: int,
    left_out: collections.Counter,
) -> list[tuple[str, int, int]]:
    """(base name, offset in the outer file, size) of the images in a tar."""
    images = []
    for name, member in regular_members(tar, where, left_out):
        if kind := image_files.kind(name):
            left_out[kind] += 1
        else:
            images.append((name, base + member.offset_data, member.size))
    return images


def regular_members(
    tar: tarfile.TarFile, where: str | os.PathLike, left_out: collections.Counter
) -> Iterator[tuple[str, tarfile.TarInfo]]:
    """Yields plain files by name, and makes sure that the archive is whole."""
    cut = f"{where} is damaged or cut short; fetch it again"
    try:
        for member in tar:
            if member.isreg() and not member.issparse():
                name = pathlib.PurePosixPath(member.name).name
                yield image_files.text(name.encode("utf-8", "surrogateescape")), member
            elif not member.isdir():
                left_out["no plain file"] += 1
        tar.fileobj.seek(tar.offset)
        end = tar.fileobj.read(tarfile.BLOCKSIZE)
    except (OSError, tarfile.TarError):
        raise UserError(cut) from None
    # tarfile takes a broken header for the end; the true end is a block of zeros.
    if end != bytes(tarfile.BLOCKSIZE):
        raise UserError(cut)
