"""The binaries as processes: what they print, their status, what they leave alone."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import pytest
from PIL import Image

from official.alexnet import __version__

NET = [
    "--width=0.125",
    "--input_size=64",
    "--num_classes=3",
    "--init=unit_variance",
    "--input_scale=unit_variance",
    "--batch_size=8",
    "--schedule=constant",
    "--train_steps=2",
]
ROOT = pathlib.Path(__file__).parents[1]
BINARIES = ("train", "eval", "export", "predict")


def call(binary, *arguments, cwd, path=()):
    """Runs a binary; the folders of `path` come before the checkout."""
    return subprocess.run(
        [sys.executable, "-m", f"official.alexnet.{binary}", *map(str, arguments)],
        cwd=cwd,
        env=environment(*path),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def environment(*path):
    paths = os.pathsep.join(map(str, [*path, ROOT]))
    return os.environ | {"PYTHONPATH": paths, "COLUMNS": "80"}


def contents(folder):
    return {
        path.relative_to(folder): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def check_mistake(done, name, word):
    """One line says what to do, after at most the log's lines, which have times."""
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    *log, line = done.stderr.splitlines()
    assert line.startswith(f"alexnet-{name}: ")
    assert word in line
    assert all(entry[2] == entry[5] == ":" for entry in log), done.stderr
    assert done.stdout == ""


@pytest.fixture(scope="module")
def no_tensorflow(tmp_path_factory):
    """A folder whose tensorflow and keras cannot be imported."""
    folder = tmp_path_factory.mktemp("path")
    for name in ("tensorflow", "keras", "tensorflow_datasets"):
        (folder / f"{name}.py").write_text("raise RuntimeError('started')")
    return folder


@pytest.fixture(scope="module")
def trained(records_dir, tmp_path_factory):
    """A folder with `run` (two columns) and `export`, and what the binaries said."""
    folder = tmp_path_factory.mktemp("trained")
    train = call(
        "train",
        *NET,
        f"--data_dir={records_dir}",
        "--model_dir=run",
        "--num_columns=2",
        "--logical_cpus=2",
        cwd=folder,
    )
    assert train.returncode == 0, train.stderr
    export = call("export", "--model_dir=run", "--export_dir=export", cwd=folder)
    assert export.returncode == 0, export.stderr
    Image.new("RGB", (70, 50), "red").save(folder / "red.png")
    return folder, train, export


def test_train_and_export_end_with_their_results(trained):
    folder, train, export = trained
    results = json.loads(train.stdout.splitlines()[-1])
    assert results["step"] == 2
    assert results["model_dir"] == "run"
    assert {"loss", "accuracy", "eval_loss", "eval_accuracy"} <= set(results)
    assert "column 0 on CPU:0; column 1 on CPU:1" in train.stderr
    assert "step 2/2" in train.stderr
    assert json.loads(export.stdout.splitlines()[-1]) == {
        "export_dir": "export",
        "checkpoint": "run/ckpt-2",
        "step": 2,
        "files": {"saved_model": "export/saved_model", "keras": "export/alexnet.keras"},
    }
    assert (folder / "export/saved_model/saved_model.pb").is_file()


def test_eval_scores_a_run_of_two_columns_on_one_device(trained):
    folder, train, _ = trained
    done = call("eval", "--model_dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout.splitlines()[-1])
    assert results["num_examples"] == 13
    assert results["step"] == 2
    assert results["checkpoint"] == "run/ckpt-2"
    trained_results = json.loads(train.stdout.splitlines()[-1])
    assert results["accuracy"] == trained_results["eval_accuracy"]
    assert results["loss"] == pytest.approx(trained_results["eval_loss"], rel=1e-4)


def test_predict_labels_images(trained):
    folder, _, _ = trained
    done = call("predict", "--export_dir=export", "--images=red.png", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    *_, last = done.stdout.splitlines()
    (prediction,) = json.loads(last)["predictions"]
    assert prediction["image"] == "red.png"
    labels = {best["label"] for best in prediction["labels"]}
    assert labels == {f"n0000000{i} class {i}" for i in range(3)}
    assert sum(best["probability"] for best in prediction["labels"]) == pytest.approx(1)


def slow(*case):
    """A case of a kind that is among the quick ones, too."""
    return pytest.param(*case, marks=pytest.mark.slow)


RUN = "--model_dir=run"
TRAIN = ["--model_dir=new", "--data_dir=anywhere"]
EXPORT = ["--model_dir=folder", "--export_dir=new"]
PREDICT = ["--export_dir=x", "--images=y"]
EARLY_MISTAKES = [
    ("train", [*TRAIN, "--lerning_rate=1"], "did you mean --learning_rate?"),
    ("train", [*TRAIN, "--zzzz"], "unknown flag --zzzz; see alexnet-train --help"),
    ("train", [*TRAIN, "--clean", "false"], "'false': settings are given as --flag="),
    ("train", [*TRAIN, "--clean=maybe"], "--clean=maybe: neither true nor false"),
    ("train", [*TRAIN, "--schedule=cosine"], "<plateau|dexp|caffe|constant>"),
    ("train", [*TRAIN, "--variant=papr"], "'papr': --variant takes paper, orig"),
    ("train", [*TRAIN, "--batch_size=many"], "--batch_size=many: not a whole number"),
    ("train", [*TRAIN, "--learning_rate=big"], "--learning_rate=big: not a number"),
    ("train", [*TRAIN, "--learning_rate=nan"], "learning_rate should be a finite"),
    ("train", [*TRAIN, "--profile_steps=1,x"], "should be of type int, not 'x'"),
    ("train", [*TRAIN, "--num_classes=0"], "--num_classes should be more than 0"),
    ("train", [*TRAIN, "--batch_size=0"], "--batch_size should be more than 0"),
    ("train", ["--data_dir=x"], "--model_dir is required"),
    ("train", ["--data_dir=x", "--model_dir="], "--model_dir is empty"),
    ("train", ["--model_dir=new"], "give --data_dir, --tfds_name or"),
    ("train", ["--model_dir=file", "--data_dir=x"], "name a directory"),
    ("train", [*TRAIN, "--config_file=nope.yaml"], "nope.yaml: no such file"),
    ("train", [*TRAIN, "--params_override=train.seed=1"], "is gone: give the flag of"),
    ("train", [*TRAIN, "--norun_eagerly"], "is gone: call tf.config.run_functions_"),
    ("train", [*TRAIN, "--max_bad_records=3"], "is gone: training stops at a bad rec"),
    ("train", [*TRAIN, "--freeze_layers=conv1"], "is gone: give --rates='0 conv1 0"),
    ("train", [*TRAIN, "--schedule=steps"], "is gone: give --schedule=constant"),
    ("train", [*TRAIN, "--enable_xla", "--num_columns=2"], "--num_columns=1"),
    ("train", [*TRAIN, "--rates=conv1"], "'conv1' should read EPOCH WHAT RATE"),
    ("train", [*TRAIN, "--init_layers=conv1"], "--init_layers needs --init_from"),
    ("eval", [], "--model_dir is required"),
    ("eval", ["--model_dir=folder"], "name the directory of a run"),
    ("eval", ["--model_dir=folder", "--learning_rate=1"], "--learning_rate"),
    ("eval", ["--model_dir=a,b", "--ensemble_weights=1"], "each of the 2 run(s)"),
    ("eval", [RUN, "--predictions_file=x.txt"], "x.txt: name a file in .csv"),
    ("eval", ["--model_dir=a,b", "--width=1"], "--width cannot be given with several"),
    ("export", ["--model_dir=folder"], "--export_dir is required"),
    ("export", ["--model_dir=folder", "--export_dir=new"], "the directory of a run"),
    ("export", [*EXPORT, "--formats=keras,onx"], "'onx'; did you mean onnx?"),
    ("export", [*EXPORT, "--formats=caffe"], "saved_model, keras, onnx, litert"),
    ("export", [*EXPORT, "--formats="], "--formats is empty"),
    ("export", [*EXPORT, "--litert_quantization=int8"], "<none|dynamic_range>"),
    ("export", [*EXPORT, "--litert_quantization=dynamic_range"], "needs litert among"),
    ("predict", ["--images=x.jpg"], "--export_dir is required"),
    ("predict", ["--export_dir=x", "--images="], "--images is empty"),
    ("predict", ["--export_dir=x", "--images=y", "--top=0"], "--top=0"),
    ("predict", ["--export_dir=x", "y.jpg", "--images=y"], "stray argument 'y.jpg'"),
    ("predict", [*PREDICT, "--output_file=a.txt"], "a.txt: name a file in .jsonl or"),
    ("predict", [*PREDICT, "--output_file=old.csv"], "old.csv is there already"),
    ("predict", [*PREDICT, "--output_file=no/a.csv"], "no such directory as no"),
    ("predict", [*PREDICT, "--output_file=a.npz"], "a.npz needs --features, such as"),
    ("predict", [*PREDICT, "--features=fc7"], "--features needs --output_file, such"),
    ("export", [*EXPORT, "--features=fc6", "--formats=keras"], "fc6 needs saved_model"),
]


@pytest.mark.parametrize(("binary", "arguments", "word"), EARLY_MISTAKES, ids=str)
def test_a_mistake_in_the_flags_stops_it_before_tensorflow_starts(
    binary, arguments, word, tmp_path, no_tensorflow
):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("mine")
    (tmp_path / "old.csv").write_text("mine")
    before = contents(tmp_path)
    done = call(binary, *arguments, cwd=tmp_path, path=[no_tensorflow])
    check_mistake(done, binary, word)
    assert len(done.stderr.splitlines()) == 1
    assert contents(tmp_path) == before


@pytest.mark.parametrize("binary", BINARIES)
def test_a_name_that_tensorflow_cannot_take_is_refused(binary, tmp_path, no_tensorflow):
    flag = "export_dir" if binary == "predict" else "model_dir"
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / name).mkdir()
    arguments = {
        "train": ["--data_dir=x"],
        "eval": [],
        "export": ["--export_dir=x"],
        "predict": ["--images=x"],
    }[binary]
    done = call(
        binary, f"--{flag}={name}", *arguments, cwd=tmp_path, path=[no_tensorflow]
    )
    check_mistake(done, binary, r"caf\xe9: TensorFlow takes names in UTF-8 only")
    assert contents(tmp_path) == {pathlib.Path(name): None}


@pytest.fixture
def data(records_dir, tmp_path):
    """Folders of records, each with one mistake but `good`."""
    folder = tmp_path / "data"
    (folder / "empty").mkdir(parents=True)
    for name in ("good", "cut", "unnamed"):
        shutil.copytree(records_dir, folder / name)
    shard = folder / "cut" / "train-00001-of-00002"
    shard.write_bytes(shard.read_bytes()[:-100])
    (folder / "unnamed" / "labels.txt").unlink()
    return folder


@pytest.mark.parametrize(
    ("folder", "arguments", "word"),
    [
        ("missing", [], "missing: no such directory; name the one"),
        slow("empty", [], "tools/prepare_imagenet.py or name another --data_dir"),
        ("cut", [], "train-00001-of-00002: cut short"),
        slow("good", ["--num_classes=2"], "pass --num_classes=3"),
        slow("unnamed", ["--num_classes=2"], "label 3, outside 1..2"),
        ("good", ["--num_classes=4"], "names 3 classes, the net has 4"),
        slow("good", ["--num_columns=2"], "give --logical_cpus=2, or --num_columns=1"),
        slow("good", ["--num_gpus=99"], "use fewer, or --logical_cpus=N"),
    ],
    ids=str,
)
def test_train_refuses_data_and_devices_before_it_writes(
    folder, arguments, word, data, tmp_path
):
    before = contents(tmp_path)
    done = call(
        "train",
        *NET,
        f"--data_dir={data / folder}",
        "--model_dir=run",
        *arguments,
        cwd=tmp_path,
    )
    check_mistake(done, "train", word)
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    ("binary", "arguments", "word"),
    [
        slow("train", [*NET, "--data_dir=DATA", RUN, "--width=1"], "--width"),
        ("eval", [RUN, "--variant=one_gpu"], "--variant"),
        slow("eval", [RUN, "--width=0.5"], "--width"),
        (
            *("eval", [RUN, "--input_scale=torchvision"]),
            "(--input_scale: unit_variance -> torchvision): leave these out",
        ),
        slow("export", [RUN, "--export_dir=x", "--input_scale=none"], "--input_scale"),
        slow("eval", [RUN, "--checkpoint_path=run/ckpt-9"], "run/ckpt-9"),
        slow("export", [RUN, "--export_dir=export"], "name a new directory"),
        slow("export", [RUN, "--export_dir=x", "--num_classes=4"], "classes"),
        slow("predict", ["--export_dir=export", "--images=blue.png"], "no such image"),
        ("predict", ["--export_dir=export", "--images=broken.jpg"], "broken.jpg is"),
        slow("predict", ["--export_dir=run", "--images=red.png"], "alexnet-export wr"),
    ],
    ids=str,
)
def test_a_run_and_an_export_survive_mistakes(
    binary, arguments, word, trained, records_dir
):
    folder, _, _ = trained
    (folder / "broken.jpg").write_text("not an image")
    before = contents(folder)
    arguments = [argument.replace("DATA", str(records_dir)) for argument in arguments]
    check_mistake(call(binary, *arguments, cwd=folder), binary, word)
    assert contents(folder) == before


# The settings that only training reads are not flags of other binaries.
FLAGS = {
    "train": "model_dir clean config_file rates variant seed dtype augment",
    "eval": "model_dir checkpoint_path config_file variant eval_crops num_gpus",
    "export": "model_dir export_dir checkpoint_path formats litert_quantization width",
    "predict": "export_dir images top batch_size output_file",
}


@pytest.mark.parametrize(
    ("binary", "flag"), [*((binary, "--help") for binary in BINARIES), ("train", "-h")]
)
def test_help_shows_the_flags_of_the_command_alone(
    binary, flag, tmp_path, no_tensorflow
):
    done = call(binary, flag, cwd=tmp_path, path=[no_tensorflow])
    assert done.returncode == 0
    assert done.stderr == ""
    assert f"\n  alexnet-{binary} --" in done.stdout, "an example"
    for name in FLAGS[binary].split():
        assert f"  --{name}=" in done.stdout or f"  --[no]{name}\n" in done.stdout
    for foreign in ("stderrthreshold", "run_with_pdb", "tfds_debug_list_dir"):
        assert foreign not in done.stdout
    assert ("--momentum" in done.stdout) == (binary == "train")
    _, _, flags = done.stdout.partition("\nFlags:\n")
    entries = flags.rpartition("\n\n")[0].split("\n  --")[1:]
    assert entries
    for entry in entries:
        assert "Default:" in entry or "Required." in entry, entry
    assert max(map(len, done.stdout.splitlines())) <= 88


@pytest.mark.parametrize("binary", BINARIES)
def test_the_version_is_one_line(binary, tmp_path, no_tensorflow):
    done = call(binary, "--version", cwd=tmp_path, path=[no_tensorflow])
    assert done.stdout == f"alexnet-{binary} {__version__}\n"
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("binary", BINARIES)
def test_the_console_script_says_the_same(binary, tmp_path, no_tensorflow):
    script = tmp_path / f"alexnet-{binary}"
    script.write_text(
        f"import sys\nfrom official.alexnet.{binary} import run\nsys.exit(run())\n"
    )
    for argument in ("--help", "--no_such_flag"):
        done = subprocess.run(
            [sys.executable, str(script), argument],
            cwd=tmp_path,
            env=environment(no_tensorflow),
            capture_output=True,
            text=True,
            check=False,
        )
        module = call(binary, argument, cwd=tmp_path, path=[no_tensorflow])
        assert done.stdout == module.stdout
        assert done.stderr == module.stderr
        assert done.returncode == module.returncode


@pytest.mark.parametrize(
    ("stream", "status", "said"),
    [
        ("closed pipe", 128 + signal.SIGPIPE, ""),
        ("/dev/full", 2, "x: standard output: No space left on device; free some"),
    ],
)
def test_results_that_nobody_takes(stream, status, said):
    """`| head` has seen enough, or the disk is full: no traceback."""
    code = "from official.alexnet import cli; cli.run('x', lambda: {'a': 1})"
    if stream == "closed pipe":
        reader, writer = os.pipe()
        os.close(reader)
    else:
        writer = os.open(stream, os.O_WRONLY)
    done = subprocess.run(
        [sys.executable, "-c", code],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert done.returncode == status, done.stderr
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == (1 if said else 0)
