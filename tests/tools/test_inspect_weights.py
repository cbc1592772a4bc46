"""tools/convert_weights.py --inspect as a user runs it."""

import pathlib

import numpy as np
from weight_tool import CLASSES, convert, inspect, small_file

from official.alexnet.modeling import options, structure
from official.alexnet.weights import files


def test_what_is_in_a_file(capsys, tmp_path):
    path, given, net, weights = small_file(tmp_path, "caffe", ".caffemodel")
    found = inspect(path, *given[1:])
    # Strides, order and LRN's constants are in it: no other variant fits.
    assert found["variants"] == ["caffe"]
    assert found["num_classes"] == CLASSES
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["format: Caffe", "variant: caffe"]
    assert lines[-1].startswith("fault: ")
    weights["conv2/kernel"][3, 1, 4, 1] = np.nan
    files.write(str(tmp_path / "nan.caffemodel"), weights, net)
    found = inspect(tmp_path / "nan.caffemodel", *given)
    assert found["faults"] == ("conv2/kernel holds NaN or infinity, 1 times",)


def test_nets_of_one_shape_are_all_named(capsys, tmp_path):
    _, given, _, weights = small_file(tmp_path, "caffe", ".caffemodel")
    arrays = {}
    for name, array in weights.items():
        arrays.setdefault(name.partition("/")[0], []).append(array)
    np.save(tmp_path / "net.npy", np.array(arrays, dtype=object), allow_pickle=True)
    found = inspect(tmp_path / "net.npy", *given[1:])
    assert {"paper", "caffe", "caffenet", "original"} <= set(found["variants"])
    assert "owt" not in found["variants"]
    found = inspect(tmp_path / "net.npy", "--variant=owt", *given[1:])
    assert found["variants"] == []
    assert "variant: none fits: " in capsys.readouterr().out


def test_a_run_is_looked_at(tmp_path):
    path, given, _, _ = small_file(tmp_path, "caffe", ".caffemodel")
    convert(path, tmp_path / "run", *given)
    assert inspect(tmp_path / "run")["variants"] == ["caffe"]


def test_a_net_of_its_own_is_looked_at(tmp_path):
    layers = pathlib.Path(__file__).parents[2] / "docs/net/layers-small.cfg"
    net = options.change(options.find(str(layers)), width=0.05)
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 1, shape).astype(np.float32)
        for name, shape in structure.weight_shapes(net, 10).items()
    }
    path = tmp_path / "small.safetensors"
    files.write(str(path), weights, net)
    found = inspect(path, f"--variant={layers}", "--width=0.05")
    assert found["variants"] == ["layers-small.cfg"]
