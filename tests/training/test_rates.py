"""Rates and colour noise that change while the loop runs: the same bits anyhow."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from official.alexnet.config import Config
from official.alexnet.data import dataset, preprocessing
from official.alexnet.data.statistics import Statistics
from official.alexnet.distribution.strategy import place
from official.alexnet.errors import UserError
from official.alexnet.training import checkpoints
from official.alexnet.training.checkpoints import Contents
from official.alexnet.training.trainer import Trainer, train

# Epochs of 6 steps; nothing below changes at a step at which the loop stops anyway.
LATE_FREEZE = {
    "schedule": "constant",
    "rates": (
        *("0 biases 0.02", "0.5 all 0.002", "0.5 conv1/kernel x0.1"),
        *("0.8 conv1 0", "0 fc8 x3"),
    ),
}
CASES = {
    "rows": {"schedule": "constant", "rates": ("0.5 all 0.001", "1.1 all 0.0001")},
    "dexp": {"schedule": "dexp", "rates": ("0 biases x2", "50% biases 0.002")},
    "caffe": {"schedule": "caffe", "stepsize": 3},
    "late freeze": LATE_FREEZE,
    "noise end": {"color_noise_epochs": 0.5},
}


def changed(config: Config, columns: int = 1, **settings) -> Config:
    """Settings by name, whatever their section; the grid is a device a column."""
    settings = {"num_columns": columns, "logical_cpus": 4, "num_gpus": 0} | settings
    sections = {}
    for section, value in vars(config).items():
        known = {field.name for field in dataclasses.fields(value)}
        own = {name: settings.pop(name) for name in known & settings.keys()}
        sections[section] = dataclasses.replace(value, **own)
    assert not settings
    return Config(**sections)


def state(model_dir: pathlib.Path) -> Contents:
    return checkpoints.read(checkpoints.latest(model_dir))


def kill_after(model_dir: pathlib.Path, step: int) -> None:
    """As if the run had been killed after the checkpoint of that step."""
    for path in model_dir.glob("ckpt-*"):
        if int(path.name.split("-")[1].split(".")[0]) > step:
            path.unlink()
    text = f'model_checkpoint_path: "ckpt-{step}"\n'
    (model_dir / "checkpoint").write_text(text)


def assert_equal(a: Contents, b: Contents) -> None:
    assert (a.step, a.progress) == (b.step, b.progress)
    for kind in ("weights", "velocity", "dropout"):
        ours, theirs = getattr(a, kind), getattr(b, kind)
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def same(a: Contents, b: Contents) -> set[str]:
    """Weights whose value and velocity are the same, bit for bit."""
    return {
        name
        for name in a.weights
        if np.array_equal(a.weights[name], b.weights[name])
        and np.array_equal(a.velocity[name], b.velocity[name])
    }


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_a_run_killed_anywhere_ends_with_the_same_bits(tiny_config, tmp_path, case):
    """Step by step to the end; from a checkpoint on with all steps in one loop."""
    columns = 2 if case == "late freeze" else 1
    config = changed(tiny_config, columns, train_steps=8, log_steps=8, **CASES[case])
    steps = {"steps_per_loop": 1, "checkpoint_steps": 1, "max_to_keep": 9}
    train(changed(config, columns, **steps), str(tmp_path))
    whole = state(tmp_path)
    for step in (4, 2):
        kill_after(tmp_path, step)
        train(changed(config, columns, steps_per_loop=8), str(tmp_path))
        assert_equal(state(tmp_path), whole)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1, 2])
def test_a_layer_that_freezes_late_stays_to_the_last_bit(
    tiny_config, tmp_path, columns
):
    config = changed(tiny_config, columns, train_steps=3, rates=("0.5 conv1 0",))
    train(config, str(tmp_path))
    before = state(tmp_path)
    assert np.abs(before.velocity["conv1/kernel"]).max() > 0
    assert np.abs(before.velocity["conv1/bias"]).max() > 0
    train(changed(config, columns, train_steps=6), str(tmp_path))
    assert same(before, state(tmp_path)) == {"conv1/kernel", "conv1/bias"}


@pytest.mark.slow
def test_a_late_freeze_is_a_freeze_from_then_on(tiny_config, tmp_path):
    late = changed(tiny_config, train_steps=6, rates=("0.5 conv1 0",))
    train(late, str(tmp_path / "late"))
    plain = changed(tiny_config, train_steps=3)
    train(plain, str(tmp_path / "by hand"))
    frozen = changed(plain, train_steps=6, rates=("0 conv1 0",))
    train(frozen, str(tmp_path / "by hand"))
    a, b = state(tmp_path / "late"), state(tmp_path / "by hand")
    # The end of the first part of a run is logged.
    assert_equal(a, dataclasses.replace(b, progress=a.progress))


@pytest.mark.slow
def test_layers_frozen_from_the_start_never_change(tiny_config, tmp_path):
    config = changed(
        tiny_config, train_steps=1, rates=("0 conv1 0", "0 fc7 0"), weight_decay=0.5
    )
    train(config, str(tmp_path))
    first = state(tmp_path)
    for name in ("conv1/kernel", "fc7/bias"):
        assert not np.any(first.velocity[name])
    train(changed(config, train_steps=4), str(tmp_path))
    still = {"conv1/kernel", "conv1/bias", "fc7/kernel", "fc7/bias"}
    assert same(first, state(tmp_path)) == still


@pytest.mark.slow
@pytest.mark.parametrize(("strategy", "columns"), [("off", 2), ("mirrored", 2)])
def test_rates_of_layers_are_the_same_on_any_grid(
    tiny_config, tmp_path, strategy, columns
):
    config = changed(tiny_config, train_steps=6, **LATE_FREEZE)
    train(config, str(tmp_path / "one"))
    grid = changed(config, columns, distribution_strategy=strategy)
    train(grid, str(tmp_path / "grid"))
    a, b = state(tmp_path / "one"), state(tmp_path / "grid")
    for name in a.weights:
        np.testing.assert_allclose(a.weights[name], b.weights[name], atol=1e-5)
        np.testing.assert_allclose(a.velocity[name], b.velocity[name], atol=1e-5)


def test_the_first_step_is_numpys_with_the_rate_of_each_weight(tiny_config, tmp_path):
    """velocity = -rate * (gradient + decay * w): ratios tell the rates."""
    plain = changed(tiny_config, train_steps=1, decay_biases=False)
    train(plain, str(tmp_path / "plain"))
    own = changed(
        plain,
        rates=("0 biases x2", "0 conv2 x0.5", "0 fc6/kernel x0.25", "0 fc8/bias x3"),
    )
    train(own, str(tmp_path / "own"))
    a, b = state(tmp_path / "plain"), state(tmp_path / "own")
    ratios = {"conv2": 0.5, "fc6/kernel": 0.25, "fc8/bias": 3}
    for name, velocity in a.velocity.items():
        ratio = ratios.get(name, ratios.get(name.split("/")[0], 1))
        ratio *= 2 if name.endswith("bias") else 1
        np.testing.assert_allclose(
            b.velocity[name], ratio * velocity, rtol=1e-5, atol=1e-9, err_msg=name
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"rates": ("0 conv9 0",)}, "no 'conv9' in this net, which has conv1"),
        ({"rates": ("3 fc8/kernl x2",)}, "no 'fc8/kernl' in this net"),
        (
            {"rates": ("0 all 0", "0 fc8 0.01", "0.5 fc8 0")},
            "leave no layer to train from step 3 on",
        ),
    ],
)
def test_layers_that_are_not_there_are_named(tiny_config, tmp_path, settings, message):
    folder = tmp_path / "run"
    with pytest.raises(UserError, match=message):
        train(changed(tiny_config, train_steps=6, **settings), str(folder))
    assert not folder.exists()


@pytest.mark.slow
def test_colour_noise_ends_inside_a_compiled_loop(tiny_config, tmp_path):
    noisy = {"color_noise": "standard_deviations", "steps_per_loop": 6}
    config = changed(tiny_config, train_steps=6, color_noise_epochs=0.5, **noisy)
    train(config, str(tmp_path / "late end"))
    train(changed(tiny_config, train_steps=3, **noisy), str(tmp_path / "by hand"))
    off = changed(tiny_config, train_steps=6, color_noise="none", steps_per_loop=6)
    train(off, str(tmp_path / "by hand"))
    train(changed(config, color_noise_epochs=None), str(tmp_path / "always"))
    late = state(tmp_path / "late end")
    by_hand, always = state(tmp_path / "by hand"), state(tmp_path / "always")
    assert_equal(late, dataclasses.replace(by_hand, progress=late.progress))
    assert not same(late, always)


@pytest.mark.parametrize(
    "kind", ["standard_deviations", pytest.param("eigenvalues", marks=pytest.mark.slow)]
)
def test_what_the_net_sees_in_a_step_is_numpys(tiny_config, tmp_path, kind):
    config = changed(
        tiny_config, color_noise=kind, color_noise_sigma=0.3, color_noise_epochs=1
    )
    placement = place(config.runtime, 1)
    trainer = Trainer(config, tmp_path, placement, clean=False)
    seen = []
    layer = trainer.model.layers[1]
    original = layer.call
    layer.call = lambda x: (seen.append(np.array(x)), original(x))[1]
    tf.config.run_functions_eagerly(True)
    try:
        for step in (0, 5, 6):
            trainer.optimizer.iterations.assign(step)
            trainer.set_rates(step)
            batch = next(iter(trainer.batches(step)))
            trainer.step.train_step(batch)
            expected = numpy_input(config, batch["image"].numpy(), step, kind)
            np.testing.assert_allclose(seen.pop(), expected, rtol=1e-4, atol=1e-4)
    finally:
        tf.config.run_functions_eagerly(False)


def numpy_input(config: Config, images: np.ndarray, step: int, kind: str):
    """Section 4.1, and convdata.py of the source; the noise ends after an epoch."""
    statistics = dataset.find_statistics(config.data, None)
    mean = statistics.mean_image[96:160, 96:160]
    x = images.astype(np.float64) - mean
    if step < 6:
        draws = tf.random.stateless_normal(
            [8, 3], [config.train.seed, step], alg="philox"
        )
        alpha = 0.3 * draws.numpy().astype(np.float64)
        eigenvalues = statistics.covariance_eigenvalues
        vectors = statistics.covariance_eigenvectors
        if kind == "eigenvalues":
            offsets = (alpha * eigenvalues / 255) @ vectors.T
        else:
            offsets = (alpha * np.sqrt(eigenvalues)) @ vectors.T
        x = x + offsets[:, None, None, :]
        if kind == "standard_deviations":
            x = x / 1.3
    return x / np.sqrt(np.mean(statistics.covariance_eigenvalues))


def test_colour_noise_of_imagenet_has_the_published_strength():
    """Brightness: 12.2 grey levels in the source (input_meta)."""
    deviations = np.array([121.7801, 37.0939, 19.7208])
    vectors = np.array(
        [
            [-0.5635, -0.7126, 0.4180],
            [-0.5762, -0.0235, -0.8170],
            [-0.592, 0.7012, 0.3973],
        ]
    )
    statistics = Statistics(np.zeros((256, 256, 3)), deviations**2, vectors, 1)
    draws = tf.random.stateless_normal([200_000, 3], [0, 0])
    source = preprocessing.color_noise(
        statistics, draws, sigma=0.1, scale="standard_deviations"
    ).numpy()[:, 0, 0]
    brightness = (source @ vectors[:, 0]).std()
    assert brightness == pytest.approx(12.18, rel=0.01)
    paper = preprocessing.color_noise(
        statistics, draws, sigma=0.1, scale="eigenvalues"
    ).numpy()[:, 0, 0]
    # 14830.4 / 255 * 0.1.
    assert (paper @ vectors[:, 0]).std() == pytest.approx(5.816, rel=0.01)
