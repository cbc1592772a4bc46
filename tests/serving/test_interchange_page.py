"""The snippets of docs/export.md run beside an export."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

PAGE = pathlib.Path(__file__).parents[2] / "docs" / "export.md"
# Those of the last section run beside the demo's export, in tests/test_readme.py.
TEXT, _, _ = PAGE.read_text("utf-8").partition("\n## An export in Keras\n")
SNIPPETS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
NEEDS = ("onnxruntime", "openvino", "ai_edge_litert", "onnx")


def test_the_page_has_these_snippets():
    assert len(SNIPPETS) == 1 + len(NEEDS)


# Smaller and larger than 256, portrait and landscape, colour and grey.
PHOTOS = [
    *((40, 52, "RGB"), (97, 60, "L"), (256, 300, "RGB"), (341, 257, "L")),
    *((300, 700, "RGB"), (1000, 480, "RGB")),
]


@pytest.fixture(scope="module")
def served(all_formats):
    return tf.saved_model.load(str(all_formats.folder / "saved_model"))


@pytest.mark.parametrize(("width", "height", "mode"), PHOTOS)
def test_the_crop_is_the_saved_models(
    width, height, mode, served, all_formats, tmp_path, monkeypatch
):
    """Blurred colours under noise and stripes, of which every pixel matters."""
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported").symlink_to(all_formats.folder)
    rng = np.random.default_rng(width)
    small = Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8))
    pixels = np.asarray(small.resize((width, height))) // 2
    pixels += rng.integers(0, 128, pixels.shape, np.uint8)
    pixels[:, ::3] //= 2
    Image.fromarray(pixels).convert(mode).save("photo.jpg", quality=95)
    names: dict = {}
    exec(SNIPPETS[0].replace("16:240, 16:240", "96:160, 96:160"), names)
    session = onnxruntime.InferenceSession("exported/alexnet.onnx")
    (found,) = session.run(["probabilities"], {"images": names["images"]})
    encoded = tf.constant([pathlib.Path("photo.jpg").read_bytes()])
    expected = served.signatures["serving_default"](encoded)["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(NEEDS)), ids=NEEDS)
def test_snippet_runs(number, all_formats, tmp_path):
    pytest.importorskip(NEEDS[number])
    (tmp_path / "exported").symlink_to(all_formats.folder)
    pixels = np.random.default_rng(0).integers(0, 256, (300, 280, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.jpg")
    # Smaller nets than the page's, of which the exported one reads 64 x 64 pixels.
    code = SNIPPETS[0] + SNIPPETS[1 + number]
    code = code.replace("16:240, 16:240", "96:160, 96:160")
    code = code.replace("num_classes=10)", "num_classes=10, width=0.125)")
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={"PYTHONPATH": ":".join(sys.path), "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    if "labels[" in SNIPPETS[1 + number]:
        labels = (all_formats.folder / "labels.txt").read_text().splitlines()
        assert done.stdout.splitlines()[-1] in labels
