"""Many processes at once write one set, and none of them needs TensorFlow."""

import errno
import os
import pathlib
import subprocess
import sys

import pytest
import tensorflow as tf
from imagenet_inputs import (
    TOOL,
    environment,
    files_of,
    prepare_here,
    run_tool,
    start_tool,
)

from official.alexnet import disk
from official.alexnet.data import framing, schemas
from official.alexnet.errors import UserError
from official.alexnet.preparation import conversion, sources


def test_two_workers_give_the_same_bits(tree, whole, tmp_path):
    prepare_here(tree, tmp_path / "out", shards=(5, 2), num_workers=2)
    assert files_of(tmp_path / "out") == whole


def test_three_tasks_at_once_give_the_same_bits(tree, whole, tmp_path):
    output = tmp_path / "out"
    arguments = [
        f"--input_dir={tree}",
        f"--output_dir={output}",
        *("--train_shards=5", "--validation_shards=2", "--num_workers=1"),
    ]
    tasks = [start_tool(TOOL, *arguments, f"--task={i}/3") for i in range(3)]
    for task in tasks:
        stderr = task.communicate(timeout=120)[1]
        assert task.returncode == 0, stderr
    assert sorted(files_of(output)) == sorted(n for n in whole if "-of-" in n)
    code, _, stderr = run_tool(TOOL, *arguments)
    assert code == 0, stderr
    assert files_of(output) == whole


def test_what_a_lost_task_left_out_is_written_by_the_last_call(tree, whole, tmp_path):
    output = tmp_path / "out"
    for task in (0, 2):
        assert prepare_here(tree, output, shards=(5, 2), task=(task, 3)) is None
    written = {path: path.stat().st_mtime_ns for path in output.glob("*-of-*")}
    assert len(written) == 5
    prepare_here(tree, output, shards=(5, 2))
    assert files_of(output) == whole
    assert {path: path.stat().st_mtime_ns for path in written} == written


def test_damaged_notes_of_a_shard_have_it_written_again(tree, whole, tmp_path):
    output = tmp_path / "out"
    prepare_here(tree, output, shards=(5, 2), task=(0, 3))
    (output / ".prepare" / "train-00000-of-00005.npz").write_bytes(b"PK damaged")
    prepare_here(tree, output, shards=(5, 2))
    assert files_of(output) == whole


def test_damaged_sums_of_a_shard_have_it_written_again(tree, whole, tmp_path):
    """They are read last of all, and the statistics would lack its images."""
    output = tmp_path / "out"
    prepare_here(tree, output, shards=(5, 2), task=(0, 3))
    notes = output / ".prepare" / "train-00000-of-00005.npz"
    damaged = bytearray(notes.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    notes.write_bytes(damaged)
    with pytest.raises(UserError, match="was damaged: the same command writes that"):
        prepare_here(tree, output, shards=(5, 2))
    prepare_here(tree, output, shards=(5, 2))
    assert files_of(output) == whole


def test_a_disk_that_fails_for_a_while_makes_no_bad_image(
    tree, whole, tmp_path, monkeypatch
):
    output, read, failed = tmp_path / "out", sources.Entry.read, []

    def fail(entry):
        if entry.name.endswith("3.jpg"):
            failed.append(pathlib.Path(entry.path))
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(entry)

    monkeypatch.setattr(sources.Entry, "read", fail)
    line = r"3\.jpg: Input/output error; once that is mended, the same command resumes"
    with pytest.raises(UserError, match=line):
        prepare_here(tree, output, shards=(5, 2), max_bad_images=9)
    monkeypatch.undo()
    (picture,) = failed
    encoded = picture.read_bytes()
    listed = sources.list_tree

    def cut(found):
        listing = listed(found)
        picture.write_bytes(encoded[:-9])
        return listing

    monkeypatch.setattr(sources, "list_tree", cut)
    with pytest.raises(UserError, match=r"3\.jpg: it was cut since it was listed"):
        prepare_here(tree, output, shards=(5, 2), max_bad_images=9)
    monkeypatch.undo()
    picture.write_bytes(encoded)
    prepare_here(tree, output, shards=(5, 2))
    assert files_of(output) == whole


def test_a_lack_of_memory_makes_no_bad_image(tree, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(conversion.Image, "open", fail)
    with pytest.raises(UserError, match="jpg: there is no memory to read it; once"):
        prepare_here(tree, tmp_path / "out", shards=(5, 2), max_bad_images=9)


def test_containers_with_one_process_number_write_beside_each_other(tmp_path):
    path = tmp_path / "settings.json"
    with disk.atomic_write(path) as first, disk.atomic_write(path) as second:
        first.write_text("whole")
        second.write_text("whole")
    assert path.read_text() == "whole"
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("task", ["3/3", "-1/3", "1", "1/0", "a/b"])
def test_a_task_that_is_none_is_one_clear_line(tree, tmp_path, task):
    arguments = [f"--input_dir={tree}", f"--output_dir={tmp_path}", f"--task={task}"]
    code, _, stderr = run_tool(TOOL, *arguments)
    assert code == 2
    assert len(stderr.strip().splitlines()) == 1
    assert f"--task={task}: expected i/n" in stderr


def test_other_settings_of_a_task_are_refused(tree, tmp_path):
    prepare_here(tree, tmp_path, shards=(5, 2), task=(0, 3))
    with pytest.raises(UserError, match=r"other settings \(shards\)"):
        prepare_here(tree, tmp_path, shards=(6, 2), task=(1, 3))


def test_workers_start_without_tensorflow(tmp_path):
    code = (
        "import sys, official.alexnet.preparation.prepare, official.alexnet.cli; "
        "print({'tensorflow', 'keras', 'scipy'} & set(sys.modules))"
    )
    found = subprocess.run(
        [sys.executable, "-c", code],
        env=environment(),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (found.stdout, found.stderr) == ("set()\n", "")


def test_records_have_the_bytes_that_tensorflow_writes(tmp_path):
    def feature(value):
        if isinstance(value, int):
            return tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))

    sizes = {"height": 256, "width": 255}
    ours = schemas.classic_example(
        b"\xff\xd8", label=0, synset="n1", text="für", filename="a.jpg", **sizes
    )
    contents = {
        "encoded": b"\xff\xd8",
        "format": b"JPEG",
        "height": 256,
        "width": 255,
        "colorspace": b"RGB",
        "channels": 3,
        "filename": b"a.jpg",
        "class/label": 1,
        "class/synset": b"n1",
        "class/text": "für".encode(),
    }
    features = {f"image/{key}": feature(value) for key, value in contents.items()}
    example = tf.train.Example(features=tf.train.Features(feature=features))
    theirs = example.SerializeToString(deterministic=True)
    assert ours == theirs
    with tf.io.TFRecordWriter(str(tmp_path / "records")) as writer:
        writer.write(theirs)
    assert (tmp_path / "records").read_bytes() == framing.framed(ours)
