"""tools/convert_weights.py as a user runs it, and what the binaries make of it."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from weight_tool import CLASSES, TOOL, convert, run, small_file

from official.alexnet import AlexNet, run_files
from official.alexnet.data.statistics import Statistics
from official.alexnet.errors import UserError
from official.alexnet.modeling import options, structure
from official.alexnet.modeling.variants import find_variant
from official.alexnet.modeling.weights import get_weights
from official.alexnet.serving.export import export
from official.alexnet.weights import files

PYTHONPATH = os.pathsep.join([str(TOOL.parents[1]), os.environ.get("PYTHONPATH", "")])
ENVIRONMENT = {"PATH": "", "PYTHONPATH": PYTHONPATH, "TF_CPP_MIN_LOG_LEVEL": "2"}


def same(found, wanted):
    assert found.keys() == wanted.keys()
    for name, array in wanted.items():
        np.testing.assert_array_equal(found[name], array, err_msg=name)


def python(*arguments, folder=None):
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        cwd=folder,
        check=False,
        env=ENVIRONMENT,
    )


def test_as_a_program(tmp_path):
    path, given, _, weights = small_file(tmp_path, "owt", ".safetensors")
    arguments = (str(TOOL), f"--input={path}", "--output=o.keras", *given)
    done = python(*arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout.splitlines()[-1])
    assert result["written"] == ["o.keras"]
    assert result["num_classes"] == CLASSES
    assert result["num_parameters"] == sum(array.size for array in weights.values())
    assert result["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert result["preprocessing"]["mean"] == [0.485, 0.456, 0.406]
    again = python(*arguments, folder=tmp_path)
    assert (again.returncode, again.stdout) == (2, "")
    assert again.stderr.splitlines() == [
        "convert_weights: --output=o.keras exists: give a new name"
    ]


def test_formats_of_others_need_no_tensorflow(tmp_path):
    path, given, _, _ = small_file(tmp_path, "caffe", ".caffemodel")
    code = (
        "import sys, runpy; sys.modules['tensorflow'] = None;"
        f"sys.argv[0] = {str(TOOL)!r};"
        f"runpy.run_path({str(TOOL)!r}, run_name='__main__')"
    )
    arguments = (f"--input={path}", "--output=o.safetensors", *given)
    done = python("-c", code, *arguments, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_round_the_formats(tmp_path):
    pytest.importorskip("torch")
    path, given, net, weights = small_file(tmp_path, "caffe", ".caffemodel")
    first = path.read_bytes()
    for suffix in (".pth", ".keras", ".safetensors", "", ".pt", ".caffemodel"):
        target = tmp_path / f"next{suffix}"
        # A run knows its net.
        convert(path, target, *(given if path.suffix else []))
        if suffix:
            same(files.read(str(target), net).weights, weights)
        path = target
    assert path.read_bytes() == first
    assert (tmp_path / "next.prototxt").is_file()


def test_keras_computes_probabilities(tmp_path):
    path, given, net, weights = small_file(tmp_path, "caffenet", ".caffemodel")
    convert(path, tmp_path / "net.keras", *given)
    model = keras.models.load_model(tmp_path / "net.keras")
    same(get_weights(model), weights)
    images = np.random.default_rng(1).normal(0, 50, (2, 67, 67, 3)).astype(np.float32)
    wanted = AlexNet(net, CLASSES, weights=str(path))(images)
    np.testing.assert_allclose(model(images), wanted, atol=1e-6)
    np.testing.assert_allclose(tf.reduce_sum(model(images), 1), 1, rtol=1e-5)


def test_a_run_of_torchvisions_net_sees_what_torchvision_sees(tmp_path):
    path, given, net, _ = small_file(tmp_path, "owt", ".safetensors")
    (tmp_path / "labels.txt").write_text("a\nb\nc\nd\n")
    run = tmp_path / "run"
    result = convert(path, run, *given, f"--labels={tmp_path / 'labels.txt'}")
    assert {pathlib.Path(name).name for name in result["written"]} == {
        *("checkpoint", "ckpt-0.index", "ckpt-0.data-00000-of-00001"),
        *("params.yaml", "statistics.npz", "labels.txt"),
    }
    config = run_files.load_config(str(run))
    assert config.data.input_scale == "torchvision"
    export(config, str(run), str(tmp_path / "exported"))
    served = tf.saved_model.load(str(tmp_path / "exported" / "saved_model"))
    pixels = np.random.default_rng(2).integers(0, 256, (2, 256, 256, 3), np.uint8)
    found = served.signatures["image_tensor"](tf.constant(pixels))["logits"].numpy()
    # As torchvision.transforms do it.
    crops = pixels[:, 96:160, 96:160].astype(np.float64) / 255
    images = (crops - (0.485, 0.456, 0.406)) / (0.229, 0.224, 0.225)
    model = AlexNet(net, CLASSES, weights=str(path), classifier_activation=None)
    wanted = model(images.astype(np.float32)).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())
    labels = (tmp_path / "exported" / "labels.txt").read_text()
    assert labels == "a\nb\nc\nd\n"
    convert(tmp_path / "exported" / "alexnet.keras", tmp_path / "again", *given)
    assert (tmp_path / "again" / "labels.txt").read_text() == labels
    (tmp_path / "others.txt").write_text("a\nc\nb\nd\n")
    given.append(f"--labels={tmp_path / 'others.txt'}")
    with pytest.raises(UserError, match="class 1 was 'b' and is 'c'"):
        convert(tmp_path / "exported" / "alexnet.keras", tmp_path / "others", *given)


@pytest.mark.slow
def test_the_binaries_take_the_directory(records_dir, tmp_path):
    _, given, net, weights = small_file(tmp_path, "owt", ".safetensors")
    weights |= {
        "fc8/kernel": weights["fc8/kernel"][:, :3],
        "fc8/bias": np.zeros(3, "f4"),
    }
    files.write(str(tmp_path / "three.safetensors"), weights, net)
    convert(tmp_path / "three.safetensors", tmp_path / "run", *given)

    def binary(name, *arguments):
        run = f"--model_dir={tmp_path / 'run'}"
        done = python("-m", f"official.alexnet.{name}", run, *arguments)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])

    data = f"--data_dir={records_dir}"
    result = binary("eval", data, "--batch_size=8")
    assert result["num_examples"] == 13
    binary("export", f"--export_dir={tmp_path / 'exported'}")
    config = "--config_file=" + str(tmp_path / "run" / "params.yaml")
    result = binary(
        *("train", config, data, "--batch_size=8", "--train_steps=2"),
        *("--schedule=constant", "--skip_eval"),
    )
    assert result["step"] == 2


MEAN_IMAGE = np.random.default_rng(3).uniform(90, 140, (3, 256, 256))


def binaryproto(image):
    """A BlobProto, byte by byte: 1, 3, 256, 256 and packed floats."""
    # The length is 786,432 bytes.
    head = b"\x08\x01\x10\x03\x18\x80\x02\x20\x80\x02\x2a\x80\x80\x30"
    return head + image.astype("<f4").tobytes()


@pytest.mark.parametrize("suffix", [".npy", ".binaryproto"])
def test_caffes_mean_image(suffix, tmp_path):
    path, given, _, _ = small_file(tmp_path, "caffe", ".caffemodel")
    mean = tmp_path / f"mean{suffix}"
    if suffix == ".npy":
        np.save(mean, MEAN_IMAGE)
    else:
        mean.write_bytes(binaryproto(MEAN_IMAGE))
    out = tmp_path / "input.json"
    given += [f"--mean={mean}", f"--preprocessing_out={out}"]
    convert(path, tmp_path / "run", *given)
    statistics = Statistics.load(tmp_path / "run" / "statistics.npz")
    # Red is the last of Caffe's planes.
    wanted = np.stack([MEAN_IMAGE[2], MEAN_IMAGE[1], MEAN_IMAGE[0]], axis=-1)
    np.testing.assert_array_equal(statistics.mean_image, wanted.astype(np.float32))
    written = json.loads(out.read_text())
    assert written["channel_order"] == "rgb"
    assert written["has_mean_image"]
    np.testing.assert_allclose(written["mean"], wanted.mean((0, 1)), rtol=1e-6)
    np.testing.assert_array_equal(
        np.load(tmp_path / "input.mean.npy"), MEAN_IMAGE.astype(np.float32)
    )
    # And back: as Caffe wants it.
    back = tmp_path / "back.json"
    convert(tmp_path / "run", tmp_path / "b.caffemodel", f"--preprocessing_out={back}")
    written = json.loads(back.read_text())
    assert written["channel_order"] == "bgr"
    np.testing.assert_allclose(written["mean"], MEAN_IMAGE.mean((1, 2)), rtol=1e-6)
    assert "BGR, pixels - the mean image" in (tmp_path / "b.prototxt").read_text()


def test_a_mean_image_is_written_as_it_is_read(tmp_path):
    """In grey levels, whatever the pixels are multiplied by before it counts."""
    path, given, _, _ = small_file(tmp_path, "owt", ".safetensors")
    np.save(tmp_path / "mean.npy", MEAN_IMAGE)
    out = f"--preprocessing_out={tmp_path / 'input.json'}"
    convert(path, tmp_path / "a", *given, f"--mean={tmp_path / 'mean.npy'}", out)
    written = tmp_path / "input.mean.npy"
    np.testing.assert_allclose(np.load(written), MEAN_IMAGE, rtol=1e-5)
    given += [f"--preprocessing={tmp_path / 'input.json'}", f"--mean={written}"]
    convert(path, tmp_path / "b", *given)
    first, second = (
        Statistics.load(tmp_path / name / "statistics.npz").mean_image for name in "ab"
    )
    np.testing.assert_allclose(second, first, rtol=1e-6)


def test_the_best_checkpoint_of_a_run_has_the_runs_net(tmp_path):
    path, given, net, weights = small_file(tmp_path, "owt", ".safetensors")
    convert(path, tmp_path / "run", *given)
    (tmp_path / "run" / "best").mkdir()
    for file in (tmp_path / "run").glob("ckpt-0.*"):
        shutil.copy(file, tmp_path / "run" / "best")
    best = tmp_path / "run" / "best" / "ckpt-0"
    assert convert(best, tmp_path / "best.safetensors")["variant"] == "owt"
    same(files.read(str(tmp_path / "best.safetensors"), net).weights, weights)


def test_what_the_input_is_goes_along(tmp_path):
    path, given, _, _ = small_file(tmp_path, "paper", ".safetensors")
    unknown = tmp_path / "run"
    with pytest.raises(UserError, match="not known for variant paper; give --mean"):
        convert(path, unknown, *given)
    assert not unknown.exists()
    note, target = f"--preprocessing_out={tmp_path / 'x.json'}", tmp_path / "x.pth"
    with pytest.raises(UserError, match="net's input is, is not known; give --mean"):
        convert(path, target, *given, note)
    assert not target.exists()
    convert(path, tmp_path / "p.safetensors", *given, "--mean=120,110.5,100")
    convert(tmp_path / "p.safetensors", unknown, *given)
    statistics = Statistics.load(unknown / "statistics.npz")
    np.testing.assert_array_equal(statistics.mean_image[7, 8], [120, 110.5, 100])
    # Colour PCA of ILSVRC-2012: orthogonal directions, brightness first.
    vectors = statistics.covariance_eigenvectors
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(3), atol=1e-3)
    assert np.all(np.diff(statistics.covariance_eigenvalues) < 0)
    assert np.all(vectors[:, 0] > 0.5)
    # Of a run to another, by way of its JSON.
    out = tmp_path / "input.json"
    convert(unknown, tmp_path / "q.safetensors", f"--preprocessing_out={out}")
    assert json.loads(out.read_text())["mean"] == [120, 110.5, 100]
    given.append(f"--preprocessing={out}")
    convert(tmp_path / "paper.safetensors", tmp_path / "again", *given)
    again = Statistics.load(tmp_path / "again" / "statistics.npz")
    np.testing.assert_array_equal(again.mean_image, statistics.mean_image)
    given[-1] = f"--statistics={unknown / 'statistics.npz'}"
    convert(path, tmp_path / "third", *given)
    third = (tmp_path / "third" / "statistics.npz").read_bytes()
    assert third == (unknown / "statistics.npz").read_bytes()


def test_the_settings_of_a_run_are_its_nets(tmp_path):
    path, given, net, weights = small_file(
        tmp_path, "paper", ".safetensors", activation="tanh", dropout=0.25
    )
    given += ["--activation=tanh", "--dropout=0.25", "--mean=1,2,3"]
    convert(path, tmp_path / "run", *given)
    assert run_files.load_config(str(tmp_path / "run")).model.net() == net
    convert(tmp_path / "run", tmp_path / "b.safetensors")
    found = files.read(str(tmp_path / "b.safetensors"), net).weights
    for name, array in weights.items():
        np.testing.assert_allclose(found[name], array, rtol=1e-6)
    with pytest.raises(UserError, match="--activation: tanh -> relu"):
        convert(tmp_path / "run", tmp_path / "c.safetensors", "--activation=relu")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--sha256=00000000"], "its sha256 is"),
        (["--variant=caffe", "--input_size=67"], "where variant caffe has"),
        (["--input=missing.pth"], "there is no such file"),
        (["--input=missing"], "there is no such file"),
        (["--output=no/such/folder.pth"], "there is no directory"),
        (["--mean=1,2"], "three numbers from 0 to 255"),
        (["--mean=1,2,x"], "three numbers from 0 to 255"),
        (["--mean=1,2,300"], "three numbers from 0 to 255"),
        (["--mean=missing.npy"], "there is no such file"),
        (["--mean=text.npy"], "it is no mean image"),
        (["--mean=text.binaryproto"], "it is no mean image"),
        (["--mean=small.npy"], r"float64 of \(3, 4, 4\)"),
        (["--mean=1,2,3", "--statistics=x.npz"], "give one of them"),
        (["--statistics=text.npy"], "damaged or not an .npz"),
        (["--preprocessing=missing.json"], "there is no such file"),
        (["--preprocessing=text.npy"], "does not describe an input"),
        (["--labels=text.npy"], "--labels goes into the directory of a run"),
        (["--output=run", "--labels=text.npy"], "has 1 names, but the net has 4"),
        (["--output=run", "--labels=missing.txt"], "cannot be read"),
        (["--output=run", "--preprocessing=odd.json"], "divides its pixels by nothing"),
        (["--remove=conv9"], "--remove=conv9"),
        (["--output=mine.caffemodel"], "mine.prototxt exists: give a new name"),
        (["--output=net.onnx"], r"--output=net\.onnx: \.onnx is not written here"),
        (["--output=net.PTH"], r"\.PTH is not written here"),
        (["--preprocessing_out=mine.json"], "is there already"),
        (["--preprocessing_out=other.json"], "other.mean.npy exists: give a new"),
        (["--preprocessing_out=no/folder.json"], "no such directory as no"),
        (["--preprocessing_out=note.txt"], r"name a file in \.json"),
    ],
)
def test_mistakes_are_named_and_leave_nothing(arguments, text, tmp_path, monkeypatch):
    path, given, _, _ = small_file(tmp_path, "owt", ".safetensors")
    monkeypatch.chdir(tmp_path)
    pathlib.Path("mine.prototxt").write_text("mine")
    pathlib.Path("mine.json").write_text("mine")
    pathlib.Path("other.mean.npy").write_text("mine")
    pathlib.Path("text.npy").write_text("text")
    pathlib.Path("text.binaryproto").write_text("text")
    np.save("small.npy", np.zeros((3, 4, 4)))
    pathlib.Path("odd.json").write_text('{"input_size": 64, "scale": 0.5}')
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=text):
        convert(path, "out.safetensors", *given, *arguments)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_scale_of_unit_variance_needs_the_statistics_it_is_of(tmp_path):
    path, given, _, _ = small_file(tmp_path, "owt", ".safetensors")
    mean = np.full((256, 256, 3), 100, np.float32)
    for name, deviation in (("own", 50.0), ("other", 51.0)):
        statistics = Statistics(mean, np.full(3, deviation**2), np.eye(3), 1)
        statistics.save(tmp_path / f"{name}.npz")
    text = '{"input_size": 64, "std": [50, 50, 50]}'
    (tmp_path / "input.json").write_text(text)
    given += [f"--preprocessing={tmp_path / 'input.json'}"]
    for statistics in ([], [f"--statistics={tmp_path / 'other.npz'}"]):
        with pytest.raises(UserError, match="standard deviation in its --statistics"):
            convert(path, tmp_path / "run", *given, *statistics)
    convert(path, tmp_path / "run", *given, f"--statistics={tmp_path / 'own.npz'}")
    config = run_files.load_config(str(tmp_path / "run"))
    assert config.data.input_scale == "unit_variance"


def test_nothing_is_written_over(tmp_path):
    path, given, _, _ = small_file(tmp_path, "owt", ".safetensors")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "file").write_text("mine")
    for target in (path, folder):
        with pytest.raises(UserError, match="exists: give a new name"):
            convert(path, target, *given)


def test_slims_thousand_classes_and_none(tmp_path):
    net = options.change(find_variant("slim"), width=0.001)
    weights = {
        name: np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
        for name, shape in structure.weight_shapes(net, 1001).items()
    }
    path = tmp_path / "slim.safetensors"
    files.write(str(path), weights, net)
    labels = tmp_path / "labels.txt"
    labels.write_text("".join(f"class {i}\n" for i in range(1000)))
    given = ["--variant=slim", "--width=0.001", f"--labels={labels}"]
    convert(path, tmp_path / "run", "--mean=1,2,3", *given)
    names = run_files.class_names(tmp_path / "run")
    assert names[:2] == ("background", "class 0")
    assert len(names) == 1001


def test_neither_a_file_nor_an_output():
    with pytest.raises(UserError, match="give --input and --output, or --inspect"):
        run()
