"""The exported net in a process that has TensorFlow alone."""

import pathlib
import re
import shutil
import subprocess
import sys
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from interchange_nets import make_images
from PIL import Image, ImageOps

from official.alexnet import run_files
from official.alexnet.config import Config, RuntimeConfig
from official.alexnet.data import dataset
from official.alexnet.errors import UserError
from official.alexnet.serving.export import export
from official.alexnet.serving.prediction import predict
from official.alexnet.training import building, checkpoints
from official.alexnet.training.trainer import train


@pytest.fixture(scope="module")
def exported(records_dir, tmp_path_factory) -> pathlib.Path:
    """A run of two columns, exported; beside it an image of each kind."""
    from official.alexnet import config as c  # noqa: PLC0415

    config = c.Config(
        model=c.ModelConfig(num_classes=3, num_columns=2, width=0.125, input_size=64),
        data=c.DataConfig(data_dir=str(records_dir)),
        train=c.TrainConfig(
            batch_size=8, train_steps=2, schedule="constant", skip_eval=True
        ),
        runtime=RuntimeConfig(num_gpus=0, logical_cpus=2),
    )
    root = tmp_path_factory.mktemp("export")
    train(config, str(root / "run"))
    export(
        run_files.load_config(str(root / "run")), str(root / "run"), str(root / "out")
    )
    rng = np.random.default_rng(0)
    (root / "images").mkdir()
    pixels = rng.integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(pixels).save(root / "images" / "color.jpg", quality=95)
    Image.fromarray(pixels[:, :100]).save(root / "images" / "narrow.png")
    Image.fromarray(pixels[..., 0]).save(root / "images" / "gray.jpg")
    return root


def expected_logits(root: pathlib.Path, squares: np.ndarray) -> np.ndarray:
    """The trained net in this process, on centre crops cut by NumPy."""
    config = run_files.load_config(str(root / "run"))
    model = building.build_model(config.model, config.runtime)
    checkpoints.set_weights(model, *checkpoints.find(root / "run"))
    mean = dataset.find_statistics(config.data, root / "run").mean_image
    crops = squares.astype(np.float32) - mean
    return model(crops[:, 96:160, 96:160]).numpy()


ALONE = textwrap.dedent(
    """
    import sys
    sys.modules["official"] = None  # Not to be imported.
    import numpy as np, tensorflow as tf
    served = tf.saved_model.load(sys.argv[1])
    squares = np.load(sys.argv[2])
    classify = served.signatures["image_tensor"]
    out = classify(images=tf.constant(squares))
    one_by_one = [classify(images=tf.constant(squares[i : i + 1])) for i in range(3)]
    np.savez(
        sys.argv[3],
        **{name: value.numpy() for name, value in out.items()},
        single=np.concatenate([one["logits"] for one in one_by_one]),
    )
    """
)


def test_image_tensor_with_tensorflow_alone(exported, tmp_path):
    squares = np.random.default_rng(1).integers(0, 256, (3, 256, 256, 3), np.uint8)
    np.save(tmp_path / "squares.npy", squares)
    # From a folder without the package, moved away from where it was made.
    shutil.copytree(exported / "out" / "saved_model", tmp_path / "moved")
    subprocess.run(
        [sys.executable, "-c", ALONE, "moved", "squares.npy", "out.npz"],
        check=True,
        cwd=tmp_path,
        capture_output=True,
        env={"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
    )
    found = np.load(tmp_path / "out.npz")
    logits = expected_logits(exported, squares)
    np.testing.assert_allclose(found["logits"], logits, atol=1e-4)
    np.testing.assert_allclose(found["single"], logits, atol=1e-4)
    exponents = np.exp(logits - logits.max(1, keepdims=True))
    probabilities = exponents / exponents.sum(1, keepdims=True)
    np.testing.assert_allclose(found["probabilities"], probabilities, atol=1e-5)
    np.testing.assert_array_equal(found["classes"], logits.argmax(1))


def test_bytes_of_any_kind_and_batch(exported):
    served = tf.saved_model.load(str(exported / "out" / "saved_model"))
    paths = sorted((exported / "images").iterdir())
    encoded = tf.constant([path.read_bytes() for path in paths])
    together = served.signatures["serving_default"](encoded)
    assert together["probabilities"].shape == (3, 3)
    np.testing.assert_allclose(
        tf.reduce_sum(together["probabilities"], 1), 1, rtol=1e-5
    )
    for i in range(3):
        alone = served.signatures["serving_default"](encoded[i : i + 1])
        np.testing.assert_allclose(alone["logits"][0], together["logits"][i], atol=1e-5)
    gray = np.asarray(Image.open(exported / "images" / "gray.jpg").convert("RGB"))
    pixels = served.signatures["image_tensor"](tf.constant(gray[None]))
    i = [path.name for path in paths].index("gray.jpg")
    np.testing.assert_allclose(pixels["logits"][0], together["logits"][i], atol=1e-4)


def test_no_image_gives_an_empty_answer(exported):
    served = tf.saved_model.load(str(exported / "out" / "saved_model"))
    no_bytes, no_images = (
        tf.constant([], tf.string),
        tf.zeros((0, 300, 90, 3), tf.uint8),
    )
    for key, empty in (("serving_default", no_bytes), ("image_tensor", no_images)):
        answer = served.signatures[key](empty)
        assert {name: tuple(value.shape) for name, value in answer.items()} == {
            **{"probabilities": (0, 3), "logits": (0, 3), "classes": (0,)}
        }
    assert served.signatures["features"](no_bytes)["features"].shape == (0, 512)


@pytest.mark.parametrize("shape", [(1, 2), (256, 256, 3)])
def test_another_shape_is_told_the_right_one(shape, exported):
    served = tf.saved_model.load(str(exported / "out" / "saved_model"))
    found = re.escape(", ".join(map(str, shape)))
    for key in ("serving_default", "features"):
        words = rf"image_bytes should have the shape \(batch,\), not \({found}\)"
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            served.signatures[key](tf.fill(shape, b"no picture"))
    classify = served.signatures["image_tensor"]
    for sides in (shape, (*shape, 1, 1), (2, 256, 256, 1)):
        words = r"images should have the shape \(batch, height, width, 3\), not \("
        with pytest.raises(tf.errors.InvalidArgumentError, match=words):
            classify(tf.zeros(sides, tf.uint8))
    with pytest.raises(tf.errors.InvalidArgumentError, match="uint8"):
        classify(tf.zeros((1, 256, 256, 3)))


def test_a_picture_is_taken_as_it_is_stored(all_formats, tmp_path):
    """EXIF's orientation changes nothing; turned upright it is another picture."""
    paths = [tmp_path / name for name in ("stored.jpg", "exif.jpg", "upright.png")]
    stripes = Image.fromarray(make_images(3, 256)[2])
    stripes.save(paths[0])
    orientation = Image.Exif()
    orientation[0x0112] = 6
    stripes.save(paths[1], exif=orientation)
    with Image.open(paths[1]) as photo:
        ImageOps.exif_transpose(photo).save(paths[2])
    served = tf.saved_model.load(str(all_formats.folder / "saved_model"))
    encoded = tf.constant([path.read_bytes() for path in paths])
    found = served.signatures["serving_default"](encoded)["probabilities"].numpy()
    np.testing.assert_allclose(found[0], found[1], rtol=1e-5)
    assert np.abs(found[0] - found[2]).max() > 0.01
    predictions = predict(str(all_formats.folder), [*map(str, paths[:2])], 3, 2)
    stored, with_exif = (p["labels"] for p in predictions["predictions"])
    assert stored == with_exif


def test_features_are_fc7_after_its_relu(exported):
    served = tf.saved_model.load(str(exported / "out" / "saved_model"))
    encoded = tf.constant([(exported / "images" / "color.jpg").read_bytes()])
    features = served.signatures["features"](encoded)["features"].numpy()
    logits = served.signatures["serving_default"](encoded)["logits"]
    model = keras.models.load_model(exported / "out" / "alexnet.keras")
    fc8 = model.get_layer("fc8")
    assert features.shape == (1, model.get_layer("fc7").units)
    assert features.min() >= 0
    # Dropout multiplies by 1/2 when it does not drop.
    np.testing.assert_allclose(features / 2 @ fc8.kernel + fc8.bias, logits, atol=1e-4)


def test_features_of_the_whole_net_have_4096_numbers():
    net = building.build_model(Config().model, RuntimeConfig(num_gpus=0))
    assert net.get_layer("relu7").output.shape == (None, 4096)


@pytest.mark.slow
def test_as_a_keras_layer_without_this_package(exported, tmp_path):
    code = textwrap.dedent(
        """
        import sys
        sys.modules["official"] = None
        import keras, numpy as np, tensorflow as tf
        images = keras.Input((None, None, 3), dtype="uint8")
        alexnet = keras.layers.TFSMLayer(sys.argv[1], call_endpoint="image_tensor")
        head = keras.layers.Dense(2, activation="softmax")
        model = keras.Model(images, head(alexnet(images)["logits"]))
        x = np.zeros((4, 300, 260, 3), np.uint8)
        model.compile("sgd", "sparse_categorical_crossentropy", jit_compile=False)
        model.fit(x, np.array([0, 1, 0, 1]), verbose=0)
        assert model.predict(x, verbose=0).shape == (4, 2)
        """
    )
    subprocess.run(
        [sys.executable, "-c", code, str(exported / "out" / "saved_model")],
        check=True,
        cwd=tmp_path,
        capture_output=True,
    )


def test_no_device_names_and_no_xla_in_the_graph(exported):
    path = exported / "out" / "saved_model" / "saved_model.pb"
    content = path.read_bytes()
    assert b"device:CPU:1" not in content
    assert b"_XlaMustCompile" not in content
    assert b"PyFunc" not in content


@pytest.mark.slow
def test_not_portable_gives_the_same_answers(exported, tmp_path):
    config = run_files.load_config(str(exported / "run"))
    out = tmp_path / "fast"
    export(config, str(exported / "run"), str(out), portable=False)
    assert b"_XlaMustCompile" in (out / "saved_model" / "saved_model.pb").read_bytes()
    pixels = np.random.default_rng(3).integers(0, 256, (2, 256, 256, 3), np.uint8)
    answers = [
        tf.saved_model.load(str(folder / "saved_model")).signatures["image_tensor"]
        for folder in (exported / "out", out)
    ]
    portable, fast = (answer(tf.constant(pixels))["logits"] for answer in answers)
    np.testing.assert_allclose(fast, portable, rtol=1e-4, atol=1e-5)


def test_keras_file_computes_probabilities(exported):
    model = keras.models.load_model(exported / "out" / "alexnet.keras")
    rng = np.random.default_rng(2)
    x = rng.normal(0, 50, (2, 64, 64, 3)).astype(np.float32)
    config = run_files.load_config(str(exported / "run"))
    original = building.build_model(config.model, config.runtime)
    checkpoints.set_weights(original, *checkpoints.find(exported / "run"))
    np.testing.assert_allclose(model(x), tf.nn.softmax(original(x)), atol=1e-6)


def test_what_stands_beside_the_saved_model(exported):
    assert {path.name for path in (exported / "out").iterdir()} == {
        *("saved_model", "alexnet.keras", "labels.txt"),
        *("params.yaml", "statistics.npz"),
    }
    labels = (exported / "out" / "labels.txt").read_text().splitlines()
    assert labels == [f"n0000000{i} class {i}" for i in range(3)]


def test_export_into_an_empty_folder(exported, tmp_path, monkeypatch):
    """But not the one at hand, which a shell would then stand outside of."""
    config = run_files.load_config(str(exported / "run"))
    for name in ("here", "there", "behind"):
        (tmp_path / name).mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "behind")
    monkeypatch.chdir(tmp_path / "here")
    for folder in ("../there", "../link"):
        export(config, str(exported / "run"), folder, formats=["keras"])
    for name in ("there", "behind"):
        assert (tmp_path / name / "alexnet.keras").is_file()
    assert (tmp_path / "link").is_symlink()
    with pytest.raises(UserError, match=r"--export_dir=\. is the current folder"):
        export(config, str(exported / "run"), ".", formats=["keras"])
    monkeypatch.setattr(pathlib.Path, "is_mount", lambda _: True)
    with pytest.raises(UserError, match="is a mounted volume: name a new one in it"):
        export(config, str(exported / "run"), str(tmp_path / "here"))
    assert not [*tmp_path.glob(".*")]


def test_classes_without_names_have_none_in_an_export(exported, tmp_path):
    copy = shutil.copytree(exported / "run", tmp_path / "run")
    (copy / "labels.txt").unlink()
    config = run_files.load_config(str(copy))
    out = tmp_path / "out"
    export(config, str(copy), str(out), formats=["keras"])
    assert (out / "labels.txt").read_text() == "0\n1\n2\n"
    assert run_files.class_names(out / "alexnet.keras") is None


def test_export_writes_over_nothing(exported):
    config = run_files.load_config(str(exported / "run"))
    before = sorted(path.name for path in exported.iterdir())
    with pytest.raises(UserError, match="exists"):
        export(config, str(exported / "run"), str(exported / "out"))
    assert sorted(path.name for path in exported.iterdir()) == before
