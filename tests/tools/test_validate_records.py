"""tools/validate_records.py on sound and on damaged sets, and the way back."""

import collections
import json
import shutil
import tracemalloc

import pytest
import tensorflow as tf
from imagenet_inputs import ROOT, encode, files_of, prepare_here, run_tool, write_tree
from PIL import Image

from official.alexnet.data import validation
from official.alexnet.errors import UserError

TOOL = ROOT / "tools" / "validate_records.py"
SHARDS = (4, 2)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("prepared")
    prepare_here(write_tree(folder / "in"), folder / "out", shards=SHARDS)
    return folder


def validate(folder, *arguments):
    code, stdout, stderr = run_tool(TOOL, f"--data_dir={folder}", *arguments)
    results = json.loads(stdout.splitlines()[-1]) if code in (0, 1) else None
    return code, results, stdout, stderr


def test_a_sound_set_has_no_problem(prepared):
    code, results, _, stderr = validate(prepared / "out", "--decode", "--num_workers=2")
    assert code == 0, stderr
    assert stderr == ""
    assert results["problems"] == []
    assert results["num_examples"] == 16
    assert results["decoded"]


def test_damaged_shards_are_named_and_remade(prepared, tmp_path):
    """Damaged, lost, cut and foreign; then remade, without the hidden folder too."""
    output = tmp_path / "out"
    shutil.copytree(prepared / "out", output)
    before = files_of(output)
    first, second, third = (output / f"train-{i:05d}-of-00004" for i in range(3))
    contents = bytearray(first.read_bytes())
    contents[300] ^= 1
    first.write_bytes(contents)
    second.unlink()
    third.write_bytes(third.read_bytes()[:-7])
    (output / "train-00000-of-00009").write_bytes(b"")
    for name in ("train-00000-of-00004.gz", "more.tfrecord", ".hidden"):
        (output / name).touch()
    code, results, stdout, _ = validate(output, "--num_workers=1")
    assert code == 1
    assert results["num_files_not_checked"] == 2
    assert "2 file(s) not checked, such as more.tfrecord" in stdout
    for name in ("train-00000-of-00004.gz", "more.tfrecord", ".hidden"):
        (output / name).unlink()
    names = {first.name, second.name, third.name}
    assert set(results["damaged_shards"]) == names
    assert "train-00000-of-00009: not in the manifest" in stdout
    assert f"{first.name}: record 0: corrupted record" in stdout
    assert f"{second.name}: missing" in stdout
    remake = next(p for p in stdout.split() if p.startswith("--remake="))
    (output / "train-00000-of-00009").unlink()
    shutil.rmtree(output / ".prepare")
    remake = remake.removeprefix("--remake=").split(",")
    prepare_here(prepared / "in", output, shards=SHARDS, remake=remake)
    assert files_of(output) == before


@pytest.mark.slow
def test_a_wrong_labels_file_damages_no_shard(prepared, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(prepared / "out", output)
    lines = (output / "labels.txt").read_text().splitlines()
    (output / "labels.txt").write_text("\n".join(lines[::-1]))
    code, results, stdout, _ = validate(output, "--decode", "--num_workers=1")
    assert code == 1
    assert results["damaged_shards"] == []
    assert "To remake" not in stdout
    (problem,) = results["problems"]
    assert problem["file"] == "labels.txt"
    assert "has the manifest's sha256, but record 0 has label" in problem["problem"]
    assert "labels.txt is wrong" in problem["problem"]
    # A damaged shard beside it is still named, and no other.
    shard = output / "train-00001-of-00004"
    contents = bytearray(shard.read_bytes())
    contents[-1] ^= 1
    shard.write_bytes(contents)
    _, results, stdout, _ = validate(output, "--num_workers=1")
    assert results["damaged_shards"] == [shard.name]
    assert f"--remake={shard.name}\n" in stdout


@pytest.mark.slow
def test_a_wrong_count_in_the_manifest_damages_no_shard(prepared, tmp_path):
    output = tmp_path / "out"
    shutil.copytree(prepared / "out", output)
    manifest = json.loads((output / "manifest.json").read_text())
    manifest["splits"]["train"]["shards"][0]["num_examples"] += 1
    (output / "manifest.json").write_text(json.dumps(manifest))
    _, results, stdout, _ = validate(output, "--num_workers=1")
    assert results["damaged_shards"] == []
    assert "its sha256 is right, its count wrong" in stdout


@pytest.mark.parametrize(
    ("part", "key"), [(("splits", "train"), "num_examples"), (("settings",), "seed")]
)
def test_a_manifest_that_lacks_something_is_damaged(prepared, tmp_path, part, key):
    manifest = json.loads((prepared / "out/manifest.json").read_text())
    place = manifest
    for name in part:
        place = place[name]
    del place[key]
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    problems = validation.Problems()
    assert validation.read_manifest(tmp_path, problems) is None
    (problem,) = problems
    assert problem["problem"] == "damaged, or not of prepare_imagenet"


@pytest.fixture
def tfds_set(tmp_path):
    """Two shards of two records, in a folder that TFDS would have made."""
    info = {"name": "ours", "splits": [{"name": "train", "shardLengths": ["2", "2"]}]}
    (tmp_path / "dataset_info.json").write_text(json.dumps(info))
    (tmp_path / "features.json").write_text("{}")
    shards = [tmp_path / f"ours-train.tfrecord-{i:05d}-of-00002" for i in range(2)]
    for label, shard in enumerate(shards):
        write_tfds_shard(shard, [tfds_example(label)] * 2)
    return shards


def test_a_record_that_is_none_leaves_the_rest_of_a_tfds_set_checked(tfds_set):
    write_tfds_shard(tfds_set[0], [b"no example", tfds_example(0)])
    code, results, _, _ = validate(tfds_set[0].parent, "--num_workers=1")
    assert code == 1
    assert results["num_examples"] == 4
    assert results["damaged_shards"] == [tfds_set[0].name]
    (problem,) = results["problems"]
    assert problem["problem"] == "record 0 is not a tf.train.Example"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda shard: shard.write_bytes(shard.read_bytes()[:-20]), "record 1"),
        (
            lambda shard: write_tfds_shard(shard, [tfds_example(0)]),
            "1 records, TFDS counts 2",
        ),
    ],
    ids=["cut short", "too few"],
)
def test_a_tfds_shard_that_is_not_whole_leaves_the_rest_checked(tfds_set, spoil, words):
    spoil(tfds_set[0])
    code, results, _, _ = validate(tfds_set[0].parent, "--num_workers=1")
    assert code == 1
    assert results["damaged_shards"] == [tfds_set[0].name]
    assert words in results["problems"][0]["problem"]
    assert results["num_examples"] >= 2


def write_tfds_shard(path, records) -> None:
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records:
            writer.write(record)


def tfds_example(label) -> bytes:
    features = {
        "image": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"picture"])),
        "label": tf.train.Feature(int64_list=tf.train.Int64List(value=[label])),
    }
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString()


def test_mistakes_are_one_line(tmp_path):
    code, _, _, stderr = validate(tmp_path)
    assert code == 2
    assert stderr.splitlines()[-1].endswith("no records, neither classic nor TFDS")


def test_no_such_shard_to_remake(prepared, tmp_path):
    with pytest.raises(UserError, match="--remake=train-9: there is no such shard"):
        prepare_here(prepared / "in", tmp_path, shards=SHARDS, remake=["train-9"])


def test_a_class_whose_images_are_all_bad(tmp_path, capsys):
    tree = write_tree(tmp_path / "in")
    for path in (tree / "val" / "cat").iterdir():
        path.write_bytes(b"no picture")
    options = {"shards": SHARDS, "max_bad_images": 9}
    prepare_here(tree, tmp_path / "out", **options)
    assert "1 class(es) without an image in validation, such as cat" in (
        capsys.readouterr().err
    )
    for path in (tree / "train" / "dog").iterdir():
        path.write_bytes(encode(Image.new("RGB", (9, 9)))[:-30])
    with pytest.raises(UserError, match="without an image in train, such as dog"):
        prepare_here(tree, tmp_path / "other", **options)


@pytest.mark.parametrize(
    ("lines", "is_tfds", "stored"),
    [
        (["0:background", "1:dog house", "2:dog bowl"], False, (1, 2)),
        ([], True, (1, 2)),
    ],
)
def test_where_others_labels_begin(tmp_path, lines, is_tfds, stored):
    if lines:
        (tmp_path / "labels.txt").write_text("\n".join(lines))
    labels, problems = {"train": collections.Counter(stored)}, validation.Problems()
    empty = validation.check_labels(tmp_path, labels, None, is_tfds, problems)
    assert empty == {"train": int(is_tfds)}, "TFDS's begin at 0"
    assert [problem["file"] for problem in problems] == ["train"] * is_tfds


def test_a_huge_label_needs_no_huge_list(tmp_path, capsys):
    train = collections.Counter([1, 2, 10**6])
    labels = {"train": train, "test": collections.Counter()}
    tracemalloc.start()
    empty = validation.check_labels(
        tmp_path, labels, None, False, validation.Problems()
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 10**6
    assert empty == {"train": 10**6 - 3, "test": 10**6}
    said = capsys.readouterr().out
    assert "train: 999997 class(es) without an image, such as 3\n" in said
    assert "test: 1000000 class(es) without an image, such as 1\n" in said
