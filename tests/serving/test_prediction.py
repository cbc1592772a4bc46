"""What `predict` says of good and bad pictures, on stdout and in a file."""

import csv
import errno
import json
import os
import pathlib
import shutil
import struct
import tracemalloc
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from official.alexnet.data import image_files
from official.alexnet.data.classes import read_names
from official.alexnet.errors import NoRoom, UserError
from official.alexnet.serving import prediction
from official.alexnet.serving.prediction import predict

GOOD = ("color.jpg", "gray.jfif", "narrow.png", "upper.JPE")
BAD = {
    "big.png": "has 8000x6000 pixels, not 1 to 33,554,432",
    "bomb.png": "has more than 89,478,485 pixels",
    "cut.jpg": "is not a whole JPEG or PNG image",
    "empty.jpg": "is empty",
    "lost.jpg": "cannot be read: No such file or directory",
    "moving.jpg": "is not a whole JPEG or PNG image",
}


@pytest.fixture(scope="module")
def good(tmp_path_factory) -> pathlib.Path:
    folder = tmp_path_factory.mktemp("good")
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (len(GOOD), 5, 6, 3), np.uint8)
    for name, pixels in zip(GOOD, coarse, strict=True):
        image = Image.fromarray(pixels).resize((300, 280), Image.Resampling.BICUBIC)
        if name == "gray.jfif":
            image = image.convert("L")
        image.save(folder / name, "PNG" if name == "narrow.png" else "JPEG")
    return folder


@pytest.fixture(scope="module")
def expected(all_formats, good) -> dict[str, np.ndarray]:
    """What the SavedModel itself answers to each picture alone."""
    served = tf.saved_model.load(str(all_formats.folder / "saved_model"))
    classify = served.signatures["serving_default"]
    return {
        name: classify(tf.constant([(good / name).read_bytes()]))["probabilities"][
            0
        ].numpy()
        for name in GOOD
    }


@pytest.fixture
def mixed(good, tmp_path) -> pathlib.Path:
    """Good pictures, and one of each kind of bad ones."""
    folder = shutil.copytree(good, tmp_path / "mixed")
    whole = (good / "color.jpg").read_bytes()
    (folder / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.jpg").touch()
    (folder / "lost.jpg").symlink_to(tmp_path / "nowhere")
    Image.new("L", (8000, 6000)).save(folder / "big.png")
    size = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    (folder / "bomb.png").write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            struct.pack(">I", len(data))
            + kind
            + data
            + struct.pack(">I", zlib.crc32(kind + data))
            for kind, data in ((b"IHDR", size), (b"IDAT", zlib.compress(bytes(9))))
        )
    )
    frames = [Image.new("L", (64, 64), level) for level in (0, 99)]
    frames[0].save(
        folder / "moving.jpg", "GIF", save_all=True, append_images=frames[1:]
    )
    (folder / "._color.jpg").write_bytes(b"what a Mac leaves")
    (folder / "photo.webp").write_bytes(b"RIFF")
    (folder / "notes.txt").write_text("mine")
    (folder / "deeper").mkdir()
    shutil.copy(good / "color.jpg", folder / "deeper")
    return folder


def check_labels(entry, probabilities):
    found = entry["labels"]
    order = np.argsort(-probabilities)[: len(found)]
    assert [int(best["label"].split()[-1]) for best in found] == list(order)
    values = [best["probability"] for best in found]
    np.testing.assert_allclose(values, probabilities[order], atol=1e-4)


def test_bad_pictures_are_named_and_the_others_answered(
    all_formats, mixed, expected, capsys, caplog
):
    found = predict(str(all_formats.folder), [str(mixed)], top=2, batch_size=4)
    assert set(found) == {"predictions", "bad_images"}
    assert [p["image"] for p in found["predictions"]] == [
        str(mixed / name) for name in GOOD
    ]
    for entry, name in zip(found["predictions"], GOOD, strict=True):
        check_labels(entry, expected[name])
    assert found["bad_images"] == [
        {"image": str(mixed / name), "error": error} for name, error in BAD.items()
    ]
    said = caplog.text
    for name, error in BAD.items():
        assert f"{mixed / name} {error}" in said
    assert "._color.jpg" not in said
    for left_out in ("1 .webp", "1 .txt", "1 hidden", "1 .jpg in deeper folders"):
        assert left_out in said
    assert "4 file(s) left out" in said
    stdout = capsys.readouterr().out
    assert stdout.count(" %  ") == 2 * len(GOOD)


@pytest.mark.parametrize("ending", [".jsonl", ".csv"])
def test_an_output_file_has_a_line_a_picture(
    all_formats, mixed, expected, ending, tmp_path, capsys
):
    strange = 'a "b", \u00e9\n.jpg'
    os.rename(mixed / "color.jpg", mixed / strange)  # noqa: PTH104
    path = tmp_path / f"answers{ending}"
    found = predict(str(all_formats.folder), [str(mixed)], 9, 3, str(path))
    assert found == {
        "output_file": str(path),
        "num_images": len(GOOD) + len(BAD),
        "num_bad_images": len(BAD),
    }
    assert capsys.readouterr().out == ""
    if ending == ".jsonl":
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    else:
        with path.open(encoding="utf-8", newline="") as file:
            table = list(csv.DictReader(file))
        assert list(table[0]) == [
            "image",
            *(f"{x}_{i}" for i in (1, 2, 3) for x in ("label", "probability")),
            "error",
        ]
        rows = [
            {"image": row["image"], "error": row["error"]}
            if row["error"]
            else {
                "image": row["image"],
                "labels": [
                    {
                        "label": row[f"label_{i}"],
                        "probability": float(row[f"probability_{i}"]),
                    }
                    for i in (1, 2, 3)
                ],
            }
            for row in table
        ]
        assert all(not row["label_1"] for row in table if row["error"])
    names = [strange, *GOOD[1:]]
    assert [row["image"] for row in rows] == sorted(
        str(mixed / name) for name in (*names, *BAD)
    )
    by_name = {pathlib.Path(row["image"]).name: row for row in rows}
    for name, original in zip(names, GOOD, strict=True):
        check_labels(by_name[name], expected[original])
    assert {name: by_name[name]["error"] for name in BAD} == BAD


def test_the_file_grows_batch_by_batch_and_stays(
    all_formats, good, tmp_path, monkeypatch
):
    path = tmp_path / "answers.jsonl"
    read = prediction._read

    def interrupted(name):
        if name.endswith("narrow.png"):
            raise KeyboardInterrupt
        return read(name)

    monkeypatch.setattr(prediction, "_read", interrupted)
    with pytest.raises(KeyboardInterrupt):
        predict(str(all_formats.folder), [str(good)], 1, 1, str(path))
    lines = path.read_text().splitlines()
    assert [pathlib.Path(json.loads(line)["image"]).name for line in lines] == [
        "color.jpg",
        "gray.jfif",
    ]


def test_a_full_disk_is_one_line_and_leaves_whole_lines(
    all_formats, good, tmp_path, monkeypatch
):
    path, calls = tmp_path / "answers.csv", []
    sync = os.fsync

    def full(descriptor):
        calls.append(descriptor)
        if len(calls) == 3:  # The header, the first batch, the second.
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(NoRoom, match=r"answers\.csv: No space left on device; free"):
        predict(str(all_formats.folder), [str(good)], 1, 2, str(path))
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [pathlib.Path(row["image"]).name for row in rows] == list(GOOD[:2])


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(
    all_formats, good, tmp_path, monkeypatch
):
    """Kept, 20,000 answers would be 20 MB."""
    row = np.float32([0.2, 0.3, 0.5])
    monkeypatch.setattr(prediction, "_read", lambda _: b"")
    monkeypatch.setattr(
        prediction, "_by_halves", lambda _, images: [row for _ in images]
    )
    peaks = []
    for count in (1000, 20_000):
        path = tmp_path / f"{count}.jsonl"
        names = [str(good / "color.jpg")] * count
        tracemalloc.start()
        predict(str(all_formats.folder), names, 3, 1000, str(path))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(path.read_text().splitlines()) == count
    assert peaks[1] - peaks[0] < 5_000_000


@pytest.mark.parametrize("names", [["cut.jpg"], ["cut.jpg", "empty.jpg", "none.jpg"]])
def test_where_none_is_answered_it_fails(all_formats, mixed, names):
    paths = [str(mixed / name) for name in names]
    with pytest.raises(UserError, match=r"cut\.jpg is not a whole JPEG") as caught:
        predict(str(all_formats.folder), paths, 1, 2)
    assert ("not one of 3 images" in str(caught.value)) == (len(names) == 3)


def test_a_missing_one_among_several_is_a_bad_one(all_formats, good, tmp_path):
    (tmp_path / "nothing").mkdir()
    names = [good / "color.jpg", good / "none.jpg", tmp_path / "nothing", "no/*.jpg"]
    found = predict(str(all_formats.folder), [str(n) for n in names], 1, 8)
    assert len(found["predictions"]) == 1
    missing = "is not there: no such image"
    assert [(bad["image"], bad["error"]) for bad in found["bad_images"]] == [
        (str(good / "none.jpg"), missing),
        (str(tmp_path / "nothing"), "holds no image"),
        ("no/*.jpg", missing),
    ]


@pytest.mark.parametrize(
    ("name", "reason"),
    [("nothing", "holds no image"), ("x" * 300, "no such image"), ("*.jpg", "no such")],
)
def test_no_picture_at_all(all_formats, tmp_path, monkeypatch, name, reason):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nothing").mkdir()
    (tmp_path / "nothing" / ".hidden.jpg").touch()
    with pytest.raises(UserError, match=reason):
        predict(str(all_formats.folder), [name], 1, 8)


def test_a_damaged_saved_model_is_named(all_formats, good, tmp_path):
    for part in ("variables/variables.index", "saved_model.pb"):
        copy = tmp_path / part.replace("/", "-")
        shutil.copytree(all_formats.folder / "saved_model", copy / "saved_model")
        path = copy / "saved_model" / part
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(UserError, match=r"saved_model cannot be loaded: .*export"):
            predict(str(copy), [str(good)], 1, 8)


def test_class_names_that_are_no_text(all_formats, good, tmp_path):
    saved_model = all_formats.folder / "saved_model"
    shutil.copytree(saved_model, tmp_path / "out" / "saved_model")
    labels = tmp_path / "out" / "labels.txt"
    labels.write_bytes(b"caf\xe9\n" * 3)
    for read in (
        lambda: predict(str(tmp_path / "out"), [str(good)], 1, 8),
        lambda: read_names(labels),
    ):
        with pytest.raises(UserError, match=r"labels\.txt is not a text file of class"):
            read()


# Names


FILES = ("a.jpg", "b, c.jpg", "cat, dog.jpg", "cat", "d[1].jpg", "e*?.jpg", "x,y/1.jpg")


@pytest.fixture
def names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in (*FILES, "[z]/1.jpg", "[z]/.2.jpg", ".h.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()


@pytest.mark.parametrize(
    ("value", "split"),
    [
        ("cat, dog.jpg", ["cat, dog.jpg"]),
        ("a.jpg,b, c.jpg", ["a.jpg", "b, c.jpg"]),
        ("a.jpg, b, c.jpg ,cat", ["a.jpg", "b, c.jpg", "cat"]),
        ("cat, dog.jpg,cat,a.jpg", ["cat, dog.jpg", "cat", "a.jpg"]),
        ("x,y/1.jpg,x,y", ["x,y/1.jpg", "x,y"]),
        ("none, or.jpg,a.jpg", ["none", "or.jpg", "a.jpg"]),
        ("cat, *.jpg,*.png", ["cat, *.jpg", "*.png"]),
        ('"b, c.jpg",a.jpg', ["b, c.jpg", "a.jpg"]),
        ("~/a.jpg,~nobody.jpg", ["~/a.jpg", "~nobody.jpg"]),
        (",", []),
        ("x" * 5000 + ",a.jpg", ["x" * 5000, "a.jpg"]),
    ],
)
def test_a_value_that_is_a_path_is_a_path(value, split, names):
    home = os.environ["HOME"]
    assert image_files.split([value]) == [
        name.replace("~/", f"{home}/") for name in split
    ]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("d[1].jpg", ["d[1].jpg"]),
        ("e*?.jpg", ["e*?.jpg"]),
        ("[z]", ["[z]/1.jpg"]),
        ("[z]/*.jpg", ["[z]/1.jpg"]),
        ("[z]/.2.jpg", ["[z]/.2.jpg"]),
        ("[de]*.jpg", ["d[1].jpg", "e*?.jpg"]),
        ("**/1.jpg", ["[z]/1.jpg", "x,y/1.jpg"]),
        ("*", sorted({name for name in FILES if "/" not in name})),
    ],
)
def test_what_a_name_stands_for(name, found, names):
    assert list(image_files.find([name])) == [(path, "") for path in found]


def test_a_pipe_is_not_waited_for(all_formats, tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    with pytest.raises(UserError, match="is no plain file"):
        predict(str(all_formats.folder), [str(tmp_path / "pipe.jpg")], 1, 1)
