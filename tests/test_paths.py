"""Names of files and folders that are odd, or of no file at all."""

import pathlib
import re
import subprocess
import sys

import pytest
import tensorflow as tf
import test_cli
from PIL import Image
from test_cli import ROOT, check_mistake, contents, environment

from official.alexnet import AlexNet, config_files, paths
from official.alexnet.config import Config
from official.alexnet.data import tfds_files
from official.alexnet.data.records import find_records
from official.alexnet.data.statistics import Statistics
from official.alexnet.errors import UserError
from official.alexnet.serving.export import export
from official.alexnet.serving.prediction import find_images, predict
from official.alexnet.training import checkpoints
from official.alexnet.training.evaluation import evaluate_run
from official.alexnet.training.trainer import train
from official.alexnet.weights import files

BUCKET = "gs://bucket/run"


@pytest.fixture
def config(tiny_config) -> Config:
    """One step, of a net of any weights."""
    return tiny_config.replace(init="published", train_steps=1, steps_per_loop=1)


@pytest.mark.parametrize(
    "text",
    [
        *("s3://b/x", "hdfs://host:9/x", "file:///x", "FILE:///x", "run=gs://b/x"),
        *(BUCKET, pathlib.Path(BUCKET)),
    ],
    ids=str,
)
def test_an_address_is_no_path(text):
    with pytest.raises(UserError, match=f"--flag={re.escape(str(text))} is an address"):
        paths.local(text, "--flag")


@pytest.mark.parametrize("text", ["a:b", "c:/x", "a,b", "", "10:5", "~"])
def test_a_path_stays_as_it_is(text):
    assert paths.local(text) == pathlib.Path(text).expanduser()


CALLS = {
    "train": lambda config: train(config, BUCKET),
    "init_from": lambda config: train(config.replace(init_from=BUCKET), "new"),
    "data_dir": lambda config: train(config.replace(data_dir=BUCKET), "new"),
    "evaluate": lambda config: evaluate_run(config, BUCKET),
    "export from": lambda config: export(config, BUCKET, "new"),
    "export to": lambda config: export(config, "run", BUCKET),
    "predict": lambda config: predict(BUCKET, ["x"], 1, 1),
    "weights": lambda config: AlexNet(width=0.125, weights=BUCKET),
    "write": lambda config: files.write(f"{BUCKET}.pth", {}, config.model.net()),
    "statistics": lambda config: Statistics.load(BUCKET),
    "records": lambda config: find_records(BUCKET, "train", 10),
    "tfds": lambda config: tfds_files.open_by_name("mnist", BUCKET, False),
    "a YAML": lambda config: config_files.load(BUCKET),
    "in a YAML": lambda config: config_files.override(
        config, {"data": {"statistics": BUCKET}}, "x.yaml"
    ),
}


@pytest.mark.parametrize("name", CALLS)
def test_the_library_takes_no_address(name, config, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="is an address"):
        CALLS[name](config)
    assert contents(tmp_path) == {}


ODD = " *?],{a}%s\n'ü$HOME ~ "


@pytest.mark.slow
def test_odd_names_work(config, tmp_path):
    run = tmp_path / ODD
    train(config, str(run))
    results = train(config.replace(train_steps=2), str(run))
    assert results["step"] == 2
    assert checkpoints.find(run)[1].step == 2


@pytest.mark.slow
def test_odd_names_of_exports_work(config, tmp_path):
    run = tmp_path / ODD
    train(config, str(run))
    export(config, str(run), str(run / "export"))
    Image.new("RGB", (64, 64)).save(run / "a.png")
    (found,) = predict(str(run / "export"), [str(run)], 1, 1)["predictions"]
    assert found["image"] == str(run / "a.png")


@pytest.mark.parametrize(
    "name", ["a[b]c", pytest.param("a\\c", marks=pytest.mark.slow)]
)
def test_what_tensorflow_does_not_find_again_is_refused_at_once(name, config, tmp_path):
    """And where the folder was renamed, no word of deleting it."""
    with pytest.raises(UserError, match=r"with \[ or \\ in it"):
        train(config, str(tmp_path / name))
    assert contents(tmp_path) == {}
    run, export_dir = tmp_path / "run", tmp_path / "export"
    train(config, str(run))
    with pytest.raises(UserError, match="--export_dir"):
        export(config, str(run), str(tmp_path / name))
    export(config, str(run), str(tmp_path / name), formats=["keras"])
    export(config, str(run), str(export_dir))
    there = tmp_path / "folder" / name
    export_dir.rename(tmp_path / f"export{name}")
    there.parent.mkdir()
    run.rename(there)
    other = config.replace(init_from=str(there))
    for call in (
        lambda: evaluate_run(config, str(there)),
        lambda: AlexNet("paper", 3, width=0.125, input_size=64, weights=str(there)),
        lambda: checkpoints.find(there),
        lambda: checkpoints.read(str(there / "ckpt-1")),
        lambda: predict(str(tmp_path / f"export{name}"), ["x"], 1, 1),
        lambda: train(other, str(tmp_path / "new")),
    ):
        with pytest.raises(UserError, match=r"rename the folder$") as caught:
            call()
        assert "--clean" not in str(caught.value)
    assert not (tmp_path / "new").exists()


def test_a_checkpoint_of_another_program_is_not_called_damaged(config, tmp_path):
    """TensorFlow's CheckpointManager calls its own ckpt-1, too."""
    theirs = tf.train.Checkpoint(net=tf.Module(), kernel=tf.Variable([1.0]))
    tf.train.CheckpointManager(theirs, str(tmp_path), 3).save()
    before = contents(tmp_path)
    with pytest.raises(UserError, match="but not the settings") as caught:
        train(config, str(tmp_path))
    assert "--clean" not in str(caught.value)
    assert {*contents(tmp_path)} - {*before} == {pathlib.Path(".lock")}


def test_a_pattern_in_a_folder_of_odd_name(tmp_path):
    folder = tmp_path / "photos [1]"
    folder.mkdir()
    (folder / "a.jpg").touch()
    assert find_images([f"{folder}/*.jpg"]) == [folder / "a.jpg"]


# === The programs ===

PROGRAMS = {
    **{
        f"alexnet-{name}": ["-m", f"official.alexnet.{name}"]
        for name in ("train", "eval", "export", "predict")
    },
    **{
        path.name: [str(path)]
        for folder in ("tools", "examples/cifar10")
        for path in sorted((ROOT / folder).glob("*.py"))
        if "cli.run(" in path.read_text("utf-8")
    },
}


def call(program: str, *arguments: str, cwd) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *PROGRAMS[program], *arguments],
        cwd=cwd,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def check_refusals(program: str, most: int | None, folder) -> None:
    done = call(program, "--help", cwd=folder)
    assert done.returncode == 0, done.stderr
    shown = done.stdout
    entries = shown.split("\n  --")[1:]
    assert all(entry.count("Default:") <= 1 for entry in entries)
    texts = re.findall(r"\n  --(\w+)=(?:TEXT|A,B,\.\.\.)\n", shown)
    required = [
        f"--{name}=x"
        for name in texts
        if re.search(rf"\n  --{name}=.*(\n      .*)*?\s+Required\.", shown)
    ]
    for name in [name for name in texts if name != "worker_hosts"][:most]:
        done = call(program, *required, f"--{name}={BUCKET}", cwd=folder)
        assert done.returncode == 2, done.stderr
        assert f"--{name}={BUCKET} is an address" in done.stderr
        assert len(done.stderr.splitlines()) == 1
        assert contents(folder) == {}


@pytest.mark.parametrize("program", ["alexnet-predict", "prepare_imagenet.py"])
def test_a_program_refuses_an_address_before_it_begins(program, tmp_path):
    check_refusals(program, 1, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_every_program_refuses_an_address_in_every_flag(program, tmp_path):
    check_refusals(program, None, tmp_path)


@pytest.mark.parametrize(
    ("binary", "arguments", "word"),
    [
        ("train", ["--model_dir=a[b]c", "--use_synthetic_data"], "rename the folder"),
        ("eval", ["--model_dir=x,a[b]"], "rename the folder"),
        ("export", ["--model_dir=x", "--export_dir=a\\b"], "rename the folder"),
        ("predict", ["--images=x", "--export_dir=a[b]"], "rename the folder"),
        ("eval", ["--model_dir=~nobody_here/x"], "no such user"),
        ("train", ["--model_dir=" + "n" * 256, "--use_synthetic_data"], "a shorter"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_binary_refuses_a_path_in_one_line(binary, arguments, word, tmp_path):
    done = test_cli.call(binary, *arguments, cwd=tmp_path)
    check_mistake(done, binary, word)
    assert contents(tmp_path) == {}


def test_a_folder_that_is_gone_is_one_line(tmp_path):
    file = tmp_path / "gone" / "features.npz"
    code = (
        f"from official.alexnet import cli; cli.run('x', lambda: open({str(file)!r}))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert result.returncode == 2
    line = f"x: {file}: No such file or directory; name another place"
    assert result.stderr.splitlines() == [line]
