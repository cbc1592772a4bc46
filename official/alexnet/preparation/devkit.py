"""Which class each validation image has: ground truth files and the ILSVRC devkit.

The ground truth of the devkit numbers classes by ILSVRC2012_ID, an order of its own
that is told only by the devkit's `meta.mat`, and is NOT the order of the label lists
(sorted WordNet ids) that Caffe, TensorFlow and TFDS use.
"""

import pathlib
import re
import struct
import tarfile
import zlib

from official.alexnet.errors import UserError

_SYNSET = re.compile(r"n\d{8}")
# Numeric types of a MAT-file, level 5: type number -> struct code.
_MAT_NUMBERS = {1: "b", 2: "B", 3: "h", 4: "H", 5: "i", 6: "I"} | {
    7: "f",
    9: "d",
    12: "q",
    13: "Q",
}
_MAT_MATRIX, _MAT_COMPRESSED, _MAT_UTF8, _MAT_UTF16 = 14, 15, 16, 17
_MAT_STRUCT_CLASS, _MAT_CHAR_CLASS, _MAT_LAST_NUMERIC_CLASS = 2, 4, 15
# Both files of a devkit are below 2 MB; what is packed to be huge is cut here.
_MOST_BYTES = 2**26


def read_synsets(path: pathlib.Path) -> list[tuple[str, str]]:
    """Reads lines such as `n01440764 tench, Tinca tinca`.

    Args:
        path: a text file; the words may be missing.

    Returns:
        (WordNet id, words) a line, in the order of the file.

    Raises:
        UserError: the file is missing or a line is of another form.
    """
    synsets = []
    for number, line in enumerate(read_lines(path), 1):
        synset, _, words = line.partition(" ")
        if not _SYNSET.fullmatch(synset):
            raise UserError(
                f"{path} line {number}: expected `nXXXXXXXX words`, not {line[:60]!r}"
            )
        synsets.append((synset, words.strip() or synset))
    if len({synset for synset, _ in synsets}) != len(synsets):
        raise UserError(f"{path} names a synset twice")
    return synsets


def read_lines(path: pathlib.Path) -> list[str]:
    """The lines of a text file, stripped, without blank lines at its end.

    Raises:
        UserError: the file is missing or not text.
    """
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
    """Reads a devkit archive as it was downloaded.

    Args:
        path: `ILSVRC2012_devkit_t12.tar.gz` or `ILSVRC2010_devkit-1.0.tar.gz`.

    Returns:
        (id -> (WordNet id, words), lines of the validation ground truth).

    Raises:
        UserError: the archive is damaged or holds no meta.mat and ground truth.
    """
    wanted = {"meta.mat": b"", "ILSVRC_validation_ground_truth.txt": b""}
    try:
        with tarfile.open(path, "r:*") as tar:
            for member in tar:
                name = re.sub(
                    r"ILSVRC20\d\d", "ILSVRC", pathlib.PurePath(member.name).name
                )
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
        return parse_meta(meta), ground_truth.decode().split()
    except (ValueError, struct.error, zlib.error, KeyError, IndexError, TypeError):
        raise UserError(
            f"cannot read meta.mat of {path}; give --validation_ground_truth and "
            "--synsets instead"
        ) from None


def parse_meta(mat: bytes) -> dict[int, tuple[str, str]]:
    """Reads the struct array `synsets` of a devkit's meta.mat.

    Args:
        mat: a MAT-file, level 5.

    Returns:
        ILSVRC id -> (WordNet id, words), for every synset in it.

    Raises:
        ValueError: it is not such a file.
    """
    if mat[126:128] != b"IM":
        raise ValueError("not a little-endian MAT-file of level 5")
    for kind, data in _elements(mat[128:]):
        if kind == _MAT_COMPRESSED:
            content = zlib.decompressobj().decompress(data, _MOST_BYTES)
            kind, data = next(_elements(content))  # noqa: PLW2901
        name, value = _matrix(data)
        if kind == _MAT_MATRIX and name == "synsets":
            break
    else:
        raise ValueError("no variable `synsets`")
    identifier = next(key for key in value[0] if re.fullmatch(r"ILSVRC20\d\d_ID", key))
    return {
        int(synset[identifier][0]): (synset["WNID"], synset["words"])
        for synset in value
    }


def _elements(data: bytes):
    """Yields (type, bytes) of the elements that follow one another in `data`."""
    position = 0
    while position + 8 <= len(data):
        kind, size = struct.unpack_from("<II", data, position)
        if kind >> 16:  # a small element: its size, type and data in eight bytes
            kind, size = kind & 0xFFFF, kind >> 16
            yield kind, data[position + 4 : position + 4 + size]
            position += 8
        else:
            yield kind, data[position + 8 : position + 8 + size]
            padding = 0 if kind == _MAT_COMPRESSED else -size % 8
            position += 8 + size + padding


def _matrix(data: bytes):
    """Reads one array: (name, list of dicts | str | list of numbers | None)."""
    parts = list(_elements(data))
    if not parts:  # MATLAB writes an empty field so
        return "", None
    kind = parts[0][1][0]
    name = parts[2][1].decode()
    if kind == _MAT_STRUCT_CLASS:
        length = struct.unpack("<i", parts[3][1])[0]
        names = parts[4][1]
        keys = [
            names[i : i + length].split(b"\0")[0].decode()
            for i in range(0, len(names), length)
        ]
        values = [_matrix(part)[1] for _, part in parts[5:]]
        rows = range(0, len(values), len(keys))
        return name, [
            dict(zip(keys, values[i : i + len(keys)], strict=True)) for i in rows
        ]
    if kind == _MAT_CHAR_CLASS:
        return name, _text(*parts[3])
    if kind <= _MAT_LAST_NUMERIC_CLASS and len(parts) > 3:
        return name, _numbers(*parts[3])
    return name, None  # cells and objects: nothing we need


def _numbers(kind: int, data: bytes) -> list:
    code = _MAT_NUMBERS[kind]
    return list(struct.unpack(f"<{len(data) // struct.calcsize(code)}{code}", data))


def _text(kind: int, data: bytes) -> str:
    if kind == _MAT_UTF16:
        return data.decode("utf-16-le")
    if kind == _MAT_UTF8:
        return data.decode("utf-8")
    return "".join(map(chr, _numbers(kind, data)))
