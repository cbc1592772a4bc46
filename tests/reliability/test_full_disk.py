"""A disk that is full or read-only: one clear line, nothing lost, and it goes on."""

import json
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from small_disks import (
    NO_SPACE,
    READ_ONLY,
    TOO_LARGE,
    TOOLS,
    check_refused,
    contents,
    disk,
    fill,
    make_read_only,
    resize,
    run,
    size_of,
)

from official.alexnet.training import checkpoints

TRAIN = [
    *("-m", "official.alexnet.train"),
    "--width=0.125",
    "--input_size=64",
    "--num_classes=3",
    "--batch_size=8",
    "--schedule=constant",
    "--train_steps=6",
    "--checkpoint_steps=2",
    "--log_steps=1",
    "--skip_eval",
]
EXPORT = ["-m", "official.alexnet.export"]
EVENTS = "events.out.tfevents.*"


# === Training ===


@pytest.fixture(scope="module")
def train(records_dir):
    """The command, but for its --model_dir."""
    return [*TRAIN, f"--data_dir={records_dir}"]


@pytest.fixture(scope="module")
def whole_run(train, tmp_path_factory):
    """A run that never met a full disk."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    done = run(*train, f"--model_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def assert_same_end(folder, whole):
    ours, theirs = (checkpoints.read(checkpoints.latest(f)) for f in (folder, whole))
    assert ours.step == theirs.step == 6
    assert ours.progress == theirs.progress
    for kind in ("weights", "velocity", "dropout"):
        assert getattr(ours, kind).keys() == getattr(theirs, kind).keys()
        for name, array in getattr(ours, kind).items():
            np.testing.assert_array_equal(array, getattr(theirs, kind)[name])
    assert curve(folder) == curve(whole)


def curve(folder):
    lines = (folder / "metrics.jsonl").read_text().splitlines()
    return [(row["step"], row["loss"]) for row in map(json.loads, lines)]


def assert_events_are_whole(folder):
    """Every event can be read: TensorBoard stops at one that is cut."""
    files = sorted(folder.rglob(EVENTS))
    assert files
    for file in files:
        for event in tf.data.TFRecordDataset(str(file)).as_numpy_iterator():
            tf.compat.v1.Event.FromString(event)


@pytest.mark.slow
@pytest.mark.reliability
def test_a_checkpoint_over_the_limit_of_a_file(train, whole_run, tmp_path):
    """No root is needed for this one."""
    folder = tmp_path / "run"
    size = (whole_run / "ckpt-2.data-00000-of-00001").stat().st_size
    done = run(*train, f"--model_dir={folder}", "--clean", limit=size - 4096)
    advice = f"{TOO_LARGE} and run the same command again, but without --clean"
    check_refused(done, "alexnet-train", folder / "ckpt-2", "File too large", advice)
    assert not list(folder.glob("ckpt-*"))
    assert_events_are_whole(folder)
    for name in ("params.yaml", "labels.txt", "statistics.npz"):
        assert (folder / name).read_bytes() == (whole_run / name).read_bytes()
    done = run(*train, f"--model_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert_same_end(folder, whole_run)


@pytest.mark.slow
@pytest.mark.reliability
def test_a_checkpoint_that_does_not_fit(train, whole_run, tmp_path):
    checkpoint = (whole_run / "ckpt-2.data-00000-of-00001").stat().st_size
    room = size_of(whole_run, "ckpt-[46].*") + checkpoint // 2
    command = [*train, f"--model_dir={tmp_path / 'disk'}"]
    with disk(tmp_path / "disk", room) as folder:
        done = run(*command)
        check_refused(done, "alexnet-train", folder / "ckpt-4", NO_SPACE)
        growing = (EVENTS, "checkpoint", "metrics.jsonl")
        first = contents(whole_run, "ckpt-[46].*", *growing)
        assert contents(folder, *growing) == first
        assert checkpoints.latest(folder) == str(folder / "ckpt-2")
        assert_events_are_whole(folder)

        # Again, with no byte to spare: whatever fails first, nothing changes.
        before = contents(folder, EVENTS)
        ballast = fill(folder)
        done = run(*command)
        check_refused(done, "alexnet-train", folder, NO_SPACE)
        ballast.unlink()
        assert contents(folder, EVENTS) == before
        assert_events_are_whole(folder)

        resize(folder, 10 * room)
        done = run(*command)
        assert done.returncode == 0, done.stderr
        assert_same_end(folder, whole_run)
        assert_events_are_whole(folder)


@pytest.mark.slow
@pytest.mark.reliability
def test_training_into_a_read_only_folder(train, whole_run, tmp_path):
    with disk(tmp_path / "disk") as folder:
        make_read_only(folder)
        done = run(*train, f"--model_dir={folder / 'run'}")
        check_refused(done, "alexnet-train", folder / "run", READ_ONLY)
    with disk(tmp_path / "disk") as folder:
        for path, data in contents(whole_run, "ckpt-6.*", EVENTS).items():
            (folder / path).write_bytes(data)
        (folder / "checkpoint").write_text('model_checkpoint_path: "ckpt-4"\n')
        before = contents(folder)
        make_read_only(folder)
        done = run(*train, f"--model_dir={folder}")
        check_refused(done, "alexnet-train", folder, READ_ONLY)
        assert contents(folder) == before


WRITE = """
import pathlib, sys
import numpy as np
from official.alexnet import disk
from official.alexnet.errors import UserError
from official.alexnet.training.recorder import Recorder

def main():
    folder = pathlib.Path(sys.argv[2])
    if sys.argv[1] == "lines":
        for number in range(1000):
            disk.append(folder / "lines", b"line %d\\n" % number)
    recorder = Recorder(folder, step=10)
    big = np.random.default_rng(0).integers(0, 256, (1, 64, 64, 3), np.uint8)
    small = np.zeros((1, 8, 8, 3), np.uint8)
    for step in range(11, 100):
        recorder.pictures("pictures", step, big if step > 12 else small)

try:
    main()
except UserError as error:
    print(f"write: {error}", file=sys.stderr)
    sys.exit(2)
"""


def test_a_line_that_does_not_fit_is_taken_back(tmp_path):
    done = run("-c", WRITE, "lines", tmp_path, limit=2005)
    check_refused(done, "write", tmp_path / "lines", "File too large")
    text = (tmp_path / "lines").read_text()
    lines = text.splitlines()
    assert text == "".join(f"line {number}\n" for number in range(len(lines)))
    assert 2005 - len("line 1000\n") < len(text) <= 2005


def test_an_event_that_does_not_fit_is_not_dropped_in_silence(tmp_path):
    done = run("-c", WRITE, "pictures", tmp_path, limit=6000)
    check_refused(done, "write", tmp_path / "train", "limit on the size of files")
    assert_events_are_whole(tmp_path)
    (file,) = (tmp_path / "train").glob(EVENTS)
    assert sum(1 for _ in tf.data.TFRecordDataset(str(file))) == 3


# === Preparing ===


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    folder = tmp_path_factory.mktemp("archives")
    done = run(
        TOOLS / "make_sample_imagenet.py",
        f"--output_dir={folder}",
        "--train_per_class=3",
        "--validation_per_class=1",
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def prepare(archives):
    """The command, but for its --output_dir; one process, that is quick to start."""
    return [
        TOOLS / "prepare_imagenet.py",
        f"--input_dir={archives}",
        "--train_shards=4",
        "--validation_shards=2",
        "--num_workers=1",
    ]


@pytest.fixture(scope="module")
def prepared(prepare, tmp_path_factory):
    """What a run made that never met a full disk."""
    folder = tmp_path_factory.mktemp("prepared") / "out"
    done = run(*prepare, f"--output_dir={folder}")
    assert done.returncode == 0, done.stderr
    return folder


def copy(source, target, *without):
    for path, data in contents(source, *without).items():
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).write_bytes(data)


def finish_and_compare(command, folder, prepared):
    done = run(*command, f"--output_dir={folder}")
    assert done.returncode == 0, done.stderr
    assert results(folder) == results(prepared)


def results(folder):
    return contents(folder, ".prepare/*")


def assert_all_whole(folder, prepared):
    """What has a final name is as it will be; nothing half is left."""
    whole = results(prepared)
    for name, data in results(folder).items():
        assert data == whole[name], name
    assert not list(folder.rglob("*.tmp"))


@pytest.mark.parametrize("missing", ["statistics.npz", "labels.txt", "manifest.json"])
def test_the_last_files_of_a_preparation_do_not_fit(
    prepare, prepared, tmp_path, missing
):
    later = ["statistics.npz", "labels.txt", "manifest.json"]
    later = later[later.index(missing) :]
    with disk(tmp_path / "disk", 4 * size_of(prepared)) as folder:
        copy(prepared, folder, *later)
        ballast = fill(folder)
        before = contents(folder, "ballast")
        done = run(*prepare, f"--output_dir={folder}")
        # Its notes are gone: the training shards would be written again first.
        check_refused(done, "prepare_imagenet", folder, NO_SPACE)
        assert contents(folder, "ballast") == before
        ballast.unlink()
        finish_and_compare(prepare, folder, prepared)


def test_statistics_over_the_limit_of_a_file(prepare, prepared, tmp_path):
    """No root is needed for this one."""
    copy(prepared, tmp_path, "statistics.npz", "labels.txt", "manifest.json")
    before = contents(tmp_path)
    done = run(*prepare, f"--output_dir={tmp_path}", limit=100_000)
    check_refused(done, "prepare_imagenet", tmp_path, TOO_LARGE)
    assert contents(tmp_path) == before
    finish_and_compare(prepare, tmp_path, prepared)


@pytest.mark.slow
@pytest.mark.reliability
def test_the_index_of_an_archive_does_not_fit(prepare, prepared, tmp_path):
    with disk(tmp_path / "disk", 4 * size_of(prepared)) as folder:
        ballast = fill(folder, leaving=4096)
        done = run(*prepare, f"--output_dir={folder}")
        check_refused(done, "prepare_imagenet", folder / ".prepare", NO_SPACE)
        assert not list(folder.glob("*-of-*"))
        ballast.unlink()
        finish_and_compare(prepare, folder, prepared)


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize(("shards", "workers"), [(0, 1), (1.5, 1), (1.5, 2)])
def test_a_shard_does_not_fit(prepare, prepared, tmp_path, shards, workers):
    command = [*prepare, f"--num_workers={workers}"]
    shard = max(p.stat().st_size for p in prepared.glob("train-*"))
    # Each shard of few images has the sums of its pixels beside it, as uint16.
    room = 100_000 + int(shards * (shard + 256 * 256 * 3 * 2))
    with disk(tmp_path / "disk", room) as folder:
        done = run(*command, f"--output_dir={folder}")
        check_refused(done, "prepare_imagenet", folder, NO_SPACE)
        if workers == 1:
            assert_all_whole(folder, prepared)
        resize(folder, 4 * size_of(prepared))
        finish_and_compare(command, folder, prepared)
        assert_all_whole(folder, prepared)


def test_preparing_into_a_read_only_folder(prepare, prepared, tmp_path):
    with disk(tmp_path / "disk") as folder:
        make_read_only(folder)
        done = run(*prepare, f"--output_dir={folder}")
        check_refused(done, "prepare_imagenet", folder, READ_ONLY)
    with disk(tmp_path / "disk") as folder:
        copy(prepared, folder, "manifest.json")
        before = contents(folder)
        make_read_only(folder)
        done = run(*prepare, f"--output_dir={folder}")
        check_refused(done, "prepare_imagenet", folder, READ_ONLY)
        assert contents(folder) == before


# === Exporting ===

FORMATS = {
    "saved_model": "saved_model/variables/variables.data-00000-of-00001",
    "keras": "alexnet.keras",
    "onnx": "alexnet.onnx",
    "litert": "alexnet.tflite",
}


@pytest.mark.slow
@pytest.mark.reliability
@pytest.mark.parametrize("name", FORMATS)
def test_an_export_does_not_fit(whole_run, tmp_path, name):
    target = tmp_path / "disk" / "export"
    command = [*EXPORT, f"--model_dir={whole_run}", f"--formats={name}"]
    command += [f"--export_dir={target}"]
    with disk(tmp_path / "disk", 50_000_000) as folder:
        (folder / "earlier").write_bytes(b"an earlier export")
        before = contents(folder)
        # Any file of the net takes more: its weights are 1.3 MB.
        ballast = fill(folder, leaving=600_000)
        done = run(*command)
        check_refused(done, "alexnet-export", target, NO_SPACE)
        assert contents(folder, "ballast") == before
        assert [path.name for path in folder.iterdir() if path.is_dir()] == []
        ballast.unlink()
        done = run(*command)
        assert done.returncode == 0, done.stderr
        assert (target / FORMATS[name]).stat().st_size > 1_200_000
        assert contents(folder, "export/*", "export/*/*", "export/*/*/*") == before


@pytest.mark.slow
@pytest.mark.reliability
def test_an_export_over_the_limit_of_a_file(whole_run, tmp_path):
    """No root is needed for this one."""
    command = [*EXPORT, f"--model_dir={whole_run}", f"--export_dir={tmp_path / 'out'}"]
    done = run(*command, limit=1_000_000)
    check_refused(done, "alexnet-export", tmp_path / "out", TOO_LARGE)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.reliability
def test_results_that_standard_output_has_no_room_for(whole_run, tmp_path):
    command = [*EXPORT, f"--model_dir={whole_run}", f"--export_dir={tmp_path / 'out'}"]
    with pathlib.Path("/dev/full").open("w") as full:
        done = run(*command, stdout=full)
    check_refused(done, "alexnet-export", "standard output", NO_SPACE)
    assert (tmp_path / "out" / "saved_model").is_dir()
