"""The LiteRT file, run by its interpreter, against the nets it is written from."""

import contextlib
import dataclasses
import io
import pathlib
import re
import types
import warnings

import numpy as np
import pytest
import tensorflow as tf
from interchange_nets import (
    LAYERS_OF_ALL_KINDS,
    NETS,
    check_close,
    make_images,
    make_net,
)
from slow_cases import slow_but

from official.alexnet import AlexNet, UserError
from official.alexnet.modeling.variants import LRN, PAPER
from official.alexnet.serving import litert
from official.alexnet.serving.litert import write_litert
from official.alexnet.serving.signatures import ServedAlexNet


def interpreter(path: pathlib.Path):
    Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Interpreter(str(path), num_threads=2)


def run(path: pathlib.Path, images: np.ndarray) -> dict[str, np.ndarray]:
    return interpreter(path).get_signature_runner("serving_default")(images=images)


def operators(path: pathlib.Path) -> list[str]:
    """Names of a file's operators, in order."""
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        tf.lite.experimental.Analyzer.analyze(str(path))
    return re.findall(r"^ *Op#\d+ (\w+)\(", text.getvalue(), re.MULTILINE)


def test_an_export_answers_as_its_saved_model(all_formats):
    path = all_formats.folder / "alexnet.tflite"
    for images in (slice(0, 3), slice(3, 4)):
        found = run(path, all_formats.crops[images])
        check_close(found, all_formats.logits[images])
        wrong = found["probabilities"] - all_formats.probabilities[images]
        assert np.abs(wrong).max() <= 1e-5
    assert np.ptp(all_formats.probabilities, axis=0).max() > 0.05


def test_an_export_says_what_it_reads_and_answers(all_formats):
    net = interpreter(all_formats.folder / "alexnet.tflite")
    assert net.get_signature_list() == {
        "serving_default": {
            "inputs": ["images"],
            "outputs": ["logits", "probabilities"],
        }
    }
    (images,) = net.get_input_details()
    assert images["dtype"] is np.uint8
    assert list(images["shape_signature"]) == [-1, 64, 64, 3]


def test_an_export_needs_no_operator_of_tensorflow(all_formats):
    found = operators(all_formats.folder / "alexnet.tflite")
    assert not [name for name in found if name.startswith(("Flex", "CUSTOM"))]
    # Groups 1, 2, 1, 2, 2: a grouped convolution is two.
    assert found.count("CONV_2D") == 8
    assert found.count("FULLY_CONNECTED") == 3 + 2, "fc6 to fc8 and two norms"


@pytest.mark.parametrize("name", slow_but(LAYERS_OF_ALL_KINDS, NETS))
def test_every_net(name, tmp_path):
    size = AlexNet(**NETS[name], width=0.125).input_shape[1]
    pixels = make_images(3, size).astype(np.float32) - 120
    model = make_net(name, pixels, classifier_activation=None)
    path = tmp_path / "net.tflite"
    write_litert(model, path)
    logits = model(pixels).numpy()
    assert np.ptp(logits, axis=0).max() > 0.1
    check_close(run(path, pixels), logits)
    check_close(run(path, pixels[:1]), logits[:1])


@pytest.mark.parametrize("scale", [1.0, np.array([0.02, 0.01, 0.005])])
def test_pixels_are_normalised_inside(scale, tmp_path):
    images = make_images(3, 64)
    mean = np.random.default_rng(1).uniform(60, 180, (64, 64, 3))
    pixels = ((images - mean) * scale).astype(np.float32)
    model = make_net("paper", pixels, input_size=64)
    path = tmp_path / "net.tflite"
    write_litert(model, path, mean=mean, input_scale=scale)
    found = run(path, images)["probabilities"]
    np.testing.assert_allclose(found, model(pixels), atol=1e-5)


def test_a_fixed_batch_leaves_no_shape_to_the_runtime(tmp_path):
    pixels = make_images(2, 64).astype(np.float32) - 120
    model = make_net("paper", pixels, input_size=64)
    path = tmp_path / "net.tflite"
    write_litert(model, path, batch_size=2)
    assert "SHAPE" not in operators(path)
    (images,) = interpreter(path).get_input_details()
    assert list(images["shape_signature"]) == [2, 64, 64, 3]
    found = run(path, pixels)["probabilities"]
    np.testing.assert_allclose(found, model(pixels), atol=1e-5)


def test_no_window_of_lrn_reaches_over_the_seam(tmp_path):
    net = dataclasses.replace(PAPER, lrn=LRN(k=1.0, n=5, alpha=0.1, beta=0.75))
    one_row = dataclasses.replace(net, lrn=dataclasses.replace(net.lrn, reads="all"))
    pixels = make_images(3, 64).astype(np.float32) - 120
    weights = make_net("paper", input_size=64).get_weights()
    logits = []
    for variant in (net, one_row):
        model = AlexNet(
            variant, 20, width=0.125, input_size=64, classifier_activation=None
        )
        model.set_weights(weights)
        write_litert(model, tmp_path / "net.tflite")
        logits.append(run(tmp_path / "net.tflite", pixels)["logits"])
        scale = np.abs(logits[-1]).max()
        assert np.abs(logits[-1] - model(pixels)).max() <= 1e-4 * scale
    assert np.abs(logits[0] - logits[1]).max() > 1e-2 * scale


def test_dynamic_range_quantization(tmp_path):
    images = make_images(6, 64)
    model = make_net("paper", images - np.float32(120), input_size=64, width=0.25)
    sizes, probabilities = [], []
    for quantization in ("none", "dynamic_range"):
        path = tmp_path / f"{quantization}.tflite"
        write_litert(model, path, mean=np.array([120.0] * 3), quantization=quantization)
        sizes.append(path.stat().st_size)
        probabilities.append(run(path, images)["probabilities"])
    assert sizes[1] < 0.27 * sizes[0]
    difference = np.abs(probabilities[1] - probabilities[0]).max()
    assert 1e-5 < difference < 0.05
    # An image's second class is as good where the two are nearer than the rounding.
    first, second = np.sort(probabilities[0])[:, :-3:-1].T
    clear = first - second > 2 * difference
    assert clear.any()
    np.testing.assert_array_equal(*(p[clear].argmax(axis=1) for p in probabilities))


@pytest.mark.parametrize(
    ("arguments", "writing", "words"),
    [
        ({"dtype": "mixed_bfloat16"}, {}, "float32"),
        ({"classifier_activation": "sigmoid"}, {}, "ends with sigmoid"),
        ({}, {"mean": np.zeros((256, 256, 3))}, "central_mean"),
    ],
)
def test_what_cannot_be_written_is_named(arguments, writing, words, tmp_path):
    model = make_net("paper", **arguments)
    with pytest.raises(UserError, match=words):
        write_litert(model, tmp_path / "net.tflite", **writing)
    assert not list(tmp_path.iterdir())


def test_nothing_is_printed(tmp_path, capfd):
    write_litert(make_net("paper", input_size=64), tmp_path / "net.tflite")
    assert capfd.readouterr().out == ""


@pytest.mark.slow
def test_the_whole_net_of_the_paper(tmp_path):
    squares = make_images(3, 256)
    mean = np.random.default_rng(1).uniform(60, 180, (224, 224, 3)).astype(np.float32)
    crops = squares[:, 16:240, 16:240]
    model = make_net(
        "paper", crops - mean, width=1, num_classes=1000, classifier_activation=None
    )
    path = tmp_path / "net.tflite"
    write_litert(model, path, mean=mean)
    served = ServedAlexNet(model, mean, 1.0).signatures()["image_tensor"]
    logits = served(images=tf.constant(squares))["logits"].numpy()
    check_close(run(path, crops), logits)
    check_close(run(path, crops[:1]), logits[:1])


def test_a_tensorflow_without_tf_lite_is_one_line(monkeypatch, tmp_path):
    model = AlexNet(num_classes=3, width=0.125, input_size=64)
    monkeypatch.setattr(litert, "tf", types.SimpleNamespace(__version__="2.99"))
    with pytest.raises(UserError, match=r"TensorFlow 2\.99 has no tf\.lite, which wri"):
        write_litert(model, tmp_path / "net.tflite")
