"""What the source never calls, and what files of others cannot make it do."""

import ast
import io
import json
import pathlib
import tarfile
import zipfile

import keras
import numpy as np
import pytest
import tensorflow_datasets as tfds

from official.alexnet import config_files
from official.alexnet.config import Config
from official.alexnet.data import tfds_files
from official.alexnet.data.statistics import Statistics
from official.alexnet.errors import UserError
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.preparation import devkit
from official.alexnet.weights import files

ROOT = pathlib.Path(__file__).parents[1]
SOURCES = sorted(
    path
    for folder in ("official", "tools", "examples")
    for path in (ROOT / folder).rglob("*.py")
)

# === What is not in the source ===

MODULES = {
    *("pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"),
    *("requests", "urllib", "http", "ftplib", "socket", "ctypes", "code", "codeop"),
}
BUILTINS = {"eval", "exec", "compile", "__import__"}
# Attributes, whatever they are taken from.
CALLS = {
    "system": "a shell",
    "popen": "a shell",
    "extractall": "members are written where they say",
    "extract": "members are written where they say",
    "unpack_archive": "members are written where they say",
    "unsafe_load": "YAML that runs code",
    "full_load": "YAML that builds objects",
    "load_model": "Keras builds what the file names",
    "enable_unsafe_deserialization": "Keras runs what the file holds",
    "get_file": "a download",
    "get_weights_file": "a download",
    "mktemp": "a name that another may take",
}


def holes(tree: ast.AST) -> list[str]:
    """What should not be in a source file, as `line: why`."""
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            if name.partition(".")[0] in MODULES:
                found.append(f"{node.lineno}: import {name}")
        if isinstance(node, ast.Call):
            found += [f"{node.lineno}: {why}" for why in _wrong_call(node)]
    return found


def _wrong_call(call: ast.Call) -> list[str]:
    given = {keyword.arg: keyword.value for keyword in call.keywords}

    def says(name: str, value: object) -> bool:
        return isinstance(given.get(name), ast.Constant) and given[name].value is value

    wrong = []
    if "shell" in given and not says("shell", False):
        wrong.append("a shell")
    if "safe_mode" in given and not says("safe_mode", True):
        wrong.append("Keras runs what the file holds")
    if (
        isinstance(call.func, ast.Name)
        and call.func.id in BUILTINS
        # The module that every namespace package names in one line.
        and ast.unparse(call) != "__import__('pkgutil')"
    ):
        wrong.append(call.func.id)
    if isinstance(call.func, ast.Attribute):
        name, owner = call.func.attr, ast.unparse(call.func.value)
        if name in CALLS:
            wrong.append(CALLS[name])
        if owner == "yaml" and name.startswith("load"):
            wrong.append("YAML that builds objects")
        if (
            owner in ("np", "numpy")
            and name == "load"
            and not says("allow_pickle", False)
        ):
            wrong.append("NumPy may unpickle")
        if owner == "torch" and name == "load" and not says("weights_only", True):
            wrong.append("PyTorch unpickles")
    return wrong


# Where the workers of a run talk to one another, and one asks for its own name.
SOCKETS = {"launcher.py", "watch.py"}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_the_source_has_no_hole(path):
    found = holes(ast.parse(path.read_text("utf-8")))
    if path.parent.name == "distribution" and path.name in SOCKETS:
        found = [hole for hole in found if not hole.endswith(": import socket")]
    # The one's unpickler calls nothing of a file's; the other reads its own parent's.
    if path.name in ("array_pickle.py", "child.py"):
        found = [hole for hole in found if not hole.endswith(": import pickle")]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from urllib.request import urlopen",
        "def f():\n    import requests",
        "yaml.load(text)",
        "yaml.load_all(text, Loader=yaml.Loader)",
        "yaml.unsafe_load(text)",
        "eval(text)",
        "__import__(name)",
        "os.system(command)",
        "subprocess.run(command, shell=True)",
        "subprocess.run(command, shell=flag)",
        "np.load(path)",
        "np.load(path, allow_pickle=True)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "tarfile.open(path).extractall(folder)",
        "archive.extract(member)",
        "keras.models.load_model(path)",
        "loader(path, safe_mode=False)",
        "keras.utils.get_file(name, url)",
    ],
)
def test_a_hole_would_be_found(line):
    assert holes(ast.parse(line))


@pytest.mark.parametrize(
    "line",
    [
        "yaml.safe_load(text)",
        "np.load(path, allow_pickle=False)",
        "torch.load(path, weights_only=True)",
        "re.compile(pattern)",
        "net.eval()",
        "tar.extractfile(member)",
        "subprocess.run([sys.executable])",
    ],
)
def test_what_is_no_hole_is_let_through(line):
    assert holes(ast.parse(line)) == []


def test_there_is_one_download():
    """That it is behind its flag is shown below."""
    calls = [
        path.name
        for path in SOURCES
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Attribute) and node.attr.startswith("download_")
    ]
    assert calls == ["tfds_files.py"]


def test_tfds_does_not_download_unless_asked(tmp_path, monkeypatch):
    def refuse(*args, **kwargs):
        raise AssertionError("a download")

    monkeypatch.setattr(tfds.core.DatasetBuilder, "download_and_prepare", refuse)
    with pytest.raises(UserError, match="--tfds_download"):
        tfds_files.open_by_name("mnist:3.0.1", str(tmp_path), False)
    with pytest.raises(AssertionError, match="a download"):
        try:
            tfds_files.open_by_name("mnist", str(tmp_path), True)
        except UserError as error:
            raise error.__cause__ from None


@pytest.mark.parametrize("name", ["huggingface:cifar10", "someone:net/config:1.0.0"])
def test_a_dataset_that_is_code_from_the_network_is_refused(tmp_path, name):
    for download in (False, True):
        with pytest.raises(UserError, match="code from the network"):
            tfds_files.open_by_name(name, str(tmp_path), download)


# === What a file of someone else cannot do ===


def refused(text: str, tmp_path) -> str:
    path = tmp_path / "params.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        config_files.override(Config(), config_files.load(str(path)), str(path))
    assert len(str(caught.value)) < 1000
    return str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "!!python/object/apply:os.system ['touch {marker}']",
        "!!python/object/new:os.system ['touch {marker}']",
        "!!python/name:os.system",
        "!!python/module:antigravity",
    ],
)
def test_yaml_that_wants_to_run_something_is_refused(tmp_path, value):
    marker = tmp_path / "marker"
    value = value.replace("{marker}", str(marker))
    line = refused(f"train:\n  seed: {value}\n", tmp_path)
    assert "is not YAML of settings" in line
    assert "python/" in line
    assert not marker.exists()


def test_a_billion_laughs_are_refused(tmp_path):
    lines = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for before, name in zip("abcdefghijklmnop", "bcdefghijklmnopq", strict=True):
        lines.append(f"{name}: &{name} [{', '.join([f'*{before}'] * 10)}]")
    text = "train:\n" + "".join(f"  {line}\n" for line in lines)
    assert "*a is an alias" in refused(text, tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {seed: " + "[" * 49_000 + "]" * 49_000 + "}", "too deeply"),
        ("train: {seed: " + "9" * 5000 + "}", "is not YAML of settings"),
        ("train: {seed: !!timestamp 2001-99-99}", "is not YAML of settings"),
        ("train: {seed: !!bool x}", "is not YAML of settings"),
        ("#" * 200_000, "longer than"),
    ],
)
def test_other_traps_in_yaml_are_one_line(tmp_path, text, words):
    assert words in refused(text, tmp_path)


def test_settings_are_written_without_aliases():
    for path in (ROOT / "official" / "alexnet" / "configs").glob("*.yaml"):
        config = config_files.override(
            Config(), config_files.load(str(path)), str(path)
        )
        assert config_files.parse_yaml(config.to_yaml(), "its own text")


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return pathlib.Path.touch, (self.marker,)


def test_pickled_statistics_are_refused(tmp_path):
    marker = tmp_path / "marker"
    path = tmp_path / "statistics.npz"
    np.savez(
        path,
        mean_image=np.array([Evil(marker)], dtype=object),
        covariance_eigenvalues=np.ones(3),
        covariance_eigenvectors=np.eye(3),
        num_images=np.int64(1),
    )
    with pytest.raises(UserError, match=r"is damaged or not an \.npz"):
        Statistics.load(path)
    assert not marker.exists()


def test_statistics_that_are_packed_to_be_huge_are_refused(tmp_path):
    path = tmp_path / "statistics.npz"
    np.savez_compressed(path, mean_image=np.zeros(2**22))
    assert path.stat().st_size < 2**20
    with pytest.raises(UserError, match=r"is damaged or not an \.npz"):
        Statistics.load(path)
    # A header that promises 8 TB, and nothing behind it.
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        header, {"descr": "<f8", "fortran_order": False, "shape": (10**12,)}
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mean_image.npy", header.getvalue())
    with pytest.raises(UserError, match=r"is damaged or not an \.npz"):
        Statistics.load(path)


def test_a_keras_file_with_a_lambda_is_refused(tmp_path):
    marker = tmp_path / "marker"
    inputs = keras.Input((4,))
    touch = keras.layers.Lambda(
        lambda x, marker=str(marker): (__import__("pathlib").Path(marker).touch(), x)[1]
    )
    outputs = keras.layers.Dense(2, name="fc8")(inputs)
    model = keras.Model(inputs, touch(outputs))
    path = tmp_path / "evil.keras"
    model.save(path)
    marker.unlink(missing_ok=True)
    with pytest.raises(UserError, match="of the kind Lambda"):
        files.read(str(path), VARIANTS["paper"])
    assert not marker.exists()


def test_a_layer_of_unknown_kind_in_a_keras_file_is_refused(tmp_path):
    path = tmp_path / "net.keras"
    layers = [{"class_name": "Popen", "module": "subprocess", "config": {"name": "x"}}]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps({"config": {"layers": layers}}))
        archive.writestr("model.weights.h5", b"")
    with pytest.raises(UserError, match="of the kind Popen"):
        files.read(str(path), VARIANTS["paper"])


def test_a_devkit_that_is_packed_to_be_huge_is_cut(tmp_path, monkeypatch):
    monkeypatch.setattr(devkit, "_MOST_BYTES", 1000)
    path = tmp_path / "devkit.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name in ("data/meta.mat", "data/ILSVRC2012_validation_ground_truth.txt"):
            member = tarfile.TarInfo(name)
            member.size = 10**6
            tar.addfile(member, io.BytesIO(bytes(10**6)))
    assert path.stat().st_size < 10_000
    with pytest.raises(UserError, match=r"cannot read meta\.mat"):
        devkit.read_devkit(path)
