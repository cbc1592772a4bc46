"""The training loop: the paper's rule, exact resuming, stopping, and the command."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.cifar import trainer as trainer_lib
from official.alexnet.cifar.settings import Settings
from official.alexnet.cifar.trainer import Trainer, train
from official.alexnet.errors import UserError
from official.alexnet.training import optimizer as optimizer_lib

TINY = Settings(
    net="cifar_13pct", input_size=8, batch_size=20, train_epochs=1.5, seed=4
)


def compile_nothing(monkeypatch) -> None:
    """Compiling takes seconds; what is computed is the same but for rounding."""
    for module in (trainer_lib, optimizer_lib):
        monkeypatch.setattr(module, "xla_runs_here", lambda: False)


@pytest.fixture
def uncompiled(monkeypatch):
    compile_nothing(monkeypatch)


def rows(folder, split: str) -> list[dict]:
    lines = (folder / "metrics.jsonl").read_text("utf-8").splitlines()
    return [row for row in map(json.loads, lines) if row["split"] == split]


def weights_of(folder) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(str(folder))
    names = reader.get_variable_to_shape_map()
    return {
        name: reader.get_tensor(name)
        for name in names
        if name.startswith(("weights", "velocity", "step"))
    }


def test_update_is_the_sources(small_cifar10, tmp_path):
    """v <- 0.9 v - decay eps w - eps g; twice eps and no decay for biases."""
    settings = dataclasses.replace(TINY, augment=False, learning_rate=0.01)
    run = Trainer(settings, small_cifar10, tmp_path)
    run._set_rates(0)
    images = tf.constant(small_cifar10.train_images[:20])
    labels = tf.constant(small_cifar10.train_labels[:20])
    variables = run.model.trainable_variables
    w = [np.array(variable, "f8") for variable in variables]
    v = [np.zeros_like(array) for array in w]
    mean = small_cifar10.train_images.mean(0)[12:20, 12:20]
    for step in range(3):
        with tf.GradientTape() as tape:
            logits = run.model(tf.cast(images[:, 12:20, 12:20], "float32") - mean)
            losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits)
            loss = tf.reduce_mean(losses)
        gradients = tape.gradient(loss, [variable.value for variable in variables])
        run.train_step(images, labels, tf.constant(step))
        for i, variable in enumerate(variables):
            is_bias = variable.name == "bias"
            layer = variable.path.split("/")[0]
            decay = 0.0 if is_bias or layer.startswith("conv") else 0.004
            eps = 0.02 if is_bias else 0.01
            v[i] = 0.9 * v[i] - decay * eps * w[i] - eps * np.array(gradients[i], "f8")
            w[i] = w[i] + v[i]
            np.testing.assert_allclose(variable, w[i], rtol=1e-4, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_that_was_stopped_ends_with_the_same_bits(
    compiled, small_cifar10, tmp_path, monkeypatch
):
    if not compiled:
        compile_nothing(monkeypatch)
    settings = dataclasses.replace(TINY, learning_rate_steps=(1.0,))
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    results = train(settings, small_cifar10, str(whole))

    class Stop(Exception):
        pass

    original = Trainer._log

    def stop_before_the_checkpoint(self, step, stop, sums, seconds):
        original(self, step, stop, sums, seconds)
        if step == 2:
            raise Stop

    with monkeypatch.context() as patch, pytest.raises(Stop):
        patch.setattr(Trainer, "_log", stop_before_the_checkpoint)
        train(settings, small_cifar10, str(stopped))
    again = train(settings, small_cifar10, str(stopped))

    expected, found = weights_of(whole), weights_of(stopped)
    assert expected.keys() == found.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(found[name], array)
    assert again["test_error"] == results["test_error"]
    for split in ("train", "validation"):
        a, b = (
            [(row["step"], row["loss"], row["accuracy"]) for row in rows(folder, split)]
            for folder in (whole, stopped)
        )
        assert a == b
    # 4.5 steps an epoch: the windows are as even as whole steps allow.
    assert [row["step"] for row in rows(whole, "train")] == [2, 3, 4, 5, 6, 7]


def test_rates_of_kernels_fall_and_those_of_biases_do_not(small_cifar10, tmp_path):
    settings = dataclasses.replace(TINY, learning_rate_steps=(0.5, 1.0))
    run = Trainer(settings, small_cifar10, tmp_path)
    for step, rate in ((0, 1e-3), (2, 1e-3), (3, 1e-4), (4, 1e-4), (5, 1e-5)):
        run._set_rates(step)
        kernel, bias = run.model.get_layer("conv1").weights
        now = float(run.optimizer.learning_rate.numpy())
        assert now * run.optimizer.multiple(kernel) == pytest.approx(rate)
        assert now * run.optimizer.multiple(bias) == pytest.approx(2e-3)


@pytest.mark.usefixtures("uncompiled")
def test_it_stops_at_a_training_error_and_says_so(small_cifar10, tmp_path, monkeypatch):
    """An epoch of errors counts, however the steps came by them."""

    def improve(self, images, labels, indices, first):
        steps = tf.shape(indices)[0]
        self.optimizer.iterations.assign_add(tf.cast(steps, tf.int64))
        count = tf.cast(tf.size(indices), tf.float32)
        hits = count * (0.1 + 0.02 * tf.cast(first, tf.float32))
        return tf.stack([count, hits, hits, count])

    monkeypatch.setattr(Trainer, "_train_steps", improve)
    settings = dataclasses.replace(
        TINY, batch_size=10, train_epochs=60, stop_train_error=0.6
    )
    results = train(settings, small_cifar10, str(tmp_path))
    errors = [1 - row["accuracy"] for row in rows(tmp_path, "train")]
    assert np.mean(errors[-4:]) <= 0.6 < np.mean(errors[-5:-1])
    assert results["running_training_error"] == pytest.approx(np.mean(errors[-4:]))
    assert results["epoch"] == rows(tmp_path, "train")[-1]["epoch"] < 3
    assert len(rows(tmp_path, "validation")) == int(results["epoch"])
    for name in ("training_error", "test_error", "test_error_9_crops"):
        assert 0 <= results[name] <= 1
    assert json.loads((tmp_path / "results.json").read_text()) == results
    # Again: nothing is trained, and the answer is the same.
    assert train(settings, small_cifar10, str(tmp_path)) == results
    # Without the threshold it goes on to the last epoch.
    longer = dataclasses.replace(settings, stop_train_error=None, train_epochs=4)
    assert train(longer, small_cifar10, str(tmp_path))["epoch"] == 4


@pytest.mark.usefixtures("uncompiled")
def test_nine_crops_are_averaged_as_probabilities(small_cifar10, tmp_path):
    run = Trainer(dataclasses.replace(TINY, input_size=24), small_cifar10, tmp_path)
    for variable in run.model.trainable_variables:
        noise = np.random.default_rng(0).normal(0, 0.05, variable.shape)
        variable.assign_add(noise.astype("f4"))
    images, labels = small_cifar10.test_images, small_cifar10.test_labels
    mean = small_cifar10.train_images.mean(0)[4:28, 4:28]
    total = 0.0
    for top in (0, 4, 8):
        for left in (0, 4, 8):
            crop = images[:, top : top + 24, left : left + 24].astype("f4") - mean
            total += tf.nn.softmax(run.model(crop.astype("f4"))).numpy()
    hits = (total / 9).argmax(1) == labels
    assert run._evaluate(images, labels, 9).accuracy == pytest.approx(hits.mean())
    assert run._evaluate(images, labels, 9).num_examples == 33


@pytest.mark.usefixtures("uncompiled")
def test_a_loss_that_is_not_finite(small_cifar10, tmp_path):
    settings = dataclasses.replace(TINY, learning_rate=1e6)
    for _ in range(2):
        with pytest.raises(UserError, match="not finite by step"):
            train(settings, small_cifar10, str(tmp_path))
    assert "diverged_by_step" in json.loads((tmp_path / "results.json").read_text())
    lower = dataclasses.replace(TINY, learning_rate=0.001)
    with pytest.raises(UserError, match=r"started with learning_rate 1000000\.0, not"):
        train(lower, small_cifar10, str(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("uncompiled")
def test_a_run_is_not_gone_on_with_under_other_settings(small_cifar10, tmp_path):
    short = dataclasses.replace(TINY, train_epochs=0.5)
    train(short, small_cifar10, str(tmp_path))
    other = dataclasses.replace(short, learning_rate=0.002)
    with pytest.raises(UserError, match=r"started with learning_rate 0\.001, not"):
        train(other, small_cifar10, str(tmp_path))
    params = tmp_path / "params.yaml"
    text = params.read_text()
    for wrong, message in (("", "does not say"), (text + "seed: 4\n", "seed stands")):
        params.write_text(wrong)
        with pytest.raises(UserError, match=rf"params\.yaml .*{message}"):
            train(short, small_cifar10, str(tmp_path))
    params.unlink()
    with pytest.raises(UserError, match=r"params\.yaml does not say"):
        train(short, small_cifar10, str(tmp_path))
    params.write_text(text)
    before = rows(tmp_path, "train")
    train(other, small_cifar10, str(tmp_path), clean=True)
    assert rows(tmp_path, "train")[0]["learning_rate"] == pytest.approx(0.002)
    assert len(rows(tmp_path, "train")) == len(before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"learning_rate": 0.0}, "--learning_rate=0.0"),
        ({"momentum": 1.0}, "--momentum"),
        ({"batch_size": 0}, "--batch_size"),
        ({"learning_rate_steps": (2.0, 1.0)}, "--learning_rate_steps=2.0,1.0"),
        ({"seed": -1}, "--seed=-1"),
    ],
)
def test_values_out_of_range(change, message, small_cifar10, tmp_path):
    with pytest.raises(UserError, match=message):
        train(dataclasses.replace(TINY, **change), small_cifar10, str(tmp_path))
    assert not list(tmp_path.iterdir())


def test_the_command_answers_a_mistake_in_one_line(tmp_path):
    command = [sys.executable, "-m", trainer_lib.__name__.replace("trainer", "train")]
    for arguments, words in (
        ([], "--model_dir is required"),
        ([f"--model_dir={tmp_path}", f"--data_dir={tmp_path}"], "data_batch_1.bin"),
    ):
        found = subprocess.run(
            [*command, *arguments], check=False, capture_output=True, text=True
        )
        assert found.returncode == 2
        assert words in found.stderr
        assert len(found.stderr.splitlines()) == 1
