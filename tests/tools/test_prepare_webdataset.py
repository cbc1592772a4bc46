"""WebDataset tars as a source: classes, names and mistakes."""

import json

import numpy as np
import pytest
from imagenet_inputs import (
    LABELS,
    bytes_feature,
    files_of,
    grey_picture,
    int_feature,
    label_seen,
    read_examples,
    tar_of,
    text_feature,
)

from official.alexnet import prepare
from official.alexnet.errors import UserError

SYNSETS = sorted(LABELS)


def sample(key, label):
    """A picture and the file that tells its class."""
    told = json.dumps({"label": label, "width": 20}).encode() if label == 1 else b"%d\n"
    ending = "json" if label == 1 else "cls"
    told = told if label == 1 else told % label
    return {f"{key}.jpg": grey_picture(SYNSETS[label]), f"{key}.{ending}": told}


def write_tars(folder, **extra):
    for split, counts in (("train", (6, 3)), ("val", (3,))):
        (folder / split).mkdir(parents=True)
        for number, count in enumerate(counts):
            members = {}
            for i in range(count):
                members |= sample(f"a/{number}{i:03d}", i % 3)
            members |= extra if (split, number) == ("train", 1) else {}
            (folder / split / f"{number:05d}.tar").write_bytes(tar_of(members))
    return folder


def prepare_tars(folder, output, **options):
    shards = {"train_shards": 2, "validation_shards": 1, "num_workers": 1}
    return prepare(folder, output, **(shards | options))


def test_each_picture_has_the_class_beside_it(tmp_path):
    odd = {"a/1000.txt": b"a caption", "b/1000.cls": b"2", "a/.hidden": b""}
    result = prepare_tars(write_tars(tmp_path / "in", **odd), tmp_path / "out")
    assert (result["num_train"], result["num_classes"]) == (9, 3)
    assert result["left_out"] == {
        "train": {".txt": 1, "hidden": 1, "class without a picture": 1}
    }
    for split, count in (("train", 9), ("validation", 3)):
        examples = read_examples(tmp_path / "out", split)
        assert len(examples) == count
        labels = [int_feature(each, "image/class/label") for each in examples]
        # Those of the records count from 1.
        assert labels == [label_seen(each) + 1 for each in examples]
        np.testing.assert_array_equal(np.unique(labels), [1, 2, 3])
        assert bytes_feature(examples[0], "image/filename").endswith(b".jpg")
    text = (tmp_path / "out" / "labels.txt").read_text()
    assert text.splitlines()[1] == "class_00001 1"
    # What was found is kept, and found again.
    before = files_of(tmp_path / "out")
    prepare_tars(tmp_path / "in", tmp_path / "out", remake=["train-00000-of-00002"])
    assert files_of(tmp_path / "out") == before


def test_names_lie_beside_the_folders_or_are_given(tmp_path):
    folder = write_tars(tmp_path / "in")
    (folder / "classnames.txt").write_text("crane\nbig dog\ncrane\n")
    prepare_tars(folder, tmp_path / "out")
    text = (tmp_path / "out" / "labels.txt").read_text()
    assert text == "class_00000 crane\nclass_00001 big dog\nclass_00002 crane\n"
    (tmp_path / "synsets").write_text("n00000002 a\nn00000001 b, c\nn00000003 d\n")
    prepare_tars(folder, tmp_path / "again", synsets=tmp_path / "synsets")
    (example, *_) = read_examples(tmp_path / "again", "validation")
    label = int_feature(example, "image/class/label")
    synset = text_feature(example, "image/class/synset")
    assert synset == ["n00000002", "n00000001", "n00000003"][label - 1]


PICTURE = grey_picture(SYNSETS[0])


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ({"x.jpg": PICTURE}, r"00001\.tar: x\.jpg has no class: expected a \.cls with"),
        ({"x.jpg": PICTURE, "x.cls": b"cat"}, r"x\.jpg has no class"),
        ({"x.jpg": PICTURE, "x.cls": b"-1"}, r"x\.jpg has no class"),
        ({"x.jpg": PICTURE, "x.cls": b"\xff"}, r"x\.jpg has no class"),
        ({"x.jpg": PICTURE, "x.json": b'{"cls": 1}'}, r"x\.jpg has no class"),
        ({"x.jpg": PICTURE, "x.json": b"[" * 10**5}, r"x\.jpg has no class"),
        ({"x.jpg": PICTURE, "x.json": b'{"label": true}'}, r"x\.jpg has no class"),
        ({"x.jpg": PICTURE, "x.PNG": PICTURE, "x.cls": b"1"}, r"two \.jpg of one key"),
        ({"x.jpg": PICTURE, "x.cls": b"1", "x.CLS": b"2"}, r"two \.cls of one key"),
        ({"x.jpg": PICTURE, "x.cls": b"9999"}, r"x\.jpg: class 9999 of 0 to 9"),
    ],
)
def test_a_mistake_is_named(tmp_path, members, words):
    folder = write_tars(tmp_path / "in", **members)
    with pytest.raises(UserError, match=words):
        prepare_tars(folder, tmp_path / "out")


def test_a_class_without_a_name_or_a_picture_is_named(tmp_path):
    folder = write_tars(tmp_path / "in")
    (folder / "classnames.txt").write_text("a\nb\n")
    with pytest.raises(UserError, match=r"class 2 of 0 to 1"):
        prepare_tars(folder, tmp_path / "out")
    (folder / "classnames.txt").write_text("a\nb\nc\nd\n")
    with pytest.raises(UserError, match=r"without an image in train, such as class_00"):
        prepare_tars(folder, tmp_path / "out")


def test_tars_that_are_none_or_hold_nothing_are_named(tmp_path):
    folder = write_tars(tmp_path / "in")
    whole = (folder / "val" / "00000.tar").read_bytes()
    (folder / "val" / "00000.tar").write_bytes(whole[:3000])
    with pytest.raises(UserError, match=r"val/00000\.tar is damaged or cut short"):
        prepare_tars(folder, tmp_path / "out")
    (folder / "val" / "00000.tar").write_bytes(tar_of({"x.webp": b"", "x.cls": b"1"}))
    with pytest.raises(
        UserError, match=r"no \.tar with pictures; 2 file\(s\) left out"
    ):
        prepare_tars(folder, tmp_path / "out")
