"""Finding the records of TensorFlow Datasets, by looking and by name."""

import json
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from record_files import pil_pixels, refusal

from official.alexnet.data import pipeline, schemas, tfds_files
from official.alexnet.data.lanes import Share
from official.alexnet.data.records import describe, find_records
from official.alexnet.errors import UserError


@pytest.fixture(scope="module")
def photo_folder(tmp_path_factory) -> pathlib.Path:
    """A folder <split>/<class>/*.jpg as `tfds.ImageFolder` reads it."""
    root = tmp_path_factory.mktemp("photos")
    generator = np.random.default_rng(0)
    for split, count in (("train", 5), ("test", 2)):
        for name in ("cat", "dog", "eel"):
            folder = root / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 256, (20 + i, 24, 3), np.uint8)
                Image.fromarray(pixels).save(folder / f"{name}{i}.jpg", quality=95)
    return root


@pytest.fixture(scope="module")
def tfds_dir(photo_folder, tmp_path_factory) -> pathlib.Path:
    """The same photographs as TFDS writes them: the bytes as they are on disk."""
    folder = tfds.ImageFolder(str(photo_folder))
    data_dir = tmp_path_factory.mktemp("tfds")
    splits = {
        split: folder.as_dataset(
            split=split, decoders={"image": tfds.decode.SkipDecoding()}
        )
        for split in folder.info.splits
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="photos",
        version="1.2.0",
        data_dir=data_dir,
        split_datasets=splits,
        features=folder.info.features,
    )
    return data_dir


@pytest.mark.parametrize("below", ["photos/1.2.0", "photos", "", ".."])
def test_tfds_dataset_is_found_from_any_level(tfds_dir, tmp_path, below):
    shutil.copytree(tfds_dir, tmp_path / "parent" / "tfds")
    root = tmp_path / "parent" / "tfds" / below
    records = find_records(str(root), "train", 3)
    assert [pathlib.Path(name).name for name in records.files] == [
        "photos-train.tfrecord-00000-of-00001"
    ]
    assert records.schema == schemas.TFDS
    assert (records.first_label, records.last_label) == (0, 2)
    assert records.num_examples == 15
    assert records.label_names == ("cat", "dog", "eel")
    assert "labels 0..2: 0 is class 0, as TFDS has it" in describe(records)


def test_tfds_classes_are_matched_with_the_nets(tfds_dir):
    net = ("eel", "ant", "cat", "dog")
    records = find_records(str(tfds_dir), "train", 4, classes=net)
    assert (records.num_classes, records.label_map) == (3, (2, 3, 0))
    with pytest.raises(UserError, match="its class 'eel' is not one of the 3 classes"):
        find_records(str(tfds_dir), "train", 3, classes=("cat", "dog", "ape"))


def test_tfds_test_split_serves_as_validation(tfds_dir, photo_folder):
    records = find_records(str(tfds_dir), "validation", 3)
    assert records.num_examples == 6
    assert "photos-test.tfrecord" in records.files[0]
    batch = next(
        pipeline.evaluation_dataset(
            records, Share.of(6), image_size=20
        ).as_numpy_iterator()
    )
    assert sorted(batch["label"]) == [0, 0, 1, 1, 2, 2]
    # Each 20x24 photograph is there, its middle 20 columns, under its own label.
    for label, name in enumerate(("cat", "dog", "eel")):
        whole = pil_pixels((photo_folder / "test" / name / f"{name}0.jpg").read_bytes())
        taken = batch["image"][batch["label"] == label]
        assert any(np.array_equal(image, whole[:, 2:22]) for image in taken)


@pytest.fixture
def tfds_copy(tfds_dir, tmp_path) -> pathlib.Path:
    return pathlib.Path(shutil.copytree(tfds_dir, tmp_path / "tfds"))


def edit_info(version_dir: pathlib.Path, **changes) -> None:
    path = version_dir / "dataset_info.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_several_tfds_datasets_are_refused(tfds_copy):
    shutil.copytree(tfds_copy / "photos/1.2.0", tfds_copy / "photos/1.3.0")
    text = refusal(tfds_copy)
    assert "photos/1.2.0 and " in text
    assert "name one of them as --data_dir" in text


def test_tfds_format_other_than_tfrecord_is_refused(tfds_copy):
    edit_info(tfds_copy / "photos/1.2.0", fileFormat="array_record")
    assert "array_record, only tfrecord is read" in refusal(tfds_copy)


def test_tfds_dataset_without_the_split_is_refused(tfds_copy):
    edit_info(tfds_copy / "photos/1.2.0", splits=[{"name": "extra"}])
    text = refusal(tfds_copy, "validation")
    assert "validation or val or test, found extra" in text


def test_tfds_description_that_is_none_is_refused(tfds_copy):
    (tfds_copy / "photos/1.2.0/dataset_info.json").write_text("[1]")
    assert "dataset_info.json: not TFDS's description" in refusal(tfds_copy)


def test_missing_tfds_shard_is_named(tfds_copy):
    next(tfds_copy.rglob("photos-train*")).unlink()
    assert "the first is photos-train.tfrecord-00000-of-00001" in refusal(tfds_copy)


def test_tfds_classes_beyond_the_model_are_refused(tfds_dir):
    assert "pass --num_classes=3" in refusal(tfds_dir, num_classes=2)


def test_tfds_dataset_by_name(tfds_dir):
    by_name = tfds_files.open_by_name("photos", str(tfds_dir), False)
    records = find_records(str(by_name), "train", 3)
    assert records == find_records(str(tfds_dir), "train", 3)


class TinyPhotos(tfds.core.GeneratorBasedBuilder):
    """A dataset TFDS knows by name, made without a network, PNG as TFDS's default."""

    VERSION = tfds.core.Version("1.0.0")

    def _info(self):
        features = {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "label": tfds.features.ClassLabel(names=["cat", "dog"]),
        }
        return tfds.core.DatasetInfo(
            builder=self, features=tfds.features.FeaturesDict(features)
        )

    def _split_generators(self, _):
        return {"train": self._generate_examples(), "val": self._generate_examples()}

    def _generate_examples(self):
        for i in range(4):
            yield i, {"image": np.full((9, 8, 3), i, np.uint8), "label": i % 2}


def test_tfds_prepares_a_dataset_only_if_told_to(tmp_path):
    name, data_dir = "tiny_photos", str(tmp_path)
    with pytest.raises(UserError, match="--tfds_download"):
        tfds_files.open_by_name(name, data_dir, False)
    folder = tfds_files.open_by_name(name, data_dir, True)
    records = find_records(str(folder), "validation", 2)
    assert records.num_examples == 4
    assert "tiny_photos-val.tfrecord" in records.files[0]
    batch = next(
        pipeline.evaluation_dataset(
            records, Share.of(4), image_size=8
        ).as_numpy_iterator()
    )
    # Colour i has label i % 2.
    np.testing.assert_array_equal(batch["image"][:, 0, 0, 0] % 2, batch["label"])
    assert sorted(batch["image"][:, 0, 0, 0]) == [0, 1, 2, 3]


def test_name_unknown_to_tfds_is_said(tmp_path):
    with pytest.raises(UserError, match="TFDS cannot open 'no_such_dataset'") as caught:
        tfds_files.open_by_name("no_such_dataset", str(tmp_path), False)
    assert "\n" not in str(caught.value)
