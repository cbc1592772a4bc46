""".npy files of a pickled dictionary, as bvlc_alexnet.npy is one."""

import os
import pickle

import numpy as np
import pytest
from weight_nets import (
    assert_refused,
    assert_same_bits,
    random_weights,
    read,
    save_npy,
    small_net,
)


def test_what_numpy_saves_is_read(tmp_path):
    # 131 pixels: fc6 reads 3 x 3 maps, so their order matters.
    net = small_net("caffe", input_size=131)
    weights = random_weights(net)
    path = tmp_path / "bvlc_alexnet.npy"
    save_npy(path, weights)
    assert_same_bits(read(path, net).weights, weights)


def test_nothing_in_it_is_called(tmp_path):
    mark = tmp_path / "mark"

    class Call:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    path = tmp_path / "evil.npy"
    np.save(path, np.array({"conv1": Call()}, dtype=object), allow_pickle=True)
    text = r"asks for \w+\.system.*nothing in it was run"
    assert_refused(path, small_net("caffe"), text)
    assert not mark.exists()


class Call:
    def __reduce__(self):
        return os.system, ("touch mark",)


class State:
    def __setstate__(self, state):
        raise AssertionError


class Getter:
    def __reduce__(self):
        return getattr, ("x", "upper")


def huge(shape):
    """An array of four bytes that claims another shape."""
    data = pickle.dumps({"conv1": [np.ones((2, 1), "f4"), np.ones(1, "f4")]}, 2)
    claim, small = (
        pickle.dumps(each, 2)[2:].partition(b"\x86")[0] for each in (shape, (2, 1))
    )
    assert small in data
    return data.replace(small, claim)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (pickle.dumps({"conv1": {"a": [Call()]}}), "nothing in it was run"),
        (pickle.dumps(Call()), "nothing in it was run"),
        (pickle.dumps(Getter()), "asks for builtins.getattr"),
        (pickle.dumps({"conv1": State()}), "nothing in it was run"),
        (pickle.dumps(np.array([Call()], dtype=object)), "nothing in it was run"),
        (pickle.dumps(np.array([1, "x", None], dtype=object)), "holds objects"),
        (pickle.dumps({"conv1": [np.zeros((2, 2), "M8[s]")]}), "is of dtype 'M8'"),
        (pickle.dumps({"conv1": [np.zeros(2, [("a", "f4")])]}), "is of dtype 'V4'"),
        (pickle.dumps({"conv1": [np.zeros(2, ">f4")]}), "not little-endian"),
        (huge((2**40, 2**40)), "does not have"),
        (b"\x80\x04\x8e" + (2**62).to_bytes(8, "little") + b"x", "npy: "),
        (b"\x80\x04" + b"]" * 99_999 + b"a" * 99_998 + b".", "npy: "),
        (b"cposix\nsystem\n(S'touch mark'\ntR.", "asks for posix.system"),
        (b"\x80\x04\x82\x01.", "npy: "),
        (b"Pabc\n.", "npy: "),
        (b"", "npy: "),
    ],
)
def test_hostile_files(content, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "evil.npy"
    path.write_bytes(content)
    assert_refused(path, small_net("caffe"), text)
    assert not (tmp_path / "mark").exists()


def test_cut_files_are_refused(tmp_path):
    path = tmp_path / "net.npy"
    net = small_net("caffe", width=0.001)
    save_npy(path, random_weights(net))
    data = path.read_bytes()
    for size in (0, 5, 70, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        assert_refused(path, net)
