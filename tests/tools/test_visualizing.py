"""The numbers behind the pictures of tools/visualize.py, and their own pixels."""

import dataclasses
import os
import pathlib
import shutil

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from visualizing import drawing, kernels, neighbors, photographs, predictions, trained

from official.alexnet import run_files
from official.alexnet.config import ModelConfig
from official.alexnet.errors import UserError
from official.alexnet.serving.prediction import find_images


def read_png(path: pathlib.Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def paths_of(photos) -> list[pathlib.Path]:
    return find_images([str(photos / "*" / "*.jpg")])


def images_of(photos, net) -> photographs.Images:
    return photographs.of_files(paths_of(photos), net.labels)


def labels_of(images: photographs.Images) -> list[int]:
    return [images.read(number)[2] for number in range(images.count)]


# Kernels


def test_a_pixel_of_the_kernels_is_its_weight(net):
    layer, columns = kernels.first_kernels(net)
    assert layer == "conv1"
    assert [column.shape for column in columns] == [(11, 11, 3, 8)] * 2
    whole = net.weights["conv1/kernel"]
    picture = kernels.draw(columns)
    top = 10
    for column in range(2):
        top += 24
        for i in range(8):
            kernel = whole[..., 8 * column + i]
            low, high = kernel.min(), kernel.max()
            wanted = 255 * (kernel - low) / (high - low)
            left = 10 + i * 46
            inside = picture[top + 1 : top + 45, left + 1 : left + 45]
            for y in range(11):
                for x in range(11):
                    square = inside[4 * y : 4 * y + 4, 4 * x : 4 * x + 4].reshape(-1, 3)
                    assert np.ptp(square, axis=0).max() == 0
                    # Cut off at the decimal point, after rounding to float32.
                    assert np.abs(square[0] + 0.5 - wanted[y, x]).max() < 0.51
            rim = picture[top : top + 46, left : left + 46].astype(int)
            assert rim[0].min() == rim[-1].min() == rim[:, 0].min() == 255
        top += 46 + 10
    assert picture.shape[0] == top


def test_captions_name_the_columns():
    rng = np.random.default_rng(0)
    one = rng.normal(size=(11, 11, 3, 8))
    assert kernels.captions([one, one])[1].startswith("column 1 (GPU 2): colour 0.")
    assert kernels.captions([one])[0].startswith("8 kernels: colour 0.")


def test_color_share_is_the_part_off_the_grey_axis():
    rng = np.random.default_rng(0)
    grey = np.repeat(rng.normal(size=(11, 11, 1, 1)), 3, axis=2)
    # Opponent colours: what red gives, green takes.
    opponent = rng.normal(size=(11, 11, 1, 1)) * np.array([1, -1, 0])[:, None]
    found = kernels.color_shares(np.concatenate([grey, opponent], -1))
    np.testing.assert_allclose(found, [0, 1], atol=1e-12)
    noise = rng.normal(size=(11, 11, 3, 400))
    assert abs(kernels.color_shares(noise).mean() - 2 / 3) < 0.01
    # By a rotation that has grey as its first axis.
    axes, _ = np.linalg.qr(np.array([[1.0, 1, 0], [1, 0, 1], [1, 0, 0]]))
    turned = np.einsum("hwck,cd->hwdk", noise, axes)
    wanted = (turned[:, :, 1:] ** 2).sum((0, 1, 2)) / (noise**2).sum((0, 1, 2))
    np.testing.assert_allclose(kernels.color_shares(noise), wanted)
    np.testing.assert_allclose(kernels.color_shares(-7 * noise), wanted)


def test_kernels_of_an_export_are_those_of_its_checkpoint(net, exported):
    config = run_files.load_config(str(exported))
    other = trained.find(config, str(exported))
    assert other.labels == net.labels
    for name, weights in net.weights.items():
        np.testing.assert_array_equal(other.weights[name], weights, err_msg=name)


@pytest.mark.parametrize(
    ("variant", "layer", "blocks"), [("owt", "conv1", 1), ("original", "conv1", 2)]
)
def test_kernels_of_other_nets(net, variant, layer, blocks):
    model = ModelConfig(variant=variant, width=0.125, input_size=64)
    config = dataclasses.replace(net.config, model=model)
    count = next(iter(model.net().convolutions)).filters
    weights = {f"{layer}/kernel": np.ones((11, 11, 3, count), np.float32)}
    other = dataclasses.replace(net, config=config, weights=weights)
    found, columns = kernels.first_kernels(other)
    assert found == layer
    assert [c.shape[-1] for c in columns] == [count // blocks] * blocks


# Photographs


def test_folders_tell_the_class(photos, net):
    assert labels_of(images_of(photos, net)) == [-1, -1, 0, 0, 2, 2]
    # Numbers of classes without names are no names of folders.
    assert set(labels_of(photographs.of_files(paths_of(photos), None))) == {-1}
    # Two classes of one name.
    names = ["holiday", "n00000000 a", "n00000000 b"]
    images = photographs.of_files(paths_of(photos), names)
    assert labels_of(images) == [0, 0, -1, -1, -1, -1]


def test_records_of_other_classes_are_matched_by_name(net, tmp_path):
    """Classes 1 and 0 of the net, counted from 1 in the records."""
    source = pathlib.Path(net.config.data.data_dir)
    for shard in source.glob("train-*"):
        with tf.io.TFRecordWriter(str(tmp_path / shard.name)) as writer:
            for record in tf.data.TFRecordDataset(str(shard)).as_numpy_iterator():
                example = tf.train.Example.FromString(record)
                # Else it would be seen that labels.txt is not the records'.
                del example.features.feature["image/class/synset"]
                writer.write(example.SerializeToString())
    names = (net.labels[1], net.labels[0], net.labels[2])
    (tmp_path / "labels.txt").write_text("\n".join(names))
    data = dataclasses.replace(net.config.data, data_dir=str(tmp_path))
    other = dataclasses.replace(net, config=dataclasses.replace(net.config, data=data))
    own, found = (
        photographs.of_records(one.split("train").records).spread(6)
        for one in (net, other)
    )
    assert [photo.label for photo in own] != [photo.label for photo in found]
    swapped = {0: 1, 1: 0, 2: 2}
    assert [swapped[photo.label] for photo in own] == [p.label for p in found]
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(UserError, match="its class 'a' is not one of the 3 classes"):
        other.split("train")


def test_names_of_any_bytes(photos, tmp_path):
    """The folder as a Mac writes it; the file as an old Windows did."""
    folder = tmp_path / "cafe\u0301"
    folder.mkdir()
    path = folder / os.fsdecode(b"a\xf1o.jpg")
    shutil.copy(photos / "holiday" / "0.jpg", path)
    images = photographs.of_files(find_images([str(folder)]), ["caf\u00e9"])
    assert labels_of(images) == [0]
    (encoded,) = images.encoded.as_numpy_iterator()
    assert encoded == path.read_bytes()
    assert images.photograph(0).name == str(folder / r"a\xf1o.jpg")


def test_a_picture_that_pillow_takes_and_the_net_does_not(tmp_path):
    path = tmp_path / "open_end.png"
    Image.new("RGB", (30, 20)).save(path)
    path.write_bytes(path.read_bytes()[:-12])
    images = photographs.of_files([path], ["a"])
    with pytest.raises(UserError, match=r"open_end\.png is damaged"):
        images.photograph(0)
    with pytest.raises(UserError, match=r"open_end\.png is damaged"):
        images.explained(tf.errors.InvalidArgumentError(None, None, "no"))


def test_photographs_are_spread_and_squares_are_those_of_evaluation(net):
    split = net.split("validation")
    images = photographs.of_records(split.records)
    assert images.count == 13
    shown = images.spread(4)
    # Records 0, 3, 6 of the first file, of 7, and 2 of the second, of 6.
    assert [one.name.rpartition(" ")[2] for one in shown] == ["0", "3", "6", "2"]
    assert [one.label for one in shown] == [0, 0, 0, 2]
    assert len(images.spread(100)) == 13
    whole = [
        (batch["image"][0].numpy(), int(batch["label"][0]))
        for batch in split.evaluation(1, tf.distribute.InputContext())
    ]
    for one in shown:
        same = [label for pixels, label in whole if np.array_equal(pixels, one.pixels)]
        assert same == [one.label]


def test_a_file_with_fewer_records_than_counted_is_named(net):
    records = net.split("validation").records
    records = dataclasses.replace(records, file_sizes=(7, 9))
    images = photographs.of_records(records)
    with pytest.raises(UserError, match=r"validation-00001-of-00002 has no record 6"):
        images.spread(100)


# Predictions


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(np.float64(logits) - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def views_of(pixels: np.ndarray, crops: int) -> list[np.ndarray]:
    places = [(96, 96)]
    if crops == 10:
        places += [(0, 0), (0, 192), (192, 0), (192, 192)]
    views = [pixels[:, y : y + 64, x : x + 64] for y, x in places]
    return views + [view[:, :, ::-1] for view in views] * (crops == 10)


@pytest.mark.parametrize("crops", [1, 10])
def test_bars_are_the_models_softmax(net, photos, crops):
    pytest.importorskip("matplotlib")
    shown = images_of(photos, net).spread(5)
    scores = predictions.probabilities(net, shown, crops, batch_size=2)
    model, normalize = net.model, net.normalize()
    pixels = np.stack([one.pixels for one in shown])
    wanted = np.mean(
        [softmax(model(normalize(v)).numpy()) for v in views_of(pixels, crops)], axis=0
    )
    np.testing.assert_allclose(scores, wanted, atol=1e-5)
    figure = predictions.draw(shown, scores, net.labels, top=2)
    panels = [panel for panel in figure.axes if panel.patches]
    assert len(panels) == 5
    for panel, one, row in zip(panels, shown, wanted, strict=True):
        order = np.argsort(-row)[:2]
        widths = [bar.get_width() for bar in panel.patches]
        np.testing.assert_allclose(widths, row[order], atol=1e-5)
        texts = [text.get_text() for text in panel.texts]
        assert texts[::2] == [f"class {label}" for label in order]
        assert texts[1] == f"{100 * row[order[0]]:.1f} %"
        for bar, label in zip(panel.patches, order, strict=True):
            red, _, blue, _ = bar.get_facecolor()
            assert (red > blue) == (label == one.label)


def test_predictions_are_those_of_the_served_model(net, exported, photos):
    served = tf.saved_model.load(str(exported / "saved_model"))
    images = images_of(photos, net)
    encoded = tf.constant([path.read_bytes() for path in paths_of(photos)])
    wanted = served.signatures["serving_default"](encoded)["probabilities"].numpy()
    scores = predictions.probabilities(net, images.spread(6), 1, batch_size=4)
    np.testing.assert_allclose(scores, wanted, atol=1e-4)


def test_labels_below_photographs_and_few_classes(net, photos):
    pytest.importorskip("matplotlib")
    shown = images_of(photos, net).spread(3)
    scores = np.full((3, 3), 1 / 3, np.float32)
    labels = ["n00000000 a $10 label, too", "b", "n00000002 " + "long " * 30]
    figure = predictions.draw(shown, scores, labels, top=5)
    below = [panel.get_xlabel() for panel in figure.axes if panel.get_xlabel()]
    assert below[0] == "a $10 label"
    assert below[1].startswith("long long") and len(below[1]) <= 26
    assert sum(len(panel.patches) for panel in figure.axes) == 9
    assert drawing.pixels_of(figure).shape[2] == 3


def test_labels_are_shortened():
    assert drawing.short("n01440764 tench, Tinca tinca", 24) == "tench"
    assert drawing.short("black-and-tan coonhound dog", 20) == "black-and-tan…"
    assert drawing.short("x" * 30, 20) == "x" * 19 + "…"
    assert drawing.short("7", 20) == "7"


# Neighbours


def test_nearest_is_what_brute_force_finds():
    rng = np.random.default_rng(0)
    table = np.float32(rng.normal(size=(53, 16)))
    table[40] = table[3]  # A tie: the earlier one comes first.
    queries = np.float32(rng.normal(size=(4, 16)))
    queries[0] = table[3]
    distances = np.sqrt(((queries[:, None] - table[None]) ** 2).sum(-1))
    wanted = np.argsort(distances, axis=1, kind="stable")[:, :6]
    assert list(wanted[0, :2]) == [3, 40]
    for size in (1, 5, 7, 53):
        batches = np.split(table, range(size, 53, size))
        indices, found = neighbors.nearest(queries, batches, 6)
        np.testing.assert_array_equal(indices, wanted)
        np.testing.assert_allclose(
            found, np.take_along_axis(distances, wanted, 1), rtol=1e-5
        )
    indices, _ = neighbors.nearest(queries, [table[:4]], 6)
    assert indices.shape == (4, 4)


def test_features_are_fc7_after_relu_and_neighbours_their_nearest(
    net, exported, photos
):
    """By the SavedModel's features of every image, compared all with all."""
    records = net.split("train").records
    shown, searched = images_of(photos, net).spread(6), photographs.of_records(records)
    served = tf.saved_model.load(str(exported / "saved_model"))
    signature = served.signatures["features"]
    encoded = tf.constant([path.read_bytes() for path in paths_of(photos)])
    wanted = signature(encoded)["features"].numpy()
    features = neighbors.extractor(net)
    pixels = tf.constant(np.stack([one.pixels for one in shown]))
    np.testing.assert_allclose(features(pixels), wanted, rtol=1e-3, atol=1e-4)
    rows = [
        (tf.train.Example.FromString(serialized.numpy()).features.feature, file, number)
        for file, path in enumerate(records.files)
        for number, serialized in enumerate(tf.data.TFRecordDataset(path))
    ]
    jpegs = [row["image/encoded"].bytes_list.value[0] for row, _, _ in rows]
    all_features = signature(tf.constant(jpegs))["features"].numpy()
    batches = list(neighbors.of_images(searched, features, 5))
    assert [len(batch) for batch in batches] == [5] * 9 + [3]
    np.testing.assert_allclose(
        np.concatenate(batches), all_features, rtol=1e-3, atol=1e-4
    )
    distances = np.sqrt(((wanted[:, None] - all_features[None]) ** 2).sum(-1))
    _, numbers = neighbors.picture(net, shown, searched, 6)
    for query, row in enumerate(numbers["queries"]):
        near = [one["distance"] for one in row["neighbors"]]
        np.testing.assert_allclose(near, np.sort(distances[query])[:6], rtol=1e-3)
        for one in row["neighbors"]:
            path, _, number = one["image"].rpartition(", record ")
            (place,) = (
                i
                for i, (_, file, n) in enumerate(rows)
                if (records.files[file], n) == (path, int(number))
            )
            np.testing.assert_allclose(
                distances[query, place], one["distance"], rtol=1e-3
            )
            stored = rows[place][0]["image/class/label"].int64_list.value[0]
            assert one["label"] == net.labels[stored - 1]


def test_an_image_among_the_searched_that_is_none(net, photos, tmp_path):
    bad = tmp_path / "bad.jpg"
    bad.write_bytes((photos / "holiday" / "0.jpg").read_bytes()[:500])
    images = photographs.of_files([photos / "holiday" / "0.jpg", bad], ["a"])
    with pytest.raises(UserError, match=r"bad\.jpg is not a whole JPEG"):
        list(neighbors.of_images(images, lambda squares: squares, 2))


def test_neighbours_are_drawn_in_order(net, photos):
    pytest.importorskip("matplotlib")
    shown = images_of(photos, net).spread(6)
    figure = neighbors.draw(
        shown[4:], [shown[:3], shown[1:4]], np.arange(6.0).reshape(2, 3), net.labels
    )
    panels = [panel for panel in figure.axes if panel.images]
    drawn = [np.asarray(panel.images[0].get_array()) for panel in panels]
    wanted = [shown[i].pixels for i in (4, 0, 1, 2, 5, 1, 2, 3)]
    for pixels, one in zip(drawn, wanted, strict=True):
        np.testing.assert_array_equal(pixels, one)
    texts = [panel.get_xlabel() for panel in panels]
    assert texts[:4] == ["class 2", "0", "1", "class 0\n2"]
