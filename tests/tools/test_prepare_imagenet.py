"""Preparing from the command line; stopped, killed and run again."""

import json
import os
import signal
import sys
import time

import numpy as np
import pytest
from imagenet_inputs import (
    SAMPLE_TOOL,
    TOOL,
    files_of,
    int_feature,
    prepare_here,
    read_examples,
    run_tool,
    start_tool,
    stored_image,
    text_feature,
    write_archives,
    write_tree,
)

from official.alexnet.errors import UserError
from official.alexnet.preparation import prepare, sources


@pytest.fixture(scope="module")
def sample(tmp_path_factory):
    """The sample archives, as a user makes them."""
    folder = tmp_path_factory.mktemp("sample")
    code, _, stderr = run_tool(
        SAMPLE_TOOL,
        f"--output_dir={folder}",
        "--train_per_class=8",
        "--validation_per_class=2",
    )
    assert code == 0, stderr
    return folder


@pytest.fixture(scope="module")
def prepared(sample, tmp_path_factory):
    """What an undisturbed run makes of them, in one process."""
    output = tmp_path_factory.mktemp("prepared") / "out"
    prepare_here(sample, output, shards=(16, 2))
    return output


def test_sample_archives_keep_class_and_words(sample, prepared):
    """By way of the devkit's meta.mat, whose ids are in another order."""
    labels = [line.split(" ", 1) for line in (sample / "synset_words.txt").open()]
    assert (prepared / "labels.txt").read_text() == "".join(map(" ".join, labels))
    stripes = {1: (0, 1), 2: (1, 0)}  # flag and fence: which way the pictures change
    seen = 0
    for features in read_examples(prepared, "validation"):
        label = int_feature(features, "image/class/label")
        assert text_feature(features, "image/class/synset") == labels[label - 1][0]
        if label in stripes:
            grey = np.asarray(stored_image(features).convert("L"), float)
            across, down = np.abs(np.diff(grey, axis=1)), np.abs(np.diff(grey, axis=0))
            assert (down.mean() > across.mean()) == (label == 1)
            seen += 1
    assert seen == 4


@pytest.mark.slow
def test_killed_and_run_again_ends_with_the_same_bits(sample, prepared, tmp_path):
    """SIGKILL after the first shard, then the same command; two workers, not one."""
    output = tmp_path / "out"
    arguments = [
        f"--input_dir={sample}",
        f"--output_dir={output}",
        "--train_shards=16",
        "--validation_shards=2",
        "--num_workers=2",
    ]
    process = start_tool(TOOL, *arguments, cwd=tmp_path, start_new_session=True)
    deadline = time.monotonic() + 60
    while not list(output.glob("train-*")) and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    finished = {p.name: p.stat().st_mtime_ns for p in output.glob("train-*")}
    assert 1 <= len(finished) < 16
    assert not (output / "manifest.json").exists()
    _wait_for_end_of_group(process.pid)

    code, stdout, stderr = run_tool(TOOL, *arguments, cwd=tmp_path)
    assert code == 0, stderr
    result = json.loads(stdout.splitlines()[-1])
    assert result["num_train"] == 80
    assert result["num_validation"] == 20
    assert result["num_classes"] == 10
    assert result["num_bad_images"] == 0
    assert result["output_dir"] == str(output)
    assert files_of(output) == files_of(prepared)
    kept = {name: (output / name).stat().st_mtime_ns for name in finished}
    # The last one may have been moved into place but not yet counted.
    assert sum(kept[name] != finished[name] for name in finished) <= 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]
    assert not list(output.rglob("*.tmp"))


def _wait_for_end_of_group(group):
    """The workers of a killed run end by themselves."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    os.killpg(group, signal.SIGKILL)
    raise AssertionError("workers outlived the run that started them")


class Killed(BaseException):
    """Ends a run in this process at a chosen place."""


@pytest.mark.parametrize(
    ("place", "call"),
    [
        ("official.alexnet.disk.move_into_place", 1),
        # Of the first shard, and of its notes.
        ("official.alexnet.disk.move_into_place", 2),
        ("official.alexnet.disk.move_into_place", 3),
        ("official.alexnet.disk.move_into_place", 6),
        ("official.alexnet.data.statistics.Statistics.save", 1),
        ("official.alexnet.disk.write_text", 1),
        ("official.alexnet.disk.write_text", 2),
    ],
)
def test_stopped_anywhere_it_goes_on(tmp_path, monkeypatch, place, call):
    tree = write_tree(tmp_path / "in")
    prepare_here(tree, tmp_path / "whole", shards=(3, 2))
    output = tmp_path / "out"
    calls = []

    def killed(*arguments):
        calls.append(arguments)
        if len(calls) == call:
            raise Killed
        return original(*arguments)

    with monkeypatch.context() as patch:
        module, _, name = place.rpartition(".")
        original = getattr(_resolve(module), name)
        patch.setattr(place, killed)
        with pytest.raises(Killed):
            prepare_here(tree, output, shards=(3, 2))
    assert not (output / "manifest.json").exists()
    prepare_here(tree, output, shards=(3, 2))
    assert files_of(output) == files_of(tmp_path / "whole")


def _resolve(dotted):
    module, _, name = dotted.rpartition(".")
    if dotted in sys.modules:
        return sys.modules[dotted]
    return getattr(_resolve(module), name)


def test_second_run_touches_nothing(tmp_path, monkeypatch):
    tree = write_tree(tmp_path / "in")
    first = prepare_here(tree, tmp_path / "out")
    files = [p for p in (tmp_path / "out").rglob("*") if p.is_file()]
    before = {p: p.stat().st_mtime_ns for p in files}
    monkeypatch.setattr(prepare, "write_shard", None)
    assert prepare_here(tree, tmp_path / "out") == first
    assert {p: p.stat().st_mtime_ns for p in files} == before


def test_a_lost_or_cut_shard_is_made_again(tmp_path):
    tree = write_tree(tmp_path / "in")
    output = tmp_path / "out"
    prepare_here(tree, output, shards=(4, 1))
    before = files_of(output)
    (output / "train-00001-of-00004").unlink()
    cut = output / "train-00002-of-00004"
    cut.write_bytes(cut.read_bytes()[:-10])
    (output / "statistics.npz").unlink()
    prepare_here(tree, output, shards=(4, 1))
    assert files_of(output) == before


def test_archives_are_looked_through_once(tmp_path, monkeypatch):
    archives = write_archives(tmp_path / "in")
    by_id = archives / "by_id.txt"
    prepare_here(archives, tmp_path / "out", synsets=by_id)
    with monkeypatch.context() as patch:
        patch.setattr(sources.tarfile, "open", None)
        prepare_here(archives, tmp_path / "out", synsets=by_id)
    # Another archive under the same name is another matter.
    write_archives(archives, per_class=5)
    with pytest.raises(UserError, match="other settings"):
        prepare_here(archives, tmp_path / "out", synsets=by_id)


@pytest.mark.parametrize("num_workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_it_shows_its_progress_and_nothing_of_tensorflow(tmp_path, num_workers):
    code, _, stderr = run_tool(
        TOOL,
        f"--input_dir={write_tree(tmp_path / 'in')}",
        f"--output_dir={tmp_path / 'out'}",
        *("--train_shards=2", "--validation_shards=1", f"--num_workers={num_workers}"),
    )
    assert code == 0, stderr
    lines = [line for line in stderr.splitlines() if line]
    assert lines and all("image/s]" in line for line in lines), stderr


def test_a_log_file_has_the_bar_as_lines(tmp_path, capsys):
    tree = write_tree(tmp_path / "in")
    (tree / "val" / "cat" / "bad.jpg").write_text("damaged")
    prepare_here(tree, tmp_path / "out", max_bad_images=1)
    log = capsys.readouterr().err
    assert "\r" not in log
    assert "bad image cat/bad.jpg: neither JPEG nor PNG\n" in log
    assert "| 17/17 [" in log.splitlines()[-1]
    assert "image/s]" in log.splitlines()[-1]


def test_mistakes_on_the_command_line_are_one_line(tmp_path):
    output = tmp_path / "out"
    for arguments, message in (
        ([f"--input_dir={tmp_path / 'missing'}"], "no folder"),
        (["stray"], "stray"),
        (["--no_such_flag=1"], "no_such_flag"),
    ):
        code, stdout, stderr = run_tool(TOOL, f"--output_dir={output}", *arguments)
        assert code not in (0, None)
        assert message in stderr
        assert len(stderr.strip().splitlines()) == 1, stderr
        assert stdout == ""
    assert not output.exists()


def test_help_tells_how(tmp_path):
    _, stdout, _ = run_tool(TOOL, "--help")
    for text in ("ILSVRC2012_devkit_t12.tar.gz", "--max_bad_images", "ILSVRC2012_ID"):
        assert text in stdout
