"""The names of classes: in files, and where those of a net meet those of the data.

A class is the same in two lists where it has the same WordNet id or, without one, the
same name: `n01440764` of TFDS is `n01440764 tench, Tinca tinca` of a prepared set.
"""

import pathlib
import re
from collections.abc import Sequence

from official.alexnet import disk
from official.alexnet.data import image_files
from official.alexnet.errors import UserError

_NUMBERED = re.compile(r"(\d+)[:,\s]\s*(\S.*)")
_WORDNET_ID = re.compile(r"n\d{8}(?!\S)")


def read_names(path: pathlib.Path) -> tuple[str, ...] | None:
    """Reads the name of each class, a line each; None where there is no such file.

    Raises:
        UserError: it is not a text file.
    """
    if not path.is_file():
        return None
    try:
        return tuple(filter(None, path.read_text("utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not a text file of class names in UTF-8: convert it"
        ) from error


def without_numbers(lines: Sequence[str]) -> tuple[tuple[str, ...], int | None]:
    """Takes the stored labels off names such as `0:background`, as TF-Slim writes them.

    Returns:
        The names, and the label of the first; None where they have no labels, which
        are consecutive and begin at 0 or 1.
    """
    found = [match for line in lines if (match := _NUMBERED.fullmatch(line))]
    numbers = [int(match[1]) for match in found]
    for first in (0, 1):
        if numbers and numbers == list(range(first, first + len(lines))):
            return tuple(match[2] for match in found), first
    return tuple(lines), None


def read_labels(path: pathlib.Path, num_classes: int) -> list[str]:
    """Names of the classes; their numbers where there is no such file.

    Raises:
        UserError: the file has another number of lines, or is not a text file.
    """
    names = read_names(path)
    if names is None:
        return [str(label) for label in range(num_classes)]
    if len(names) != num_classes:
        raise UserError(
            f"{path} has {len(names)} lines, but the net has {num_classes} classes"
        )
    return list(names)


def write_labels(names: Sequence[str] | None, path: pathlib.Path) -> None:
    """Writes the names of the classes, one a line; no file where they are not known."""
    if names:
        disk.write_text(path, "".join(f"{name}\n" for name in names))
    else:
        path.unlink(missing_ok=True)


def check_same(
    net: Sequence[str] | None, found: Sequence[str] | None, who: str, advice: str
) -> None:
    """Checks that what is taken for a net's classes are these, in their order.

    Args:
        net: its classes; None: not known.
        found: those that were found elsewhere; None: not known.
        who: the net, for the message.
        advice: what to do where they differ.

    Raises:
        UserError: both are known, and differ.
    """
    if not net or not found or are_same(net, found):
        return
    keys = zip(map(key, net), map(key, found), strict=False)
    label = next((i for i, (a, b) in enumerate(keys) if a != b), None)
    difference = f"there were {len(net)} and are {len(found)}"
    if label is not None:
        difference = f"class {label} was {net[label]!r} and is {found[label]!r}"
    raise UserError(
        f"{who} was trained on other classes, or in another order: {difference}; "
        f"{advice}"
    )


def are_same(one: Sequence[str], other: Sequence[str]) -> bool:
    """Whether two lists name the same classes in the same order."""
    return list(map(key, one)) == list(map(key, other))


def positions(
    data: Sequence[str] | None, net: Sequence[str] | None, where: str
) -> tuple[int, ...] | None:
    """Which class of the net each class of the data is, by name.

    Args:
        data: the classes of the records; None: not known.
        net: those of the net; None: not known.
        where: the records, for the message.

    Returns:
        The index in `net` of each of `data`; None where both are the same list, or
        one is not known.

    Raises:
        UserError: a class of the data is not one of the net's, or more than one.
    """
    if not data or not net or are_same(data, net):
        return None
    keys = list(map(key, net))
    for name in data:
        if (count := keys.count(key(name))) != 1:
            raise UserError(
                f"{where}: its class {name!r} is {'more than' if count else 'not'} one "
                f"of the {len(net)} classes that the net was trained on ({net[0]!r}, "
                "...): name data of those classes"
            )
    return tuple(keys.index(key(name)) for name in data)


def key(name: str) -> str:
    """What two names of one class have in common: a WordNet id, or the name."""
    name = image_files.class_name(name.strip())
    if match := _WORDNET_ID.match(name):
        return match[0]
    # A prepared folder tree has `lime lime`.
    half = name[: len(name) // 2]
    return half if name == f"{half} {half}" else name
