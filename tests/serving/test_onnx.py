"""The ONNX file, run by ONNX Runtime and OpenVINO, against the nets it is written from.

A runtime is a function from a file and named inputs to named outputs.
"""

import dataclasses
import importlib.util
import json
import subprocess
import sys

import keras
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
from official.alexnet.serving import formats
from official.alexnet.serving.onnx import write_onnx
from official.alexnet.serving.signatures import ServedAlexNet

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")


def run_onnxruntime(path, images) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, {"images": images}), strict=True))


def run_openvino(path, images) -> dict[str, np.ndarray]:
    openvino = pytest.importorskip("openvino")
    # Some processors would compute in bfloat16.
    settings = {"INFERENCE_PRECISION_HINT": "f32"}
    net = openvino.Core().compile_model(path, "CPU", settings)
    answer = net({"images": images})
    return {port.get_any_name(): answer[port] for port in net.outputs}


RUNTIMES = [run_onnxruntime, run_openvino]


def channels_first(images: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


@pytest.mark.parametrize("run", RUNTIMES)
def test_an_export_answers_as_its_saved_model(run, all_formats):
    path = str(all_formats.folder / "alexnet.onnx")
    for images in (slice(0, 3), slice(3, 4)):
        found = run(path, all_formats.crops[images])
        check_close(found, all_formats.logits[images])
        wrong = found["probabilities"] - all_formats.probabilities[images]
        assert np.abs(wrong).max() <= 1e-5
    # The images do not get one answer: a net that saw none of them would be found out.
    assert np.ptp(all_formats.probabilities, axis=0).max() > 0.05


def test_an_export_says_what_it_reads_and_answers(all_formats):
    path = str(all_formats.folder / "alexnet.onnx")
    onnx.checker.check_model(path, full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (images,) = session.get_inputs()
    assert images.name == "images"
    assert (images.type, images.shape) == ("tensor(uint8)", ["batch", 64, 64, 3])
    outputs = {o.name: (o.type, o.shape) for o in session.get_outputs()}
    assert outputs == dict.fromkeys(
        ("probabilities", "logits"), ("tensor(float)", ["batch", 3])
    )
    assert all_formats.results["files"] == {
        name: str(all_formats.folder / file) for name, file in formats.FILES.items()
    }
    written = {path.name for path in all_formats.folder.iterdir()}
    assert {*formats.FILES.values()} <= written


def test_the_keras_file_of_an_export_can_be_written_too(all_formats, tmp_path):
    model = keras.models.load_model(all_formats.folder / "alexnet.keras")
    path = str(tmp_path / "bare.onnx")
    write_onnx(model, path)
    pixels = all_formats.crops.astype(np.float32) - 100
    found = run_onnxruntime(path, channels_first(pixels))
    np.testing.assert_allclose(found["probabilities"], model(pixels), atol=1e-5)


@pytest.mark.parametrize("name", slow_but(LAYERS_OF_ALL_KINDS, NETS))
def test_every_net(name, tmp_path):
    size = AlexNet(**NETS[name], width=0.125).input_shape[1]
    pixels = make_images(3, size).astype(np.float32) - 120
    model = make_net(name, pixels, classifier_activation=None)
    path = str(tmp_path / "net.onnx")
    write_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    logits = model(pixels).numpy()
    assert np.ptp(logits, axis=0).max() > 0.1
    for run in RUNTIMES if importlib.util.find_spec("openvino") else RUNTIMES[:1]:
        check_close(run(path, channels_first(pixels)), logits)
        check_close(run(path, channels_first(pixels[:1])), logits[:1])


def test_a_net_that_ends_with_probabilities_has_logits_too(tmp_path):
    pixels = make_images(2, 64).astype(np.float32) - 120
    model = make_net("paper", pixels, input_size=64)
    path = str(tmp_path / "net.onnx")
    write_onnx(model, path, batch_size=2)
    logits = keras.Model(model.input, model.get_layer("fc8").output)(pixels).numpy()
    found = run_onnxruntime(path, channels_first(pixels))
    check_close(found, logits)
    np.testing.assert_allclose(found["probabilities"], model(pixels), atol=1e-5)
    (images,) = onnx.load(path).graph.input
    dimensions = [side.dim_value for side in images.type.tensor_type.shape.dim]
    assert dimensions == [2, 3, 64, 64]


@pytest.mark.parametrize("scale", [1.0, 1 / 60, np.array([0.02, 0.01, 0.005])])
@pytest.mark.parametrize("by_channel", [False, True])
def test_pixels_are_normalised_inside(scale, by_channel, tmp_path):
    images = make_images(3, 64)
    shape = (3,) if by_channel else (64, 64, 3)
    mean = np.random.default_rng(1).uniform(60, 180, shape)
    pixels = ((images - mean) * scale).astype(np.float32)
    model = make_net("paper", pixels, input_size=64)
    path = str(tmp_path / "net.onnx")
    write_onnx(model, path, mean=mean, input_scale=scale)
    found = run_onnxruntime(path, images)
    np.testing.assert_allclose(found["probabilities"], model(pixels), atol=1e-5)


def test_no_window_of_lrn_reaches_over_the_seam(tmp_path):
    """LRN strong enough that the four maps beside the seam change every answer."""
    net = dataclasses.replace(PAPER, lrn=LRN(k=1.0, n=5, alpha=0.1, beta=0.75))
    pixels = make_images(3, 64).astype(np.float32) - 120
    weights = make_net("paper", input_size=64).get_weights()
    columns_apart = AlexNet(net, 20, width=0.125, input_size=64)
    columns_apart.set_weights(weights)
    path = str(tmp_path / "apart.onnx")
    write_onnx(columns_apart, path)
    apart = run_onnxruntime(path, channels_first(pixels))["logits"]
    logits = keras.Model(columns_apart.input, columns_apart.get_layer("fc8").output)(
        pixels
    ).numpy()
    assert np.abs(apart - logits).max() <= 1e-4 * np.abs(logits).max()

    mixing = onnx.load(path)
    nodes = {node.name: node for node in mixing.graph.node}
    for norm in ("norm1", "norm2"):
        # LRN reads all the maps of an image in one row.
        nodes[f"{norm}/normalized"].input[0] = nodes[f"{norm}/columns"].input[0]
    onnx.save(mixing, tmp_path / "mixed.onnx")
    mixed = run_onnxruntime(str(tmp_path / "mixed.onnx"), channels_first(pixels))
    assert np.abs(mixed["logits"] - logits).max() > 1e-2 * np.abs(logits).max()


def test_a_bfloat16_net_is_written_in_float32(tmp_path):
    pixels = make_images(2, 64).astype(np.float32) - 120
    wide = make_net("paper", pixels, input_size=64)
    narrow = AlexNet("paper", 20, width=0.125, input_size=64, dtype="mixed_bfloat16")
    narrow.set_weights(wide.get_weights())
    write_onnx(narrow, tmp_path / "net.onnx")
    found = run_onnxruntime(str(tmp_path / "net.onnx"), channels_first(pixels))
    np.testing.assert_allclose(found["probabilities"], wide(pixels), atol=1e-5)


@keras.saving.register_keras_serializable("tests")
class Swish(keras.layers.Layer):
    def call(self, x):
        return tf.nn.silu(x)


def with_a_new_layer() -> keras.Model:
    net = AlexNet(num_classes=3, width=0.125, input_size=64)
    x = Swish(name="swish8")(net.get_layer("fc8").output)
    return keras.Model(net.input, keras.layers.Activation("softmax")(x))


MISTAKES = {
    "unknown layer": (with_a_new_layer, {}, "Swish.*swish8"),
    "columns": (lambda: make_net("paper", num_columns=2), {}, "num_columns=1"),
    "sigmoid": (
        lambda: make_net("paper", classifier_activation="sigmoid"),
        {},
        "ends with sigmoid",
    ),
    "whole mean image": (
        lambda: make_net("paper"),
        {"mean": np.zeros((256, 256, 3))},
        "central_mean",
    ),
}


@pytest.mark.parametrize("case", MISTAKES)
def test_what_cannot_be_written_is_named(case, tmp_path):
    make, arguments, words = MISTAKES[case]
    with pytest.raises(UserError, match=words) as error:
        write_onnx(make(), tmp_path / "net.onnx", **arguments)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())


def test_one_line_where_onnx_is_not_installed(tmp_path):
    code = (
        "import sys\n"
        "sys.modules['onnx'] = None\n"
        "from official.alexnet.export import run\n"
        "sys.argv += ['--model_dir=run', '--export_dir=out', '--formats=onnx']\n"
        "run()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path)},
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "pip install 'official-alexnet[onnx]'" in line
    assert done.stdout == ""


@pytest.mark.slow
@pytest.mark.parametrize("run", RUNTIMES)
def test_the_whole_net_of_the_paper(run, tmp_path):
    squares = make_images(3, 256)
    mean = np.random.default_rng(1).uniform(60, 180, (224, 224, 3)).astype(np.float32)
    crops = squares[:, 16:240, 16:240]
    model = make_net(
        "paper", crops - mean, width=1, num_classes=1000, classifier_activation=None
    )
    path = str(tmp_path / "net.onnx")
    write_onnx(model, path, mean=mean)
    served = ServedAlexNet(model, mean, 1.0).signatures()["image_tensor"]
    logits = served(images=tf.constant(squares))["logits"].numpy()
    check_close(run(path, crops), logits)
    check_close(run(path, crops[:1]), logits[:1])


@pytest.mark.slow
def test_the_binary_writes_it(records_dir, tmp_path):
    net = ["--width=0.125", "--input_size=64", "--num_classes=3"]
    for binary, arguments in (
        (
            "train",
            [
                *(*net, f"--data_dir={records_dir}", "--train_steps=1"),
                *("--schedule=constant", "--skip_eval"),
            ],
        ),
        ("export", ["--export_dir=out", "--formats=onnx, litert"]),
    ):
        done = subprocess.run(
            [
                *(sys.executable, "-m", f"official.alexnet.{binary}"),
                *("--model_dir=run", *arguments),
            ],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
            env={"PYTHONPATH": ":".join(sys.path)},
        )
        assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    files = json.loads(done.stdout)["files"]
    assert files == {"onnx": "out/alexnet.onnx", "litert": "out/alexnet.tflite"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        *("alexnet.onnx", "alexnet.tflite"),
        *("labels.txt", "params.yaml", "statistics.npz"),
    }
