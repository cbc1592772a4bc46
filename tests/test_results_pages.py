"""What the page of results says, worked out again from the numbers kept beside it."""

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

PAGE = RESULTS / "README.md"
TEXT = " ".join(PAGE.read_text("utf-8").split())

# Files kept of a training of ten classes: its evaluations, its checkpoint in them, and
# its lines of training.
TRAININGS = {
    "`paper`, 40 epochs, bf16": ("forty_epochs", "runs/forty/ckpt-2960", "paper"),
    "`paper`, 30 epochs, fp32": ("thirty_epochs", None, "paper"),
    "300 steps, the paper's initial weights": (".", "runs/paper/ckpt-300", None),
    "300 steps, `--init=source`": (".", "runs/source/ckpt-300", None),
}

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
        [cell.strip(" *") for cell in line.strip("|").split("|")]
        for line in lines
        if line.startswith("|")
    ]


def row_of(*first: str) -> list[str]:
    """The page's only row that begins with these cells; the cells after them."""
    (row,) = [row for row in table_rows(PAGE) if row[: len(first)] == list(first)]
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
    cells = row_of(row["activation"], row["learning_rate"], row["seed"])
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
    assert (
        f"ReLU reaches 25 % training error after {relu:.1f} epochs, "
        f"tanh after {tanh:.1f}: {tanh / relu:.1f} times as many"
    ) in TEXT


def test_lrn_on_cifar10():
    rows = csv_rows(CIFAR10 / "lrn.csv")
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
        assert row_of(str(i + 1)) == [*expected, f"{gain:.2f}"]
    assert row_of("mean ± standard error") == [
        mean_and_error(column, 2) for column in [*columns, gains]
    ]
    error = statistics.stdev(gains) / math.sqrt(3)
    low, high = (-statistics.mean(gains) + sign * T[3] * error for sign in (-1, 1))
    assert f"paired 95 % interval {low:.2f} to {high:.2f}" in TEXT


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
    measures = ("top_1_error", "top_5_error")
    measures += tuple(f"ten_crop_{measure}" for measure in measures)
    base = ten_crops(errors["baseline"])
    for name, own in errors.items():
        (cells,) = (
            row[1:] for row in table_rows(PAGE) if row[0] == name and len(row) == 8
        )
        assert cells[:4] == [
            mean_and_error([float(run[measure]) for run in own], 1)
            for measure in measures
        ]
        if name == "baseline":
            continue
        differences = [a - b for a, b in zip(ten_crops(own), base, strict=True)]
        mean, error = statistics.mean(differences), statistics.stdev(differences)
        error /= math.sqrt(len(own))
        assert numbers(cells[4]) == pytest.approx([mean, error], abs=0.051)
        half = T[len(own)] * error
        interval = [mean - half, mean + half]
        assert numbers(cells[5]) == pytest.approx(interval, abs=0.06)


def ten_crops(runs: list[dict]) -> list[float]:
    return [float(run["ten_crop_top_1_error"]) for run in runs]


def numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"[+-]?\d+\.\d+", text)]


@pytest.mark.parametrize("name", TRAININGS)
def test_ten_classes(name):
    folder, checkpoint, run = TRAININGS[name]
    cells = row_of(name)
    centre, ten_crops, training = cells[:3], cells[3:6], cells[6:]
    if run:
        *_, train, validation = json_lines(IMAGENETTE / folder / f"{run}.metrics.jsonl")
        assert training == cells_of(train)
    if checkpoint is None:
        assert centre == cells_of(validation)
        return
    one, ten = (
        evaluation
        for evaluation in json_lines(IMAGENETTE / folder / "evaluations.jsonl")
        if evaluation["checkpoint"] == checkpoint
        and "tfds" not in evaluation.get("records", "")
    )
    assert centre == cells_of(one)
    assert ten_crops == cells_of(ten)
    if run:  # The evaluations in training were in bfloat16.
        assert one["accuracy"] == pytest.approx(validation["accuracy"], abs=0.002)


def cells_of(result: dict) -> list[str]:
    rates = [percent(result["accuracy"]), percent(result["top_5_accuracy"])]
    return [*rates, f"{result['loss']:.3f}"]


def test_cost_of_lrn():
    suites = json.loads((RESULTS / "lrn" / "normalization.json").read_text())["suites"]
    names = {"lrn": "LRN", "none": "nothing", "batch_norm": "batch norm"}
    rows = table_rows(PAGE)
    for row in suites["normalization"]["rows"]:
        samples = row["samples_s"]
        median = f"{statistics.median(samples):.2f} s"
        written = ", ".join(f"{sample:.2f}" for sample in samples)
        assert [names[row["name"]], median, written] in rows


def test_pictures_of_a_net():
    first, *_ = json_lines(RESULTS / "visualize" / "pictures.jsonl")
    *_, last = json_lines(RESULTS / "visualize" / "narrow.metrics.jsonl")
    assert f"{100 * last['accuracy']:.0f} % top-1 on the 200" in TEXT
    a, b = (f"{column['color']:.2f}" for column in first["kernels"]["columns"])
    assert f"Here they are {a} and {b}:" in TEXT
    images = first["neighbors"]["queries"]
    same = sum(
        neighbor["label"] == image["label"]
        for image in images
        for neighbor in image["neighbors"]
    )
    assert f"for five images, {same} of {6 * len(images)}" in TEXT


def test_the_readme_has_the_pages_numbers():
    """Every percentage of its table of results is on the page that it links."""
    rows = [
        row
        for row in table_rows(ROOT / "README.md")
        if len(row) > 1 and "top-1" in row[1] and "%" in row[1]
    ]
    assert len(rows) > 4
    for row in rows:
        for number in re.findall(r"\d+\.\d %", row[1]):
            assert number in TEXT, row


def test_the_readme_has_the_speeds():
    path = RESULTS / "performance" / "train_step.json"
    speeds: dict[str, float] = {}
    for row in json.loads(path.read_text("utf-8"))["suites"]["train_step"]["rows"]:
        if row["dtype"] == "fp32" and row["samples_s"]:
            best = speeds.get(row["name"], 0)
            speeds[row["name"]] = max(best, row["images_per_second"])
    ours, two, torch = (
        f"{speeds[name]:.1f}" for name in ("ours", "ours, two columns", "PyTorch")
    )
    wanted = f"{ours} images/s, two columns {two}; PyTorch {torch}"
    assert wanted in (ROOT / "README.md").read_text("utf-8")
