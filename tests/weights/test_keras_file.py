""".keras files of both forms, read without Keras's loader."""

import io
import json
import zipfile

import h5py
import keras
import numpy as np
import pytest
from weight_nets import (
    NUM_CLASSES,
    assert_refused,
    assert_same_bits,
    flip_a_bit,
    random_weights,
    small_net,
    with_member,
)

from official.alexnet import AlexNet
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.modeling.weights import get_weights, set_weights
from official.alexnet.training import run_weights
from official.alexnet.weights import files


def saved_net(path, net, num_columns=1):
    model = AlexNet(net, NUM_CLASSES, num_columns=num_columns)
    weights = {
        name: np.abs(array) if "variance" in name else array
        for name, array in random_weights(net).items()
    }
    set_weights(model, weights)
    model.save(path)
    return model


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_lines_and_shapes_are_those_of_the_built_model(variant, tmp_path):
    net = small_net(variant)
    model = saved_net(tmp_path / "net.keras", net)
    shapes = {name: array.shape for name, array in get_weights(model).items()}
    assert structure.weight_shapes(net, NUM_CLASSES) == shapes
    found = files.read(str(tmp_path / "net.keras"), net)
    assert found.lines == structure.lines(net)
    assert_same_bits(found.weights, get_weights(model), any_order=True)


@pytest.mark.parametrize("variant", ["original", "caffe", "conv6"])
def test_two_columns(variant, tmp_path):
    net = small_net(variant)
    model = saved_net(tmp_path / "net.keras", net, num_columns=2)
    other = AlexNet(net, NUM_CLASSES, weights=str(tmp_path / "net.keras"))
    assert_same_bits(get_weights(other), get_weights(model))


@pytest.mark.parametrize(
    "options",
    [
        {"normalization": "batch_norm"},
        {"activation": "tanh", "dropout": 0.25},
        {"remove": ("conv2", "conv4")},
        {"pool_size": 2},
    ],
    ids=str,
)
def test_options(options, tmp_path):
    net = small_net("paper", **options)
    model = saved_net(tmp_path / "net.keras", net)
    other = AlexNet(net, NUM_CLASSES, weights=str(tmp_path / "net.keras"))
    assert_same_bits(get_weights(other), get_weights(model))


def test_keras_loads_what_we_read(tmp_path):
    saved_net(tmp_path / "net.keras", small_net("owt"))
    theirs = keras.models.load_model(tmp_path / "net.keras")
    ours = files.read(str(tmp_path / "net.keras"), small_net("owt"))
    for layer in theirs.layers:
        if layer.weights:
            for variable in layer.weights:
                name = f"{layer.name}/{variable.name}"
                np.testing.assert_array_equal(ours.weights[name], variable.numpy())


@pytest.mark.parametrize(
    ("variant", "options", "text"),
    [
        ("original", {}, "it has `relu` where this net has `lrn"),
        ("caffe", {"input_size": 64}, "padding 0,3` where .* padding 0,0"),
        ("no_lrn", {}, "it has `lrn k 2 n 5 alpha 0.0001 beta 0.75 a column`"),
        (
            "paper",
            {"dropout": 0.25},
            "`dropout times 0.5` where .* `dropout times 0.75",
        ),
        ("paper", {"activation": "tanh"}, "`relu` where this net has `tanh`"),
        ("conv6", {}, "lacks conv6/kernel of shape"),
        ("one_gpu", {}, r"conv1/kernel of shape \(11, 11, 3, 16\), where"),
        ("owt", {}, "where variant owt has"),
    ],
)
def test_another_nets_file(variant, options, text, tmp_path):
    path = str(tmp_path / "net.keras")
    saved_net(path, small_net("paper"))
    net = small_net(variant, **options)
    model = AlexNet(net, NUM_CLASSES)
    before = get_weights(model)
    with pytest.raises(UserError, match=text):
        run_weights.load_into(model, net, path)
    assert_same_bits(get_weights(model), before)


def member(path, name) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(name)


def assert_changed_refused(path, name, content, text) -> None:
    """The file with other content of a member is."""
    path.write_bytes(with_member(path.read_bytes(), name, content))
    assert_refused(path, small_net("owt"), text)


def huge(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset("0", (50_000, 50_000), "f4", chunks=True)


def outside(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars/0"] = h5py.ExternalLink("/etc/passwd", "/")


def raw_outside(file):
    del file["layers/dense/vars/0"]
    file["layers/dense/vars"].create_dataset(
        "0", (4,), "f4", external=[("/etc/passwd", 0, 16)]
    )


@pytest.mark.parametrize("change", [huge, outside, raw_outside])
def test_weights_that_are_not_in_the_file(change, tmp_path):
    path = tmp_path / "net.keras"
    saved_net(path, small_net("owt"))
    content = io.BytesIO(member(path, "model.weights.h5"))
    with h5py.File(content, "r+") as file:
        change(file)
    text = "not stored in it|has no 0"
    assert_changed_refused(path, "model.weights.h5", content.getvalue(), text)


def test_the_configuration_is_not_built(tmp_path):
    mark, path = tmp_path / "mark", tmp_path / "net.keras"
    saved_net(path, small_net("owt"))
    config = json.loads(member(path, "config.json"))
    evil = {"module": "os", "class_name": "system", "config": f"touch {mark}"}
    inner = {"name": f"touch {mark}", "function": evil}
    layer = evil | {"registered_name": None, "config": inner, "build_config": evil}
    config["config"]["layers"].append(layer)
    content = json.dumps(config).encode()
    assert_changed_refused(path, "config.json", content, "of the kind system")
    assert not mark.exists()


@pytest.mark.parametrize("data", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"x" * 100])
def test_what_is_no_keras_file(data, tmp_path):
    path = tmp_path / "net.keras"
    path.write_bytes(data)
    assert_refused(path, small_net("owt"), "damaged, or not")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("config.json", b"[1]"),
        ("config.json", b'{"config": {"layers": [{"class_name": "Dense"}]}}'),
        ("config.json", b'{"config": {"layers": 3}}'),
        ("config.json", b"[" * 100_000),
        ("model.weights.h5", b"nonsense"),
    ],
)
def test_members_that_are_nonsense(name, content, tmp_path):
    path = tmp_path / "net.keras"
    saved_net(path, small_net("owt"))
    assert_changed_refused(path, name, content, "damaged, or not")


def test_a_flipped_bit_is_seen(tmp_path):
    path = tmp_path / "net.keras"
    saved_net(path, small_net("owt"))
    flip_a_bit(path)
    assert_refused(path, small_net("owt"), "CRC-32")
