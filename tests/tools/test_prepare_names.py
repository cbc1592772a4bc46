"""Which files are taken, what is said of the others, and names of any bytes."""

import collections
import io
import json
import os
import pathlib
import shutil
import tarfile

import pytest
from imagenet_inputs import (
    TOOL,
    encode,
    files_of,
    prepare_here,
    read_examples,
    run_tool,
    tar_of,
    text_feature,
    write_archives,
    write_tree,
)
from PIL import Image

from official.alexnet.data import image_files
from official.alexnet.data.classes import read_labels
from official.alexnet.errors import UserError

LATIN = os.fsdecode(b"a\xf1o.jpg")
NFC, NFD = "caf\u00e9", "cafe\u0301"


def run(input_dir, output_dir, *arguments, **options):
    code, stdout, stderr = run_tool(
        TOOL,
        f"--input_dir={input_dir}",
        f"--output_dir={output_dir}",
        *("--train_shards=2", "--validation_shards=1", "--num_workers=1", *arguments),
        **options,
    )
    assert "Traceback" not in stderr
    return code, stdout, stderr


def file_names(output, split):
    return sorted(
        text_feature(f, "image/filename") for f in read_examples(output, split)
    )


def test_what_is_left_out_of_a_tree_is_counted(tmp_path):
    tree = write_tree(tmp_path / "in", per_class=2)
    cat, picture = tree / "train" / "cat", encode(Image.new("RGB", (9, 9)))
    for name in ("a.jfif", "b.JPE", "c.JPEG", "d.PNG"):
        (cat / name).write_bytes(picture)
    for name in ("1.webp", "2.WebP", "3.bmp", "4.gif", "5.tif", "6", "._0.jpg"):
        (cat / name).write_bytes(picture)
    (cat / "deeper" / "yet").mkdir(parents=True)
    for name in ("deeper/1.jpg", "deeper/yet/2.jpg", "deeper/yet/3.gif"):
        (cat / name).write_bytes(picture)
    (tree / "train" / "loose.jpg").write_bytes(picture)
    (tree / "val" / "dog" / "1.gif").write_bytes(picture)
    (tree / "val" / ".DS_Store").touch()
    prepare_here(tree, tmp_path / "out")
    code, stdout, stderr = run(tree, tmp_path / "out")
    assert code == 0, stderr
    results = json.loads(stdout.splitlines()[-1])
    assert results["num_train"] == 8
    assert results["left_out"] == {
        "train": {
            ".webp": 2,
            **dict.fromkeys((".bmp", ".gif", ".tif", "without an ending", "hidden"), 1),
            ".jpg in deeper folders": 2,
            ".gif in deeper folders": 1,
            ".jpg outside class folders": 1,
        },
        "validation": {".gif": 1, "hidden": 1},
    }
    warnings = [line for line in stderr.splitlines() if line.startswith("warning: ")]
    assert len(warnings) == 2
    assert "warning: train: 11 file(s) left out: 2 .webp, 2 .jpg in d" in warnings[0]
    assert ".jpe, .jfif and .png" in warnings[0]
    assert "warning: validation: 2 file(s) left out: " in warnings[1]
    taken = {"0.jpg", "1.jpg", "a.jfif", "b.JPE", "c.JPEG", "d.PNG"}
    assert set(file_names(tmp_path / "out", "train")) == taken


def test_a_folder_of_other_pictures_says_what_it_holds(tmp_path):
    tree = write_tree(tmp_path / "in", per_class=1)
    (tree / "train" / "cat" / "0.jpg").rename(tree / "train" / "cat" / "0.webp")
    with pytest.raises(
        UserError, match=r"cat has no \.jpg.*1 file\(s\) left out: 1 .w"
    ):
        prepare_here(tree, tmp_path / "out", shards=(1, 1))


def test_rare_endings_are_counted_as_one():
    left_out = collections.Counter([f".{i:03d}" for i in range(30)] + [".gif"] * 2)
    summed = image_files.summed(left_out)
    assert len(summed) == 11
    assert summed[".gif"] == 2
    assert summed["of other endings"] == 21
    assert image_files.said(left_out).startswith("32 file(s) left out: 2 .gif, 1 .0")


def test_what_is_left_out_of_archives_is_counted_each_time(tmp_path):
    archives = write_archives(tmp_path / "in")
    train = archives / "ILSVRC2012_img_train.tar"
    with tarfile.open(train) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    with tarfile.open(archives / "n.tar", "w") as tar:
        pass
    first = next(iter(members))
    (tmp_path / "class.tar").write_bytes(members[first])
    with tarfile.open(tmp_path / "class.tar", "a") as tar:
        for name in ("more.webp", "._x.JPEG", "LICENSE"):
            tar.addfile(tarfile.TarInfo(name))
        link = tarfile.TarInfo("link.JPEG")
        link.type, link.linkname = tarfile.SYMTYPE, "elsewhere"
        tar.addfile(link)
    members[first] = (tmp_path / "class.tar").read_bytes()
    members |= {"cats.tar": tar_of({}), "readme.txt": b"hello"}
    train.write_bytes(tar_of(members))
    by_id = archives / "by_id.txt"
    manifest = prepare_here(archives, tmp_path / "out", synsets=by_id)
    assert manifest["splits"]["train"]["num_examples"] == 12
    # The second run does not look through the archives.
    code, stdout, stderr = run(archives, tmp_path / "out", f"--synsets={by_id}")
    assert code == 0, stderr
    kinds = (".webp", "hidden", "without an ending", "no plain file")
    outside = (".tar outside class archives", ".txt outside class archives")
    left_out = json.loads(stdout.splitlines()[-1])["left_out"]
    assert left_out == {"train": dict.fromkeys((*kinds, *outside), 1)}
    assert "warning: train: 6 file(s) left out" in stderr


# Names of any bytes


def test_a_file_whose_name_is_no_utf_8(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "in", per_class=2)
    for split, name in (("train", LATIN), ("val", LATIN)):
        cat = tree / split / "cat"
        (cat / "0.jpg").rename(cat / name)
    bad = tree / "train" / "dog" / os.fsdecode(b"\xff\n.jpg")
    bad.write_bytes(b"no picture")
    output = tmp_path / "out"
    with pytest.raises(UserError, match=r"1 unreadable image\(s\), such as dog/"):
        prepare_here(tree, output)
    prepare_here(tree, output, max_bad_images=1)
    assert r"a\xf1o.jpg" in file_names(output, "train")
    manifest = json.loads((output / "manifest.json").read_text("utf-8"))
    assert manifest["bad_images"][0]["name"] == "dog/\\xff\n.jpg"
    # In every locale.
    before = files_of(output)
    monkeypatch.setenv("LC_ALL", "C")
    monkeypatch.setenv("PYTHONUTF8", "0")
    monkeypatch.setenv("PYTHONCOERCECLOCALE", "0")
    code, stdout, stderr = run(tree, output, "--max_bad_images=1")
    assert code == 0, stderr
    assert json.loads(stdout.splitlines()[-1])["num_bad_images"] == 1
    assert files_of(output) == before


def test_members_of_archives_whose_names_are_no_utf_8(tmp_path):
    archives = write_archives(tmp_path / "in")
    train = archives / "ILSVRC2012_img_train.tar"
    with tarfile.open(train) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    inner, picture = io.BytesIO(), encode(Image.new("RGB", (9, 9)))
    with tarfile.open(fileobj=inner, mode="w", format=tarfile.GNU_FORMAT) as tar:
        member = tarfile.TarInfo(LATIN)
        member.size = len(picture)
        tar.addfile(member, io.BytesIO(picture))
    assert b"a\xf1o.jpg" in inner.getvalue()
    train.write_bytes(tar_of(members | {"n00000010.tar": inner.getvalue()}))
    for _ in range(2):  # From the archive, and from what is kept of it.
        prepare_here(archives, tmp_path / "out", synsets=archives / "by_id.txt")
        assert r"a\xf1o.jpg" in file_names(tmp_path / "out", "train")


@pytest.mark.parametrize("folder", [os.fsdecode(b"caf\xe9"), NFC, NFD, "a\nb c"])
def test_a_class_of_any_name(tmp_path, folder):
    tree = write_tree(tmp_path / "in", per_class=2)
    for split in ("train", "val"):
        (tree / split / "cat").rename(tree / split / folder)
    output = tmp_path / "out"
    prepare_here(tree, output)
    labels = {os.fsdecode(b"caf\xe9"): r"caf\xe9 caf\xe9", "a\nb c": "a_b_c a b c"}
    expected = sorted([labels.get(folder, f"{NFC} {NFC}"), "dog dog"])
    assert read_labels(output / "labels.txt", 2) == expected
    stored = {
        text_feature(f, "image/class/synset") for f in read_examples(output, "train")
    }
    assert stored == {label.split(" ")[0] for label in expected}


def test_one_class_in_two_spellings(tmp_path):
    """A Mac writes NFD, and the two look alike."""
    tree = write_tree(tmp_path / "in", per_class=2)
    (tree / "train" / "cat").rename(tree / "train" / NFC)
    (tree / "val" / "cat").rename(tree / "val" / NFD)
    output = tmp_path / "out"
    manifest = prepare_here(tree, output)
    assert manifest["num_classes"] == 2
    assert (output / "labels.txt").read_text("utf-8") == f"{NFC} {NFC}\ndog dog\n"


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ((NFC, NFD), r"'cafe\u0301'"),
        (("big cat", "big_cat"), "'big cat'"),
        ((os.fsdecode(b"caf\xe9"), "caf\\xe9"), r"'caf\udce9'"),
    ],
)
def test_two_folders_of_one_class_are_refused(tmp_path, names, said):
    tree = write_tree(tmp_path / "in", per_class=1)
    for name in names:
        shutil.copytree(tree / "train" / "cat", tree / "train" / name)
    with pytest.raises(UserError, match="are folders of one class") as caught:
        prepare_here(tree, tmp_path / "out", shards=(1, 1))
    assert said in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "file", ["by_id.txt", "ILSVRC2012_validation_ground_truth.txt"]
)
def test_text_files_of_other_encodings(tmp_path, file):
    archives = write_archives(tmp_path / "in")
    path: pathlib.Path = archives / file
    content = path.read_bytes()
    path.write_bytes(b"\xef\xbb\xbf" + content)
    by_id = archives / "by_id.txt"
    prepare_here(archives, tmp_path / "out", synsets=by_id)
    path.write_bytes(content + b"n00000040 caf\xe9\n")
    with pytest.raises(UserError, match=f"{file} is not a text file in UTF-8"):
        prepare_here(archives, tmp_path / "new", synsets=by_id)


def test_an_output_folder_whose_name_is_no_utf_8(tmp_path):
    tree = write_tree(tmp_path / "in", per_class=1)
    output = tmp_path / os.fsdecode(b"caf\xe9")
    code, _, stderr = run(tree, output)
    assert code == 2
    (line,) = stderr.splitlines()
    assert r"caf\xe9: TensorFlow takes names in UTF-8 only; rename it" in line
    assert not output.exists()
