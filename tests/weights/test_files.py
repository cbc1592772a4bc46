"""Every format into a model and out again, and files that are another net's."""

import dataclasses
import importlib.util
import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from weight_nets import (
    NUM_CLASSES,
    assert_refused,
    assert_same_bits,
    flip_a_bit,
    random_weights,
    small_net,
    written,
)

from official.alexnet import AlexNet
from official.alexnet.config import Config, ModelConfig
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.modeling.weights import get_weights
from official.alexnet.training import building, checkpoints, run_weights
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.weights import files, layouts, tensor_files
from official.alexnet.weights.caffe_layers import describe
from official.alexnet.weights.preprocessing import Preprocessing

PTH = pytest.param(
    ".pth",
    marks=pytest.mark.skipif(
        importlib.util.find_spec("torch") is None, reason="PyTorch is not installed"
    ),
)
FORMATS = (".caffemodel", PTH, ".safetensors")
SPECIAL = np.float32([-0.0, 1e-45, -1e-40, 3.4e38, 1.1754944e-38])


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_round_trip_keeps_every_bit(variant, suffix, tmp_path):
    net = small_net(variant)
    weights = random_weights(net)
    for name in weights:
        # Numbers that arithmetic would change; fc7 and fc8 are multiplied, by 1/2.
        if name.endswith("bias") or name.startswith("conv"):
            weights[name].reshape(-1)[:5] = SPECIAL
    path = str(tmp_path / f"net{suffix}")
    files.write(path, weights, net)
    first = pathlib.Path(path).read_bytes()
    model = AlexNet(net, NUM_CLASSES, weights=path)
    assert_same_bits(get_weights(model), weights, any_order=True)
    files.write(path, get_weights(model), net)
    assert pathlib.Path(path).read_bytes() == first


@pytest.mark.parametrize("suffix", FORMATS)
def test_both_forms_read_the_same(suffix, tmp_path):
    net = small_net("caffe")
    path = written(tmp_path / f"net{suffix}", net)
    grouped = AlexNet(net, NUM_CLASSES, weights=path)
    columns = AlexNet(net, NUM_CLASSES, weights=path, num_columns=2)
    assert_same_bits(get_weights(columns), get_weights(grouped))


@pytest.mark.parametrize("rate", [0.5, 0.25])
def test_the_factor_of_published_dropout_is_in_the_kernels(rate):
    net = small_net("paper", dropout=rate)
    weights = random_weights(net)
    theirs = layouts.to_theirs(weights, net, "rgb")
    for layer in ("fc7", "fc8"):
        wanted = (1 - rate) * weights[f"{layer}/kernel"].T
        np.testing.assert_allclose(theirs[f"{layer}.weight"], wanted, rtol=1e-7)
        np.testing.assert_array_equal(theirs[f"{layer}.bias"], weights[f"{layer}/bias"])
    np.testing.assert_array_equal(
        theirs["conv5.weight"], np.einsum("hwio->oihw", weights["conv5/kernel"])
    )
    back = layouts.to_ours(theirs, net, "rgb")
    for name, array in weights.items():
        np.testing.assert_allclose(back[name], array, rtol=1e-6)


def test_channel_order():
    net = small_net("caffe")
    weights = random_weights(net)
    rgb = layouts.to_theirs(weights, net, "rgb")
    bgr = layouts.to_theirs(weights, net, "bgr")
    # A red image in either order has the same response.
    np.testing.assert_array_equal(rgb["conv1.weight"][:, 0], bgr["conv1.weight"][:, 2])
    np.testing.assert_array_equal(rgb["conv1.weight"][:, 1], bgr["conv1.weight"][:, 1])
    np.testing.assert_array_equal(rgb["conv2.weight"], bgr["conv2.weight"])


def test_channel_order_of_a_pth_can_be_said(tmp_path):
    net = small_net("caffe")
    weights = random_weights(net)
    path = str(tmp_path / "net.safetensors")
    files.write(path, weights, net)
    turned = files.read(path, net, channel_order="bgr").weights["conv1/kernel"]
    np.testing.assert_array_equal(turned, weights["conv1/kernel"][:, :, ::-1])


def run_directory(folder, net_config):
    """A run that has been saved at step 7."""
    config = Config(model=net_config)
    model = building.build_model(config.model, config.runtime)
    optimizer = PaperSGD()
    optimizer.build(model.trainable_variables)
    optimizer.iterations.assign(7)
    folder.mkdir()
    (folder / "params.yaml").write_text(config.to_yaml())
    progress = checkpoints.Progress()
    checkpoints.Checkpoints(folder, model, optimizer, progress, 2).save()
    return model


def test_a_run_and_its_checkpoint(tmp_path):
    options = {"width": 0.125, "input_size": 67}
    settings = ModelConfig(variant="caffe", num_classes=NUM_CLASSES, **options)
    model = run_directory(tmp_path / "run", settings)
    for name in ("run", "run/ckpt-7"):
        path = str(tmp_path / name)
        loaded = AlexNet("caffe", NUM_CLASSES, weights=path, **options)
        assert_same_bits(get_weights(loaded), get_weights(model))
    with pytest.raises(UserError, match="variant caffenet with these options"):
        AlexNet("caffenet", NUM_CLASSES, weights=path, **options)


def test_a_damaged_checkpoint(tmp_path):
    settings = ModelConfig(num_classes=NUM_CLASSES, width=0.125, input_size=64)
    run_directory(tmp_path / "run", settings)
    (data,) = (tmp_path / "run").glob("ckpt-7.data*")
    flip_a_bit(data)
    with pytest.raises(UserError, match="cannot be read as a checkpoint"):
        run_weights.read(str(tmp_path / "run"), settings.net())


def empty_file(variant, layers=False):
    """What would be read from a file of the full net, without its 240 MB."""
    net = VARIANTS[variant]
    weights = {
        name: np.broadcast_to(np.float32(0), shape)
        for name, shape in structure.weight_shapes(net, 1000).items()
    }
    found = files.WeightFile("net.caffemodel", weights)
    if layers:
        found = dataclasses.replace(found, layers=describe(net, 1000))
    return found


def check(found, variant):
    net = VARIANTS[variant]
    files.check(found, net, structure.weight_shapes(net, 1000))


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_published_sizes_are_right_and_told_apart(variant):
    # Caffe's pooling does not leave a column out, as TF-Slim's does at 224 pixels.
    layers = variant != "slim"
    check(empty_file(variant, layers), variant)
    for other in VARIANTS:
        if other != variant:
            with pytest.raises(UserError, match=rf"--variant=(\w+ or )*{variant}\b"):
                check(empty_file(variant, layers), other)


def test_the_error_names_layer_found_and_wanted():
    with pytest.raises(UserError) as caught:
        check(empty_file("owt"), "caffe")
    assert str(caught.value) == (
        "net.caffemodel: it holds conv1/kernel of shape (11, 11, 3, 64), where variant "
        "caffe has (11, 11, 3, 96); it fits --variant=owt or cuda_convnet2"
    )
    found = empty_file("caffe")
    del found.weights["fc7/bias"]
    found.weights["fc9/bias"] = np.zeros(3, np.float32)
    with pytest.raises(UserError, match=r"lacks fc7/bias of shape \(4096,\), which"):
        check(found, "caffe")
    found.weights["fc7/bias"] = np.zeros(4096, np.float32)
    with pytest.raises(UserError, match=r"holds fc9/bias of shape \(3,\), which"):
        check(found, "caffe")


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failed_load_changes_nothing(suffix, tmp_path):
    net = small_net("owt")
    path = written(tmp_path / f"net{suffix}", net, num_classes=NUM_CLASSES + 1)
    model = AlexNet(net, NUM_CLASSES)
    before = get_weights(model)
    with pytest.raises(UserError, match="fc8/kernel"):
        run_weights.load_into(model, net, path)
    assert_same_bits(get_weights(model), before)


@pytest.mark.parametrize("suffix", [PTH, ".safetensors"])
def test_the_file_notes_net_and_input(suffix, tmp_path):
    net = small_net("paper")
    path = str(tmp_path / f"net{suffix}")
    made = Preprocessing(
        64, scale=1 / 255, mean=(0.1, 0.2, 0.3), std=(1, 2, 3), resize="warp"
    )
    files.write(path, random_weights(net), net, made)
    assert files.read(path, net).preprocessing == made
    other = small_net("original")
    with pytest.raises(UserError, match="variant original with these options: it has"):
        AlexNet(other, NUM_CLASSES, weights=path)
    # What it holds can still be read by hand, as --init_from does.
    assert_same_bits(files.read(path, other).weights, files.read(path, net).weights)


def test_notes_that_are_nonsense(tmp_path):
    net = small_net("owt")
    arrays = layouts.to_theirs(random_weights(net), net, "rgb")
    path = tmp_path / "net.safetensors"
    good = {"net": [], "preprocessing": {"input_size": 224}}
    for note in (
        *("[]", "{", "[" * 99999, '{"net": 3}', json.dumps(good | {"net": None})),
        json.dumps(good | {"preprocessing": {"input_size": "x"}}),
        json.dumps(good | {"preprocessing": {"input_size": 224, "more": 1}}),
        json.dumps(good | {"preprocessing": {"input_size": 224, "std": [0, 1, 1]}}),
        json.dumps(good | {"preprocessing": {"input_size": 224, "mean": [1, 2]}}),
        json.dumps(good | {"preprocessing": {"input_size": 224, "mean_image": 1}}),
        json.dumps(good | {"preprocessing": {"input_size": 224, "scale": "1e400"}}),
    ):
        path.write_bytes(tensor_files.write_safetensors(arrays, note))
        assert_refused(path, net, "notes|does not describe")


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("suffix", FORMATS)
def test_numbers_that_are_none_are_refused(suffix, value, tmp_path):
    net = small_net("owt")
    weights = random_weights(net)
    weights["fc7/kernel"][3, 4] = value
    path = str(tmp_path / f"net{suffix}")
    files.write(path, weights, net)
    assert_refused(path, net, "fc7/kernel holds NaN or infinity")


def test_doubles_too_large_for_float32(tmp_path):
    torch = pytest.importorskip("torch")
    net = small_net("owt")
    arrays = layouts.to_theirs(random_weights(net), net, "rgb")
    state = {name: torch.from_numpy(array).double() for name, array in arrays.items()}
    path = tmp_path / "net.pth"
    torch.save(state, path)
    assert_same_bits(files.read(str(path), net).weights, random_weights(net))
    state["fc6.bias"][0] = 1e300
    torch.save(state, path)
    assert_refused(path, net, "fc6/bias holds NaN or infinity")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("missing.pth", "there is no such file"),
        ("net.h5", "its name should end with .caffemodel"),
        ("empty.pth", "state_dict"),
        ("empty.caffemodel", "no layer with weights"),
        ("empty.safetensors", "format that its name says"),
        ("empty.keras", "damaged, or not"),
        ("page.pth", "state_dict"),
        ("page.caffemodel", "format that its name says"),
        ("page.safetensors", "format that its name says"),
        ("page.keras", "damaged, or not"),
        ("folder", "holds no checkpoint"),
    ],
)
def test_files_that_are_none(name, text, tmp_path):
    if name.endswith(".pth"):
        pytest.importorskip("torch")
    path = tmp_path / name
    if name == "folder":
        path.mkdir()
    elif name.startswith("empty"):
        path.write_bytes(b"")
    elif not name.startswith("missing"):
        path.write_bytes(b"<!DOCTYPE html>\n<html>404</html>\n")
    with pytest.raises(UserError, match=text) as caught:
        AlexNet("owt", weights=str(path))
    assert str(caught.value).isprintable()


def test_too_large_a_file_is_not_read(tmp_path):
    path = tmp_path / "net.pth"
    with path.open("wb") as file:
        file.truncate(files.LARGEST_FILE + 1)
    assert_refused(path, small_net("owt"), "larger than 2 GiB")


def test_control_characters_of_a_file_are_not_printed(tmp_path):
    path = tmp_path / "net.safetensors"
    name = "\x1b[31m\n" + "x" * 10_000 + ".weight"
    content = tensor_files.write_safetensors({name: np.zeros((2, 2), np.float32)}, "")
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        AlexNet("owt", weights=str(path))
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def test_weights_under_a_strategy(tmp_path):
    net = small_net("owt")
    path = written(tmp_path / "net.safetensors", net)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    with strategy.scope():
        model = AlexNet(net, NUM_CLASSES, weights=path)
    assert_same_bits(get_weights(model), random_weights(net), any_order=True)
