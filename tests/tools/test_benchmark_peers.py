"""The benchmark's peers compute the same net, its limit the same products."""

import dataclasses
import math
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))

from benchmarking import inference as suite
from benchmarking import layers, networks, records, timing
from benchmarking.child import Child
from benchmarking.settings import Settings
from benchmarking.timing import Row

from official.alexnet import AlexNet
from official.alexnet.distribution.capabilities import grouped_kernels_run_here
from official.alexnet.errors import UserError
from official.alexnet.modeling import options
from official.alexnet.modeling.variants import find_variant

SMALL = Settings(batch_size=4, rounds=2, warmup=1, threads=2, small=True)


def test_a_missing_peer_is_said_in_one_line(monkeypatch):
    monkeypatch.setattr(
        timing.importlib.util, "find_spec", lambda name: name == "onnx" or None
    )
    assert timing.absence("onnxruntime") == (
        "skipped: without onnxruntime (pip install 'official-alexnet[bench]')"
    )
    assert timing.absence("keras") is None


def test_peers_enter_only_when_chosen_and_installed(monkeypatch, capsys):
    monkeypatch.setattr(
        timing, "absence", lambda peer: "skipped: gone" if peer == "torch" else None
    )
    made = {
        "keras": lambda: [Row("plain Keras", print)],
        "torch": lambda: pytest.fail("made although it is absent"),
        "simplejpeg": lambda: pytest.fail("made although it was not chosen"),
    }
    rows = timing.enter(("keras", "torch"), made, "bf16")
    assert rows == [
        Row("plain Keras", print, dtype="bf16"),
        Row("PyTorch", dtype="bf16", note="skipped: gone"),
    ]
    assert capsys.readouterr().out == "PyTorch: skipped: gone\n"


# Large enough for maps of 2 x 2 before fc6, whose order frameworks disagree about.
SIDE = 96
NET = options.change(find_variant("paper"), width=0.125, input_size=SIDE)


@pytest.fixture(scope="module")
def net_and_answer():
    """A narrow net with lively weights, images, and our probabilities."""
    model = AlexNet("paper", 1000, input_size=SIDE, width=0.125)
    images = np.random.default_rng(0).uniform(-127.5, 127.5, (4, SIDE, SIDE, 3))
    images = images.astype(np.float32)
    suite.give_lively_weights(model, images)
    return model, images, model(images, training=False).numpy()


def test_lively_weights_make_lrn_and_classes_matter(net_and_answer):
    model, images, answer = net_and_answer
    assert answer.max() > 10 * suite.TOLERANCE
    norm1 = model.get_layer("norm1")
    maps = model.get_layer("conv1")(images)
    ratio = tf.math.reduce_std(norm1(maps)) / tf.math.reduce_std(maps)
    # Of the factor k^-beta alone LRN leaves less than half.
    assert ratio < 0.5 * 2**-0.75


def test_plain_keras_is_the_same_net(net_and_answer):
    model, images, answer = net_and_answer
    weights = networks.peer_weights(model, NET)
    other = networks.plain_keras(NET, weights, "fp32", softmax=True)
    np.testing.assert_allclose(other(images, training=False), answer, atol=1e-5)
    # Each weight decays as published: the penalty's gradient is 0.0005 w.
    with tf.GradientTape() as tape:
        penalty = tf.add_n(other.losses)
    variables = [variable.value for variable in other.trainable_variables]
    for gradient, variable in zip(
        tape.gradient(penalty, variables), variables, strict=True
    ):
        np.testing.assert_allclose(gradient, 0.0005 * variable, rtol=1e-5)


def test_torch_net_is_the_same_net(net_and_answer):
    torch = pytest.importorskip("torch")
    model, images, answer = net_and_answer
    other = networks.torch_net(NET, networks.peer_weights(model, NET)).eval()
    with torch.inference_mode():
        logits = other(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(torch.softmax(logits, 1), answer, atol=1e-5)


def test_onnx_graphs_are_the_same_net(net_and_answer, tmp_path):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, images, answer = net_and_answer
    graphs = networks.onnx_graphs(model, tmp_path)
    assert len(set(graphs.values())) == 2
    for graph in graphs.values():
        session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        first = {"images": images.transpose(0, 3, 1, 2).copy()}
        (found,) = session.run(["probabilities"], first)
        np.testing.assert_allclose(found, answer, atol=1e-5)


def test_a_peer_that_answers_otherwise_differs():
    right, wrong = np.full((2, 3), 1 / 3), np.full((2, 3), 1 / 3)
    wrong[0, 0] += 0.002
    pixels = np.full((2, 3), 0.9)
    rows = [
        Row("ours", lambda: right),
        Row("limit", lambda: pytest.fail("has no answer")),
        Row("absent", note="skipped"),
        Row("same", lambda: right + 0.0009, note="words"),
        Row("other", lambda: wrong, note="words"),
        Row("none", lambda: right * math.nan),
        Row("ours, from pixels", lambda: pixels, against="pixels"),
        Row("SavedModel", lambda: pixels, against="pixels"),
    ]
    suite.note_differences(rows)
    notes = [row.note for row in rows]
    assert notes[:4] == ["", "", "skipped", "words"]
    assert notes[4:6] == ["words; differs by 2.0e-03", "differs by nan"]
    assert notes[6:] == ["", ""]


# === The limit ===


def test_the_limit_has_the_products_of_the_published_net(monkeypatch):
    """724,406,816 multiplications and additions forward an image."""
    counted = []

    def count(function, *operands):
        if len(operands) == 2:
            kernel, result = operands[1], function(*operands)
            counted.append(math.prod(kernel.shape[:-1]) * math.prod(result.shape))

    monkeypatch.setattr(layers, "_compiled", count)
    net = networks.net_of(Settings())
    made = layers.operations(net, 1, "fp32", backward=False)
    assert list(made) == [f"conv{i} forward" for i in range(1, 6)] + [
        f"fc{i} forward" for i in (6, 7, 8)
    ]
    assert sum(counted) == 724_406_816


@pytest.mark.parametrize(
    "dtype", ["fp32", pytest.param("bf16", marks=pytest.mark.slow)]
)
def test_the_limit_runs_each_product_of_a_step(dtype):
    settings = dataclasses.replace(SMALL, batch_size=2)
    if not grouped_kernels_run_here(layers._TYPES[dtype]):
        with pytest.raises(UserError, match="refuses grouped kernels in bf16"):
            layers.limit(settings, dtype, backward=True)
        return
    layers.limit(settings, dtype, backward=True).run()
    net = networks.net_of(settings)
    products = layers.operations(net, 2, dtype, backward=True)
    # Each layer forward, to its kernel and to its input, but for the images.
    assert len(products) == 3 * 8 - 1
    assert "conv1 input gradient" not in products
    assert {"conv2 input gradient", "fc8 kernel gradient"} <= products.keys()


# === Records and processes ===


def test_linked_shards_are_a_larger_set(records_dir, tmp_path):
    """48 records in two shards, linked to seem to be 240."""
    count = records.repeat(str(records_dir), tmp_path / "many", 240)
    assert count == 240
    files = list((tmp_path / "many").glob("train-*"))
    assert len(files) == 10
    assert all(file.is_symlink() for file in files)
    split = records.find_train(str(tmp_path / "many"))
    assert split.num_examples == 240
    with pytest.raises(UserError, match="leave --data_dir out to draw pictures"):
        records.repeat(str(tmp_path), tmp_path / "none", 240)


def test_drawn_records_are_prepared_ones(tmp_path):
    folder = records.find(SMALL, tmp_path)
    assert records.find_train(folder).num_examples == SMALL.drawn_pictures
    jpegs = records.read_jpegs(SMALL, folder)
    assert len(jpegs) == SMALL.batches * SMALL.batch_size
    for jpeg in jpegs:
        assert tf.io.extract_jpeg_shape(jpeg).numpy().tolist() == [256, 256, 3]
    # Drawn once.
    assert records.find(SMALL, tmp_path) == folder
    given = dataclasses.replace(SMALL, data_dir="elsewhere")
    assert records.find(given, tmp_path) == "elsewhere"


def test_a_process_that_ends_is_said_so(capfd):
    with (
        Child("no_such:task") as process,
        pytest.raises(UserError, match="the process that measures no_such:task ended"),
    ):
        process.ask("anything")
    capfd.readouterr()
