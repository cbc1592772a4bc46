"""Where labels begin, and which class each stands for."""

import functools
import json
import pathlib
import shutil

import pytest
import record_files
from record_files import photographs, write_records

from official.alexnet.data import classes, labels
from official.alexnet.data.records import describe, find_records
from official.alexnet.errors import UserError

IMAGE = photographs(1, 8)[0]


def write(folder: pathlib.Path, stored: list[int], split="train") -> None:
    """Writes records of the given labels as they are stored, to two shards."""
    # The writer adds one.
    entries = [(IMAGE, label - 1) for label in stored]
    write_records(folder, split, [entries[::2], entries[1::2]])


refusal = functools.partial(record_files.refusal, num_classes=4)


def base(folder: pathlib.Path, split="train", num_classes=4, **kwargs) -> int:
    return find_records(str(folder), split, num_classes, **kwargs).first_label


def test_one_base_for_all_splits(tmp_path):
    write(tmp_path, [0, 1, 2, 3])
    write(tmp_path, [1, 2, 3], "validation")
    assert base(tmp_path) == base(tmp_path, "validation") == 0


def test_a_class_that_comes_late_is_seen(tmp_path):
    write(tmp_path, [1, 2, 3] * 700 + [0])
    assert base(tmp_path) == 0


def test_labels_are_read_once(tmp_path, monkeypatch):
    write(tmp_path, [0, 1, 2, 3])
    assert base(tmp_path) == 0
    labels._count_all.cache_clear()
    monkeypatch.setattr(labels, "count_file", None)
    assert base(tmp_path) == 0, "from label_counts.json"


@pytest.mark.parametrize("change", ["records", "file"])
def test_labels_are_read_again_where_files_changed(tmp_path, change):
    write(tmp_path, [0, 1, 2, 3])
    assert base(tmp_path) == 0
    if change == "records":
        write(tmp_path, [1, 2, 3, 4])
    else:
        (tmp_path / labels.COUNTS_FILE).write_text('{"files": [["train')
        labels._count_all.cache_clear()
    assert base(tmp_path) == (1 if change == "records" else 0)


def test_a_folder_that_cannot_be_written_is_read_all_the_same(tmp_path):
    write(tmp_path, [0, 1, 2, 3])
    (tmp_path / labels.COUNTS_FILE).mkdir()
    assert base(tmp_path) == 0


def test_a_base_that_cannot_be_told_is_asked_for(tmp_path):
    write(tmp_path, [1, 2, 3])
    text = refusal(tmp_path)
    assert "all labels are 1..3 and there are 4 classes" in text
    assert "--label_base=0 or --label_base=1, or give --num_classes=3" in text
    assert base(tmp_path, label_base="0") == 0
    assert base(tmp_path, label_base="1") == 1
    assert base(tmp_path, num_classes=3) == 1


def test_a_base_that_the_labels_contradict_is_refused(tmp_path):
    write(tmp_path, [0, 1, 2, 3])
    text = refusal(tmp_path, label_base="1")
    assert "so 0 is class 0, but 1 is as --label_base says" in text


def test_tfds_and_prepared_sets_have_their_base(tmp_path):
    write(tmp_path, [1, 2, 3, 4])
    shards = [
        {"file": path.name, "num_examples": 2, "bytes": path.stat().st_size}
        for path in sorted(tmp_path.glob("train-*"))
    ]
    manifest = {"splits": {"train": {"shards": shards}}}
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    assert base(tmp_path) == 1
    assert not (tmp_path / labels.COUNTS_FILE).exists()
    assert "leave the flag out" in refusal(tmp_path, label_base="0")


BACKGROUND = ["background", "apple", "lime", "plum", "sky"]
NAMES = ("apple", "lime", "plum", "sky")


@pytest.mark.parametrize(
    "lines",
    [
        BACKGROUND,
        [f"{i}:{name}" for i, name in enumerate(BACKGROUND)],
        [f"{i}: {name}" for i, name in enumerate(BACKGROUND)],
        [f"{i}:{name}" for i, name in enumerate(NAMES, 1)],
        ["Background", *NAMES],
        NAMES,
    ],
)
def test_others_names_lose_background_and_numbers(tmp_path, lines):
    """TF-Slim's ImageNet has labels 1..1000 and 1001 names."""
    write(tmp_path, [1, 2, 3, 4])
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    records = find_records(str(tmp_path), "train", 4)
    assert (records.first_label, records.label_names) == (1, NAMES)


def test_background_tells_the_base_of_a_split_without_the_last_class(tmp_path):
    write(tmp_path, [1, 2, 3], "validation")
    (tmp_path / "labels.txt").write_text("\n".join(BACKGROUND))
    records = find_records(str(tmp_path), "validation", 4)
    assert (records.first_label, records.label_names) == (1, NAMES)
    assert "as 0 is the background in labels.txt" in describe(records)


@pytest.mark.parametrize("numbered", [False, True])
def test_a_background_with_pictures_is_a_class(tmp_path, numbered):
    write(tmp_path, [0, 1, 2, 3, 4])
    lines = [f"{i}:{x}" if numbered else x for i, x in enumerate(BACKGROUND)]
    (tmp_path / "labels.txt").write_text("\n".join(lines))
    records = find_records(str(tmp_path), "train", 5)
    assert (records.first_label, records.label_names) == (0, tuple(BACKGROUND))


def test_a_background_is_kept_where_the_user_says_so(tmp_path):
    """As TF-Slim's nets of 1001 classes have it."""
    write(tmp_path, [1, 2, 3, 4])
    (tmp_path / "labels.txt").write_text("\n".join(BACKGROUND))
    records = find_records(str(tmp_path), "train", 5, label_base="0")
    assert (records.first_label, records.label_names) == (0, tuple(BACKGROUND))


def test_a_first_class_named_background_is_one(tmp_path):
    write(tmp_path, [1, 2, 3, 4, 5])
    (tmp_path / "labels.txt").write_text("\n".join(BACKGROUND))
    records = find_records(str(tmp_path), "train", 5)
    assert (records.first_label, records.label_names) == (1, tuple(BACKGROUND))


def test_numbers_tell_the_base(tmp_path):
    write(tmp_path, [1, 2, 3])
    (tmp_path / "labels.txt").write_text("0:apple\n1:lime\n2:plum\n3:sky\n")
    assert base(tmp_path) == 0
    assert "counts its classes from 0" in refusal(tmp_path, label_base="1")
    write(tmp_path, [1, 2, 3, 4])
    assert "0 is as labels.txt counts its classes" in refusal(tmp_path)


def test_names_of_classes_that_are_alike():
    same = classes.are_same
    assert same(["n01440764 tench, Tinca tinca"], ["n01440764"])
    assert same(["lime lime"], ["lime"])
    assert same(["dog house dog house"], ["dog house"])
    assert same(["dog_house dog house"], ["dog house"])
    assert not same(["dog_house cat house"], ["cat house"])
    assert same(["cafe\u0301"], ["caf\u00e9"])
    assert not same(["n01440764"], ["n01443537"])
    assert not same(["lime", "plum"], ["plum", "lime"])
    assert not same(["lime"], ["lime", "plum"])


def test_positions_are_by_name():
    assert classes.positions(["plum", "lime"], ["apple", "lime", "plum"], "x") == (2, 1)
    assert classes.positions(["lime"], ["lime"], "x") is None
    assert classes.positions(None, ["lime"], "x") is None
    with pytest.raises(UserError, match="its class 'zebra' is not one of the 2"):
        classes.positions(["lime", "zebra"], ["lime", "plum"], "x")
    with pytest.raises(UserError, match="its class 'crane' is more than one"):
        classes.positions(["crane"], ["crane", "crane", "plum"], "x")


@pytest.mark.parametrize("lines", [(0, 1, 2), (1, 0, 2)])
def test_labels_txt_in_another_order_than_the_records(records_dir, tmp_path, lines):
    """Their own WordNet ids tell."""
    folder = shutil.copytree(records_dir, tmp_path / "records")
    names = [f"n0000000{i} class {i}\n" for i in lines]
    (folder / "labels.txt").write_text("".join(names))
    for split in ("train", "validation"):
        if lines == (0, 1, 2):
            assert find_records(str(folder), split, 3).num_classes == 3
            continue
        line = r"has label 1 and synset n00000000, but labels\.txt has n00000001 there"
        with pytest.raises(UserError, match=line):
            find_records(str(folder), split, 3)
