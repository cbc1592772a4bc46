"""What is installed, what importing it does, and who may live beside it."""

import ast
import configparser
import importlib
import json
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from importlib import metadata

import keras
import pytest
import setuptools
from packaging.requirements import Requirement
from packaging.version import Version

from official.alexnet import AlexNet, registration
from official.alexnet.training import run_weights
from official.alexnet.training.optimizer import PaperSGD

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "official" / "alexnet"
MODULES = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.py"))
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*.yaml"))
SCRIPTS = ("train", "eval", "export", "predict")


def run_python(code, *path):
    """Runs code in a fresh process, with `path` first on sys.path."""
    head = f"import sys; sys.path[:0] = {[str(entry) for entry in path]!r}\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", head + code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def neighbour(tmp_path):
    """Another distribution with a regular package `official`, as tf-models has."""
    folder = tmp_path / "official" / "other"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").write_text("")
    (folder / "__init__.py").write_text("NAME = 'other'\n")
    return tmp_path


@pytest.mark.parametrize("first", ["other", "alexnet"])
def test_a_neighbour_in_official_is_found_too(neighbour, first):
    second = {"other": "alexnet", "alexnet": "other"}[first]
    code = (
        f"import official.{first}, official.{second}\n"
        "print(official.other.NAME, official.alexnet.__version__)\n"
    )
    assert run_python(code, ROOT, neighbour).split() == ["other", "0.1.0"]


def test_both_work_in_one_folder_whoever_was_installed_last(neighbour):
    (neighbour / "official" / "alexnet").symlink_to(PACKAGE)
    code = "import official.alexnet, official.other; print(official.other.NAME)"
    assert run_python(code, neighbour).split() == ["other"]
    ours = (ROOT / "official" / "__init__.py").read_text()
    (neighbour / "official" / "__init__.py").write_text(ours)
    assert run_python(code, neighbour).split() == ["other"]


def test_importing_it_and_its_binaries_does_not_start_tensorflow():
    binaries = "".join(f"import official.alexnet.{name}\n" for name in SCRIPTS)
    code = (
        "import official.alexnet\n"
        "from official.alexnet import UserError\n"
        f"{binaries}"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])\n"
    )
    assert run_python(code, ROOT).strip() == "[]"


def test_the_public_names():
    package = importlib.import_module("official.alexnet")
    assert AlexNet is run_weights.AlexNet
    names: dict = {}
    exec("from official.alexnet import *", names)
    assert names["AlexNet"] is AlexNet
    assert set(package.__all__) <= set(names)
    assert set(package.__all__) <= set(dir(package))
    with pytest.raises(AttributeError, match="no attribute 'ResNet'"):
        package.ResNet  # noqa: B018


LOAD = """
model = keras.models.load_model({path!r})
objects = [model.layers[1], model.optimizer]
print(*(type(thing).__module__ for thing in objects))
"""
IMPORT = "import official.alexnet, importlib.util\nimportlib.util.find_spec('keras')\n"


@pytest.mark.parametrize(
    "first", ["official.alexnet", pytest.param("keras", marks=pytest.mark.slow)]
)
def test_importing_it_is_enough_to_load_its_keras_files(tmp_path, first):
    """Of each kind of class: a layer, the optimizer."""
    model = AlexNet(num_columns=2, width=0.125, input_size=64, num_classes=3)
    model.compile(PaperSGD(), "sparse_categorical_crossentropy")
    path = str(tmp_path / "columns.keras")
    model.save(path)
    imports = [IMPORT, "import keras\n"]
    head = "".join(imports if first == "official.alexnet" else reversed(imports))
    assert run_python(head + LOAD.format(path=path), ROOT).split() == [
        f"official.alexnet.{module}"
        for module in ("modeling.layers", "training.optimizer")
    ]


def test_all_classes_are_registered():
    for module in MODULES:
        importlib.import_module(module[:-3].replace("/", "."))
    found = {
        name: kind
        for name, kind in keras.saving.get_custom_objects().items()
        if name.startswith("official.alexnet>")
    }
    assert found == {
        f"official.alexnet>{name}": getattr(
            importlib.import_module(f"official.alexnet.{module}"), name
        )
        for module, names in registration._CLASSES.items()
        for name in names
    }


@pytest.mark.parametrize("module", MODULES)
def test_every_module_can_be_imported_beside_the_others(module):
    name = module.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    assert importlib.import_module(name).__doc__


@pytest.fixture(scope="module")
def given() -> dict:
    """What setup.py gives to setuptools."""
    arguments: dict = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.setattr(setuptools, "setup", arguments.update)
        runpy.run_path("setup.py")
    return arguments


def test_setup_packs_every_module_and_file_of_settings(given):
    folders = [ROOT / package.replace(".", "/") for package in given["packages"]]
    packed = {file for folder in folders for file in folder.glob("*.py")}
    assert {ROOT / module for module in MODULES} <= packed
    files = {
        file
        for package, patterns in given["package_data"].items()
        for pattern in patterns
        for file in (ROOT / package.replace(".", "/")).glob(pattern)
    }
    assert files == {ROOT / config for config in CONFIGS}
    assert CONFIGS
    assert not {"tests", "tools"} & {name.split(".")[0] for name in given["packages"]}


def test_setup_and_the_package_agree(given):
    assert given["version"] == importlib.import_module("official.alexnet").__version__
    for script in given["entry_points"]["console_scripts"]:
        name, target = script.split(" = ")
        module, function = target.split(":")
        assert name == f"alexnet-{module.rpartition('.')[2]}"
        assert callable(getattr(importlib.import_module(module), function))
    assert len(given["entry_points"]["console_scripts"]) == len(SCRIPTS)


def test_each_dependency_is_bounded_and_its_oldest_is_what_is_tested(given):
    text = (ROOT / "tests" / "constraints" / "oldest.txt").read_text("utf-8")
    pins = dict(
        line.split("==") for line in text.lower().replace("-", "_").splitlines()[2:]
    )
    for requirement in map(Requirement, given["install_requires"]):
        name = requirement.name
        bounds = {bound.operator: bound.version for bound in requirement.specifier}
        lowest = bounds[">="]
        assert "<" in bounds, name
        assert Version(pins[name.lower().replace("-", "_")]) == Version(lowest), name
        assert metadata.version(name) in requirement.specifier


def test_what_the_source_imports_is_required(given):
    """Nothing is there only because something else brings it."""
    required = {Requirement(text).name.lower() for text in given["install_requires"]}
    ours = {"official", *sys.stdlib_module_names}
    optional = {"onnx", "pyarrow"}  # Extras, asked for by name.
    distributions = metadata.packages_distributions()
    for module in MODULES:
        for node in ast.walk(ast.parse((ROOT / module).read_text("utf-8"))):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module]
            for name in {name.partition(".")[0] for name in names} - ours - optional:
                assert required & {d.lower() for d in distributions[name]}, name


def test_an_editable_install_has_nothing_to_warn_of(tmp_path):
    copy_source(tmp_path)
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from setuptools import build_meta; build_meta.build_editable('.')",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "careful" not in done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (path,) = [name for name in archive.namelist() if name.endswith(".pth")]
        assert archive.read(path).decode().strip() == str(tmp_path)


@pytest.mark.slow
def test_pip_resolves_it_with_the_models_that_the_readme_names(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    plan = [*pip, "install", "--dry-run", "--ignore-installed", "--report"]
    theirs = "tf-models-official"
    alone = subprocess.run([*plan, tmp_path / "any", "--no-deps", theirs], check=False)
    if alone.returncode:
        pytest.skip("no index of packages can be reached")
    copy_source(tmp_path / "source")
    report = tmp_path / "report"
    subprocess.run([*plan, report, str(tmp_path / "source"), theirs], check=True)
    found = {
        item["metadata"]["name"].lower(): item["metadata"]["version"]
        for item in json.loads(report.read_text("utf-8"))["install"]
    }
    text = " ".join((ROOT / "README.md").read_text("utf-8").split())
    said = re.search(r"`tf-models-official` ([\d.]+), with TensorFlow ([\d.]+):", text)
    named = (found[theirs], found["tensorflow"])
    assert tuple(v.rpartition(".")[0] for v in named) == said.groups(), named
    # Older ones cannot be imported with this TensorFlow.
    assert Version(found["tensorflow-model-optimization"]) >= Version("0.8")


def copy_source(folder):
    """A copy: setuptools writes build/ and an egg-info beside setup.py."""
    folder.mkdir(exist_ok=True)
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        (folder / name).write_bytes((ROOT / name).read_bytes())
    shutil.copytree(ROOT / "official", folder / "official")


@pytest.mark.slow
def test_the_wheel_holds_what_is_needed_and_runs_elsewhere(tmp_path):
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = tmp_path / "source"
    copy_source(build)
    (build / "tests").mkdir()
    (build / "tests" / "conftest.py").touch()
    wheels = tmp_path / "wheels"
    subprocess.run(
        [*pip, "wheel", "--no-deps", f"--wheel-dir={wheels}", str(build)], check=True
    )
    (wheel,) = wheels.glob("official_alexnet-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        entry_points = configparser.ConfigParser()
        (file,) = [name for name in names if name.endswith("/entry_points.txt")]
        entry_points.read_string(archive.read(file).decode())
    assert {*MODULES, *CONFIGS, "official/__init__.py"} <= set(names)
    assert any(name.endswith("/LICENSE") for name in names)
    assert {name.split("/")[0] for name in names} == {"official", file.split("/")[0]}
    assert set(entry_points["console_scripts"]) == {f"alexnet-{s}" for s in SCRIPTS}

    installed = tmp_path / "installed"
    subprocess.run(
        [*pip, "install", "--no-deps", f"--target={installed}", str(wheel)], check=True
    )
    code = (
        "import official.alexnet\n"
        "from official.alexnet import config_files\n"
        "print(official.alexnet.__file__, sorted(config_files.load('paper')))\n"
    )
    output = run_python(code, installed)
    assert output.startswith(str(installed))
    assert "'model'" in output
