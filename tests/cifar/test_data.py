"""The published binary files and TFDS give the same arrays; mistakes give a line."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from official.alexnet.cifar import data
from official.alexnet.errors import UserError

RECORDS = 20


def write_binary(cifar10, folder) -> None:
    """As described with the data set: label, then the three planes, row by row."""
    folder.mkdir(parents=True)
    for i, name in enumerate((*data.TRAIN_FILES, data.TEST_FILE)):
        is_test = name == data.TEST_FILE
        images = cifar10.test_images if is_test else cifar10.train_images
        labels = cifar10.test_labels if is_test else cifar10.train_labels
        start = 0 if is_test else i * RECORDS
        content = bytearray()
        for image, label in zip(
            images[start : start + RECORDS],
            labels[start : start + RECORDS],
            strict=True,
        ):
            content.append(label)
            for plane in range(3):
                for row in image:
                    content.extend(row[:, plane].tolist())
        (folder / name).write_bytes(content)


@pytest.fixture
def cifar10(small_cifar10):
    repeated = {
        field.name: np.concatenate([getattr(small_cifar10, field.name)] * 2)
        for field in dataclasses.fields(small_cifar10)
    }
    return data.Cifar10(
        **{
            name: array[: 5 * RECORDS if name.startswith("train") else RECORDS]
            for name, array in repeated.items()
        }
    )


@pytest.fixture
def binary_dir(cifar10, tmp_path, monkeypatch):
    monkeypatch.setattr(data, "RECORDS_A_FILE", RECORDS)
    write_binary(cifar10, tmp_path / "cifar-10-batches-bin")
    return tmp_path


def check_equal(found, expected) -> None:
    for field in dataclasses.fields(data.Cifar10):
        a, b = getattr(found, field.name), getattr(expected, field.name)
        np.testing.assert_array_equal(a, b)
        assert a.dtype == b.dtype


def test_binary_files(binary_dir, cifar10):
    check_equal(data.read(str(binary_dir)), cifar10)
    check_equal(data.read(str(binary_dir / "cifar-10-batches-bin")), cifar10)


def test_tfds(cifar10, tmp_path):
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    write_tfds(cifar10, features, tmp_path)
    check_equal(data.read(str(tmp_path), "tiny_cifar10"), cifar10)


def test_tfds_images_of_other_classes(cifar10, tmp_path):
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(32, 32, 3)),
            "label": tfds.features.ClassLabel(names=[*data.CLASSES[:9], "zebra"]),
        }
    )
    write_tfds(cifar10, features, tmp_path)
    with pytest.raises(UserError, match="its class 'zebra' is not one of the 10"):
        data.read(str(tmp_path), "tiny_cifar10")


def write_tfds(cifar10, features, data_dir) -> None:
    def examples(images, labels):
        ids = [str(i) for i in range(len(labels))]
        return tf.data.Dataset.from_tensor_slices(
            {"id": ids, "image": images, "label": labels.astype(np.int64)}
        )

    splits = {
        "train": examples(cifar10.train_images, cifar10.train_labels),
        "test": examples(cifar10.test_images, cifar10.test_labels),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_cifar10",
        version="1.0.0",
        data_dir=str(data_dir),
        split_datasets=splits,
        features=features,
        disable_shuffling=True,
    )


def test_tfds_images_of_another_size(cifar10, tmp_path):
    features = tfds.features.FeaturesDict(
        {
            "id": tfds.features.Text(),
            "image": tfds.features.Image(shape=(28, 28, 3)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    small = dataclasses.replace(
        cifar10,
        train_images=cifar10.train_images[:, :28, :28],
        test_images=cifar10.test_images[:, :28, :28],
    )
    write_tfds(small, features, tmp_path)
    with pytest.raises(UserError, match="an image of 28 x 28 pixels"):
        data.read(str(tmp_path), "tiny_cifar10")


def test_mistakes(binary_dir, tmp_path):
    folder = binary_dir / "cifar-10-batches-bin"
    with pytest.raises(UserError, match="nowhere: no such directory"):
        data.read(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="--data_dir=None"):
        data.read(None)

    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"data_batch_3\.bin has 61,459 bytes, not"):
        data.read(str(binary_dir))
    path.write_bytes(whole[:-3073] + b"\x0a" + whole[-3072:])
    with pytest.raises(UserError, match="record 19 has label 10, outside 0"):
        data.read(str(binary_dir))
    path.unlink()
    with pytest.raises(UserError, match=r"has no data_batch_3\.bin"):
        data.read(str(binary_dir))
    (folder / "data_batch_1").touch()
    with pytest.raises(UserError, match="the Python version"):
        data.read(str(binary_dir))
