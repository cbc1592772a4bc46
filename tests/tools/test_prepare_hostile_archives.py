"""Archives that try to write outside their folder, through the real tool."""

import io
import pathlib
import tarfile

import pytest
from imagenet_inputs import TOOL, files_of, run_tool, tar_of, write_archives

from official.alexnet.preparation import folder


def add_strange_members(path):
    """Whatever a tar can hold besides plain files with plain names."""
    with tarfile.open(path, "a") as tar:
        for name in ("../evil.txt", "/tmp/evil.txt", "a/../../evil.txt", "evil.txt"):
            member = tarfile.TarInfo(name)
            member.size = 4
            tar.addfile(member, io.BytesIO(b"evil"))
        for name, kind, target in (
            ("link", tarfile.SYMTYPE, "/etc"),
            ("link/evil.JPEG", tarfile.SYMTYPE, "/etc/passwd"),
            ("n00000010.tar", tarfile.LNKTYPE, "/etc/passwd"),
            ("n00000011.tar", tarfile.SYMTYPE, "../../etc/passwd"),
            ("null.JPEG", tarfile.CHRTYPE, ""),
            ("disk.JPEG", tarfile.BLKTYPE, ""),
            ("pipe.JPEG", tarfile.FIFOTYPE, ""),
            ("folder.JPEG", tarfile.DIRTYPE, ""),
        ):
            member = tarfile.TarInfo(name)
            member.type, member.linkname = kind, target
            member.devmajor, member.devminor = 1, 3
            tar.addfile(member)


def everything(folder):
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def test_nothing_is_written_outside_the_output(tmp_path):
    archives = write_archives(tmp_path / "a" / "in")
    arguments = [f"--input_dir={archives}", "--train_shards=2", "--validation_shards=1"]
    arguments += [f"--synsets={archives / 'by_id.txt'}", "--num_workers=1"]
    plain = tmp_path / "a" / "plain"
    code, _, stderr = run_tool(TOOL, *arguments, f"--output_dir={plain}")
    assert code == 0, stderr
    for path in archives.glob("*.tar"):
        add_strange_members(path)
    before = everything(tmp_path)
    output = tmp_path / "a" / "out"
    arguments.append(f"--output_dir={output}")
    code, _, stderr = run_tool(TOOL, *arguments, cwd=tmp_path / "a")
    assert code == 0, stderr
    assert not [*pathlib.Path("/tmp").glob("evil*")]
    new = everything(tmp_path) - before
    assert all(path.startswith("a/out") for path in new)
    assert not [path for path in new if "evil" in path]
    # And what is written is what the plain members say.
    assert files_of(output) == files_of(plain)


@pytest.mark.slow
def test_pictures_with_paths_for_names_keep_the_last_part(tmp_path):
    archives = write_archives(tmp_path / "a" / "in")
    train = archives / "ILSVRC2012_img_train.tar"
    with tarfile.open(train) as tar:
        members = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    first, *_ = members
    with tarfile.open(fileobj=io.BytesIO(members[first])) as tar:
        picture = tar.extractfile(tar.getmembers()[0]).read()
    # The class archive itself is named so, too.
    pictures = ("../../evil1.JPEG", "/tmp/evil2.JPEG", "a/../../evil3.JPEG")
    hostile = {f"../../{first}": tar_of(dict.fromkeys(pictures, picture))}
    rest = {f"/tmp/{name}": data for name, data in members.items() if name != first}
    train.write_bytes(tar_of(hostile | rest))
    output = tmp_path / "a" / "out"
    code, _, stderr = run_tool(
        TOOL,
        f"--input_dir={archives}",
        f"--synsets={archives / 'by_id.txt'}",
        "--train_shards=1",
        "--validation_shards=1",
        "--num_workers=1",
        f"--output_dir={output}",
    )
    assert code == 0, stderr
    assert not [path for path in everything(tmp_path) if "evil" in path]
    assert not list(pathlib.Path("/tmp").glob("evil*"))
    assert folder.MANIFEST_FILE in files_of(output)
