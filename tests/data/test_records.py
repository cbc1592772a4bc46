"""Finding records: both layouts, label bases, counts, and what is said if not found."""

import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from record_files import photographs, refusal, write_records

from official.alexnet.data import framing, pipeline, schemas
from official.alexnet.data.lanes import Share
from official.alexnet.data.records import describe, find_records
from official.alexnet.errors import UserError

IMAGE = photographs(1, 8)[0]


def write_labels(folder: pathlib.Path, shards: list[list[int]], split="train") -> None:
    """Writes records of the given 0-based labels (the file holds one more)."""
    folder.mkdir(parents=True, exist_ok=True)
    write_records(folder, split, [[(IMAGE, label) for label in x] for x in shards])


@pytest.mark.parametrize("subfolder", ["", "train"])
def test_classic_shards_are_found(tmp_path, subfolder):
    folder = tmp_path / subfolder
    write_labels(folder, [[0, 1, 2], [], [2, 2]])
    write_labels(tmp_path / "validation", [[1]], "validation")
    (folder / "train-00000-of-00003.md5").write_text("no shard")
    records = find_records(str(tmp_path), "train", 3)
    assert records.files == tuple(
        str(folder / f"train-0000{i}-of-00003") for i in range(3)
    )
    assert records.schema == schemas.CLASSIC
    assert (records.first_label, records.last_label) == (1, 3)
    assert records.num_examples == 5
    assert records.label_names is None
    assert find_records(str(tmp_path), "validation", 3).num_examples == 1


def test_description_is_one_line_with_everything(tmp_path):
    write_labels(tmp_path, [[0, 1, 2], [2, 2]])
    assert describe(find_records(str(tmp_path), "train", 3)) == (
        f"5 examples, classic layout, 2 files ({tmp_path}/train-00000-of-00002 ...), "
        "labels 1..3: 1 is class 0, as all labels are 1..3"
    )


def test_classic_labels_from_0_are_recognised(tmp_path):
    # The writer adds one: -1 is stored as label 0.
    write_labels(tmp_path, [[0, 1], [-1, 0]])
    records = find_records(str(tmp_path), "train", 3)
    assert (records.first_label, records.last_label) == (0, 2)
    assert "labels 0..2: 0 is class 0, as all labels are 0..2" in describe(records)
    batch = next(
        pipeline.evaluation_dataset(
            records, Share.of(4), image_size=8
        ).as_numpy_iterator()
    )
    assert sorted(batch["label"]) == [0, 1, 1, 2]


def test_labels_from_0_to_the_number_of_classes_are_refused(tmp_path):
    # 0 as background and 1..3: neither base fits three classes.
    write_labels(tmp_path, [[-1, 0, 1, 2]])
    text = refusal(tmp_path)
    assert f"{tmp_path}/train-00000-of-00001: record 3 has label 3" in text
    assert "outside 0..2" in text
    assert "--num_classes=4" in text


def test_label_beyond_the_classes_names_the_flag(tmp_path):
    write_labels(tmp_path, [[0, 1], [2, 5, 9]])
    text = refusal(tmp_path)
    assert f"{tmp_path}/train-00001-of-00002: record 1 has label 6" in text
    assert "outside 1..3" in text
    assert "--num_classes=10" in text


def test_negative_labels_are_refused(tmp_path):
    write_labels(tmp_path, [[0, -2]])
    text = refusal(tmp_path)
    assert "record 1 has label -1, below 1" in text


def write_manifest(folder: pathlib.Path, counts: dict[str, int], split="train") -> None:
    shards = [
        {"file": name, "num_examples": count, "bytes": (folder / name).stat().st_size}
        for name, count in counts.items()
    ]
    manifest = {"format": 1, "splits": {split: {"shards": shards}}}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_manifest_is_believed_if_it_lists_these_files(tmp_path):
    write_labels(tmp_path, [[0, 1], [2]])
    # Counts that are not true show where the number came from.
    counts = {"train-00000-of-00002": 20, "train-00001-of-00002": 3}
    write_manifest(tmp_path, counts)
    assert find_records(str(tmp_path), "train", 3).num_examples == 23


@pytest.mark.parametrize("difference", ["names", "split", "damage", "null"])
def test_records_are_counted_if_the_manifest_is_of_other_files(tmp_path, difference):
    write_labels(tmp_path, [[0, 1], [2]])
    counts = {"train-00000-of-00002": 20, "train-00001-of-00002": 3}
    if difference == "names":
        del counts["train-00001-of-00002"]
    write_manifest(tmp_path, counts, "other" if difference == "split" else "train")
    if difference == "damage":
        (tmp_path / "manifest.json").write_text("{")
    if difference == "null":
        text = (tmp_path / "manifest.json").read_text()
        text = re.sub('"bytes": [0-9]+', '"bytes": null', text)
        (tmp_path / "manifest.json").write_text(text)
    assert find_records(str(tmp_path), "train", 3).num_examples == 3


def test_a_file_of_another_size_than_the_manifest_says_is_refused(tmp_path):
    write_labels(tmp_path, [[0, 1], [2]])
    write_manifest(tmp_path, {f"train-0000{i}-of-00002": 2 - i for i in range(2)})
    # Whole, but with a record less than it had.
    write_labels(tmp_path, [[0, 1], []])
    text = refusal(tmp_path)
    assert "train-00001-of-00002 has 0 bytes, " in text
    assert "manifest.json says " in text
    assert "tools/validate_records.py" in text


def test_headers_count_what_tensorflow_reads(tmp_path):
    path = tmp_path / "some"
    contents = [b"", b"x", bytes(70_000), b"yy"]
    with tf.io.TFRecordWriter(str(path)) as writer:
        for content in contents:
            writer.write(content)
    whole = path.read_bytes()
    assert [whole[i : i + n] for i, n in framing.spans(path)] == contents
    assert framing.count_records(path) == 4


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_file_cut_short_is_named(tmp_path, cut):
    write_labels(tmp_path, [[0], [0, 1, 2]])
    path = tmp_path / "train-00001-of-00002"
    path.write_bytes(path.read_bytes()[:-cut])
    assert f"{path}: cut short or damaged in record 2" in refusal(tmp_path)


def test_file_of_another_kind_is_named(tmp_path):
    (tmp_path / "train-00000-of-00001").write_bytes(b"\x1f\x8b" * 50)
    text = refusal(tmp_path)
    assert "train-00000-of-00001: cut short or damaged in record 0" in text


@pytest.mark.parametrize("kind", ["GZIP", "ZLIB"])
@pytest.mark.parametrize("length", [10, 600_000])
def test_compressed_files_are_said_to_be_so(tmp_path, kind, length):
    path = tmp_path / "train-00000-of-00001"
    noise = np.random.default_rng(0).bytes(length)
    with tf.io.TFRecordWriter(str(path), kind) as writer:
        writer.write(noise)
        writer.write(noise)
    assert f"{path} is compressed with {kind.lower()}" in refusal(tmp_path)


def test_a_record_may_begin_as_compressed_files_do(tmp_path):
    path = tmp_path / "some"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(bytes(0x088B1F))  # Its length comes first: 1f 8b 08.
    assert path.read_bytes()[:3] == b"\x1f\x8b\x08"
    assert framing.count_records(path) == 1


def test_missing_shard_is_named(tmp_path):
    write_labels(tmp_path, [[0], [1], [2], [0]])
    (tmp_path / "train-00002-of-00004").unlink()
    text = refusal(tmp_path)
    assert "1 of 4 shards missing, the first is train-00002-of-00004" in text


def test_shards_of_two_sets_are_refused(tmp_path):
    write_labels(tmp_path, [[0]])
    write_labels(tmp_path, [[0], [1]])
    assert "-of-00001 and -of-00002; keep one set" in refusal(tmp_path)


def test_missing_directory_is_said(tmp_path):
    assert "--data_dir=" in refusal(tmp_path / "nowhere")
    with pytest.raises(UserError, match="--data_dir=: no such directory"):
        find_records("", "train", 3)


def test_what_was_looked_for_and_found_is_said(tmp_path):
    text = refusal(tmp_path, "validation")
    for words in (
        f"{tmp_path}: no validation records",
        "validation-?????-of-?????",
        "dataset_info.json",
        "found an empty directory",
        "tools/prepare_imagenet.py",
    ):
        assert words in text
    write_labels(tmp_path, [[0], [1], [2], [0], [1], [2]])
    assert "found train-00000-of-00006, " in refusal(tmp_path, "validation")
    assert "and 2 more" in refusal(tmp_path, "validation")


def test_no_records_at_all_is_said(tmp_path):
    write_labels(tmp_path, [[], []])
    assert "hold no records" in refusal(tmp_path)


def test_records_of_another_schema_are_refused(tmp_path):
    feature = tf.train.Feature(int64_list=tf.train.Int64List(value=[1]))
    example = tf.train.Example(
        features=tf.train.Features(feature={"label": feature, "pixels": feature})
    )
    path = tmp_path / "train-00000-of-00001"
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(example.SerializeToString())
    text = refusal(tmp_path)
    assert "record 0 has no feature 'image/encoded'" in text
    assert "label, pixels" in text
    with tf.io.TFRecordWriter(str(path)) as writer:
        writer.write(b"\xff\xff\xff no example")
    assert "record 0 is not a tf.train.Example" in refusal(tmp_path)


def test_label_names_of_a_prepared_directory(tmp_path):
    write_labels(tmp_path, [[0, 1, 2]])
    names = ("n01440764 tench, Tinca tinca", "n01443537 goldfish", "n02111277 dog")
    (tmp_path / "labels.txt").write_text("\n".join(names) + "\n")
    assert find_records(str(tmp_path), "train", 3).label_names == names
    assert "pass --num_classes=3" in refusal(tmp_path, num_classes=2)


def test_finding_records_leaves_devices_to_be_configured(tmp_path):
    """TensorFlow's devices can be set only before they are first used."""
    write_labels(tmp_path, [[0]])
    script = (
        "import tensorflow as tf\n"
        "from official.alexnet.data.records import find_records\n"
        f"find_records({str(tmp_path)!r}, 'train', 1)\n"
        "cpu = tf.config.list_physical_devices('CPU')[0]\n"
        "split = [tf.config.LogicalDeviceConfiguration()] * 2\n"
        "tf.config.set_logical_device_configuration(cpu, split)\n"
        "assert len(tf.config.list_logical_devices('CPU')) == 2\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
