"""Files of features, written batch by batch: .npz for NumPy, .parquet for tables.

Both hold `image`, the names as they were given; `label`, int64, where an image's folder
tells its class (-1 in .npz and null in .parquet where it does not); and a float32 array
of each layer. In .parquet an image's features are one list, whose shape is in the
column's metadata.
"""

import contextlib
import importlib.util
import pathlib
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from official.alexnet import disk
from official.alexnet.errors import UserError

ENDINGS = (".npz", ".parquet")
_NAMES_AT_ONCE = 4096


def check(path: pathlib.Path) -> None:
    """Checks that the package is there that writes this file of features.

    Raises:
        UserError: it is missing.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    if is_parquet and importlib.util.find_spec("pyarrow") is None:
        raise UserError(
            f"--output_file={path}: Parquet needs the package pyarrow, which is not "
            "installed: pip install 'official-alexnet[parquet]', or name a file in .npz"
        )


@contextlib.contextmanager
def create(
    path: pathlib.Path, shapes: Mapping[str, Sequence[int]]
) -> Iterator["_Npz | _Parquet"]:
    """A file that appears when the body has ended, and not where it failed.

    Args:
        path: of the file; `check` has passed it.
        shapes: of each layer's features of one image.

    Yields:
        What has `add(names, labels, features)`: of a batch the images' names, their
        classes, None where they are not known, and arrays by layer.

    Raises:
        UserError: the disk is full or read-only.
    """
    with disk.atomic_write(path) as temporary:
        if path.suffix.lower() == ".parquet":
            with contextlib.closing(_Parquet(temporary, shapes)) as file:
                yield file
        else:
            with tempfile.TemporaryDirectory(dir=path.parent, prefix=".") as folder:
                file = _Npz(pathlib.Path(folder), shapes)
                yield file
                file.save(temporary)


class _Npz:
    """Keeps rows in plain files until their number is known."""

    def __init__(self, folder: pathlib.Path, shapes: Mapping[str, Sequence[int]]):
        self._folder = folder
        self._shapes = {"label": (), **shapes}
        self._count, self._longest, self._has_labels = 0, 1, False
        for name in ("image", *self._shapes):
            (folder / name).touch()

    def add(self, names: Sequence[str], labels: Sequence, features: Mapping) -> None:
        known = np.array([-1 if x is None else x for x in labels], np.int64)
        self._has_labels |= bool((known >= 0).any())
        self._count += len(names)
        self._longest = max(self._longest, *map(len, names))
        self._append("image", b"".join(name.encode() + b"\0" for name in names))
        self._append("label", known.tobytes())
        for name, rows in features.items():
            self._append(name, np.asarray(rows, np.float32).tobytes())

    def _append(self, name: str, data: bytes) -> None:
        with (self._folder / name).open("ab") as file:
            file.write(data)

    def save(self, path: pathlib.Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            with self._member(archive, "image", f"<U{self._longest}", ()) as member:
                for names in self._names():
                    member.write(np.array(names, f"<U{self._longest}").tobytes())
            for name, shape in self._shapes.items():
                if name == "label" and not self._has_labels:
                    continue
                kind = "<i8" if name == "label" else "<f4"
                with (
                    self._member(archive, name, kind, shape) as member,
                    (self._folder / name).open("rb") as rows,
                ):
                    shutil.copyfileobj(rows, member, 1 << 20)

    @contextlib.contextmanager
    def _member(self, archive, name: str, kind: str, shape: Sequence[int]):
        with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
            header = {"descr": kind, "fortran_order": False}
            header["shape"] = (self._count, *shape)
            np.lib.format.write_array_header_1_0(member, header)
            yield member

    def _names(self) -> Iterator[list[str]]:
        rest = b""
        with (self._folder / "image").open("rb") as file:
            while data := file.read(1 << 20):
                *whole, rest = (rest + data).split(b"\0")
                for first in range(0, len(whole), _NAMES_AT_ONCE):
                    part = whole[first : first + _NAMES_AT_ONCE]
                    yield [name.decode() for name in part]


class _Parquet:
    """A row group a batch."""

    def __init__(self, path: pathlib.Path, shapes: Mapping[str, Sequence[int]]):
        import pyarrow as pa  # noqa: PLC0415 (an extra)
        from pyarrow import parquet  # noqa: PLC0415

        self._pa = pa
        fields = [pa.field("image", pa.string()), pa.field("label", pa.int64())]
        for name, shape in shapes.items():
            kind = pa.list_(pa.float32(), int(np.prod(shape)))
            text = ",".join(map(str, shape))
            fields.append(pa.field(name, kind, metadata={"shape": text}))
        self._schema = pa.schema(fields)
        self._writer = parquet.ParquetWriter(path, self._schema)

    def close(self) -> None:
        self._writer.close()

    def add(self, names: Sequence[str], labels: Sequence, features: Mapping) -> None:
        columns = [list(names), list(labels)]
        for name, rows in features.items():
            flat = self._pa.array(np.asarray(rows, np.float32).ravel())
            size = self._schema.field(name).type.list_size
            columns.append(self._pa.FixedSizeListArray.from_arrays(flat, size))
        self._writer.write_table(self._pa.table(columns, schema=self._schema))
