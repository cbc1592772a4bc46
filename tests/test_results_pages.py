"""What the pages of docs/results say, worked out again from the numbers kept there."""

import csv
import gzip
import json
import math
import pathlib
import re
import statistics

import numpy as np
import pytest

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
ABLATION, CIFAR10 = RESULTS / "ablation", RESULTS / "cifar10"
IMAGENETTE = RESULTS / "imagenette"

EPOCHS = ("thirty_epochs", "forty_epochs")
TRAINING_IMAGES = (
    "training images as they were trained, with crops, colour noise and dropout"
)

# Student's t: 97.5 % lie below, for one and two degrees of freedom.
T = {2: 12.706, 3: 4.303}


def json_lines(path: pathlib.Path) -> list[dict]:
    data = path.read_bytes()
    text = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in text.splitlines()]


def csv_rows(path: pathlib.Path) -> list[dict]:
    with path.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def table_rows(page: pathlib.Path) -> list[list[str]]:
    """The cells of every line of every table."""
    lines = page.read_text("utf-8").splitlines()
    return [
        [cell.strip(" *") for cell in line.strip("| ").split("|")]
        for line in lines
        if line.startswith("|")
    ]


def row_of(page: pathlib.Path, *first: str) -> list[str]:
    """The only line that begins with these cells; the cells after them."""
    (row,) = [row for row in table_rows(page) if row[: len(first)] == list(first)]
    return row[len(first) :]


def percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def mean_and_error(values: list[float], digits: int) -> str:
    error = statistics.stdev(values) / math.sqrt(len(values))
    return f"{statistics.mean(values):.{digits}f} ± {error:.{digits}f}"


def epochs_to_25_percent(rows: list[dict]) -> float:
    """Where the mean error over the last epoch's images crosses 25 %."""
    train = [row for row in rows if row["split"] == "train"]
    steps = np.diff([0, *(row["step"] for row in train)])
    wrong = np.cumsum([0, *(steps * [1 - row["accuracy"] for row in train])])
    seen = np.cumsum([0, *steps])
    error = (wrong[4:] - wrong[:-4]) / (seen[4:] - seen[:-4])
    middle = np.array([row["epoch"] for row in train[3:]]) - 0.5
    # The first point at or below; from the one before it a straight line.
    i = int(np.argmax(error <= 0.25))
    return float(np.interp(-0.25, -error[i - 1 : i + 1], middle[i - 1 : i + 1]))


FIGURE1 = [
    row for row in csv_rows(CIFAR10 / "figure1.csv") if row["state"] != "stopped"
]


@pytest.mark.parametrize("row", FIGURE1, ids=lambda row: row["activation"])
def test_figure_1(row):
    name = f"figure1-{row['activation']}-{row['learning_rate']}-seed{row['seed']}"
    found = epochs_to_25_percent(json_lines(CIFAR10 / f"{name}.metrics.jsonl.gz"))
    assert float(row["epochs_to_25_percent"]) == pytest.approx(found, abs=0.02)
    cells = row_of(
        CIFAR10 / "README.md", row["activation"], row["learning_rate"], row["seed"]
    )
    assert float(cells[-1]) == pytest.approx(found, abs=0.02)


def test_figure_1_in_words():
    relu, tanh = (
        min(
            float(row["epochs_to_25_percent"])
            for row in FIGURE1
            if row["activation"] == name
        )
        for name in ("relu", "tanh")
    )
    text = (CIFAR10 / "README.md").read_text("utf-8")
    assert (
        f"ReLU reaches 25 % training error after {relu:.1f} epochs, "
        f"tanh after {tanh:.1f}: {tanh / relu:.1f} times as many"
    ) in text


def test_lrn_on_cifar10():
    rows, page = csv_rows(CIFAR10 / "lrn.csv"), CIFAR10 / "README.md"
    for row in rows:
        name = f"lrn-{row['net']}-seed{row['seed']}.metrics.jsonl.gz"
        last = json_lines(CIFAR10 / name)[-1]
        assert last["split"] == "validation"
        assert float(row["test_error"]) == pytest.approx(1 - last["accuracy"])
    columns = [
        [100 * float(row[error]) for row in rows if row["net"] == f"cifar_{net}"]
        for error in ("test_error", "test_error_9_crops")
        for net in ("13pct", "11pct")
    ]
    *_, without, with_lrn = columns
    gains = [a - b for a, b in zip(without, with_lrn, strict=True)]
    for i, gain in enumerate(gains):
        expected = [f"{column[i]:.2f}" for column in columns]
        assert row_of(page, str(i + 1)) == [*expected, f"{gain:.2f}"]
    assert row_of(page, "mean ± standard error") == [
        mean_and_error(column, 2) for column in [*columns, gains]
    ]
    error = statistics.stdev(gains) / math.sqrt(3)
    low, high = (-statistics.mean(gains) + sign * T[3] * error for sign in (-1, 1))
    assert f"paired 95 % interval {low:.2f} to {high:.2f}" in page.read_text("utf-8")


def test_ablations():
    runs = csv_rows(ABLATION / "results.csv")
    metrics = json_lines(ABLATION / "metrics.jsonl.gz")
    errors = {}
    for run in runs:
        *_, last = (
            row
            for row in metrics
            if (row["row"], str(row["seed"])) == (run["row"], run["seed"])
            and row["split"] == "validation"
        )
        assert float(run["top_1_error"]) == pytest.approx(100 * (1 - last["accuracy"]))
        errors.setdefault(run["row"], []).append(run)
    page = ABLATION / "README.md"
    for name, own in errors.items():
        (cells,) = (
            row for row in table_rows(page) if row[0] == name and len(row) == 10
        )
        assert cells[2] == str(len(own))
        for cell, error in (
            (3, "top_1_error"),
            (4, "top_5_error"),
            (5, "ten_crop_top_1_error"),
            (6, "ten_crop_top_5_error"),
        ):
            assert cells[cell] == mean_and_error([float(r[error]) for r in own], 1)
    base = ten_crops(errors["baseline"])
    for name in errors.keys() - {"baseline"}:
        own = ten_crops(errors[name])
        differences = [a - b for a, b in zip(own, base, strict=True)]
        mean, error = statistics.mean(differences), statistics.stdev(differences)
        error /= math.sqrt(len(own))
        found, interval, *_ = row_of(page, name, "top-1, ten crops")
        assert numbers(found) == pytest.approx([mean, error], abs=0.051)
        half = T[len(own)] * error
        assert numbers(interval) == pytest.approx([mean - half, mean + half], abs=0.06)


def ten_crops(runs: list[dict]) -> list[float]:
    return [float(run["ten_crop_top_1_error"]) for run in runs]


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", text)]


def test_the_first_300_steps():
    evaluations = json_lines(IMAGENETTE / "evaluations.jsonl")
    one, ten, *_ = table_cells_of(evaluations, "runs/paper/ckpt-300", "imagenette")
    page = IMAGENETTE / "README.md"
    paper = "the paper's: N(0, 0.01), biases 1"
    assert row_of(page, paper, "300")[1:] == [*one, *ten]
    one, ten = table_cells_of(evaluations, "runs/source/ckpt-300", "imagenette")
    assert row_of(page, "the 2012 source's: 0.03 in conv3 to 5", "300")[1:] == [
        *one,
        *ten,
    ]


def table_cells_of(evaluations, checkpoint: str, records: str) -> list[list[str]]:
    """Top-1 and top-5 of each evaluation."""
    return [
        [percent(e["accuracy"]), percent(e["top_5_accuracy"])]
        for e in evaluations
        if (e["checkpoint"], e["records"]) == (checkpoint, records)
    ]


@pytest.mark.parametrize("name", EPOCHS)
def test_tens_of_epochs(name):
    folder = IMAGENETTE / name
    *_, train, validation = json_lines(folder / "paper.metrics.jsonl")
    expected = {"centre crop": validation, TRAINING_IMAGES: train}
    if name == "forty_epochs":
        one, ten = json_lines(folder / "evaluations.jsonl")
        # The evaluations in training were in bfloat16.
        assert one["accuracy"] == pytest.approx(validation["accuracy"], abs=0.002)
        expected |= {"centre crop": one, "ten crops": ten}
    for words, row in expected.items():
        assert row_of(folder / "README.md", words) == [
            percent(row["accuracy"]),
            percent(row["top_5_accuracy"]),
            f"{row['loss']:.3f}",
        ]


def test_cost_of_lrn():
    suites = json.loads((RESULTS / "lrn" / "normalization.json").read_text())["suites"]
    names = {"lrn": "LRN", "none": "nothing", "batch_norm": "batch norm"}
    rows = table_rows(RESULTS / "lrn" / "README.md")
    for row in suites["normalization"]["rows"]:
        samples = row["samples_s"]
        median = f"{statistics.median(samples):.2f} s"
        written = ", ".join(f"{sample:.2f}" for sample in samples)
        assert [names[row["name"]], median, written] in rows


def test_pictures_of_a_net():
    first, *_ = json_lines(RESULTS / "visualize" / "pictures.jsonl")
    *_, last = json_lines(RESULTS / "visualize" / "narrow.metrics.jsonl")
    text = " ".join((ROOT / "docs" / "visualize.md").read_text("utf-8").split())
    assert f"{100 * last['accuracy']:.0f} % top-1 on the 200" in text
    a, b = (f"{column['color']:.2f}" for column in first["kernels"]["columns"])
    assert f"Here they are {a} and {b}:" in text
    images = first["neighbors"]["queries"]
    same = sum(
        neighbor["label"] == image["label"]
        for image in images
        for neighbor in image["neighbors"]
    )
    assert f"for five images, {same} of {6 * len(images)}" in text


def test_the_readme_has_the_pages_numbers():
    """Every percentage of its table of results is on the page that it links."""
    folders = [RESULTS / "demo", *(IMAGENETTE / name for name in (".", *EPOCHS))]
    pages = " ".join((folder / "README.md").read_text("utf-8") for folder in folders)
    rows = [
        row
        for row in table_rows(ROOT / "README.md")
        if len(row) > 1 and "top-1" in row[1] and "%" in row[1]
    ]
    assert len(rows) > 4
    for row in rows:
        for number in re.findall(r"\d+\.\d %", row[1]):
            assert number in pages, row
