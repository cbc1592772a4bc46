"""Which class each validation image has: ground truth files and the ILSVRC devkit.

The ground truth of the devkit numbers classes by ILSVRC2012_ID, an order of its own
that is told only by the devkit's `meta.mat`, and is NOT the order of the label lists
(sorted WordNet ids) that Caffe, TensorFlow and TFDS use.
"""

import pathlib
import re
import tarfile
import zlib

import numpy as np

from official.alexnet.errors import UserError
from official.alexnet.weights import mat_file

# Both files of a devkit are below 2 MB; what is packed to be huge is cut here.
_MOST_BYTES = 2**26


def read_synsets(path: pathlib.Path) -> list[tuple[str, str]]:
    """(WordNet id, words) of each line such as `n01440764 tench, Tinca tinca`.

    Without words, the id stands for them. Raises UserError where the file is missing or
    a line is of another form.
    """
    synsets = {}
    for number, line in enumerate(read_lines(path), 1):
        synset, _, words = line.partition(" ")
        if not re.fullmatch(r"n\d{8}", synset):
            raise UserError(
                f"{path} line {number}: expected `nXXXXXXXX words`, not {line[:60]!r}"
            )
        if synset in synsets:
            raise UserError(f"{path} names a synset twice")
        synsets[synset] = words.strip() or synset
    return list(synsets.items())


def read_lines(path: pathlib.Path) -> list[str]:
    """The stripped lines of a text file; UserError where it is missing or not text."""
    try:
        text = path.read_text("utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UserError(
            f"{path} is not a text file in UTF-8: convert it, or name another"
        ) from None
    return [line.strip() for line in text.strip().splitlines()]


def read_devkit(path: pathlib.Path) -> tuple[dict[int, tuple[str, str]], list[str]]:
    """Reads a devkit's .tar.gz as it was downloaded, of 2012 or 2010.

    Returns:
        (id -> (WordNet id, words), lines of the validation ground truth).

    Raises UserError where the archive is damaged or holds no meta.mat and ground truth.
    """
    wanted = {"meta.mat": b"", "ILSVRC_validation_ground_truth.txt": b""}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                name = pathlib.PurePath(member.name).name
                name = re.sub(r"ILSVRC20\d\d", "ILSVRC", name)
                if member.isreg() and name in wanted:
                    wanted[name] = tar.extractfile(member).read(_MOST_BYTES)
    except (OSError, EOFError, tarfile.TarError, zlib.error):
        raise UserError(
            f"cannot read the devkit {path}: missing, damaged or not a .tar.gz"
        ) from None
    meta, ground_truth = wanted.values()
    if not meta or not ground_truth:
        raise UserError(
            f"{path} holds no data/meta.mat and data/*_validation_ground_truth.txt"
        )
    try:
        return _parse_meta(meta), ground_truth.decode().split()
    # Of damaged bytes it may be almost any exception.
    except Exception:
        raise UserError(
            f"cannot read meta.mat of {path}; give --validation_ground_truth and "
            "--synsets instead"
        ) from None


def _parse_meta(mat: bytes) -> dict[int, tuple[str, str]]:
    """ILSVRC id -> (WordNet id, words), for every synset in a meta.mat."""
    synsets = mat_file.read(mat)["synsets"]
    identifier = next(
        name for name in synsets[0] if re.fullmatch(r"ILSVRC20\d\d_ID", name)
    )
    return {
        int(np.ravel(synset[identifier])[0]): (synset["WNID"], synset["words"])
        for synset in synsets
    }
