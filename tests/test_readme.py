"""What the README and the end of docs/export.md say runs, and has those flags."""

import dataclasses
import pathlib
import re
import shlex
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from official.alexnet import run_files
from official.alexnet.config import Config, DataConfig, ModelConfig, TrainConfig
from official.alexnet.serving.export import export
from official.alexnet.training.trainer import train

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
WEIGHTS = (ROOT / "docs" / "export.md").read_text("utf-8")
_, _, IN_KERAS = WEIGHTS.partition("\n## An export in Keras\n")
SNIPPETS = re.findall(r"```python\n(.*?)```", README + IN_KERAS, re.DOTALL)
COMMANDS = [
    shlex.split(line.removeprefix("$ "))
    for block in re.findall(r"```console\n(.*?)```", README, re.DOTALL)
    for line in block.replace("\\\n", " ").splitlines()
]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> pathlib.Path:
    """What `make demo` leaves, of a narrow net that was hardly trained."""
    root = tmp_path_factory.mktemp("readme")
    config = Config(
        model=ModelConfig(num_classes=10, width=0.125),
        data=DataConfig(use_synthetic_data=True),
        train=TrainConfig(
            batch_size=4, train_steps=1, schedule="constant", skip_eval=True
        ),
    )
    config = dataclasses.replace(
        config, runtime=dataclasses.replace(config.runtime, num_gpus=0)
    )
    train(config, str(root / "demo" / "run"))
    settings = run_files.load_config(str(root / "demo" / "run"))
    export(settings, str(root / "demo" / "run"), str(root / "demo" / "exported"))
    (root / "demo" / "pictures").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), np.uint8)
    name = "ILSVRC2012_val_00000001.JPEG"
    Image.fromarray(pixels).save(root / "demo" / "pictures" / name)
    return root


# Trains what a snippet compiles: a new last layer, and nothing of the served net.
AFTER = {
    "TFSMLayer": """
import tensorflow as tf

before = [weight.numpy() for weight in fc7.weights]
(file,) = tf.io.gfile.glob("demo/pictures/*")
pictures = tf.stack([tf.io.read_file(file)] * 4)
kernel = classifier.layers[-1].kernel.numpy()
classifier.fit(pictures, tf.constant([0, 1, 1, 1]), verbose=0)
assert (kernel != classifier.layers[-1].kernel.numpy()).any()
assert len(before) == 30  # Of seven layers in two columns, and of fc8.
for value, weight in zip(before, fc7.weights):
    assert (value == weight.numpy()).all(), weight.path
"""
}


@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet_runs(demo, number):
    code = SNIPPETS[number]
    code += "".join(after for word, after in AFTER.items() if word in code)
    result = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", code],
        capture_output=True,
        text=True,
        cwd=demo,
        check=False,
    )
    assert result.returncode == 0, result.stderr


def test_there_are_snippets_and_commands():
    assert len(SNIPPETS) == 5
    programs = {command[0] for command in COMMANDS}
    assert {"make", "python", "alexnet-train", "alexnet-eval"} <= programs
    assert {"alexnet-export", "alexnet-predict", "tensorboard"} <= programs


def test_make_has_the_targets():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for command in COMMANDS:
        if command[0] == "make":
            assert re.search(rf"^{command[1]}:", makefile, re.MULTILINE)


@pytest.mark.parametrize(
    "command",
    [c for c in COMMANDS if c[0] == "python" or c[0].startswith("alexnet-")],
    ids=lambda command: " ".join(command[:2]),
)
def test_command_has_the_flags(command):
    if command[:2] == ["python", "-m"]:
        start, flags = list(command[1:3]), command[3:]
    elif command[0] == "python":
        start, flags = [str(ROOT / command[1])], command[2:]
    else:
        start = ["-m", "official." + command[0].replace("-", ".")]
        flags = command[1:]
    result = subprocess.run(
        [sys.executable, *start, "--help"], capture_output=True, text=True, check=False
    )
    known = set(re.findall(r"^ +--(?:\[no\])?(\w+)", result.stdout, re.MULTILINE))
    for flag in flags:
        assert flag.startswith("--"), command
        name = flag[2:].partition("=")[0]
        assert name in known or name.removeprefix("no") in known, flag


def test_links_lead_somewhere():
    for link in re.findall(r"\]\(([\w./-]+)\)", README):
        assert (ROOT / link).exists(), link
