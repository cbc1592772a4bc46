"""Keras on another backend than TensorFlow: one clear line, before it is imported."""

import ast
import os
import pathlib
import runpy
import subprocess
import sys
import types

import pytest

from official.alexnet import backend

ROOT = pathlib.Path(__file__).parents[1]
ADVICE = "set KERAS_BACKEND=tensorflow in the environment"
KERAS_CONFIG = sys.modules["keras.src.backend.config"].__file__


def run(*command, **environment) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *command],
        env=os.environ | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize("variable", [None, "", "torch", "tensorflow"])
@pytest.mark.parametrize("home", ["HOME", "KERAS_HOME"])
@pytest.mark.parametrize("text", [None, "{", "{}", '{"backend": "jax"}'])
def test_the_backend_is_the_one_that_keras_finds(
    monkeypatch, tmp_path, variable, home, text
):
    for name in ("KERAS_BACKEND", "KERAS_HOME"):
        monkeypatch.delenv(name, raising=False)
    # Keras sets it for other backends.
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    if variable is not None:
        monkeypatch.setenv("KERAS_BACKEND", variable)
    monkeypatch.setenv(home, str(tmp_path))
    folder = tmp_path / ".keras" if home == "HOME" else tmp_path
    folder.mkdir(exist_ok=True)
    if text is not None:
        (folder / "keras.json").write_text(text)
    with monkeypatch.context() as patch:
        patch.delitem(sys.modules, "keras")
        found, source = backend.find_backend()
    # Keras's own module once more, by itself.
    assert found == runpy.run_path(KERAS_CONFIG)["backend"]()
    if found == "jax":
        assert source == f"by {folder / 'keras.json'}"


def test_the_backend_of_a_keras_that_is_imported(monkeypatch):
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    assert backend.find_backend()[0] == "tensorflow"
    jax = types.SimpleNamespace(backend=types.SimpleNamespace(backend=lambda: "jax"))
    monkeypatch.setitem(sys.modules, "keras", jax)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")
    assert backend.find_backend() == ("jax", "it is imported already")


def test_a_library_call_says_it_in_one_line(tmp_path):
    (tmp_path / "keras.json").write_text('{"backend": "torch"}')
    done = run(
        *("-c", "from official.alexnet import AlexNet"),
        KERAS_BACKEND="",
        KERAS_HOME=str(tmp_path),
    )
    last = done.stderr.splitlines()[-1]
    assert last.startswith("official.alexnet.errors.UserError: Keras computes with ")
    assert f"torch (by {tmp_path / 'keras.json'})" in last
    assert last.endswith(ADVICE)


@pytest.mark.parametrize(
    "command",
    [
        ["tools/estimate_training_time.py"],
        *(
            pytest.param(command.split(), marks=pytest.mark.slow)
            for command in (
                "-m official.alexnet.train --model_dir=x --use_synthetic_data",
                "examples/cifar10/cifar10.py --output_dir=x --data_dir=x",
                "tools/benchmark.py --suites=lrn",
            )
        ),
    ],
)
def test_a_command_says_it_in_one_line(command):
    done = run(*command, KERAS_BACKEND="jax")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert "Keras computes with jax (by KERAS_BACKEND)" in line
    assert line.endswith(ADVICE)


def test_nothing_imports_keras_around_the_check():
    for folder in ("official", "tools"):
        for path in (ROOT / folder).rglob("*.py"):
            if path == pathlib.Path(backend.__file__):
                continue
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom):
                    names = [node.module or ""]
                tops = {name.partition(".")[0] for name in names}
                assert "keras" not in tops, f"{path}:{node.lineno}"
