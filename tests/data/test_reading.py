"""What is said about records that cannot be read."""

import dataclasses
import pathlib

import pytest
import tensorflow as tf
from record_files import photographs, write_records

from official.alexnet.data import pipeline, reading
from official.alexnet.data.lanes import Share
from official.alexnet.data.records import Records, find_records

SIZE = 24
NUM_EXAMPLES = 13


@pytest.fixture(scope="module")
def images() -> list[bytes]:
    return photographs(NUM_EXAMPLES, SIZE)


@pytest.fixture(scope="module")
def records(images, tmp_path_factory) -> Records:
    """Thirteen examples in three shards; an example's label is its number."""
    folder = tmp_path_factory.mktemp("records")
    examples = list(zip(images, range(NUM_EXAMPLES), strict=True))
    write_records(folder, "train", [examples[:4], examples[4:5], examples[5:]])
    return find_records(str(folder), "train", NUM_EXAMPLES)


def user_error_of(records: Records) -> str:
    """Trains an epoch that must fail; the one line said about it."""
    dataset = pipeline.training_dataset(
        records, Share.of(4), seed=7, image_size=SIZE, crop_size=17
    )
    with pytest.raises(tf.errors.OpError) as caught:
        list(dataset.take(8))
    text = str(reading.as_user_error(caught.value, records))
    assert "\n" not in text
    return text


def test_label_out_of_range_names_label_file_record_and_base(records):
    fewer = dataclasses.replace(records, num_classes=12)
    text = user_error_of(fewer)
    assert f"{records.files[2]}: record 7 has label 13, outside 1..12" in text
    assert "--num_classes" in text


def test_label_below_the_base_is_refused(records):
    later = dataclasses.replace(records, first_label=2)
    assert "record 0 has label 1, outside 2..14" in user_error_of(later)


@pytest.mark.parametrize("damage", ["no image", "cut short"])
def test_undecodable_image_is_found(images, tmp_path, damage):
    bad = b"not an image" if damage == "no image" else images[0][:-40]
    good = [(image, 0) for image in images]
    write_records(tmp_path, "train", [good[:3], [*good[3:5], (bad, 0), *good[5:]]])
    records = find_records(str(tmp_path), "train", 1)
    text = user_error_of(records)
    reason = {"no image": "neither JPEG nor PNG", "cut short": "damaged or cut short"}
    assert f"{records.files[1]}: record 2 has an image that is {reason[damage]}" in text


def test_damaged_bytes_are_found(images, tmp_path):
    write_records(tmp_path, "train", [[(image, 0) for image in images]])
    records = find_records(str(tmp_path), "train", 1)
    path = pathlib.Path(records.files[0])
    contents = bytearray(path.read_bytes())
    contents[len(contents) // 2] ^= 1
    path.write_bytes(contents)
    assert f"{path}: record 6 cannot be read" in user_error_of(records)


@pytest.mark.parametrize("counted", [7, 9])
def test_records_added_or_lost_since_they_were_counted(records, counted):
    wrong = dataclasses.replace(records, file_sizes=(4, 1, counted))
    text = user_error_of(wrong)
    assert f"{records.files[2]} holds 8 records and not the {counted}" in text


def test_a_file_that_is_gone_is_named(images, tmp_path):
    write_records(tmp_path, "train", [[(image, 0)] for image in images[:4]])
    records = find_records(str(tmp_path), "train", 1)
    pathlib.Path(records.files[2]).unlink()
    text = user_error_of(records)
    assert text.startswith(f"{records.files[2]}: No such file or directory; put it")


def test_other_errors_are_left_alone(records):
    with pytest.raises(tf.errors.OpError) as caught:
        tf.matmul(tf.ones((2, 3)), tf.ones((2, 3)))
    assert reading.as_user_error(caught.value, records) is None
