""".npy files of a pickled dictionary, as bvlc_alexnet.npy is one."""

import os

import numpy as np
import pytest
from weight_nets import NUM_CLASSES, assert_same_bits, random_weights, small_net

from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.weights import files


def saved(path, weights):
    """Caffe's weights for BGR images, named and laid out as TensorFlow's."""
    layers = {}
    for name, array in weights.items():
        layer, _, kind = name.partition("/")
        turned = array[:, :, ::-1] if name == "conv1/kernel" else array
        layers.setdefault(layer, [None, None])[kind == "bias"] = turned
    np.save(path, np.array(layers, dtype=object), allow_pickle=True)


def test_what_numpy_saves_is_read(tmp_path):
    # 131 pixels: fc6 reads 3 x 3 maps, so their order matters.
    net = small_net("caffe", input_size=131)
    weights = random_weights(net)
    path = str(tmp_path / "bvlc_alexnet.npy")
    saved(path, weights)
    found = files.read(path, net)
    files.check(found, net, structure.weight_shapes(net, NUM_CLASSES))
    assert_same_bits(found.weights, weights)


def test_nothing_in_it_is_called(tmp_path):
    mark = tmp_path / "mark"

    class Call:
        def __reduce__(self):
            return os.system, (f"touch {mark}",)

    path = tmp_path / "evil.npy"
    np.save(path, np.array({"conv1": Call()}, dtype=object), allow_pickle=True)
    with pytest.raises(UserError, match=r"asks for \w+\.system.*nothing in it was run"):
        files.read(str(path), small_net("caffe"))
    assert not mark.exists()


def test_cut_files_are_refused(tmp_path):
    path = tmp_path / "net.npy"
    net = small_net("caffe", width=0.001)
    saved(path, random_weights(net))
    data = path.read_bytes()
    for size in (0, 5, 70, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(UserError) as caught:
            files.read(str(path), net)
        assert str(caught.value).isprintable()
