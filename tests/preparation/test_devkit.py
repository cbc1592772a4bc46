"""The devkit's meta.mat, as SciPy writes it, and ground truth files."""

import base64
import io
import tarfile

import pytest

from official.alexnet.errors import UserError
from official.alexnet.preparation import devkit

# What follows the header of scipy.io.savemat(file, {"other": np.arange(3), "synsets":
# a 3x1 struct array with the devkit's eight fields}, do_compression=True).
META = base64.b85decode(
    "4*&oFG5`Poc%0*7U|<LUVm2V=0AfA{2w;Ws8G)D?N`u7mOEOZ6fHV&fOE4e+Ba~)>(g1<&0^1J&003(N"
    "004NL<y6s5!Y~xQn}Cq$qKOYa_5*krWD1W&eUQZXAPGJ$4b-i1>r7iz{=iS=Gi+s*QZefG=-KX;bJuga"
    "+uk$)fK>}X-OyIy!y3(!@2T+0*jFKzOb{v5_XZr7`8O5go5}R<vLE*P@%Ty`+~2O>pLi+wT-b>uE5ufU"
    "E%JDl(rnHN`$%jN<H3lGQ$mwemJ-P^WiichLIeaVIfP9;fm4rXg~owXw;n&T^o<?*j-@{;ISc#YFbW4f"
    "%jfzBpHs(2^G7PtL-E>0(?#|~1j_M@7m|wK{8!-kX)bb{WhmifscoV1`WWc(p`~v*dIO{HSh~9NR?(j{"
    ">*)=z-WR<{wZ(b#2cJX7NArp5afvPnXPD37>pr+X2DVR~bpT8MpZ34&ZS*6kvi}NEG&uXFj$J-&$4B#m"
    "Czw%@S3L(X%IGs?36iOLR$mYMoV5F(vqSG&dS6|hUwvLvXWc$}2R05-xB"
)
HEADER = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM"


def _write_devkit(path, meta, truth=b"2\n1\n"):
    folder = "ILSVRC2012_devkit_t12"
    members = {
        f"{folder}/readme.txt": b"hello",
        f"{folder}/data/meta.mat": meta,
        f"{folder}/data/ILSVRC2012_validation_ground_truth.txt": truth,
    }
    with tarfile.open(path, "w:gz") as tar:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def test_devkit_tells_the_class_of_each_id_and_the_ground_truth(tmp_path):
    path = _write_devkit(tmp_path / "devkit.tar.gz", HEADER + META)
    by_id, truth = devkit.read_devkit(path)
    assert by_id == {
        2: ("n02084071", "kit fox, Vulpes macrotis"),
        1: ("n01440764", "Saint Bernard"),
        300: ("n00004475", "organism"),
    }
    assert truth == ["2", "1"]


@pytest.mark.parametrize(
    "meta",
    [HEADER, HEADER + META[:200], b"x" * 400, b"MATLAB 7.3 MAT-file".ljust(600)],
    ids=["empty", "cut", "garbage", "hdf5"],
)
def test_a_broken_meta_mat_is_one_clear_line(tmp_path, meta):
    path = _write_devkit(tmp_path / "devkit.tar.gz", meta)
    with pytest.raises(UserError, match=r"meta\.mat.*give --validation_ground_truth"):
        devkit.read_devkit(path)


def test_a_broken_devkit_is_one_clear_line(tmp_path):
    path = _write_devkit(tmp_path / "devkit.tar.gz", HEADER + META)
    whole = path.read_bytes()
    for damaged in (b"", b"hello", whole[: len(whole) // 2]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match="cannot read the devkit") as caught:
            devkit.read_devkit(path)
        assert "\n" not in str(caught.value)
    _write_devkit(path, b"")
    with pytest.raises(UserError, match=r"holds no data/meta\.mat"):
        devkit.read_devkit(path)


def test_read_synsets(tmp_path):
    path = tmp_path / "words.txt"
    path.write_text("n00000002 a fox, fox\nn00000001\n\n")
    assert devkit.read_synsets(path) == [
        ("n00000002", "a fox, fox"),
        ("n00000001", "n00000001"),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("n00000001 fox\ntench n00000002\n", "line 2: expected"),
        ("n00000001 fox\nn00000001 dog\n", "twice"),
    ],
)
def test_read_synsets_refuses_other_files(tmp_path, text, message):
    path = tmp_path / "words.txt"
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        devkit.read_synsets(path)
    with pytest.raises(UserError, match="cannot read"):
        devkit.read_synsets(tmp_path / "missing.txt")
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="not a text file"):
        devkit.read_synsets(path)
