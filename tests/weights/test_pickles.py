"""The interpreter of pickles: plain values as Python reads them, and nothing else."""

import io
import os
import pickle
import subprocess

import pytest

from official.alexnet.weights import pickles
from official.alexnet.weights.pickles import Global, PickleError, Rules

NOTHING = Rules({})
VALUES = [
    *(None, True, False, 0, 255, 256, 65535, 65536, -1, 2**31 - 1, 2**31, -(2**31)),
    *(2**100, -(2**100), 0.1, -1e300, float("inf"), "", "text", "é\n☃", "x" * 300),
    *((), (1,), (1, 2), (1, 2, 3), (1, 2, 3, 4), ((), ((),))),
    *([], [1], [1, [2, "a"]], {}, {"a": 1}, {"a": {"b": (1, [])}, 3: None}),
]


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_plain_values_of_python(protocol):
    for value in [*VALUES, VALUES]:
        data = pickle.dumps(value, protocol)
        found, end = pickles.load(data + b"more", NOTHING)
        assert found == value
        assert type(found) is type(value)
        assert end == len(data)


def test_bytes_and_what_is_named_twice():
    same = b"abc" * 100
    data = pickle.dumps([same, same, b"d"], 4)
    found, _ = pickles.load(data, NOTHING)
    assert [bytes(part) for part in found] == [same, same, b"d"]


class Touch:
    """What a malicious file holds: a call, made when it is unpickled."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize(
    "function", [os.system, subprocess.call, eval, exec, getattr, __import__, io.open]
)
def test_nothing_is_called(function, protocol, tmp_path):
    mark = tmp_path / "mark"
    data = pickle.dumps({"a": Touch(function, f"touch {mark}")}, protocol)
    with pytest.raises(PickleError, match=r"asks for \w+\.\w+, .*nothing .* was run"):
        pickles.load(data, NOTHING)
    assert not mark.exists()


def test_a_harmless_name_is_not_imported(tmp_path, monkeypatch):
    (tmp_path / "harmful.py").write_text(f"open({str(tmp_path / 'mark')!r}, 'w')")
    monkeypatch.syspath_prepend(tmp_path)
    data = b"\x80\x02charmful\nthing\n."
    with pytest.raises(PickleError, match=r"harmful\.thing"):
        pickles.load(data, NOTHING)
    allowed = Rules({Global("harmful", "thing"): None})
    assert pickles.load(data, allowed)[0] == Global("harmful", "thing")
    assert not (tmp_path / "mark").exists()


def test_only_what_the_rules_call():
    rules = Rules(
        {Global("a", "make"): lambda arguments: ["made", *arguments]},
        persistent=lambda identity: ("persistent", identity),
    )
    data = b"\x80\x02ca\nmake\nK\x07K\x08\x86RX\x01\x00\x00\x00kQ\x86."
    assert pickles.load(data, rules)[0] == (["made", 7, 8], ("persistent", "k"))
    with pytest.raises(PickleError, match="refers to something outside"):
        pickles.load(data, Rules(rules.globals))
    with pytest.raises(PickleError, match="calls what is no function"):
        pickles.load(data, Rules({Global("a", "make"): None}))


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "ends too soon"),
        (b"\x80\x02K", "ends too soon"),
        (b"\x80\x06N.", "protocol 6"),
        (b"\x80\x02.", "one value"),
        (b"\x80\x02NN.", "one value"),
        (b"\x80\x02(.", "one value"),
        (b"\x80\x02X\xff\xff\xff\xff", "ends too soon"),
        (b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\xff", "ends too soon"),
        (b"\x80\x02X\x01\x00\x00\x00\xff.", "not UTF-8"),
        (b"\x80\x02h\x00.", "never kept"),
        (b"\x80\x02R.", "takes from nothing"),
        (b"\x80\x02t.", "a mark is missing"),
        (b"\x80\x02(0.", "a value is missing"),
        (b"\x80\x02NNs.", "takes from nothing|no dictionary"),
        (b"\x80\x02NNNs.", "no dictionary"),
        (b"\x80\x02}(Nu.", "no dictionary"),
        (b"\x80\x02})Ns.", "no text"),
        (b"\x80\x02NNa.", "no list"),
        (b"\x80\x02N}b.", "changes a value"),
        (b"\x80\x02N)R.", "no function"),
        (b"\x80\x02NN\x93.", "no text"),
        (b"\x80\x02cos\n" + b"a" * 300, "does not end"),
        (b"\x80\x02NN\x81.", "has no use"),
        (b"\x80\x02(cos\nsystem\no.", r"os\.system"),
        (b"(S'touch x'\nios\nsystem\n.", "has no use"),
        (b"\x80\x02\x82\x01.", "has no use"),
        (b"\x80\x02" + b"N0" * 600_000, "1000000 operations"),
    ],
)
def test_what_is_refused(data, text):
    with pytest.raises(PickleError, match=text):
        pickles.load(data, NOTHING)


def test_deep_nests_do_no_harm():
    deep = b"\x80\x02)" + b"\x85" * 100_000
    assert pickles.load(deep + b".", NOTHING)[0]
    with pytest.raises(PickleError, match="no text"):
        pickles.load(b"\x80\x02}" + deep[2:] + b"Ns.", NOTHING)
    with pytest.raises(PickleError, match="refers to something outside"):
        pickles.load(deep + b"Q.", NOTHING)
