"""Starting from another net's weights, layer by layer."""

import dataclasses
import logging
import shutil

import numpy as np
import pytest
from absl import logging as absl_logging

from official.alexnet import run_files
from official.alexnet.config import Config
from official.alexnet.errors import UserError
from official.alexnet.modeling.weights import variables_by_name
from official.alexnet.serving.export import export
from official.alexnet.training import building, checkpoints, initialization
from official.alexnet.training.trainer import train
from official.alexnet.weights import files
from official.alexnet.weights.preprocessing import Preprocessing

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")


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


def net_of(config: Config):
    return building.build_model(config.model, config.runtime, config.train.seed)


def taken_for(model, config: Config) -> dict:
    settings = config.model, config.train, config.data.input_scale
    return initialization.from_source(model, *settings)


def state(model_dir) -> checkpoints.Contents:
    return checkpoints.read(checkpoints.latest(model_dir))


def started(config: Config, model_dir) -> checkpoints.Contents:
    """What a run holds before its first step: one in which nothing moves."""
    still = changed(
        config,
        config.model.num_columns,
        train_steps=1,
        learning_rate=1e-30,
        distribution_strategy=config.runtime.distribution_strategy,
    )
    train(still, str(model_dir))
    return state(model_dir)


@pytest.fixture(scope="module")
def unnamed_dir(records_dir, tmp_path_factory):
    """The records without their classes' names, so that a net may have more."""
    folder = tmp_path_factory.mktemp("unnamed") / "records"
    return shutil.copytree(
        records_dir, folder, ignore=shutil.ignore_patterns("labels.txt")
    )


@pytest.fixture(scope="module")
def source(unnamed_dir, tmp_path_factory):
    """A run of `original`, whose weights are those of no other seed."""
    from official.alexnet.config import (  # noqa: PLC0415
        DataConfig,
        ModelConfig,
        RuntimeConfig,
        TrainConfig,
    )

    folder = tmp_path_factory.mktemp("source")
    config = Config(
        model=ModelConfig("original", num_classes=3, width=0.125, input_size=64),
        data=DataConfig(
            data_dir=str(unnamed_dir), input_scale="unit_variance", label_base="1"
        ),
        train=TrainConfig(
            batch_size=8, train_steps=2, schedule="constant", skip_eval=True, seed=9
        ),
        runtime=RuntimeConfig(num_gpus=0, logical_cpus=4),
    )
    train(config, str(folder))
    return config, folder


def check_taken(
    got: checkpoints.Contents, source: checkpoints.Contents, taken, new
) -> None:
    layers = {name.partition("/")[0] for name in got.weights}
    assert layers == {*taken, *new}
    for name, array in got.weights.items():
        if name.partition("/")[0] in taken:
            np.testing.assert_allclose(array, source.weights[name], rtol=1e-6)
        elif name in source.weights and name.endswith("kernel"):
            assert not np.array_equal(array, source.weights[name]), name
    for name, velocity in got.velocity.items():
        assert np.abs(velocity).max() < 1e-20, name


def test_all_layers_are_taken_and_momentum_is_not(source, tmp_path):
    config, folder = source
    assert np.abs(state(folder).velocity["conv1/kernel"]).max() > 1e-8
    got = started(changed(config, init_from=str(folder), seed=1), tmp_path)
    check_taken(got, state(folder), [*CONVOLUTIONS, "fc6", "fc7", "fc8"], [])
    assert got.step == 1


@pytest.mark.parametrize(
    ("columns", "strategy"),
    [
        pytest.param(1, "off", marks=pytest.mark.slow),
        pytest.param(2, "off", marks=pytest.mark.slow),
        pytest.param(2, "mirrored", marks=pytest.mark.slow),
        pytest.param(1, "mirrored", marks=pytest.mark.slow),
    ],
)
def test_the_chain_to_1_cnn_star_on_any_grid(source, tmp_path, columns, strategy):
    """145 -> 146-2009 -> 146-2011 -> 146-2012 with as few classes as images."""
    base, folder = source
    grid = {"columns": columns, "distribution_strategy": strategy}

    def step(name, init_from, layers, new, **settings):
        config = changed(
            base,
            **grid,
            init_from=str(init_from),
            init_layers=layers,
            seed=len(name),
            **settings,
        )
        check_taken(
            started(config, tmp_path / name), state(init_from), set(layers), new
        )
        # A few steps, so that the next run has more to take than the first one's.
        train(changed(config, **grid, train_steps=3), str(tmp_path / name))
        return tmp_path / name

    at_2009 = step(
        "2009",
        folder,
        CONVOLUTIONS,
        {"conv6", "fc6", "fc7", "fc8"},
        variant="original_conv6",
        num_classes=5,
    )
    at_2011 = step(
        "of 2011",
        at_2009,
        (*CONVOLUTIONS, "conv6"),
        {"fc6", "fc7", "fc7_1", "fc8"},
        variant="original_conv6_bottleneck",
        num_classes=7,
    )
    step(
        "of 2012 again",
        at_2011,
        (*CONVOLUTIONS, "conv6", "fc6", "fc7"),
        {"fc8"},
        variant="original_conv6",
    )


def test_a_new_head_for_other_classes_and_the_log_says_so(source, tmp_path):
    config, folder = source
    config = changed(config, init_from=str(folder), num_classes=4)
    lines = logged(lambda: started(config, tmp_path))
    check_taken(state(tmp_path), state(folder), [*CONVOLUTIONS, "fc6", "fc7"], ["fc8"])
    (line,) = [line for line in lines if line.startswith("From ")]
    assert line == (
        f"From {folder}: conv1, conv2, conv3, conv4, conv5, fc6, fc7. New: fc8."
    )


def logged(function) -> list[str]:
    lines = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    logger = absl_logging.get_absl_logger()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        function()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    return lines


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"variant": "original_conv6"},
            r"conv6 is absent there and \(3, 3, .*; --init_layers=conv1,.*,fc8 fit$",
        ),
        ({"width": 0.25}, r"conv1 is \(11, 11, 3, 16\) there and .*; none fits$"),
        (
            {"input_size": 80},
            r"fc6 is \(32, 512\) there and \(128, 512\) here; .*conv5,fc7,fc8 fit$",
        ),
        ({"variant": "owt", "num_classes": 4}, "conv1 .*; --init_layers=fc6,fc7 fit"),
        ({"init_layers": ("conv1", "conv7")}, "conv7: this net has conv1, .*, fc8"),
        (
            {"init_layers": ("conv6",), "variant": "original_conv6"},
            "conv6 is absent there",
        ),
        ({"init_layers": ("fc8",), "num_classes": 4}, r"fc8 is \(512, 3\) there and"),
        (
            {"input_scale": "none"},
            "give --input_scale=unit_variance here too, in place of",
        ),
        ({"init_from": "nowhere"}, "--init_from=nowhere: there is no such run"),
        ({"init_from": "EMPTY"}, "--init_from=.* holds no checkpoint"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_named_and_nothing_is_written(
    source, tmp_path, settings, message
):
    config, folder = source
    (tmp_path / "empty").mkdir()
    settings = {"init_from": str(folder)} | settings
    if settings["init_from"] == "EMPTY":
        settings["init_from"] = str(tmp_path / "empty")
    with pytest.raises(UserError, match=message):
        train(changed(config, **settings), str(tmp_path / "new"))
    assert not (tmp_path / "new").exists()


def test_a_failed_start_leaves_an_earlier_run_alone(source, tmp_path):
    config, _ = source
    train(changed(config, train_steps=1), str(tmp_path))
    with pytest.raises(UserError, match="there is no such run"):
        train(changed(config, init_from="nowhere"), str(tmp_path), clean=True)
    assert state(tmp_path).step == 1


@pytest.mark.slow
def test_a_run_that_goes_on_does_not_start_again(source, tmp_path):
    """Killed at step 2 and gone on with, though the source is there no more."""
    config, folder = source
    config = changed(
        config,
        train_steps=4,
        log_steps=4,
        checkpoint_steps=2,
        init_from=str(folder),
        init_layers=CONVOLUTIONS,
        rates=("0 conv1 0", "0 conv2 0"),
    )
    train(config, str(tmp_path / "run"))
    whole = state(tmp_path / "run")
    for path in (tmp_path / "run").glob("ckpt-4*"):
        path.unlink()
    (tmp_path / "run" / "checkpoint").write_text('model_checkpoint_path: "ckpt-2"\n')
    train(changed(config, init_from="gone"), str(tmp_path / "run"))
    again = state(tmp_path / "run")
    assert (again.step, again.progress) == (whole.step, whole.progress)
    for name in whole.weights:
        np.testing.assert_array_equal(again.weights[name], whole.weights[name])
        np.testing.assert_array_equal(again.velocity[name], whole.velocity[name])
    first = state(folder).weights
    for name in ("conv1/kernel", "conv2/bias"):
        np.testing.assert_array_equal(again.weights[name], first[name])


@pytest.mark.parametrize("kind", ["checkpoint", ".pth", ".safetensors", ".keras"])
def test_from_a_checkpoint_or_a_weight_file(source, tmp_path, kind):
    config, folder = source
    first, path = state(folder), checkpoints.latest(folder)
    if kind == ".keras":
        model = net_of(config)
        checkpoints.set_weights(model, path, checkpoints.read(path))
        path = str(tmp_path / "net.keras")
        model.save(path)
    elif kind != "checkpoint":
        if kind == ".pth":
            pytest.importorskip("torch")
        path = str(tmp_path / f"net{kind}")
        files.write(path, first.weights, config.model.net())
    model = net_of(changed(config, 2, seed=5))
    taken = taken_for(model, changed(config, 2, init_from=path))
    assert taken.keys() == first.weights.keys()
    for name, array in taken.items():
        np.testing.assert_allclose(array, first.weights[name], rtol=1e-6)


@pytest.mark.parametrize("kind", ["best", "best/ckpt-2", "keras", "safetensors", "owt"])
def test_weights_for_another_scale_are_refused(source, tmp_path, kind):
    """Wherever it is written, and by what the variant's published weights take."""
    config, folder = source
    path, scale = tmp_path / kind, "unit_variance"
    net = config.model.net()
    if kind.startswith("best"):
        for name in ("params.yaml", "statistics.npz"):
            shutil.copy(folder / name, tmp_path)
        (tmp_path / "best").mkdir()
        for file in folder.glob("ckpt-2.*"):
            shutil.copy(file, tmp_path / "best")
    elif kind == "keras":
        export(config, str(folder), str(tmp_path / "out"), formats=["keras"])
        path = tmp_path / "out" / "alexnet.keras"
    elif kind == "safetensors":
        path = path.with_suffix(".safetensors")
        files.write(
            str(path), state(folder).weights, net, run_files.preprocessing(folder)
        )
    else:
        # As torch.save leaves it: nothing is noted of the input.
        pytest.importorskip("torch")
        config = changed(config, variant="owt")
        model = net_of(config)
        path, scale, net = path.with_suffix(".pth"), "torchvision", config.model.net()
        weights = {n: v[0].numpy() for n, v in variables_by_name(model).items()}
        files.write(str(path), weights, net)
    model = net_of(config)
    other = changed(config, init_from=str(path), input_scale="none")
    with pytest.raises(
        UserError, match=f"--init_from=.* give --input_scale={scale} "
    ) as error:
        taken_for(model, other)
    assert len(str(error.value).splitlines()) == 1
    # The other layers do not read the pixels.
    rest = changed(other, init_layers=("conv2",))
    assert taken_for(model, rest).keys() == {*("conv2/kernel", "conv2/bias")}
    right = changed(other, input_scale=scale)
    assert any(
        "was trained on RGB, " in line
        for line in logged(lambda: taken_for(model, right))
    )


def test_a_scale_that_is_no_setting_or_not_known(source, tmp_path):
    config, folder = source
    model, weights = net_of(config), state(folder).weights
    for known in (Preprocessing(64, scale=1 / 255), None):
        path = str(tmp_path / f"{known is None}.safetensors")
        files.write(path, weights, config.model.net(), known)
        given = changed(config, init_from=path)
        if known:
            with pytest.raises(
                UserError, match="no --input_scale does that; leave it out"
            ):
                taken_for(model, given)
            continue
        lines = logged(lambda c=given: taken_for(model, c))
        assert any("does not say what its net's input was" in line for line in lines)


@pytest.mark.parametrize("kind", ["run", "keras", "caffemodel"])
def test_dropout_of_another_rate_changes_no_answer(source, tmp_path, kind):
    """As published, the rate is a factor after training."""
    config, folder = source
    first = net_of(config)
    checkpoints.set_weights(first, *checkpoints.find(folder))
    path = tmp_path / f"net.{kind}"
    if kind == "run":
        path = folder
    elif kind == "keras":
        first.save(path)
    else:
        files.write(str(path), state(folder).weights, config.model.net())
    other = changed(config, init_from=str(path), dropout=0.2)
    second = net_of(other)
    taken = taken_for(second, other)
    settings = other.model, other.runtime, other.train.seed
    initialization.initialize(second, *settings, taken, sample=None)
    images = np.random.default_rng(0).normal(0, 50, (2, 64, 64, 3)).astype("f4")
    np.testing.assert_allclose(second(images), first(images), rtol=1e-4, atol=1e-5)
    third = net_of(changed(config, dropout=0.2))
    checkpoints.set_weights(third, *checkpoints.find(folder))
    assert not np.allclose(third(images), first(images), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_unit_variance_leaves_what_was_taken(source, tmp_path):
    config, folder = source
    config = changed(
        config, init="unit_variance", init_from=str(folder), init_layers=("conv1",)
    )
    got, first = started(config, tmp_path), state(folder)
    for name in ("conv1/kernel", "conv1/bias"):
        np.testing.assert_allclose(got.weights[name], first.weights[name], rtol=1e-6)
    assert np.abs(got.weights["conv2/bias"]).max() < 1e-20
    # What follows is measured on what was taken.
    other = started(changed(config, init_from=None, init_layers=()), tmp_path / "b")
    ratio = got.weights["conv2/kernel"] / other.weights["conv2/kernel"]
    assert ratio.std() < 1e-4
    assert abs(ratio.mean() - 1) > 1e-2
