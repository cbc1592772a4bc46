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

_WORDNET_ID = re.compile(r"n\d{8}(?!\S)")


def read_names(path: pathlib.Path) -> tuple[str, ...] | None:
    """The lines, without empty ones, of a file of names; None where there is none."""
    if not path.is_file():
        return None
    try:
        return tuple(filter(None, path.read_text("utf-8-sig").splitlines()))
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not a text file of class names in UTF-8: convert it"
        ) from error


def read_labels(path: pathlib.Path, num_classes: int) -> list[str]:
    """Names of the classes; their numbers where there is no such file.

    Raises UserError where the file has another number of lines, or is not a text file.
    """
    names = read_names(path)
    if names is None:
        return list(map(str, range(num_classes)))
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
    """Checks that the classes `found` elsewhere are those of the net `who`, in order.

    Raises UserError where both are known, and differ; ends in `advice`.
    """
    if not net or not found or are_same(net, found):
        return
    pairs = enumerate(zip(net, found, strict=False))
    others = ((i, a, b) for i, (a, b) in pairs if key(a) != key(b))
    difference = next(
        (f"class {i} was {was!r} and is {now!r}" for i, was, now in others),
        f"there were {len(net)} and are {len(found)}",
    )
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
    """The index in `net` of each class of `data`, which is at `where`, by name.

    None where both are the same list, or one is not known. Raises UserError where a
    class of the data is not one of the net's, or more than one.
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
    # A prepared folder tree has `lime lime`, and `dog_house dog house`.
    words = name[len(name) // 2 + 1 :]
    synset = re.sub(r"\s", "_", words)
    return words if name in (f"{words} {words}", f"{synset} {words}") else name
