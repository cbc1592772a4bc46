"""Several nets evaluated as one, against NumPy's average of each net's own."""

import csv
import dataclasses
import io
import json
import pathlib
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from official.alexnet.config import Config, DataConfig, ModelConfig, RuntimeConfig
from official.alexnet.data import dataset
from official.alexnet.data.statistics import Statistics
from official.alexnet.errors import UserError
from official.alexnet.run_files import load_config
from official.alexnet.training import building, checkpoints
from official.alexnet.training.evaluation import Run, evaluate_runs
from official.alexnet.training.optimizer import PaperSGD

ROOT = pathlib.Path(__file__).parents[2]
# Each its own net, input size and scale; b's statistics are its own as well.
NETS = {
    "a": (
        ModelConfig("paper", 3, width=0.125, input_size=64, init="unit_variance"),
        "unit_variance",
    ),
    "b": (ModelConfig("original_one_gpu", 3, width=0.125, input_size=80), "none"),
    "c": (ModelConfig("owt", 3, width=0.125, input_size=96), "torchvision"),
}


@pytest.fixture(scope="module")
def runs(records_dir, tmp_path_factory) -> pathlib.Path:
    """Directories as training leaves them, of random weights that tell images apart."""
    folder = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    data = DataConfig(data_dir=str(records_dir))
    gray = Statistics(np.full((256, 256, 3), 99, "f4"), np.full(3, 400.0), np.eye(3), 1)
    for name, (model, scale) in NETS.items():
        own = folder / name
        own.mkdir()
        config = Config(model, dataclasses.replace(data, input_scale=scale))
        net = building.build_model(config.model, config.runtime)
        for variable in net.trainable_variables:
            fan_in = np.prod(variable.shape[:-1])
            variable.assign(rng.normal(0, np.sqrt(2 / fan_in), variable.shape))
        if scale == "none":
            first = net.trainable_variables[0]
            first.assign(first / 70)
        optimizer = PaperSGD()
        optimizer.build(net.trainable_variables)
        optimizer.iterations.assign(12)
        statistics = gray if name == "b" else dataset.find_statistics(data, None)
        statistics.save(own / dataset.STATISTICS_FILE)
        (own / "params.yaml").write_text(config.to_yaml())
        shutil.copy(records_dir / "labels.txt", own)
        checkpoints.Checkpoints(
            own, net, optimizer, checkpoints.Progress(), max_to_keep=1
        ).save()
    return folder


def numpy_probabilities(folder: pathlib.Path, crops: int):
    """One net's probabilities of the validation images, and their labels."""
    config = load_config(str(folder))
    images, labels = [], []
    split = dataset.find_split(config.data, "validation", 3)
    for path in split.records.files:
        for record in tf.data.TFRecordDataset(path):
            feature = tf.train.Example.FromString(record.numpy()).features.feature
            encoded = feature["image/encoded"].bytes_list.value[0]
            images.append(np.asarray(Image.open(io.BytesIO(encoded))))
            labels.append(feature["image/class/label"].int64_list.value[0] - 1)
    images, size = np.stack(images), config.model.input_size
    far, middle = 256 - size, (256 - size) // 2
    corners = [(middle, middle)]
    if crops == 10:
        corners = [(0, 0), (0, far), (middle, middle), (far, 0), (far, far)]
    views = [images[:, y : y + size, x : x + size] for y, x in corners]
    if crops == 10:
        views += [view[:, :, ::-1] for view in views]
    statistics = Statistics.load(folder / "statistics.npz")
    mean = statistics.mean_image[middle : middle + size, middle : middle + size]
    divisor = {
        "none": 1.0,
        "unit_variance": np.sqrt(statistics.covariance_eigenvalues.mean()),
        "torchvision": 255 * np.array([0.229, 0.224, 0.225]),
    }[config.data.input_scale]
    model = building.build_model(config.model, config.runtime)
    checkpoints.set_weights(model, *checkpoints.find(folder))
    total = 0
    for view in views:
        inputs = np.float32((view - np.float64(mean)) / divisor)
        logits = np.float64(model(inputs).numpy())
        exponents = np.exp(logits - logits.max(1, keepdims=True))
        total = total + exponents / exponents.sum(1, keepdims=True)
    return total / len(views), np.array(labels)


def check(found: dict, probabilities: np.ndarray, labels: np.ndarray) -> None:
    rows = np.arange(len(labels))
    loss = -np.log(probabilities[rows, labels]).mean()
    assert found["loss"] == pytest.approx(loss, rel=1e-4)
    assert found["accuracy"] == pytest.approx(
        (probabilities.argmax(1) == labels).mean()
    )
    assert found["top_5_accuracy"] == 1


def config_of(folder: pathlib.Path, crops: int = 1, **runtime) -> Config:
    config = load_config(str(folder))
    settings = dataclasses.replace(config.train, eval_crops=crops, batch_size=8)
    runtime = RuntimeConfig(num_gpus=0, logical_cpus=4, **runtime)
    return dataclasses.replace(config, train=settings, runtime=runtime)


@pytest.mark.parametrize(
    ("crops", "weights", "strategy"),
    [
        pytest.param(1, (1, 1, 1), "off", marks=pytest.mark.slow),
        (10, (0.5, 0.3, 0.2), "off"),
        pytest.param(10, (4, 0, 1), "mirrored", marks=pytest.mark.slow),
    ],
)
def test_equals_the_average_of_each_nets_own(runs, crops, weights, strategy):
    results = evaluate_runs(
        [
            Run(
                config_of(runs / name, crops, distribution_strategy=strategy),
                str(runs / name),
                weight=weight,
            )
            for name, weight in zip("abc", weights, strict=True)
        ]
    )
    assert results["num_examples"] == 13
    assert results["eval_crops"] == crops
    own = [numpy_probabilities(runs / name, crops) for name in "abc"]
    labels = own[0][1]
    average = sum(
        weight / sum(weights) * probabilities
        for weight, (probabilities, _) in zip(weights, own, strict=True)
    )
    check(results, average, labels)
    for name, weight, model, (probabilities, _) in zip(
        "abc", weights, results["models"], own, strict=True
    ):
        check(model, probabilities, labels)
        assert model["model_dir"] == str(runs / name)
        assert model["checkpoint"] == str(runs / name / "ckpt-12")
        assert model["variant"] == NETS[name][0].variant
        assert model["weight"] == pytest.approx(weight / sum(weights))
        assert model["step"] == 12
    # The nets differ, so that the average is no net's own.
    assert len({round(model["loss"], 3) for model in results["models"]}) == 3


def test_nets_that_cannot_be_averaged(runs, tmp_path):
    first = Run(config_of(runs / "a"), str(runs / "a"))

    def other(**settings) -> Run:
        config = config_of(runs / "a")
        model = dataclasses.replace(config.model, **settings)
        return Run(dataclasses.replace(config, model=model), str(runs / "a"))

    with pytest.raises(UserError, match="tell 3 and 4 classes apart"):
        evaluate_runs([first, other(num_classes=4)])
    data = dataclasses.replace(first.config.data, data_dir="elsewhere")
    elsewhere = Run(dataclasses.replace(first.config, data=data), str(runs / "b"))
    with pytest.raises(UserError, match="trained on other data: say with --data_dir"):
        evaluate_runs([first, elsewhere])
    shutil.copytree(runs / "b", tmp_path / "b")
    (tmp_path / "b" / "labels.txt").write_text("cat\ndog\nhat\n")
    with pytest.raises(UserError, match="other classes, or in another order"):
        evaluate_runs([first, Run(config_of(runs / "b"), str(tmp_path / "b"))])


def evaluate(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "official.alexnet.eval", "--batch_size=7", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.slow
def test_the_command_averages_and_names_each_model(runs):
    folders = ",".join(str(runs / name) for name in "ab")
    done = evaluate(
        f"--model_dir={folders}",
        "--ensemble_weights=3,1",
        "--eval_crops=10",
        f"--checkpoint_path={runs / 'a/ckpt-12'},{runs / 'b/ckpt-12'}",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    own = [numpy_probabilities(runs / name, 10) for name in "ab"]
    check(results, 0.75 * own[0][0] + 0.25 * own[1][0], own[0][1])
    assert [model["weight"] for model in results["models"]] == [0.75, 0.25]
    assert "a/ckpt-12, weight 0.75 | 13 images" in done.stderr
    assert "average of 2 models | 13 images" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model_dir=A,B", "--ensemble_weights=1"], "for each of the 2 run(s)"),
        (["--model_dir=A,B", "--ensemble_weights=1,x"], "--ensemble_weights=1,x"),
        (["--model_dir=A,B", "--ensemble_weights=0,0"], "not all 0"),
        (["--model_dir=A,B", "--ensemble_weights=2,-1"], "of 0 or more"),
        (["--model_dir=A,B", "--variant=paper"], "--variant cannot be given with"),
        (["--model_dir=A,B", "--checkpoint_path=A/ckpt-12"], "give one for each"),
        (["--model_dir=A,nowhere"], "--model_dir=nowhere has no params.yaml"),
        (["--model_dir=,"], "--model_dir=, has an empty path between its commas"),
    ],
)
def test_a_mistake_is_one_line(runs, arguments, message):
    done = evaluate(
        *(
            text.replace("A", f"{runs}/a").replace("B", f"{runs}/b")
            for text in arguments
        ),
    )
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("alexnet-eval: ")
    assert message in line


def test_names_of_the_run_that_has_them(runs, tmp_path):
    """The first has none, and the second's classes are in another order."""
    names = [f"n0000000{i} class {i}" for i in (2, 0, 1)]
    for name in "ab":
        shutil.copytree(runs / name, tmp_path / name)
    (tmp_path / "a" / "labels.txt").unlink()
    (tmp_path / "b" / "labels.txt").write_text("\n".join(names))
    pair = [Run(config_of(tmp_path / n), str(tmp_path / n), weight=1) for n in "ab"]
    evaluate_runs(pair, str(tmp_path / "said.csv"))
    shutil.copytree(runs / "c", tmp_path / "c")  # Its names are in the usual order.
    third = Run(config_of(tmp_path / "c"), str(tmp_path / "c"))
    with pytest.raises(UserError, match=r"b and .*c have other classes"):
        evaluate_runs([*pair, third])
    with (tmp_path / "said.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 13
    for row in rows:
        number = int(row["image"].removesuffix(".JPEG"))
        assert row["label"] == f"n0000000{number % 3} class {number % 3}"
