"""The CIFAR-10 nets and their program, on a CIFAR-10 of blots."""

import functools
import pathlib
import sys

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.errors import UserError

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "examples/cifar10"))

import cifar10
import data
import train
from nets import LocallyConnected, build


@pytest.fixture(scope="module")
def blots() -> tuple[data.Split, data.Split]:
    """A class is where its blot is."""
    rng = np.random.default_rng(0)

    def draw(count: int) -> data.Split:
        labels = np.arange(count, dtype=np.int32) % 10
        images = rng.integers(0, 128, (count, 32, 32, 3), np.uint8)
        for image, label in zip(images, labels, strict=True):
            top, left = divmod(int(label), 4)
            image[8 * top : 8 * top + 8, 8 * left : 8 * left + 8] += 120
        return data.Split(images, labels)

    return draw(100), draw(20)


# === The nets ===


def layer_names(net: str, **options) -> str:
    return " ".join(layer.name for layer in build(net, **options).layers)


def test_the_nets_are_the_sources():
    assert layer_names("19pct") == (
        "conv1 pool1 relu1 conv2 relu2 pool2 conv3 relu3 pool3 flatten fc10"
    )
    with_lrn = layer_names("11pct")
    assert with_lrn.startswith(
        "conv1 relu1 norm1 pool1 conv2 relu2 norm2 pool2 local3 relu3 local4 relu4"
    )
    assert "tanh1 conv2 tanh2 pool2" in layer_names("19pct", activation="tanh")
    counts = {net: build(net).count_params() for net in ("19pct", "13pct", "11pct")}
    assert counts == {"19pct": 89_578, "13pct": 1_116_490, "11pct": 1_116_490}


def test_only_lrn_differs_between_13_and_11_percent():
    with_lrn, without = (build(net, seed=5) for net in ("11pct", "13pct"))
    for a, b in zip(with_lrn.weights, without.weights, strict=True):
        np.testing.assert_array_equal(a, b)
    kinds = [[type(x).__name__ for x in net.layers] for net in (with_lrn, without)]
    assert [k for k in kinds[0] if k != "LocalResponseNormalization"] == kinds[1]


def test_initial_weights_and_decays_are_the_sources():
    model = build("13pct", seed=1)
    published = {
        "conv1": (1e-4, 0.0),
        "conv2": (0.01, 0.0),
        "local3": (0.04, 0.004),
        "local4": (0.04, 0.004),
        "fc10": (0.01, 0.004),
    }
    for name, (stddev, decay) in published.items():
        layer = model.get_layer(name)
        assert np.std(layer.kernel) == pytest.approx(stddev, rel=0.05)
        assert not np.any(layer.bias)
        with tf.GradientTape() as tape:
            loss = layer.kernel.regularizer(layer.kernel.value)
        gradient = tape.gradient(loss, layer.kernel.value)
        expected = decay * layer.kernel.numpy()
        np.testing.assert_allclose(gradient if decay else 0, expected * bool(decay))
    assert build("19pct").get_layer("fc10").kernel.regularizer.l2 == 1.5
    assert not any(build("19pct", decays=False).losses)


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_the_net_of_figure_1_equals_tensorflows_ops(activation):
    model = build("19pct", activation=activation, seed=2)
    images = np.random.default_rng(0).normal(0, 60, (2, 32, 32, 3)).astype("f4")
    f = getattr(tf.nn, activation)
    conv1, conv2, conv3, fc10 = (
        (tf.constant(layer.kernel), tf.constant(layer.bias))
        for layer in (model.get_layer(n) for n in ("conv1", "conv2", "conv3", "fc10"))
    )

    def convolve(x, weights):
        return tf.nn.conv2d(x, weights[0], 1, "SAME") + weights[1]

    x = f(tf.nn.max_pool2d(convolve(images, conv1), 3, 2, "SAME"))
    x = tf.nn.avg_pool2d(f(convolve(x, conv2)), 3, 2, "SAME")
    x = tf.nn.avg_pool2d(f(convolve(x, conv3)), 3, 2, "SAME")
    logits = tf.reshape(x, [2, -1]) @ fc10[0] + fc10[1]
    np.testing.assert_allclose(model(images), logits, rtol=1e-4, atol=1e-7)


def test_lrn_is_the_sources():
    """x / (1 + 0.001/5 * sum of x^2 over 5 maps)^0.75."""
    x = np.random.default_rng(0).normal(0, 30, (1, 2, 2, 64)).astype("f4")
    padded = np.pad(x.astype("f8") ** 2, [(0, 0)] * 3 + [(2, 2)])
    sums = sum(padded[..., i : i + 64] for i in range(5))
    expected = x / (1 + 0.001 / 5 * sums) ** 0.75
    norm = build("11pct").get_layer("norm1")
    np.testing.assert_allclose(norm(x), expected, rtol=1e-5)


def test_kernels_of_their_own_at_every_pixel():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 3, 2)).astype("f4")
    layer = LocallyConnected((4, 3, 5), name="local")
    layer.build(x.shape)
    kernel, bias = (
        rng.normal(size=v.shape).astype("f4") for v in (layer.kernel, layer.bias)
    )
    layer.set_weights([kernel, bias])
    expected = np.tile(bias, (2, 1, 1, 1))
    padded = np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)])
    for i, j in np.ndindex(4, 3):
        window = padded[:, i : i + 3, j : j + 3].reshape(2, -1)
        expected[:, i, j] += window @ kernel[i, j]
    np.testing.assert_allclose(layer(x), expected, rtol=1e-4, atol=1e-5)


# === The data ===


@pytest.fixture
def binary_dir(blots, tmp_path, monkeypatch):
    """As described with the data set: label, then the three planes, row by row."""
    monkeypatch.setattr(data, "_RECORDS", 20)
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    training, test = blots
    for i, name in enumerate(data.FILES):
        split = test if name == data.FILES[-1] else training
        content = bytearray()
        for number in range(20 * i % len(split.labels), len(split.labels))[:20]:
            content.append(split.labels[number])
            content.extend(split.images[number].transpose(2, 0, 1).tobytes())
        (folder / name).write_bytes(content)
    return tmp_path


def check_equal(found, expected) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype


def test_binary_files_and_mistakes(binary_dir, blots):
    check_equal(data.read(str(binary_dir)), blots)
    folder = binary_dir / "cifar-10-batches-bin"
    check_equal(data.read(str(folder)), blots)
    path = folder / "data_batch_3.bin"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1])
    with pytest.raises(UserError, match=r"data_batch_3\.bin has 61,459 bytes, not"):
        data.read(str(binary_dir))
    path.write_bytes(whole[:-3073] + b"\x0a" + whole[-3072:])
    with pytest.raises(UserError, match="record 19 has label 10, outside 0"):
        data.read(str(binary_dir))
    path.unlink()
    with pytest.raises(UserError, match=r"has no data_batch_3\.bin.*binary version"):
        data.read(str(binary_dir))


# === The runs ===


def test_each_epoch_has_every_image_in_an_order_of_its_own(blots):
    training, _ = blots
    mean = np.zeros((32, 32, 3), "f4")
    stream = train.batches(training, mean, 0, crops=False)
    epochs = [
        np.concatenate([images for images, _ in stream.as_numpy_iterator()])
        for _ in range(2)
    ]
    for epoch in epochs:
        ours, theirs = (
            sorted(map(bytes, np.uint8(images))) for images in (epoch, training.images)
        )
        assert ours == theirs
    assert not np.array_equal(*epochs)


def test_crops_are_others_in_each_epoch(blots):
    """Of one image, so that its order does not count; and the same with one seed."""
    one = data.Split(*(values[:1] for values in blots[0]))
    mean = np.zeros((24, 24, 3), "f4")

    def crops(seed: int) -> list[bytes]:
        stream = train.batches(one, mean, seed, crops=True)
        return [next(iter(stream))[0].numpy().tobytes() for _ in range(6)]

    assert crops(1) == crops(1) != crops(2)
    assert len(set(crops(1))) > 3


def test_the_best_rate_and_the_gain_are_found_once(tmp_path, monkeypatch):
    """ReLU learns fastest at 0.004 and tanh at 0.016, outside the grid."""
    trained, picture = [], tmp_path / "figure1.png"

    def fake(net, activation, rate, epochs, _, __, seed, stop_error):
        trained.append((net, activation, rate, epochs, seed))
        assert stop_error == (0.25 if net == "19pct" else None)
        if net != "19pct":
            error = 0.2 + 0.01 * seed * (net == "11pct")
            return {"test_error_9_crops": error}
        far = abs(np.log2(rate / {"relu": 0.004, "tanh": 0.016}[activation]))
        row = {"training_error": 0.3 + 0.1 * far, "epochs_to_error": 5.0}
        return row | {"errors": [(0.5, 0.7), (8.5, 0.2)]}

    def results() -> dict:
        run = functools.partial(cifar10.run_once, tmp_path, (None, None))
        return cifar10.figure1(run, picture) | cifar10.lrn(run)

    monkeypatch.setattr(train, "train", fake)
    found = results()
    assert found["best_rates"] == {"relu": 0.004, "tanh": 0.016}
    assert found["epochs_to_error"] == {"relu": 5, "tanh": 5}
    assert found["lrn_gain"] == pytest.approx(-2)
    # Differences of -1, -2 and -3 points; Student's t for two degrees is 4.3027.
    half = 4.3027 / np.sqrt(3)
    expected = [-2 - half, -2 + half]
    assert found["lrn_gain_interval"] == pytest.approx(expected, rel=1e-4)
    assert picture.stat().st_size > 5000
    assert len(set(trained)) == len(trained)
    # What is finished is not trained again.
    monkeypatch.setattr(train, "train", None)
    assert results() == found


def test_a_run_that_diverged_gives_no_gain():
    with pytest.raises(UserError, match="13pct of seed 1 has diverged"):
        cifar10.lrn(lambda *_: {"errors": []})


@pytest.mark.slow
def test_a_run_of_section_3_3(blots):
    row = train.train("11pct", "relu", 0.001, 1, *blots, seed=1)
    assert 0 <= row["test_errors"][-1][1] <= 1
    assert 0 <= row["test_error_9_crops"] <= 1
    assert len(row["test_errors"]) == 1
    assert row["test_errors"][0][0] == 1


def test_a_run_ends_at_its_training_error(blots, monkeypatch):
    monkeypatch.setattr(train, "BATCH", 32)
    row = train.train("19pct", "relu", 0.01, 60, *blots, stop_error=0.6)
    before, after = row["errors"][-2:]
    assert row["training_error"] == after[1] <= 0.6 < before[1]
    assert before[0] <= row["epochs_to_error"] <= after[0]
    assert 0 <= row["test_errors"][-1][1] <= 1


def test_a_run_that_diverges_is_the_worst(blots, monkeypatch):
    monkeypatch.setattr(train, "BATCH", 32)
    row = train.train("19pct", "relu", 1e6, 2, *blots, stop_error=0.25)
    assert row["training_error"] == np.inf


def test_rates_of_kernels_and_biases(blots, monkeypatch):
    """Divided by 10 after 80 and 90 % of the epochs; the biases' rate stays."""
    noted = []

    class Noting(train.PaperSGD):
        def set_multiples(self, multiple_of):
            super().set_multiples(multiple_of)
            rate = float(self.learning_rate.numpy())
            rates = dict(zip(self.names, rate * self._rates.numpy(), strict=True))
            noted.append((rates["conv1/kernel"], rates["conv1/bias"]))

    monkeypatch.setattr(train, "PaperSGD", Noting)
    one = data.Split(*(values[:10] for values in blots[0]))
    row = train.train("19pct", "relu", 1e-4, 10, one, one)
    assert len(row["errors"]) == 10
    expected = [(1e-4, 2e-4), (1e-5, 2e-4), (1e-6, 2e-4)]
    np.testing.assert_allclose(noted, expected, rtol=1e-5)
