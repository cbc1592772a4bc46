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

from benchmarking import (  # noqa: E402
    bars,
    end_to_end,
    inference,
    input_pipeline,
    lrn,
    normalization,
    peers,
    scaling,
    train_step,
)
from benchmarking.settings import Settings  # noqa: E402

from official.alexnet.distribution.capabilities import (  # noqa: E402
    grouped_kernels_run_here,
)

SMALL = Settings(batch_size=4, rounds=2, warmup=1, threads=2, small=True)


def measure(suite, tmp_path, **changes):
    settings = dataclasses.replace(SMALL, **changes)
    rows, facts = suite.measure(settings, tmp_path)
    for row in rows:
        assert len(row.samples) == (min(2, settings.rounds))
        assert min(row.samples) > 0
    return {f"{row.name} {row.dtype}".strip(): row for row in rows}, facts


def measured(suite, rows, facts):
    """Words of the bars that could be checked."""
    checks = bars.check(suite, list(rows.values()), facts)
    return [check.bar.words for check in checks if check.value is not None]


@pytest.mark.slow
def test_small_train_step(tmp_path):
    if not grouped_kernels_run_here(tf.bfloat16):
        pytest.skip("TensorFlow has no grouped kernels in bfloat16 for this CPU")
    rows, facts = measure(train_step, tmp_path, dtypes=("bf16",))
    assert list(rows) == [
        "ours fp32",
        "ours bf16",
        "limit bf16",
        "ours, two columns bf16",
        "ours, 10 steps a call bf16",
    ]
    assert rows["ours, 10 steps a call bf16"].images == 40
    assert len(rows["limit bf16"].parts) == 23
    before, peak, sent = (fact.value for fact in facts)
    assert sent > 0
    # A process with TensorFlow holds more than 100 MB.
    assert 100 < before <= peak
    assert measured("train_step", rows, facts) == [
        "ours bf16 >= 1.4 x ours fp32, images/s"
    ]


@pytest.mark.slow
def test_small_inference(tmp_path):
    rows, facts = measure(inference, tmp_path, dtypes=("fp32",), peers=("keras",))
    assert rows.keys() == {
        "ours fp32",
        "limit fp32",
        "ours, from pixels fp32",
        "SavedModel fp32",
        "SavedModel, not portable fp32",
        "plain Keras fp32",
    }
    assert not [row for row in rows.values() if "differs" in row.note]
    assert len(measured("inference", rows, facts)) == 3


def test_small_lrn(tmp_path):
    rows, facts = measure(lrn, tmp_path)
    assert len(rows) == 8
    assert len(measured("lrn", rows, facts)) == 4


@pytest.mark.slow
def test_small_normalization(tmp_path):
    rows, facts = measure(normalization, tmp_path, dtypes=("fp32",))
    assert list(rows) == ["lrn fp32", "none fp32", "batch_norm fp32"]
    assert not measured("normalization", rows, facts)


def test_lrn_at_the_published_shapes():
    assert lrn.shapes(Settings(batch_size=128)) == {
        "conv1": (128, 55, 55, 96),
        "conv2": (128, 27, 27, 256),
    }


def test_small_input(records_dir, tmp_path):
    rows, _ = measure(input_pipeline, tmp_path, data_dir=str(records_dir))
    assert rows.keys() == {"ours"}
    assert rows["ours"].images == 16


def test_samples_of_the_input_are_of_over_2000_images():
    assert Settings(batch_size=128).batches * 128 >= 2000
    assert Settings(batch_size=100).batches * 100 >= 2000


@pytest.mark.slow
def test_small_end_to_end(records_dir, tmp_path):
    rows, facts = measure(
        end_to_end, tmp_path, data_dir=str(records_dir), dtypes=("fp32",)
    )
    assert rows.keys() == {"synthetic data fp32", "records fp32"}
    assert len(measured("end_to_end", rows, facts)) == 1


@pytest.mark.slow
def test_small_scaling(records_dir, tmp_path):
    rows, facts = measure(scaling, tmp_path, data_dir=str(records_dir))
    assert [row.note for row in rows.values()] == ["120 records", "1,032 records"]
    assert [fact.unit for fact in facts] == ["s", "s", "MB", "MB"]
    assert all(fact.value > 0 for fact in facts)
    assert len(measured("scaling", rows, facts)) == len(
        [bar for bar in bars.BARS if bar.suite == "scaling"]
    )


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
        ("--suites=lrn,speed", "--suites: 'speed' is none of train_step, inference,"),
        ("--peers=jax", "--peers: no peer is called 'jax'"),
        ("--dtype=fp8", "--dtype: 'fp8' is none of fp32, bf16"),
        ("--threads=4096", "--threads=4096: there are "),
        ("--json=/no/such/place.json", "--json=/no/such/place.json: there is no such"),
        ("--rounds=0", "--rounds=0: 0 is not a positive integer"),
    ],
)
def test_a_mistake_is_one_line(flag, words):
    done = run_program(flag)
    assert done.returncode == 2
    assert done.stderr.startswith("benchmark.py: ")
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.slow
def test_every_suite_with_every_peer(tmp_path):
    for package in {package for _, needs in peers.PEERS.values() for package in needs}:
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
    assert last["bars_met"] + last["bars_missed"] + len(missing) == len(bars.BARS)
