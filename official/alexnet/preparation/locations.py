"""Where the parts of an ILSVRC download or of a folder tree lie."""

import dataclasses
import pathlib

from official.alexnet.errors import UserError

# Names as downloaded, the newest year first; unpacked devkits count too.
_NAMES = {
    2012: {
        "train_archive": ["ILSVRC2012_img_train.tar"],
        "validation_archive": ["ILSVRC2012_img_val.tar"],
        "devkit": ["ILSVRC2012_devkit_t12.tar.gz"],
        "validation_ground_truth": ["ILSVRC2012_validation_ground_truth.txt"],
        "test_archive": [],
        "test_ground_truth": [],
    },
    2010: {
        "train_archive": [
            "ILSVRC2010_images_train.tar",
            "ILSVRC2010_img_train.tar",
            "train.tar",
        ],
        "validation_archive": [
            "ILSVRC2010_images_val.tar",
            "ILSVRC2010_img_val.tar",
            "val.tar",
        ],
        "devkit": ["ILSVRC2010_devkit-1.0.tar.gz"],
        "validation_ground_truth": ["ILSVRC2010_validation_ground_truth.txt"],
        "test_archive": [
            "ILSVRC2010_images_test.tar",
            "ILSVRC2010_img_test.tar",
            "test.tar",
        ],
        "test_ground_truth": ["ILSVRC2010_test_ground_truth.txt"],
    },
}


@dataclasses.dataclass(frozen=True)
class Archives:
    """The parts of one year's ILSVRC; see the flags of tools/prepare_imagenet.py.

    Attributes:
        train_archive: tar of one tar per class.
        validation_archive: flat tar.
        validation_ground_truth: text, one class a line; None to take the devkit's.
        devkit: the devkit's tar.gz, or None.
        synsets: text, `nXXXXXXXX words` a line, line i being class id i; or None.
        test_archive: flat tar, or None.
        test_ground_truth: text, or None.
    """

    train_archive: pathlib.Path
    validation_archive: pathlib.Path
    validation_ground_truth: pathlib.Path | None = None
    devkit: pathlib.Path | None = None
    synsets: pathlib.Path | None = None
    test_archive: pathlib.Path | None = None
    test_ground_truth: pathlib.Path | None = None


@dataclasses.dataclass(frozen=True)
class Tree:
    """A folder tree `<split>/<class>/<image>`.

    Attributes:
        train: the folder of the training classes.
        validation: the folder of the validation classes.
        synsets: text, `nXXXXXXXX words` a line, or None; gives classes their words.
    """

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

    Returns:
        The archives or the tree.

    Raises:
        UserError: nothing usable, or a part is missing.
    """
    for field, path in given.items():
        if not path.is_file():
            raise UserError(f"--{field}: no file {path}")
    if input_dir and not input_dir.is_dir():
        raise UserError(f"--input_dir: no folder {input_dir}")
    if input_dir and "train_archive" not in given:
        tree = _tree(input_dir, given)
        if tree:
            return tree
    found = _found(input_dir, given) | given
    for field in ("train_archive", "validation_archive"):
        if field not in found:
            names = " or ".join(years[field][0] for years in _NAMES.values())
            raise UserError(
                f"no {field.replace('_', ' ')}: {input_dir or '(no --input_dir)'} has "
                f"no {names}, nor train/ and val/ folders; give --input_dir or "
                f"--{field}"
            )
    if "test_archive" in found and "test_ground_truth" not in found:
        raise UserError(
            f"no ground truth for {found['test_archive']}: give --test_ground_truth, "
            "or take that archive out of --input_dir"
        )
    return Archives(**found)


def _tree(input_dir: pathlib.Path, given: dict[str, pathlib.Path]) -> Tree | None:
    train = input_dir / "train"
    if not train.is_dir() or _found(input_dir, {}).get("train_archive"):
        return None
    misplaced = sorted(given.keys() - {"synsets"})
    if misplaced:
        raise UserError(
            f"--{misplaced[0]} goes with archives, but {input_dir} is a folder tree"
        )
    names = [name for name in ("val", "validation") if (input_dir / name).is_dir()]
    if len(names) == 1:
        return Tree(train, input_dir / names[0], given.get("synsets"))
    if names:
        raise UserError(f"{input_dir} has val/ and validation/: move one of them away")
    raise UserError(f"{input_dir} has train/ but neither val/ nor validation/")


def _found(
    input_dir: pathlib.Path | None, given: dict[str, pathlib.Path]
) -> dict[str, pathlib.Path]:
    """The parts of one year in a folder: the year whose training archive is there."""
    if input_dir is None:
        return {}
    for year, names in _NAMES.items():
        found = {}
        # A devkit may have been unpacked; its ground truth then lies under data/.
        folders = [input_dir, *sorted(input_dir.glob(f"ILSVRC{year}_devkit*/data"))]
        for field, candidates in names.items():
            paths = [folder / name for folder in folders for name in candidates]
            paths = [path for path in paths if path.is_file()]
            if paths:
                found[field] = paths[0]
        if "train_archive" in found | given and found:
            return found
    return {}
