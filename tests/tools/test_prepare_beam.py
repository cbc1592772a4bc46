"""Shards written by Apache Beam; on this machine, by several of its processes."""

import json

import pytest
from imagenet_inputs import ROOT, files_of, prepare_here, run_tool

from official.alexnet.preparation import shards

BEAM = ROOT / "tools" / "prepare_imagenet_beam.py"
PROCESSES = (
    *("--", "--runner=DirectRunner", "--direct_running_mode=multi_processing"),
    "--direct_num_workers=2",
)


def run_beam(tree, output, *flags):
    shards_ = ("--train_shards=5", "--validation_shards=2")
    arguments = (f"--input_dir={tree}", f"--output_dir={output}", *shards_, *flags)
    return run_tool(BEAM, *arguments)


def test_an_engine_is_given_the_list_of_shards(tree, tmp_path):
    calls = []

    def engine(todo):
        calls.append([job.file for job, _ in todo])
        for job, known in reversed(todo):
            yield job, shards.write_shard(job, known)

    prepare_here(tree, tmp_path / "ours", shards=(3, 2))
    prepare_here(tree, tmp_path / "theirs", shards=(3, 2), engine=engine)
    assert files_of(tmp_path / "theirs") == files_of(tmp_path / "ours")
    # Once all is there, it is not bothered.
    prepare_here(tree, tmp_path / "theirs", shards=(3, 2), engine=engine)
    assert [len(files) for files in calls] == [5]


@pytest.mark.parametrize("flag", ["--task=0/3", "--num_workers=2"])
def test_what_is_beams_business_is_no_flag(tree, tmp_path, flag):
    code, _, stderr = run_beam(tree, tmp_path / "out", flag)
    assert code == 2
    assert stderr.startswith(f"prepare_imagenet_beam: unknown flag {flag[:6]}")


@pytest.mark.slow
def test_two_processes_of_beam_give_the_same_bits(tree, tmp_path):
    pytest.importorskip("apache_beam")
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    prepare_here(tree, ours, shards=(5, 2))
    # A set that was begun by other means.
    prepare_here(tree, theirs, shards=(5, 2), task=(1, 3))
    code, stdout, stderr = run_beam(tree, theirs, *PROCESSES)
    assert code == 0, stderr
    assert json.loads(stdout.splitlines()[-1])["num_train"] == 12
    assert files_of(theirs) == files_of(ours)


@pytest.mark.slow
def test_what_stops_a_worker_of_beam_is_one_clear_line(tree, tmp_path):
    pytest.importorskip("apache_beam")
    prepare_here(tree, tmp_path, shards=(5, 2))
    shard = tmp_path / "train-00003-of-00005"
    shard.unlink()
    manifest = tmp_path / "manifest.json"
    contents = json.loads(manifest.read_text())
    contents["splits"]["train"]["shards"][3]["sha256"] = "0" * 64
    manifest.write_text(json.dumps(contents))
    code, _, stderr = run_beam(tree, tmp_path, *PROCESSES)
    assert code == 2
    last = stderr.strip().splitlines()[-1]
    assert last.startswith(f"prepare_imagenet_beam: {shard} was lost, and comes out")
    assert not shard.exists()
