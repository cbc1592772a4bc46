"""The benchmark: small runs of each suite, and the program."""

import dataclasses
import json
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf

TOOLS = pathlib.Path(__file__).parents[2] / "tools"
sys.path.insert(0, str(TOOLS))

import benchmark  # noqa: E402
from benchmarking import layers, networks, preparation  # noqa: E402
from benchmarking import report as report_lib  # noqa: E402
from benchmarking.child import Child  # noqa: E402
from benchmarking.settings import PEERS, Settings  # noqa: E402

from official.alexnet.distribution.capabilities import grouped_kernels_run_here  # noqa: E402
from official.alexnet.errors import UserError  # noqa: E402
from official.alexnet.preparation import conversion  # noqa: E402
from official.alexnet.preparation.sources import Entry  # noqa: E402

SMALL = Settings(batch_size=4, rounds=2, warmup=1, threads=2, small=True)


def measure(suite, tmp_path, **changes):
    """Rows by name, facts, and words of the bars that could be checked."""
    data = benchmark.run_suite(suite, dataclasses.replace(SMALL, **changes), tmp_path)
    rows = {f"{row['name']} {row['dtype']}".strip(): row for row in data["rows"]}
    for row in rows.values():
        assert len(row["samples_s"]) == 2
        assert min(row["samples_s"]) > 0
    bars = [bar["bar"] for bar in data["bars"] if bar["measured"] is not None]
    return rows, data["facts"], bars


@pytest.mark.slow
def test_small_train_step(tmp_path):
    if not grouped_kernels_run_here(tf.bfloat16):
        pytest.skip("TensorFlow has no grouped kernels in bfloat16 for this CPU")
    rows, facts, bars = measure("train_step", tmp_path, dtypes=("bf16",))
    assert list(rows) == [
        "ours fp32",
        "ours bf16",
        "limit bf16",
        "ours, two columns bf16",
        "ours, 10 steps a call bf16",
    ]
    assert rows["ours, 10 steps a call bf16"]["images_per_sample"] == 40
    assert rows["limit bf16"]["note"].startswith("23 convolutions")
    before, peak, sent = (fact["value"] for fact in facts)
    assert sent > 0
    # A process with TensorFlow holds more than 100 MB.
    assert 100 < before <= peak
    assert bars == ["ours bf16 >= 1.4 x ours fp32, images/s"]


@pytest.mark.slow
def test_small_inference(tmp_path):
    rows, _, bars = measure("inference", tmp_path, dtypes=("fp32",), peers=("keras",))
    assert rows.keys() == {
        "ours fp32",
        "limit fp32",
        "ours, from pixels fp32",
        "SavedModel fp32",
        "SavedModel, not portable fp32",
        "plain Keras fp32",
    }
    assert not [row for row in rows.values() if "differs" in row["note"]]
    assert len(bars) == 3


@pytest.mark.slow
def test_small_lrn(tmp_path):
    rows, _, bars = measure("lrn", tmp_path)
    assert len(rows) == 8
    assert len(bars) == 4


@pytest.mark.slow
def test_small_normalization(tmp_path):
    rows, _, bars = measure("normalization", tmp_path, dtypes=("fp32",))
    assert list(rows) == ["lrn fp32", "none fp32", "batch_norm fp32"]
    assert not bars


def test_lrn_at_the_published_shapes():
    net = networks.net_of(Settings())
    assert layers.lrn_shapes(net, 128) == {
        "conv1": (128, 55, 55, 96),
        "conv2": (128, 27, 27, 256),
    }


def test_small_input(records_dir, tmp_path):
    rows, _, _ = measure("input", tmp_path, data_dir=str(records_dir))
    assert rows.keys() == {"ours"}
    assert rows["ours"]["images_per_sample"] == 16


@pytest.mark.slow
def test_small_preparation(tmp_path):
    rows, facts, bars = measure("preparation", tmp_path)
    assert rows.keys() == {"ours", "plain converter"}
    assert {row["images_per_sample"] for row in rows.values()} == {64}
    # What is converted has ImageNet's size, and is converted by the same filters.
    assert 80 < facts[0]["value"] < 140
    assert bars == ["ours >= 0.7 x plain converter, images/s"]
    pictures = sorted((tmp_path / "originals").glob("*.jpg"))
    entries = [Entry(p.name, str(p), 0, p.stat().st_size, 0) for p in pictures]
    preparation._convert(entries[:1], tmp_path / "plain")
    stored = conversion.convert_image(pictures[0].read_bytes())
    assert (tmp_path / "plain").read_bytes() == stored.jpeg


def test_samples_of_the_input_are_of_over_2000_images():
    assert Settings(batch_size=128).batches * 128 >= 2000
    assert Settings(batch_size=100).batches * 100 >= 2000


@pytest.mark.slow
def test_small_end_to_end(records_dir, tmp_path):
    rows, _, bars = measure(
        "end_to_end", tmp_path, data_dir=str(records_dir), dtypes=("fp32",)
    )
    assert rows.keys() == {"synthetic data fp32", "records fp32"}
    assert len(bars) == 1


@pytest.mark.slow
def test_small_scaling(records_dir, tmp_path):
    rows, facts, bars = measure("scaling", tmp_path, data_dir=str(records_dir))
    assert [row["note"] for row in rows.values()] == ["120 records", "1,032 records"]
    assert [fact["unit"] for fact in facts] == ["s", "MB"] * 2
    assert all(fact["value"] > 0 for fact in facts)
    assert len(bars) == 3


# === The program ===


def run_program(*arguments):
    return subprocess.run(
        [sys.executable, str(TOOLS / "benchmark.py"), *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(TOOLS.parent), "PATH": "/usr/bin:/bin"},
        check=False,
    )


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (
            "--suites=lrn,speed",
            "--suites: there is no 'speed'; known: train_step, inference,",
        ),
        ("--peers=jax", "--peers: there is no 'jax'; known: keras, torch,"),
        ("--dtype=fp8", "--dtype: there is no 'fp8'; "),
        ("--threads=4096", "--threads=4096: there are "),
        ("--json=/no/such/place.json", "--json=/no/such/place.json: there is no such"),
        ("--against=/", "--against=/: there is no official.alexnet in it"),
        ("--against=/ --suites=lrn", "there is no 'lrn'; known: train_step, inference"),
        ("--rounds=0", "--rounds=0: 0 is not a positive integer"),
    ],
)
def test_a_mistake_is_one_line(flag, words):
    done = run_program(*flag.split())
    assert done.returncode == 2
    assert done.stderr.startswith("benchmark.py: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_two_checkouts_take_turns(tmp_path):
    """Both are this one: the child takes `official` from where it is told."""
    other = tmp_path / "other"
    (other / "official").mkdir(parents=True)
    for name in ("__init__.py", "alexnet"):
        (other / "official" / name).symlink_to(TOOLS.parent / "official" / name)
    path = tmp_path / "report.json"
    done = run_program(
        *(f"--against={other}", "--small", "--rounds=2", "--warmup=0"),
        *("--dtype=fp32", f"--json={path}"),
    )
    assert done.returncode == 0, done.stderr
    suites = json.loads(path.read_text())["suites"]
    assert list(suites) == ["train_step", "inference"]
    for suite in suites.values():
        reference, own = suite["rows"]
        assert (reference["ratio"], reference["name"]) == (1.0, "other checkout")
        pairs = zip(own["samples_s"], reference["samples_s"], strict=True)
        ratios = [mine / theirs for mine, theirs in pairs]
        assert own["ratio"] == pytest.approx(sum(ratios) / 2)
        assert own["ratio_spread"] > 0


def test_a_child_imports_the_checkout_it_is_told(tmp_path):
    package = tmp_path / "official" / "alexnet"
    package.mkdir(parents=True)
    (package.parent / "__init__.py").touch()
    (package / "errors.py").write_text("UserError = Exception\n")
    (package / "__init__.py").write_text("raise SystemExit('the other one')\n")
    with (
        Child("against:inference", SMALL, "fp32", checkout=str(tmp_path)) as child,
        pytest.raises(UserError, match="against:inference ended"),
    ):
        child.ask()


@pytest.mark.slow
def test_every_suite_with_every_peer(tmp_path):
    for package in {package for _, needs in PEERS.values() for package in needs}:
        pytest.importorskip(package)
    path = tmp_path / "report.json"
    done = run_program("--small", "--rounds=2", "--warmup=1", f"--json={path}")
    assert done.returncode == 0, done.stderr
    report = json.loads(path.read_text())
    assert report["versions"]["torch"]
    assert report["settings"]["small"] is True
    assert report["cpu"]
    assert report["date"]
    missing = {
        bar["bar"]
        for suite in report["suites"].values()
        for bar in suite["bars"]
        if bar["met"] is None
    }
    # OpenVINO chooses bfloat16 only where the processor has it.
    assert missing <= {"ours bf16 >= 1 x OpenVINO bf16, images/s"}
    rows = [row for suite in report["suites"].values() for row in suite["rows"]]
    assert not [row for row in rows if "differs" in row["note"]]
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["bars_met"] + last["bars_missed"] + len(missing) == len(
        [bar for bar in report_lib.BARS if bar[0] != "against"]
    )
