"""Features of any layer, against the bare net, in .npz and .parquet."""

import pathlib
import shutil
import tracemalloc

import keras
import numpy as np
import pytest
from interchange_nets import make_images
from PIL import Image

from official.alexnet.data.statistics import Statistics
from official.alexnet.errors import UserError
from official.alexnet.modeling import options, structure
from official.alexnet.modeling.alexnet import AlexNet
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.serving import feature_files, prediction
from official.alexnet.serving.prediction import extract
from official.alexnet.serving.signatures import layer_outputs

LAYERS = {"pool5": (1, 1, 32), "fc6": (512,), "fc7": (512,)}


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> pathlib.Path:
    """Five pictures in folders of two classes, one of no class and one cut short."""
    root = tmp_path_factory.mktemp("photos")
    places = ("n00000001", "n00000002 class 2", "elsewhere", "n00000001", "elsewhere")
    for i, (place, pixels) in enumerate(zip(places, make_images(5, 256), strict=True)):
        (root / place).mkdir(exist_ok=True)
        Image.fromarray(pixels).save(root / place / f"{i}.png")
    cut = root / "elsewhere/4.png"
    cut.write_bytes(cut.read_bytes()[:999])
    return root


def bare_net(folder: pathlib.Path, photos: list[pathlib.Path]) -> dict[str, np.ndarray]:
    """What layers of alexnet.keras give, after their ReLU, in the pictures' order."""
    model = keras.models.load_model(folder / "alexnet.keras")
    names = {"pool5": "pool5", "fc6": "relu6", "fc7": "relu7"}
    outputs = {key: model.get_layer(name).output for key, name in names.items()}
    statistics = Statistics.load(folder / "statistics.npz")
    squares = np.stack([np.asarray(Image.open(path)) for path in photos])
    pixels = (squares.astype("f4") - statistics.mean_image) / statistics.pixel_std
    found = keras.Model(model.input, outputs)(pixels[:, 96:160, 96:160])
    return {name: value.numpy() for name, value in found.items()}


def read(path: pathlib.Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path) as file:
            return dict(file)
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(path)
    found = {"image": np.array(table["image"].to_pylist())}
    labels = table["label"].to_pylist()
    found["label"] = np.array([-1 if x is None else x for x in labels])
    for name in table.column_names[2:]:
        side = table.schema.field(name).metadata[b"shape"].decode()
        shape = (-1, *map(int, side.split(",")))
        found[name] = np.array(table[name].to_pylist(), "f4").reshape(shape)
    return found


@pytest.mark.parametrize("ending", feature_files.ENDINGS)
def test_features_are_those_of_the_bare_net(all_formats, photos, ending, tmp_path):
    path = tmp_path / f"features{ending}"
    found = extract(
        str(all_formats.folder), [f"{photos}/*/*.png"], [*LAYERS], 2, str(path)
    )
    good = sorted(photos.glob("*/*.png"))
    good.remove(photos / "elsewhere/4.png")
    counts = {"num_images": 5, "num_bad_images": 1}
    assert found == {"output_file": str(path), **counts}
    arrays = read(path)
    assert arrays.keys() == {"image", "label", *LAYERS}
    assert arrays["image"].tolist() == [*map(str, good)]
    assert arrays["label"].tolist() == [-1, 1, 1, 2]
    wanted = bare_net(all_formats.folder, good)
    for name, shape in LAYERS.items():
        assert arrays[name].shape == (4, *shape)
        assert arrays[name].dtype == np.float32
        np.testing.assert_allclose(arrays[name], wanted[name], atol=2e-4, rtol=1e-4)
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_numbers_of_classes_are_no_names_of_folders(all_formats, photos, tmp_path):
    folder = shutil.copytree(all_formats.folder, tmp_path / "exported")
    count = len((folder / "labels.txt").read_text().splitlines())
    (folder / "labels.txt").write_text("".join(f"{i}\n" for i in range(count)))
    (tmp_path / "1").mkdir()
    shutil.copy(next(photos.glob("n00000001/*.png")), tmp_path / "1")
    path = tmp_path / "f.npz"
    extract(str(folder), [str(tmp_path / "1")], ["fc7"], 9, str(path))
    assert read(path).keys() == {"image", "fc7"}


def test_without_classes_there_are_no_labels(all_formats, photos, tmp_path):
    path = tmp_path / "f.npz"
    names = [str(photos / "elsewhere")]
    extract(str(all_formats.folder), names, ["fc7"], 9, str(path))
    assert read(path).keys() == {"image", "fc7"}


def test_a_layer_that_is_not_exported_is_named(all_formats, photos, tmp_path):
    line = r"--features=conv3: .* gives fc6, fc7, features, pool5; export it again with"
    with pytest.raises(UserError, match=line):
        extract(*(str(all_formats.folder), [f"{photos}/*/*"]), ["conv3"], 9, "x.npz")


def test_what_fails_leaves_no_file(all_formats, photos, tmp_path, monkeypatch):
    def interrupted(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "_read", interrupted)
    for ending in feature_files.ENDINGS:
        with pytest.raises(KeyboardInterrupt):
            path = str(tmp_path / f"x{ending}")
            extract(str(all_formats.folder), [f"{photos}/*/*.png"], ["fc7"], 9, path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("ending", feature_files.ENDINGS)
def test_memory_does_not_grow_with_the_images(ending, tmp_path):
    """Kept, 5,000 rows more would be 20 MB."""
    peaks = []
    for batches in (10, 60):
        path = tmp_path / f"{batches}{ending}"
        rows = np.ones((100, 1000), np.float32)
        tracemalloc.start()
        with feature_files.create(path, {"fc7": (1000,)}) as file:
            for _ in range(batches):
                file.add(["a/b.jpg"] * 100, [None] * 100, {"fc7": rows})
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert len(read(path)["fc7"]) == 100 * batches
    assert peaks[1] - peaks[0] < 2_000_000


def test_a_folder_tells_the_class_of_one_name_only():
    names = ["cat", "cat tabby", "n00000001 a dog", "lime lime", "crane", "crane"]
    wanted = {"cat": 0, "cat tabby": 1, "n00000001": 2, "lime": 3}
    assert prediction.class_places(names) == wanted


def test_parquet_without_its_package_is_one_line(monkeypatch):
    monkeypatch.setattr(feature_files.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(UserError, match=r"pip install 'official-alexnet\[parquet\]'"):
        feature_files.check(pathlib.Path("x.parquet"))


@pytest.mark.parametrize(
    "columns", ["grouped", pytest.param("apart", marks=pytest.mark.slow)]
)
@pytest.mark.parametrize("name", VARIANTS)
def test_maps_are_rectified_and_those_of_a_convolution_not_pooled(name, columns):
    net = options.change(VARIANTS[name], width=1 / 16)
    model = AlexNet(net, 3, num_columns=1 if columns == "grouped" else net.num_columns)
    outputs = layer_outputs(model)
    for stage in structure.stages(net):
        if stage.conv.filters:
            shape = (None, stage.side, stage.side, stage.maps)
            assert outputs[stage.conv.name].shape == shape
    for weight in model.weights:
        if weight.name == "bias":  # Some are drawn so that nearly all is above 0.
            weight.assign(np.zeros(weight.shape))
    rectified = {k: x for k, x in outputs.items() if k.startswith(("conv", "pool"))}
    noise = np.random.default_rng(0).normal(0, 60, (2, *model.input_shape[1:]))
    for key, found in keras.Model(model.input, rectified)(noise).items():
        assert found.numpy().min() == 0, key
