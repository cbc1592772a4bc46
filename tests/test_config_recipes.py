"""The packaged recipes against the notes of the published runs."""

import csv
import dataclasses
import math
import pathlib
import re

import pytest
from slow_cases import slow_but

import official.alexnet
from official.alexnet import config as config_lib
from official.alexnet import config_files
from official.alexnet.config import SETTINGS, Config, DataConfig
from official.alexnet.modeling.alexnet import AlexNet
from official.alexnet.modeling.counts import count
from official.alexnet.training.rates import Plateau, Schedule
from official.alexnet.training.trainer import train

CONFIGS = pathlib.Path(official.alexnet.__file__).parent / "configs"
PAGES = pathlib.Path(__file__).parents[1] / "docs"
PAGE = (PAGES / "training.md").read_text("utf-8")
ILSVRC_2012 = 1_281_167
# Training images of each recipe; round ones are the paper's "roughly".
IMAGES = {
    "paper": ILSVRC_2012,
    "original": ILSVRC_2012,
    "original_2010": 1_200_000,
    "one_gpu": 1_200_000,
    "no_lrn": ILSVRC_2012,
    "pool2x2": ILSVRC_2012,
    "conv6_2009": 8_900_000,
    "conv6_2011": 15_000_000,
    "conv6_2012": ILSVRC_2012,
    "no_exchange": ILSVRC_2012,
    "dexp": ILSVRC_2012,
    "dexp_256": ILSVRC_2012,
    "cuda_convnet2": ILSVRC_2012,
    "caffe": ILSVRC_2012,
    "caffenet": ILSVRC_2012,
    "torchvision": ILSVRC_2012,
}
# Rows of docs/results/logged_2012.tsv, file and line: what was reached.
LOGGED = {
    "original": [("145", 182)],
    "original_2010": [("145-2010", 178), ("145-2010", 180)],
    "one_gpu": [("145-half", 100)],
    "no_lrn": [("148", 148)],
    "pool2x2": [("147", 174)],
    "no_exchange": [("150", 179)],
    "conv6_2009": [],
    "conv6_2011": [],
    "conv6_2012": [("146-2012-2011", 195), ("146-2012-2009", 193)],
    "dexp": [("170", 204), ("170", 205)],
    "dexp_256": [("170-256-double", 202)],
}
# Caffe's readme.md and so on say it of the others.
EXPECTED = {
    "paper": ["40.7 % top-1", "18.2 % top-5", "ten crops"],
    "cuda_convnet2": ["42.55 % top-1, 19.81 % top-5", "ten crops: 40.42 %, 18.15 %"],
    "caffe": ["57.1 % top-1, 80.2 % top-5", "centre crop of 227", "360,000"],
    "caffenet": ["57.4 % top-1, 80.4 % top-5", "centre crop of 227", "310,000"],
    "torchvision": ["56.52 % top-1, 79.07 % top-5", "centre crop"],
}
# Learning rates from these epochs on, by weight (`layer-params-*.cfg` and the like).
# Caffe's are iterations of 256 images; dexp's are quarters of the run.
CAFFE = {100_000 * i / (ILSVRC_2012 / 256): 10.0 ** -(2 + i) for i in range(5)}


def quarters(epochs: float, times: int = 1) -> dict[float, float]:
    rates = (0.01, 0.001587401, 0.000251984, 0.00004)
    return {epochs * i / 4: times * rate for i, rate in enumerate(rates)}


TABLES = {
    "paper": {"fc7/kernel": {0: 0.01}, "fc7/bias": {0: 0.01}},
    "original": {
        "conv2/kernel": {0: 0.01, 25: 0.001, 51: 0.0001, 79: 0.00001},
        "conv1/kernel": {0: 0.01, 25: 0.001, 51: 0.0001, 67: 0.00001, 72: 0},
        "conv1/bias": {0: 0.02, 72: 0},
        "fc8/bias": {0: 0.02},
    },
    "original_2010": {
        "conv2/kernel": {0: 0.01, 23: 0.001, 51: 0.0001, 78: 0.00001},
        "conv1/kernel": {0: 0.01, 23: 0.001, 51: 0.0001, 68: 0.00001, 72: 0},
        "conv1/bias": {0: 0.02, 23: 0.002, 72: 0},
        "fc8/bias": {0: 0.02, 23: 0.002},
    },
    "one_gpu": {
        "conv2/kernel": {0: 0.01, 20: 0.001, 48: 0.0001},
        "conv1/kernel": {0: 0.01, 20: 0.001, 48: 0.0001, 66: 0.00001, 72: 0},
        "fc8/bias": {0: 0.02},
    },
    "no_lrn": {
        "conv2/kernel": {0: 0.01, 22: 0.001, 44: 0.0001, 86: 0.00001},
        "conv1/kernel": {0: 0.01, 22: 0.001, 44: 0.0001, 69: 0.00001, 73: 0},
        "fc8/bias": {0: 0.02},
    },
    "pool2x2": {
        "conv2/kernel": {0: 0.01, 23: 0.001, 51: 0.0001, 79: 0.00001},
        "conv1/kernel": {0: 0.01, 23: 0.001, 51: 0.0001, 79: 0},
        "conv1/bias": {0: 0.02, 23: 0.002, 79: 0},
        "fc8/bias": {0: 0.02, 23: 0.002},
    },
    "no_exchange": {
        "conv2/kernel": {0: 0.01, 25: 0.001, 49: 0.0001, 79: 0.00001},
        "conv1/kernel": {0: 0.01, 25: 0.001, 49: 0.0001, 66: 0.00001, 72: 0},
        "fc8/bias": {0: 0.02},
    },
    "conv6_2009": {
        "conv1/kernel": {0: 0.001},
        "conv5/bias": {0: 0.02},
        "conv6/kernel": {0: 0.01, 2.16: 0.001},
        "conv6/bias": {0: 0.002},
        "fc6/kernel": {0: 0.01, 2.16: 0.001},
        "fc7/kernel": {0: 0.01, 2.16: 0.001},
        "fc8/kernel": {0: 0.01, 2.16: 0.001},
        "fc8/bias": {0: 0.02},
    },
    "conv6_2011": {
        "conv5/kernel": {0: 0.001},
        "conv6/kernel": {0: 0.001},
        "conv6/bias": {0: 0.002},
        "fc6/kernel": {0: 0.01, 6: 0.001},
        "fc7/kernel": {0: 0.01, 6: 0.001},
        "fc7_1/kernel": {0: 0.01, 6: 0.001},
        "fc8/kernel": {0: 0.01, 6: 0.001},
        "fc7_1/bias": {0: 0.02},
    },
    "conv6_2012": {
        "conv1/kernel": {0: 0.0001, 5: 0.00001, 7: 0},
        "conv1/bias": {0: 0.02, 7: 0},
        "conv6/kernel": {0: 0.001, 22: 0.0001, 42: 0.00001},
        "conv6/bias": {0: 0.022},
        "fc7/kernel": {0: 0.001, 22: 0.0001, 42: 0.00001},
        "fc8/kernel": {0: 0.001, 0.24: 0.01, 9: 0.001, 22: 0.0001, 42: 0.00001},
        "fc8/bias": {0: 0.02},
    },
    "dexp": {
        "conv2/kernel": quarters(95),
        "conv1/kernel": {**dict(list(quarters(95).items())[:4]), 74: 0},
        "fc8/bias": {0: 0.02, 47.5: 0.002},
    },
    "dexp_256": {
        "conv2/kernel": quarters(95, 2),
        "conv1/kernel": {**dict(list(quarters(95, 2).items())[:4]), 73: 0},
        "fc8/bias": {0: 0.04, 47.5: 0.004},
    },
    "cuda_convnet2": {"conv1/kernel": quarters(90), "fc8/bias": {0: 0.02, 45: 0.002}},
    "caffe": {
        "conv1/kernel": CAFFE,
        "conv1/bias": {epoch: 2 * rate for epoch, rate in CAFFE.items()},
    },
    "caffenet": {
        "conv1/kernel": CAFFE,
        "conv1/bias": {epoch: 2 * rate for epoch, rate in CAFFE.items()},
    },
    "torchvision": {
        "conv1/kernel": {0: 0.01, 30: 0.001, 60: 0.0001},
        "conv1/bias": {0: 0.01, 30: 0.001, 60: 0.0001},
    },
}
NOISE_EPOCHS = {
    "original": 67,
    "original_2010": 68,
    "one_gpu": 66,
    "no_lrn": 69,
    "conv6_2012": 38,
    "no_exchange": 66,
    "dexp": 68,
    "dexp_256": 61,
}
# When the run ended or was killed; Caffe's 450,000 iterations are 89.9.
EPOCHS = {
    "paper": 90,
    "original": 91,
    "original_2010": 93,
    "one_gpu": 96,
    "no_lrn": 97,
    "pool2x2": 90,
    "conv6_2009": 6.65,
    "conv6_2011": 8.1,
    "conv6_2012": 54,
    "no_exchange": 92,
    "dexp": 95,
    "dexp_256": 95,
    "cuda_convnet2": 90,
    "caffe": 89.9,
    "caffenet": 89.9,
    "torchvision": 90,
}
RECIPES = sorted(path.stem for path in CONFIGS.glob("*.yaml") if path.stem != "demo")
# Whose step is taken in the default tests: one for each kind of schedule.
QUICK = ("original", "dexp", "caffe")


def recipe(name: str) -> Config:
    config = config_files.override(
        Config(data=DataConfig(use_synthetic_data=True)), config_files.load(name), name
    )
    if config.train.init_layers:
        config = config.replace(init_from="run")
    config_lib.check(config)
    return config


def notes(name: str) -> dict[str, str]:
    """The leading comment, item by item, each on one line."""
    head = []
    for line in (CONFIGS / f"{name}.yaml").read_text("utf-8").splitlines():
        if not line.startswith("#"):
            break
        head.append(line.removeprefix("#").strip())
    found = {}
    for line in head:
        if item := re.fullmatch(r"([A-Z]\w+): +(.*)", line):
            key, line = item.groups()  # noqa: PLW2901
            found[key] = line
        elif found:
            found[key] += f" {line}"
    return found


with (PAGES / "results" / "logged_2012.tsv").open(newline="") as table:
    RESULTS = {
        (
            row["file"].removeprefix("layer-params-").removesuffix(".cfg"),
            int(row["line"]),
        ): row
        for row in csv.DictReader(table, delimiter="\t")
    }


def logged(net: str, line: int) -> list[str]:
    """Top-1 and top-5 error of a row of the table, in %."""
    row = RESULTS[net, line]
    return [f"{100 * float(row[key]):.2f}" for key in ("top1_error", "top5_error")]


def errors_in(text: str) -> list[str]:
    return re.findall(r"(\d\d\.\d\d) %", text)


def total_steps(config: Config, num_images: int) -> int:
    """As the trainer counts them."""
    train = config.train
    return train.train_steps or math.ceil(
        train.train_epochs * num_images / train.batch_size
    )


def test_every_recipe_is_known_here():
    assert set(RECIPES) == set(IMAGES) == {*EXPECTED, *LOGGED} == set(TABLES)


@pytest.mark.parametrize("name", RECIPES)
def test_its_notes_name_source_expected_result_and_cost(name):
    config, found = recipe(name), notes(name)
    assert {"Source", "Data", "Expected", "Cost", "Command"} <= set(found)
    for words in EXPECTED.get(name, []):
        assert words in found["Expected"]
    if name in LOGGED:
        numbers = [percent for place in LOGGED[name] for percent in logged(*place)]
        assert errors_in(found["Expected"])[: len(numbers)] == numbers
        assert ("no error is recorded" in found["Expected"]) == (not numbers)
        for place in LOGGED[name]:
            crops = RESULTS[place]["crops"]
            assert not crops or crops in found["Expected"]
    number = f"{IMAGES[name]:,}"
    assert number in found["Data"]
    # The estimate: this net's multiplications at the speed of the paper's.
    model = AlexNet(config.model.net(), config.model.num_classes)
    macs = count(model)[-1].macs
    steps = total_steps(config, IMAGES[name])
    images = steps * config.train.batch_size
    days = images * macs / 724_406_816 / 45 / (24 * 3600)
    assert found["Cost"].startswith(
        f"{steps:,} steps of {config.train.batch_size}, {images:,} images. Estimate: "
        f"{days:.1f} days on two CPU cores ({macs:,} multiply-accumulates an image"
    )
    assert f"--config_file={name} " in found["Command"]
    assert ("--init_from=" in found["Command"]) == bool(config.train.init_layers)


@pytest.mark.parametrize(
    ("name", "weight"), [(n, w) for n in RECIPES for w in TABLES[n]], ids=str
)
def test_its_rates_are_those_of_the_run(name, weight):
    config = recipe(name)
    epoch_steps = IMAGES[name] / config.train.batch_size
    total = total_steps(config, IMAGES[name])
    schedule = Schedule(config.train, epoch_steps, total)

    def rate(step: int) -> float:
        return schedule.rates(step, Plateau()).of(weight)

    before = None
    for epoch, expected in sorted(TABLES[name][weight].items()):
        step = math.ceil(epoch * epoch_steps - 1e-6)
        # Parts of a run, which is a little longer than its epochs, end up to one later.
        assert rate(step + 1) == pytest.approx(expected, rel=1e-5)
        if before is not None:
            assert rate(step - 1) == pytest.approx(before, rel=1e-5)
        before = expected
    assert rate(total - 1) == pytest.approx(before, rel=1e-5)


@pytest.mark.parametrize("name", RECIPES)
def test_its_colour_noise_is_that_of_the_run(name):
    data = recipe(name).data
    kind = "standard_deviations"
    if name == "paper":
        kind = "eigenvalues"
    elif name in ("caffe", "caffenet", "torchvision"):
        kind = "none"
    assert data.color_noise == kind
    assert data.color_noise_sigma == 0.1
    assert data.color_noise_epochs == NOISE_EPOCHS.get(name)


@pytest.mark.parametrize("name", RECIPES)
def test_its_batch_momentum_and_decay_are_those_of_the_run(name):
    settings = recipe(name).train
    modern = name in ("caffe", "caffenet", "torchvision")
    assert settings.batch_size == (256 if modern or name == "dexp_256" else 128)
    assert settings.momentum == 0.9
    assert settings.weight_decay == (0.0001 if name == "torchvision" else 0.0005)
    assert settings.decay_biases == (name in ("paper", "torchvision"))


@pytest.mark.parametrize("name", RECIPES)
def test_its_length_is_that_of_the_run(name):
    settings = recipe(name).train
    epochs = total_steps(recipe(name), IMAGES[name]) * settings.batch_size
    assert epochs / IMAGES[name] == pytest.approx(EPOCHS[name], abs=0.06)


@pytest.mark.parametrize("name", slow_but(QUICK, RECIPES))
def test_it_takes_a_step(name, tmp_path):
    """At small width, on noise, from a run that has the layers it takes."""
    config = narrow(recipe(name))
    init_from = None
    if config.train.init_layers:
        source = {
            "conv6_2009": narrow(recipe("original")),
            "conv6_2011": narrow(recipe("conv6_2009")),
            "conv6_2012": narrow(recipe("conv6_2011")),
        }[name]
        source = dataclasses.replace(
            source,
            train=dataclasses.replace(source.train, init_from=None, init_layers=()),
        )
        init_from = str(tmp_path / "source")
        train(source, init_from)
    settings = dataclasses.replace(config.train, init_from=init_from)
    results = train(dataclasses.replace(config, train=settings), str(tmp_path / "run"))
    assert results["step"] == 1
    assert math.isfinite(results["loss"])
    assert results["learning_rate"] == pytest.approx(settings.learning_rate)


def narrow(config: Config) -> Config:
    """The recipe for one step of a narrow net with as many classes as it may have."""
    settings = dataclasses.replace(config.train, batch_size=4, train_steps=1)
    return dataclasses.replace(
        config,
        model=dataclasses.replace(config.model, width=0.125),
        train=dataclasses.replace(settings, skip_eval=settings.schedule != "plateau"),
        runtime=dataclasses.replace(config.runtime, num_gpus=0),
    )


@pytest.mark.parametrize("name", RECIPES)
def test_the_page_of_recipes_says_the_same(name):
    _, _, recipes = PAGE.partition("\n## Recipes\n")
    (row,) = [x for x in recipes.splitlines() if x.startswith(f"| `{name}` |")]
    cost = notes(name)["Cost"]
    steps, batch, days = re.match(
        r"([\d,]+) steps of (\d+), [\d,]+ images\. Estimate: ([\d.]+ days)", cost
    ).groups()
    assert f"| {steps} of {batch} | {days} |" in row
    # The numbers of the result, in the order of the page, are in the file.
    for number in re.findall(r"\d\d\.\d\d?(?= |;)", row.split("|")[2]):
        assert number in notes(name)["Expected"]


def test_the_pages_commands_have_those_flags():
    own = {"config_file", "model_dir", "ensemble_weights", "layer_params"}
    own |= {"predictions_file"}
    of_training, _, _ = PAGE.partition("\n## Ablation\n")
    flags = set(re.findall(r"--(\w+)", of_training))
    assert flags - SETTINGS.keys() == own
