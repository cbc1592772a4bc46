"""The devkit's meta.mat, as SciPy writes it, and ground truth files."""

import contextlib
import io
import tarfile

import numpy as np
import pytest
import scipy.io

from official.alexnet.errors import UserError
from official.alexnet.preparation import devkit
from official.alexnet.weights import mat_file

FIELDS = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children")
SYNSETS = [
    (2, "n02084071", "kit fox, Vulpes macrotis", "small", 0, []),
    (1, "n01440764", "Saint Bernard", "a dog", 0, []),
    (300, "n00004475", "organism", "a living thing", 2, [1, 2]),
]


def _meta(synsets=SYNSETS, **options):
    """A 3x1 struct array, as in the devkit."""
    dtype = [(name, object) for name in FIELDS]
    array = np.array([tuple(s) for s in synsets], dtype)[:, None]
    buffer = io.BytesIO()
    contents = {"other": np.arange(3), "synsets": array}
    scipy.io.savemat(buffer, contents, **{"do_compression": True} | options)
    return buffer.getvalue()


META = _meta()


def _write_devkit(path, meta, truth=b"2\n1\n"):
    folder = "ILSVRC2012_devkit_t12"
    members = {
        f"{folder}/readme.txt": b"hello",
        f"{folder}/data/meta.mat": meta,
        f"{folder}/data/ILSVRC2012_validation_ground_truth.txt": truth,
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize("is_packed", [True, False])
def test_devkit_tells_the_class_of_each_id_and_the_ground_truth(tmp_path, is_packed):
    meta = _meta(do_compression=is_packed)
    path = _write_devkit(tmp_path / "devkit.tar.gz", meta)
    by_id, truth = devkit.read_devkit(path)
    assert by_id == {
        2: ("n02084071", "kit fox, Vulpes macrotis"),
        1: ("n01440764", "Saint Bernard"),
        300: ("n00004475", "organism"),
    }
    assert truth == ["2", "1"]


@pytest.mark.parametrize(
    "meta",
    [META[:128], META[:200], b"x" * 400, b"MATLAB 7.3 MAT-file".ljust(600)],
    ids=["empty", "cut", "garbage", "hdf5"],
)
def test_a_broken_meta_mat_is_one_clear_line(tmp_path, meta):
    path = _write_devkit(tmp_path / "devkit.tar.gz", meta)
    with pytest.raises(UserError, match=r"meta\.mat.*give --validation_ground_truth"):
        devkit.read_devkit(path)


def test_a_damaged_meta_mat_does_not_end_the_process():
    whole, rng = _meta(do_compression=False), np.random.default_rng(0)
    assert devkit._parse_meta(whole) == devkit._parse_meta(META)
    for _ in range(2000):
        damaged = bytearray(whole)
        for place in rng.integers(128, len(whole), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        with contextlib.suppress(Exception):  # `read_devkit` says it in one line.
            devkit._parse_meta(bytes(damaged))


def test_a_devkit_of_one_class(tmp_path):
    path = _write_devkit(tmp_path / "devkit.tar.gz", _meta(SYNSETS[:1]))
    assert list(devkit.read_devkit(path)[0]) == [2]


def test_a_variable_that_is_packed_to_be_huge_is_refused(tmp_path, monkeypatch):
    buffer = io.BytesIO()
    scipy.io.savemat(buffer, {"synsets": np.zeros(10**6)}, do_compression=True)
    path = _write_devkit(tmp_path / "devkit.tar.gz", buffer.getvalue())
    monkeypatch.setattr(devkit, "_MOST_BYTES", 100_000)
    monkeypatch.setattr(mat_file, "_matrix", lambda _: pytest.fail("it was unpacked"))
    with pytest.raises(UserError, match="cannot read meta"):
        devkit.read_devkit(path)


def test_a_broken_devkit_is_one_clear_line(tmp_path):
    path = _write_devkit(tmp_path / "devkit.tar.gz", META)
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot read the devkit") as caught:
            devkit.read_devkit(path)
        assert "\n" not in str(caught.value)
    _write_devkit(path, b"")
    with pytest.raises(UserError, match=r"holds no data/meta\.mat"):
        devkit.read_devkit(path)


def test_read_synsets(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("n00000002 a fox, fox\nn00000001\n\n")
    assert devkit.read_synsets(path) == [
        ("n00000002", "a fox, fox"),
        ("n00000001", "n00000001"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n00000001 fox\ntench n00000002\n", "line 2: expected"),
        ("n00000001 fox\nn00000001 dog\n", "twice"),
    ],
)
def test_read_synsets_refuses_other_files(tmp_path, text, message):
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        devkit.read_synsets(path)
    with pytest.raises(UserError, match="cannot read"):
        devkit.read_synsets(tmp_path / "missing.txt")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        devkit.read_synsets(path)
