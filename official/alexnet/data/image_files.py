"""Image files by their names: which a folder holds, and what is left out of it."""

# os.path says no where pathlib raises: of a name that is too long, or of ~nobody.
# ruff: noqa: PTH111, PTH112, PTH113, PTH118, PTH120, PTH207
import collections
import contextlib
import glob
import os
import pathlib
import unicodedata
from collections.abc import Iterable, Iterator

from absl import logging

SUFFIXES = (".jpg", ".jpeg", ".jpe", ".jfif", ".png")
# The longest name that a file system takes, in bytes.
_LONGEST_NAME = 255
# Endings that are counted by name; names such as `scan.0001` would have a million.
_MOST_KINDS = 10


def text(name: str | bytes | os.PathLike) -> str:
    r"""A path as UTF-8 text; bytes that are none are written as `\xf1`."""
    return os.fsencode(name).decode("utf-8", "backslashreplace")


def class_name(folder: str) -> str:
    """The class that a folder's name tells: NFC, as a Mac may write NFD."""
    return unicodedata.normalize("NFC", text(folder))


def kind(name: str, where: str = "") -> str | None:
    """How a file is counted that is no picture by its name; with `where`, any file."""
    if name.startswith("."):
        return "hidden"
    if name.lower().endswith(SUFFIXES) and not where:
        return None
    suffix = text(pathlib.PurePath(name).suffix.lower()) or "without an ending"
    return f"{suffix} {where}".strip()


def scan(folder: str | os.PathLike, left_out: collections.Counter) -> list[str]:
    """The sorted pictures of a folder; the rest is counted in `left_out`, by `kind`."""
    names = []
    with os.scandir(folder) as children:  # An OSError is the caller's.
        for child in children:
            if child.is_dir() and not child.name.startswith("."):
                below = (name for *_, names in os.walk(child.path) for name in names)
                left_out.update(kind(name, "in deeper folders") for name in below)
            elif found := kind(child.name):
                left_out[found] += 1
            # A link that leads nowhere counts: reading it will fail, and say so.
            elif child.is_file() or child.is_symlink():
                names.append(child.name)
            else:
                left_out["no plain file"] += 1
    return sorted(names)


def summed(left_out: collections.Counter) -> dict[str, int]:
    """What was left out, most first; rare endings as one."""
    most = dict(left_out.most_common(_MOST_KINDS))
    if rest := left_out.total() - sum(most.values()):
        most["of other endings"] = rest
    return most


def said(left_out: collections.Counter) -> str:
    """One line of what was left out; empty where that is hidden files at most."""
    if not left_out.keys() - {"hidden"}:
        return ""
    kinds = ", ".join(f"{count} {kind}" for kind, count in summed(left_out).items())
    return (
        f"{left_out.total()} file(s) left out: {kinds}; taken are "
        f"{', '.join(SUFFIXES[:-1])} and {SUFFIXES[-1]}"
    )


def split(values: Iterable[str]) -> list[str]:
    """The paths of a flag, `~` expanded, there or not: files, directories, patterns.

    Commas part them, as in `a.jpg,b, c.jpg`; a name may hold some: the longest that are
    there count.
    """
    names = (name for value in values for name in _split(value.split(",")))
    return [os.path.expanduser(name) for name in names if name]


def _split(pieces: list[str]) -> list[str]:
    names, start = [], 0
    while start < len(pieces):
        end, found = start + 1, pieces[start].strip()
        for stop in range(start + 1, len(pieces) + 1):
            joined = ",".join(pieces[start:stop])
            forms = [joined, joined.strip(), joined.strip(' "')]
            for name in map(os.path.expanduser, forms):
                # No look at a pattern without a comma: a folder may be large.
                if os.path.lexists(name) or (stop > start + 1 and _matches(name)):
                    end, found = stop, name
                    break
            folder, last = os.path.split(os.path.expanduser(forms[-1]))
            is_there = os.path.isdir(folder or ".")
            if not is_there or len(os.fsencode(last)) > _LONGEST_NAME:
                break  # No longer name can be there.
        names.append(found)
        start = end
    return names


def find(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    """The image files that files, directories and patterns name, in order.

    Hidden files are left out of directories and patterns, and what is left out of a
    directory is logged. At most one directory's names are in memory. `names` are as
    `split` gives them; one that is there is no pattern.

    Yields (path, "") of a file, or (name, what is wrong), such as `holds no image`.
    """
    for name in names:
        left_out = collections.Counter()
        folder, reason = "", "is not there: no such image"
        try:
            if os.path.isdir(name):
                folder, paths = name, scan(name, left_out)
                reason = f"holds no image; {said(left_out)}".strip("; ")
            else:
                paths = [name] if os.path.isfile(name) else _matches(name)
        except OSError as error:
            paths, reason = [], f"cannot be read: {error.strerror}"
        if not paths:
            yield name, reason
        elif line := said(left_out):
            logging.warning("%s", " ".join(f"{text(name)}: {line}".splitlines()))
        for path in paths:
            yield os.path.join(folder, path), ""


def _matches(pattern: str) -> list[str]:
    """The files of a pattern; folders that are there are no patterns."""
    folder = pattern
    while folder and not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    rest = pattern[len(folder) :].lstrip("/")
    with contextlib.suppress(ValueError, OSError):  # A name with a zero byte.
        found = glob.glob(rest, root_dir=folder or None, recursive=True)
        paths = [os.path.join(folder, name) for name in sorted(found)]
        return [path for path in paths if not os.path.isdir(path)]
    return []
