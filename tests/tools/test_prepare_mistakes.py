"""Bad images, wrong folders, damaged archives: one clear line, nothing lost."""

import multiprocessing
import tarfile
import time

import pytest
from imagenet_inputs import (
    IDS,
    SYNSETS,
    TOOL,
    files_of,
    int_feature,
    prepare_here,
    read_examples,
    tar_of,
    text_feature,
    write_archives,
    write_tree,
)

from official.alexnet import disk
from official.alexnet.data.statistics import Statistics
from official.alexnet.errors import UserError
from official.alexnet.preparation import locations, sources
from official.alexnet.preparation.shards import WORK_DIR

# === Bad images ===


def test_bad_images_are_named_counted_and_left_out(tmp_path, capsys):
    tree = write_tree(tmp_path / "in")
    whole = (tree / "train" / "cat" / "0.jpg").read_bytes()
    (tree / "train" / "cat" / "3.jpg").write_bytes(whole[:3000])
    (tree / "train" / "dog" / "1.jpg").write_bytes(b"<html>not found</html>")
    output = tmp_path / "out"
    with pytest.raises(UserError, match="--max_bad_images=1") as caught:
        prepare_here(tree, output, max_bad_images=1)
    assert "2 unreadable" in str(caught.value)
    stderr = capsys.readouterr().err
    assert "bad image cat/3.jpg: " in stderr
    assert "bad image dog/1.jpg: neither JPEG nor PNG" in stderr
    assert not (output / "manifest.json").exists()

    # Stopped at once when asked again, and nothing done was lost.
    _fails("2 unreadable", tree, output, max_bad_images=1)
    manifest = prepare_here(tree, output, max_bad_images=2)
    assert {bad["name"] for bad in manifest["bad_images"]} == {"cat/3.jpg", "dog/1.jpg"}
    assert manifest["splits"]["train"]["num_examples"] == 10
    names = [
        (int_feature(f, "image/class/label"), text_feature(f, "image/filename"))
        for f in read_examples(output, "train")
    ]
    assert len(names) == 10
    assert not {(1, "3.jpg"), (2, "1.jpg")} & set(names)
    assert Statistics.load(output / "statistics.npz").num_images == 10


# === Mistakes ===


def test_a_link_that_leads_nowhere_is_a_bad_image(tmp_path):
    tree = write_tree(tmp_path / "in")
    (tree / "train" / "cat" / "linked.jpg").symlink_to(tree / "val" / "cat" / "0.jpg")
    (tree / "train" / "cat" / "lost.jpg").symlink_to(tmp_path / "nowhere")
    manifest = prepare_here(tree, tmp_path / "out", max_bad_images=1)
    assert [bad["name"] for bad in manifest["bad_images"]] == ["cat/lost.jpg"]
    assert manifest["splits"]["train"]["num_examples"] == 13


def _fails(message, *arguments, **options):
    with pytest.raises(UserError, match=message) as caught:
        prepare_here(*arguments, **options)
    assert "\n" not in str(caught.value)


def test_other_settings_in_the_same_folder_are_refused(tmp_path):
    tree = write_tree(tmp_path / "in")
    output = tmp_path / "out"
    prepare_here(tree, output)
    before = files_of(output)
    _fails(r"other settings \(seed\)", tree, output, seed=1)
    _fails(r"other settings \(shards\)", tree, output, shards=(3, 1))
    (tree / "train" / "cat" / "0.jpg").unlink()
    _fails(r"other settings \(input_sha256\)", tree, output)
    assert files_of(output) == before


def test_records_of_someone_else_are_not_written_over(tmp_path):
    tree = write_tree(tmp_path / "in")
    for name in ("train-00000-of-00002", "manifest.json", "labels.txt"):
        output = tmp_path / f"out-{name}"
        output.mkdir()
        (output / name).write_text("precious")
        _fails("is there already", tree, output)
        assert files_of(output) == {name: b"precious"}
        assert len(list(output.iterdir())) == 1
    (tmp_path / "file").write_text("precious")
    _fails("is a file", tree, tmp_path / "file")


def test_two_runs_in_one_folder_are_refused(tmp_path):
    tree = write_tree(tmp_path / "in")
    with disk.locked(tmp_path / "out" / WORK_DIR, "--output_dir=out"):
        _fails("another process", tree, tmp_path / "out")


def test_what_killed_runs_left_is_cleared_away(tmp_path):
    tree = write_tree(tmp_path / "in")
    work_dir = tmp_path / "out" / ".prepare"
    work_dir.mkdir(parents=True)
    leftovers = [
        tmp_path / "out" / ".train-00000-of-00002.1234.tmp",
        work_dir / ".settings.json.1234.tmp",
        tmp_path / "out" / ".manifest.json.1234.tmp",
    ]
    for path in leftovers:
        path.write_text("half")
    prepare_here(tree, tmp_path / "out")
    assert not [path for path in leftovers if path.exists()]


@pytest.mark.slow
def test_too_many_bad_images_stop_the_other_workers_too(tmp_path):
    tree = write_tree(tmp_path / "in", per_class=60)
    for path in (tree / "train" / "cat").iterdir():
        path.write_text("damaged")
    output = tmp_path / "out"
    _fails("--max_bad_images=0", tree, output, shards=(120, 1), num_workers=2)
    while multiprocessing.active_children():
        time.sleep(0.05)
    written = [*output.glob("train-*"), *(output / ".prepare").glob("train-*")]
    assert 1 <= len(written) < 60


def test_damaged_progress_is_one_clear_line(tmp_path):
    tree = write_tree(tmp_path / "in")
    prepare_here(tree, tmp_path / "out")
    (tmp_path / "out" / ".prepare" / "settings.json").write_bytes(b"{damaged")
    _fails("is damaged", tree, tmp_path / "out")


def test_mistakes_in_folders(tmp_path):
    tree = write_tree(tmp_path / "in")
    output = tmp_path / "out"
    _fails("no folder", tmp_path / "missing", output)
    _fails("ILSVRC2012_img_train.tar", tree / "train" / "cat", output)
    _fails("--train_shards=13", tree, output, shards=(13, 1))
    _fails("--devkit goes with archives", tree, output, devkit=TOOL)
    _fails("--synsets: no file", tree, output, synsets=tmp_path / "missing")
    (tree / "val" / "emu").mkdir()
    _fails("no such class", tree, output)
    (tree / "train" / "emu").mkdir()
    _fails("emu has no .jpg", tree, output)
    (tree / "validation").mkdir()
    _fails("has val/ and validation/: move one", tree, output)
    (tree / "validation").rmdir()
    (tree / "val").rename(tree / "test")
    _fails("neither val", tree, output)
    assert not output.exists()


def test_mistakes_in_archives(tmp_path):
    archives = write_archives(tmp_path / "in")
    output = tmp_path / "out"
    by_id = archives / "by_id.txt"
    truth = archives / "ILSVRC2012_validation_ground_truth.txt"
    train = archives / "ILSVRC2012_img_train.tar"
    validation = archives / "ILSVRC2012_img_val.tar"

    _fails("give --devkit", archives, output)
    label_order = tmp_path / "label_order.txt"
    label_order.write_text("".join(f"{s} words\n" for s in sorted(SYNSETS)))
    _fails("is in label order", archives, output, synsets=label_order)

    good = truth.read_text()
    truth.write_text(good + "1\n")
    _fails("7 images but .* 8 lines", archives, output, synsets=by_id)
    truth.write_text(good[:-2] + "9\n")
    _fails("line 7: '9' is not a class", archives, output, synsets=by_id)
    truth.unlink()
    _fails("no validation ground truth", archives, output, synsets=by_id)
    truth.write_text(good)

    whole = validation.read_bytes()
    pictures = {f"ILSVRC2012_val_{i:08d}.JPEG": b"" for i in (1, 2, 3, 4, 5, 6, 8)}
    validation.write_bytes(tar_of(pictures))
    _fails("expected image number 7", archives, output, synsets=by_id)
    validation.unlink()
    _fails("no validation archive", archives, output, synsets=by_id)
    validation.write_bytes(whole)

    whole = train.read_bytes()
    train.write_bytes(tar_of({"readme.txt": b"hello"}))
    _fails("no class archives", archives, output, synsets=by_id)
    train.write_bytes(tar_of({"n00000010.tar": tar_of({})}))
    _fails("n00000010.tar has no images", archives, output, synsets=by_id)
    train.write_bytes(tar_of({"n00000010.tar": b"x" * 1024}))
    _fails("n00000010.tar is damaged", archives, output, synsets=by_id)
    train.write_bytes(b"\x1f\x8b" + whole)
    _fails("not an uncompressed tar", archives, output, synsets=by_id)
    # Cut in a picture, in a header, between two members, and before the end.
    for size in (3000, 5200, 10240, 20480, 25000):
        train.write_bytes(whole[:size])
        _fails("damaged", archives, output, synsets=by_id)
    # A header in the middle that is none: tarfile would take it for the end.
    place = whole.index(b"n00000010.tar")
    train.write_bytes(whole[:place] + b"\xff" * 512 + whole[place + 512 :])
    _fails("damaged or cut short", archives, output, synsets=by_id)

    assert not (output / "manifest.json").exists()
    assert not list(output.glob("train-*"))
    train.write_bytes(whole)
    prepare_here(archives, output, synsets=by_id)


def test_a_tree_beside_what_it_was_unpacked_from(tmp_path):
    tree = write_tree(tmp_path / "in")
    for name in ("train.tar", "val.tar", "test.tar"):
        (tree / name).write_bytes(tar_of({}))
    assert prepare_here(tree, tmp_path / "out")["num_classes"] == 2


def test_archives_of_2010_beside_what_was_unpacked_of_them(tmp_path):
    """With a picture whose number is 2012."""
    folder = write_archives(tmp_path / "in", year=2010)
    train, validation = (
        folder / f"ILSVRC2010_images_{x}.tar" for x in ("train", "val")
    )
    train = train.rename(folder / "train.tar")
    (folder / "train").mkdir()
    found = locations.locate(folder, {"synsets": folder / "by_id.txt"})
    assert found.train_archive == train
    pictures = {f"ILSVRC2010_val_{i:08d}.JPEG": b"x" for i in range(1, 2013)}
    validation.write_bytes(tar_of(pictures))
    truth = folder / "ILSVRC2010_validation_ground_truth.txt"
    truth.write_text("1\n" * 2012)
    label_order = tmp_path / "label_order.txt"
    label_order.write_text("".join(f"{s} words\n" for s in sorted(SYNSETS)))
    given = locations.locate(folder, {"synsets": label_order})
    assert len(sources.list_archives(given, tmp_path).splits["validation"]) == 2012


def test_labels_of_a_renamed_archive_of_2012(tmp_path):
    """Its pictures' own names say which ids the ground truth holds."""
    archives = write_archives(tmp_path / "in")
    label_order = tmp_path / "label_order.txt"
    label_order.write_text("".join(f"{s} words\n" for s in sorted(SYNSETS)))
    (archives / "ILSVRC2012_img_val.tar").rename(archives / "flat.tar")
    given = {"synsets": label_order, "validation_archive": archives / "flat.tar"}
    with pytest.raises(UserError, match="is in label order"):
        sources.list_archives(locations.locate(archives, given), tmp_path / "i")


def test_an_archive_once_taken_for_another_is_looked_through_anew(tmp_path):
    path = write_archives(tmp_path / "in") / "ILSVRC2012_img_val.tar"
    found, _ = sources.indexed(path, tmp_path, sources._index_classes)
    assert found == {}
    found, _ = sources.indexed(path, tmp_path, sources._index_flat)
    assert len(found[""]) == len(IDS)


def test_strange_members_are_ignored(tmp_path):
    archives = write_archives(tmp_path / "in")
    validation = archives / "ILSVRC2012_img_val.tar"
    with tarfile.open(validation, "a") as tar:
        for name, kind, target in (
            ("../../escape.JPEG", tarfile.SYMTYPE, "/etc/passwd"),
            ("ILSVRC2012_val_00000099.JPEG", tarfile.LNKTYPE, "elsewhere"),
            ("device.JPEG", tarfile.CHRTYPE, ""),
            ("folder.JPEG", tarfile.DIRTYPE, ""),
            ("._ILSVRC2012_val_00000001.JPEG", tarfile.REGTYPE, ""),
            ("readme.txt", tarfile.REGTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            tar.addfile(member)
    manifest = prepare_here(archives, tmp_path / "out", synsets=archives / "by_id.txt")
    assert manifest["splits"]["validation"]["num_examples"] == len(IDS)
    assert {p.name for p in tmp_path.iterdir()} == {"in", "out"}
