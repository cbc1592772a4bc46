"""What is in the records that are made of archives and folders."""

import hashlib
import json

import numpy as np
import pytest
from imagenet_inputs import (
    IDS,
    SYNSETS,
    files_of,
    grey_picture,
    int_feature,
    label_seen,
    prepare_here,
    read_examples,
    stored_image,
    tar_of,
    text_feature,
    write_archives,
    write_tree,
)
from PIL import Image

from official.alexnet.data.statistics import Statistics
from official.alexnet.errors import UserError


@pytest.mark.parametrize("year", [2012, 2010])
def test_labels_of_archives(tmp_path, year):
    """What each picture shows is what its record says, by way of the ids."""
    archives = write_archives(tmp_path / "in", year)
    output = tmp_path / "out"
    manifest = prepare_here(archives, output, synsets=archives / "by_id.txt")
    synsets = sorted(SYNSETS)
    for split, count in (("train", 12), ("validation", 7)):
        examples = read_examples(output, split)
        assert len(examples) == count == manifest["splits"][split]["num_examples"]
        for features in examples:
            label = label_seen(features)
            assert int_feature(features, "image/class/label") == label + 1
            assert text_feature(features, "image/class/synset") == synsets[label]
            words = f"thing {synsets[label][-2:]}, item"
            assert text_feature(features, "image/class/text") == words
            assert int_feature(features, "image/height") == 256
            assert int_feature(features, "image/width") == 256
    names = [text_feature(features, "image/filename") for features in examples]
    assert names == [f"ILSVRC{year}_val_{i:08d}.JPEG" for i in range(1, 8)]
    labels = (output / "labels.txt").read_text().splitlines()
    assert labels == [f"{s} thing {s[-2:]}, item" for s in synsets]


def test_ground_truth_of_wordnet_ids(tmp_path):
    archives = write_archives(tmp_path / "in")
    truth = archives / "ILSVRC2012_validation_ground_truth.txt"
    truth.write_text("".join(f"{SYNSETS[i - 1]}\n" for i in IDS))
    prepare_here(archives, tmp_path / "out")
    for features in read_examples(tmp_path / "out", "validation"):
        assert int_feature(features, "image/class/label") == label_seen(features) + 1


def test_2010_has_a_test_split(tmp_path):
    archives = write_archives(tmp_path / "in", 2010)
    pictures = [grey_picture(SYNSETS[1]), grey_picture(SYNSETS[0])]
    (archives / "ILSVRC2010_images_test.tar").write_bytes(
        tar_of({f"ILSVRC2010_test_{i:08d}.JPEG": p for i, p in enumerate(pictures, 1)})
    )
    by_id = archives / "by_id.txt"
    with pytest.raises(UserError, match="--test_ground_truth"):
        prepare_here(archives, tmp_path / "out", synsets=by_id)
    (archives / "ILSVRC2010_test_ground_truth.txt").write_text("2\n1\n")
    manifest = prepare_here(archives, tmp_path / "out", synsets=by_id)
    assert manifest["splits"]["test"]["num_examples"] == 2
    examples = read_examples(tmp_path / "out", "test")
    assert [int_feature(f, "image/class/label") for f in examples] == [1, 3]


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_folder_tree(tmp_path, validation):
    tree = write_tree(tmp_path / "in", validation=validation)
    (tree / "train" / "cat" / "notes.txt").write_text("not a picture")
    (tree / "train" / "cat" / "._0.jpg").write_text("what a Mac leaves")
    output = tmp_path / "out"
    manifest = prepare_here(tree, output, shards=(4, 2))
    assert (output / "labels.txt").read_text() == "cat cat\ndog dog\n"
    assert manifest["num_classes"] == 2
    stored = {}
    for split, count in (("train", 12), ("validation", 4)):
        examples = read_examples(output, split)
        assert len(examples) == count
        for features in examples:
            name = ("cat", "dog")[int_feature(features, "image/class/label") - 1]
            file = text_feature(features, "image/filename")
            stored[split, name, file] = np.asarray(stored_image(features), int)
    assert len(stored) == 16
    for (split, name, file), pixels in stored.items():
        folder = validation if split == "validation" else split
        image = Image.open(tree / folder / name / file)
        left = (image.width - 256) // 2
        centre = np.asarray(image.crop((left, 0, left + 256, 256)), int)
        assert np.abs(pixels - centre).mean() < 3


def test_words_of_a_tree_come_from_the_synsets_file(tmp_path):
    tree = write_tree(tmp_path / "in")
    for split in ("train", "val"):
        (tree / split / "cat").rename(tree / split / "n02000001")
    words = tmp_path / "words.txt"
    words.write_text("n02000000 toad\nn02000001 tiger cat, Felis\n")
    prepare_here(tree, tmp_path / "out", synsets=words)
    labels = (tmp_path / "out" / "labels.txt").read_text()
    assert labels == "dog dog\nn02000001 tiger cat, Felis\n"


def test_training_list_is_shuffled_once_by_the_seed(tmp_path):
    tree = write_tree(tmp_path / "in", per_class=12)
    orders = {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        prepare_here(tree, tmp_path / name, seed=seed)
        orders[name] = [
            (int_feature(f, "image/class/label"), text_feature(f, "image/filename"))
            for f in read_examples(tmp_path / name, "train")
        ]
    assert orders["a"] == orders["b"] != orders["c"]
    assert sorted(orders["a"]) == sorted(orders["c"])
    assert len(set(orders["a"])) == 24
    labels = [label for label, _ in orders["a"]]
    changes = np.count_nonzero(np.diff(labels))
    assert changes > 4  # 1 if unshuffled, 12 on average


def test_statistics_are_those_of_the_stored_training_images(tmp_path):
    tree = write_tree(tmp_path / "in")
    prepare_here(tree, tmp_path / "out", shards=(5, 1))
    images = [
        np.asarray(stored_image(f)) for f in read_examples(tmp_path / "out", "train")
    ]
    statistics = Statistics.load(tmp_path / "out" / "statistics.npz")
    assert statistics.num_images == len(images) == 12
    np.testing.assert_array_equal(
        statistics.mean_image, np.mean(images, axis=0).astype(np.float32)
    )
    pixels = np.reshape(images, (-1, 3)).astype(np.float64)
    eigenvalues = np.linalg.eigvalsh(np.cov(pixels.T, bias=True))
    np.testing.assert_allclose(
        statistics.covariance_eigenvalues, eigenvalues[::-1], rtol=1e-9
    )


def test_manifest_describes_the_files(tmp_path):
    tree = write_tree(tmp_path / "in")
    manifest = prepare_here(tree, tmp_path / "out", shards=(5, 2), seed=7)
    assert manifest == json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["format"] == 1
    assert manifest["settings"]["seed"] == 7
    assert manifest["bad_images"] == []
    files = files_of(tmp_path / "out")
    for split, count in (("train", 5), ("validation", 2)):
        shards = manifest["splits"][split]["shards"]
        names = [f"{split}-{i:05d}-of-{count:05d}" for i in range(count)]
        assert [shard["file"] for shard in shards] == names
        for shard in shards:
            data = files.pop(shard["file"])
            assert shard["bytes"] == len(data)
            assert shard["sha256"] == hashlib.sha256(data).hexdigest()
        assert manifest["splits"][split]["num_examples"] == sum(
            shard["num_examples"] for shard in shards
        )
        # No shard is much larger than another.
        sizes = [shard["num_examples"] for shard in shards]
        assert max(sizes) - min(sizes) <= 1
    assert set(files) == {"manifest.json", "labels.txt", "statistics.npz"}
