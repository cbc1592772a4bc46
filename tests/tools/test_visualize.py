"""tools/visualize.py: as a user runs it."""

import dataclasses
import json
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from visualizing import curves, kernels, photographs, predictions, trained

from official.alexnet import run_files
from official.alexnet.errors import UserError
from official.alexnet.modeling.weights import get_weights
from official.alexnet.training import checkpoints

TOOLS = pathlib.Path(__file__).parents[2] / "tools"


def visualize(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, str(TOOLS / "visualize.py"), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )


def read_png(path: pathlib.Path) -> np.ndarray:
    return np.asarray(Image.open(path))


def images_of(photos, net) -> photographs.Images:
    return photographs.find(net, [str(photos / "*" / "*.jpg")], "images", "train")


NAMES = ["kernels", "predictions", "neighbors", "curves"]


@pytest.fixture(scope="module")
def drawn(run_dir, photos, tmp_path_factory):
    """All four pictures of a run."""
    pytest.importorskip("matplotlib")
    folder = tmp_path_factory.mktemp("drawn")
    done = visualize(
        f"--model_dir={run_dir}",
        f"--output_dir={folder}",
        f"--what={','.join(NAMES)}",
        f"--images={photos}/*/*.jpg",
        "--num_images=4",
        "--top=2",
    )
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout.splitlines()[-1])


def test_every_picture_is_written_and_goes_to_tensorboard(drawn):
    folder, results = drawn
    assert results["written"] == [str(folder / f"{name}.png") for name in NAMES]
    found = {}
    for path in sorted(folder.glob("events*")):
        for record in tf.data.TFRecordDataset(str(path)):
            event = tf.compat.v1.Event.FromString(record.numpy())
            for value in event.summary.value:
                found[value.tag] = (event.step, value.tensor.string_val[2])
    assert list(found) == NAMES
    for name, (step, encoded) in found.items():
        assert step == 12
        pixels = tf.io.decode_png(encoded, channels=3).numpy()
        np.testing.assert_array_equal(pixels, read_png(folder / f"{name}.png"))


def test_numbers_on_stdout(drawn, net, photos):
    _, results = drawn
    columns = results["kernels"]["columns"]
    shares = kernels.color_shares(net.weights["conv1/kernel"])
    wanted = [shares[:8].mean(), shares[8:].mean()]
    assert [c["color"] for c in columns] == pytest.approx(wanted, abs=1e-4)
    shown = images_of(photos, net).spread(4)
    scores = predictions.probabilities(net, shown, 1, 8)
    for one, row, found in zip(shown, scores, results["predictions"], strict=True):
        assert found["image"] == one.name
        values = [item["probability"] for item in found["labels"]]
        np.testing.assert_allclose(values, np.sort(row)[:-3:-1], atol=1e-5)
    assert [q["label"] for q in results["neighbors"]["queries"]] == [
        None, None, "n00000000 class 0", "n00000002 class 2",
    ]  # fmt: skip
    assert results["neighbors"]["searched"] == 48
    # Six neighbours of the two photographs whose class is known.
    assert results["neighbors"]["of"] == 12
    assert results["curves"]["run"]["validation"]["step"] == 12


@pytest.mark.slow
def test_an_export_and_search_images(exported, photos, tmp_path):
    pytest.importorskip("matplotlib")
    done = visualize(
        f"--model_dir={exported}",
        f"--output_dir={tmp_path}",
        "--what=neighbors",
        f"--images={photos}/n00000000",
        f"--search_images={photos}/n00000002,{photos}/n00000000",
        "--num_neighbors=2",
    )
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    # The nearest is the photograph itself, which is searched as well.
    for query in results["neighbors"]["queries"]:
        assert query["neighbors"][0]["image"] == query["image"]
        assert query["neighbors"][0]["distance"] < 1e-2
    assert results["source"] == str(exported / "alexnet.keras")


MISTAKES = {
    "no net": ([], "name a net with --model_dir, or --runs"),
    "a picture": (["--model_dir=a", "--what=kernel"], "did you mean kernels?"),
    "none of it": (
        ["--runs=a=b", "--what=kernels"],
        "--what=kernels needs --model_dir",
    ),
    "no run": (["--model_dir=a"], "--model_dir=a has no params.yaml"),
    "runs": (["--runs=a"], "--runs=a: should be name=model_dir"),
    "a flag that is gone": (["--model_dir=a", "--labels=x"], "of its labels.txt"),
    "a flag": (["--model_dir=a", "--image=x"], "did you mean --images?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes_in_flags(mistake, tmp_path):
    given, message = MISTAKES[mistake]
    done = visualize(f"--output_dir={tmp_path / 'out'}", *given)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_no_checkpoint_and_no_metrics(run_dir, tmp_path):
    shutil.copy(run_dir / "params.yaml", tmp_path)
    config = run_files.load_config(str(tmp_path))
    with pytest.raises(UserError, match="holds no checkpoint"):
        trained.find(config, str(tmp_path))
    with pytest.raises(UserError, match=r"metrics\.jsonl does not exist"):
        curves.read("run", str(tmp_path))


def test_wrong_labels_and_images(run_dir, net, tmp_path):
    shutil.copytree(run_dir, tmp_path / "run")
    (tmp_path / "run/labels.txt").write_text("cat\ndog\n")
    found = trained.find(net.config, str(tmp_path / "run"))
    with pytest.raises(UserError, match="has 2 lines, but the net has 3 classes"):
        _ = found.labels
    (tmp_path / "note.jpg").write_text("not an image")
    files = photographs.of_files([tmp_path / "note.jpg"], ["a"])
    with pytest.raises(UserError, match=r"note\.jpg is not a whole JPEG or PNG"):
        files.spread(1)
    model = dataclasses.replace(net.config.model, width=0.25)
    config = dataclasses.replace(net.config, model=model)
    with pytest.raises(UserError, match="does not fit"):
        _ = dataclasses.replace(net, config=config).model


def test_the_weights_are_those_of_the_checkpoint(net, run_dir):
    found = get_weights(net.model)
    for name, weights in checkpoints.read(checkpoints.latest(run_dir)).weights.items():
        np.testing.assert_array_equal(found[name], weights)


# The page


def test_the_pages_commands_have_these_flags():
    page = (TOOLS.parent / "docs" / "training.md").read_text("utf-8")
    _, _, text = page.partition("\n## Pictures of a net\n")
    given = set()
    for command in re.findall(r"python tools/visualize\.py(?:.*\\\n)*.*", text):
        given |= set(re.findall(r"--(\w+)", command))
    helped = subprocess.run(
        [sys.executable, str(TOOLS / "visualize.py"), "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    known = set(re.findall(r"^ +--(\w+)", helped, re.MULTILINE))
    assert {"what", "images", "runs"} <= given <= known
    assert set(re.findall(r"`--(\w+)", text)) <= known
