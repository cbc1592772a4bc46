"""The benchmark's peers compute the same net, its limit the same products."""

import dataclasses
import math
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "tools"))

from benchmarking import (
    child,
    inference,
    limit,
    networks,
    onnx_graph,
    peers,
    records,
)
from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row

from official.alexnet import AlexNet
from official.alexnet.distribution.capabilities import grouped_kernels_run_here
from official.alexnet.errors import UserError

SMALL = Settings(batch_size=4, rounds=2, warmup=1, threads=2, small=True)


def test_a_missing_peer_is_said_in_one_line():
    words = peers.absence("onnxruntime", lambda package: package != "onnxruntime")
    assert words == (
        "skipped: onnxruntime is not installed (pip install 'official-alexnet[bench]')"
    )
    assert peers.absence("torch", lambda package: True) is None


def test_peers_enter_only_when_chosen_and_installed(monkeypatch, capsys):
    monkeypatch.setattr(
        peers, "absence", lambda peer: "skipped: gone" if peer == "torch" else None
    )
    made = {
        "keras": lambda: [Contender("plain Keras", print, 1)],
        "torch": lambda: pytest.fail("made although it is absent"),
        "simplejpeg": lambda: pytest.fail("made although it was not chosen"),
    }
    settings = dataclasses.replace(SMALL, peers=("keras", "torch"))
    contenders, skipped = peers.enter(settings, made)
    assert [contender.name for contender in contenders] == ["plain Keras"]
    assert skipped == [Row("PyTorch", note="skipped: gone")]
    assert capsys.readouterr().out == "PyTorch: skipped: gone\n"


def test_choosing_peers():
    assert peers.choose(["all"]) == tuple(peers.PEERS)
    assert peers.choose(["none"]) == ()
    assert peers.choose(["torch", "keras"]) == ("keras", "torch")
    with pytest.raises(UserError, match="no peer is called 'jax'; there are keras,"):
        peers.choose(["torch", "jax"])


# Large enough for maps of 2 x 2 before fc6, whose order frameworks disagree about.
SIDE = 96


@pytest.fixture(scope="module")
def net_and_answer():
    """A narrow net with lively weights, images, and our probabilities."""
    model = AlexNet("paper", 1000, input_size=SIDE, width=0.125)
    images = np.random.default_rng(0).uniform(-127.5, 127.5, (4, SIDE, SIDE, 3))
    images = images.astype(np.float32)
    inference.give_lively_weights(model, images)
    return model, images, model(images, training=False).numpy()


def test_lively_weights_make_lrn_and_classes_matter(net_and_answer):
    model, images, answer = net_and_answer
    assert answer.max() > 10 * inference.TOLERANCE
    norm1 = model.get_layer("norm1")
    maps = model.get_layer("conv1")(images)
    ratio = tf.math.reduce_std(norm1(maps)) / tf.math.reduce_std(maps)
    # Of the factor k^-beta alone LRN leaves less than half.
    assert ratio < 0.5 * 2**-0.75


def test_plain_keras_is_the_same_net(net_and_answer):
    model, images, answer = net_and_answer
    net = networks.net_of(0.125)
    weights = networks.peer_weights(model, net)
    other = networks.plain_keras(net, SIDE, weights, "fp32", softmax=True)
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
    net = networks.net_of(0.125)
    other = networks.torch_net(net, SIDE, networks.peer_weights(model, net)).eval()
    with torch.inference_mode():
        logits = other(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))
    np.testing.assert_allclose(torch.softmax(logits, 1), answer, atol=1e-5)


@pytest.mark.parametrize("form", onnx_graph.FORMS)
def test_onnx_graph_is_the_same_net(net_and_answer, form):
    pytest.importorskip("onnx")
    runtime = pytest.importorskip("onnxruntime")
    model, images, answer = net_and_answer
    net = networks.net_of(0.125)
    weights = networks.peer_weights(model, net)
    graph = onnx_graph.serialized(net, SIDE, weights, form)
    session = runtime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images.transpose(0, 3, 1, 2).copy()})
    np.testing.assert_allclose(found, answer, atol=1e-5)


def test_a_peer_that_answers_otherwise_differs():
    right, wrong = np.full((2, 3), 1 / 3), np.full((2, 3), 1 / 3)
    wrong[0, 0] += 0.002
    pixels = np.full((2, 3), 0.9)
    found = inference.with_differences(
        [
            Contender("ours", lambda: right, 2),
            Contender("limit", lambda: pytest.fail("has no answer"), 2),
            Contender("same", lambda: right + 0.0009, 2, note="words"),
            Contender("other", lambda: wrong, 2, note="words"),
            Contender("none", lambda: right * math.nan, 2),
            Contender("ours, from pixels", lambda: pixels, 2, against="pixels"),
            Contender("SavedModel", lambda: pixels, 2, against="pixels"),
        ]
    )
    notes = [contender.note for contender in found]
    assert notes[:3] == ["", "", "words"]
    assert notes[3] == "words; differs by 2.0e-03"
    assert notes[4] == "differs by nan"
    assert notes[5:] == ["", ""]


# === The limit ===


def test_the_limit_has_the_products_of_the_published_net(monkeypatch):
    """724,406,816 multiplications and additions forward an image."""
    counted = {}

    def count(function, *operands):
        if len(operands) in (2, 3):
            kernel, result = operands[1], function(*operands)
            counted[function.__qualname__, len(counted)] = math.prod(
                kernel.shape[:-1]
            ) * math.prod(result.shape)

    monkeypatch.setattr(limit, "_compiled", count)
    net = networks.net_of(1.0)
    made = limit.operations(net, 224, 1000, 1, tf.float32, backward=False)
    assert list(made) == [f"conv{i} forward" for i in range(1, 6)] + [
        f"fc{i} forward" for i in (6, 7, 8)
    ]
    assert sum(counted.values()) == 724_406_816


@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_the_limit_runs_each_product_of_a_step(dtype):
    if not grouped_kernels_run_here(limit._TYPES[dtype]):
        with pytest.raises(UserError, match="refuses grouped kernels in bf16"):
            limit.contender(networks.net_of(0.125), 64, 10, 2, dtype, backward=True)
        return
    work = limit.contender(networks.net_of(0.125), 64, 10, 2, dtype, backward=True)
    seconds = work.run()
    # Each layer forward, to its kernel and to its input, but for the images.
    assert len(seconds) == 3 * 8 - 1
    assert "conv1 input gradient" not in seconds
    assert {"conv2 input gradient", "fc8 kernel gradient"} <= seconds.keys()
    assert all(value > 0 for value in seconds.values())


# === Records and processes ===


def test_linked_shards_are_a_larger_set(records_dir, tmp_path):
    """48 records in two shards, linked to seem to be 240."""
    count = records.repeat(str(records_dir), tmp_path / "many", 240)
    assert count == 240
    files = list((tmp_path / "many").glob("train-*"))
    assert len(files) == 10
    assert all(file.is_symlink() for file in files)
    split = records.find_train(SMALL, str(tmp_path / "many"))
    assert split.num_examples == 240
    with pytest.raises(UserError, match="leave --data_dir out to draw pictures"):
        records.repeat(str(tmp_path), tmp_path / "none", 240)


def test_drawn_records_are_prepared_ones(tmp_path):
    folder = records.find(SMALL, tmp_path)
    assert records.find_train(SMALL, folder).num_examples == SMALL.drawn_pictures
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
        child.Child("no_such_task", SMALL) as process,
        pytest.raises(UserError, match="the process that measures no_such_task ended"),
    ):
        process.ask("anything")
    capfd.readouterr()
