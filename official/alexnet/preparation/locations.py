"""Where the parts of an ILSVRC download or of a folder tree lie."""

import dataclasses
import pathlib

from official.alexnet.errors import UserError

# Names as downloaded, the newest year first; unpacked devkits count too.
_NAMES = {
    "ILSVRC2012": {
        "train_archive": "{0}_img_train.tar",
        "validation_archive": "{0}_img_val.tar",
        "devkit": "{0}_devkit_t12.tar.gz",
        "validation_ground_truth": "{0}_validation_ground_truth.txt",
    },
    "ILSVRC2010": {
        "train_archive": "{0}_images_train.tar {0}_img_train.tar train.tar",
        "validation_archive": "{0}_images_val.tar {0}_img_val.tar val.tar",
        "devkit": "{0}_devkit-1.0.tar.gz",
        "validation_ground_truth": "{0}_validation_ground_truth.txt",
        "test_archive": "{0}_images_test.tar {0}_img_test.tar test.tar",
        "test_ground_truth": "{0}_test_ground_truth.txt",
    },
}


@dataclasses.dataclass(frozen=True)
class Archives:
    """The parts of one year's ILSVRC, as the flags of tools/prepare_imagenet.py."""

    train_archive: pathlib.Path
    validation_archive: pathlib.Path
    validation_ground_truth: pathlib.Path | None = None
    devkit: pathlib.Path | None = None
    synsets: pathlib.Path | None = None
    test_archive: pathlib.Path | None = None
    test_ground_truth: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Tree:
    """A folder tree `<split>/<class>/<image>`; `synsets` gives classes their words."""

    train: pathlib.Path
    validation: pathlib.Path
    synsets: pathlib.Path | None = None


def locate(
    input_dir: pathlib.Path | None, given: dict[str, pathlib.Path]
) -> Archives | Tree:
    """Finds what there is to convert.

    Args:
        input_dir: a folder holding ILSVRC archives under their own names, or `train`
            and `val` (or `validation`) folders; None if all is in `given`.
        given: fields of `Archives` named by the user; they win over what is found.

    Raises UserError where nothing is usable, or a part is missing.
    """
    for field, path in given.items():
        if not path.is_file():
            raise UserError(f"--{field}: no file {path}")
    if input_dir and not input_dir.is_dir():
        raise UserError(f"--input_dir: no folder {input_dir}")
    found = _found(input_dir, given) | given
    own = found.get("train_archive")
    # `train.tar` may be what a tree beside it was unpacked from.
    is_twice = own and own.name == "train.tar" and not given.keys() - {"synsets"}
    if is_twice and any((own.parent / x).is_dir() for x in ("val", "validation")):
        own = None
    if input_dir and (input_dir / "train").is_dir() and own is None:
        return _tree(input_dir, given)
    for field in ("train_archive", "validation_archive"):
        if field not in found:
            known = [names[field].format(year) for year, names in _NAMES.items()]
            first = " or ".join(name.split()[0] for name in known)
            raise UserError(
                f"no {field.replace('_', ' ')}: {input_dir or '(no --input_dir)'} has "
                f"no {first}, nor train/ and val/ folders; give --input_dir or "
                f"--{field}"
            )
    if "test_archive" in found and "test_ground_truth" not in found:
        raise UserError(
            f"no ground truth for {found['test_archive']}: give --test_ground_truth, "
            "or take that archive out of --input_dir"
        )
    return Archives(**found)


def _tree(input_dir: pathlib.Path, given: dict[str, pathlib.Path]) -> Tree:
    for field in sorted(given.keys() - {"synsets"}):
        raise UserError(
            f"--{field} goes with archives, but {input_dir} is a folder tree"
        )
    names = [name for name in ("val", "validation") if (input_dir / name).is_dir()]
    if not names:
        raise UserError(f"{input_dir} has train/ but neither val/ nor validation/")
    if len(names) > 1:
        raise UserError(f"{input_dir} has val/ and validation/: move one of them away")
    return Tree(input_dir / "train", input_dir / names[0], given.get("synsets"))


def _found(
    input_dir: pathlib.Path | None, given: dict[str, pathlib.Path]
) -> dict[str, pathlib.Path]:
    """The parts of one year in a folder: the year whose training archive is there."""
    for year, names in _NAMES.items() if input_dir else ():
        # A devkit may have been unpacked; its ground truth then lies under data/.
        folders = [input_dir, *sorted(input_dir.glob(f"{year}_devkit*/data"))]
        found = {}
        for field, candidates in names.items():
            files = candidates.format(year).split()
            paths = (folder / file for folder in folders for file in files)
            if path := next(filter(pathlib.Path.is_file, paths), None):
                found[field] = path
        if "train_archive" in found | given and found:
            return found
    return {}
