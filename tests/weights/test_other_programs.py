"""Files in the form of other programs: TF-Slim's checkpoints, MatConvNet's .mat."""

import numpy as np
import pytest
import scipy.io
import tensorflow as tf
from weight_nets import (
    NUM_CLASSES,
    assert_refused,
    assert_same_bits,
    by_layer,
    flip_a_bit,
    random_weights,
    read,
    small_net,
)

from official.alexnet import AlexNet
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.modeling.weights import get_weights
from official.alexnet.training import run_weights
from official.alexnet.weights import files

Saver = tf.compat.v1.train.Saver


def as_windows(weights, net):
    """Dense kernels as convolutions: fc6 over the whole maps, the others over 1 x 1."""
    maps = net.convolutions[-1].filters
    windows = dict(weights)
    for name, array in weights.items():
        if name.startswith("fc") and name.endswith("kernel"):
            side = int((len(array) / maps) ** 0.5) if name == "fc6/kernel" else 1
            windows[name] = array.reshape(side, side, -1, array.shape[-1])
    return windows


def save_slim(path, weights, net, version=None):
    """As TF-Slim's training saves `alexnet_v2`, its step and momenta too."""
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        for name, array in as_windows(weights, net).items():
            layer, kind = name.split("/")
            kind = {"kernel": "weights", "bias": "biases"}[kind]
            for suffix in ("", "/Momentum"):
                full = f"alexnet_v2/{layer}/{kind}{suffix}"
                tf.compat.v1.get_variable(full, initializer=array)
        tf.compat.v1.get_variable("global_step", initializer=np.int64(7))
        session.run(tf.compat.v1.global_variables_initializer())
        kind = version or tf.compat.v1.train.SaverDef.V2
        return Saver(write_version=kind).save(session, str(path))


@pytest.fixture(scope="module")
def slim():
    """An eighth as wide; fc6 reads 2 x 2 maps."""
    return small_net("slim", input_size=127)


def test_slims_own_sizes():
    shapes = structure.weight_shapes(VARIANTS["slim"], 1001)
    assert shapes["fc6/kernel"] == (5 * 5 * 256, 4096)
    assert shapes["fc8/kernel"] == (4096, 1001)
    sides = [stage.side for stage in structure.stages(VARIANTS["slim"])]
    assert sides == [54, 26, 12, 12, 12]


@pytest.mark.parametrize("name", ["V1", "V2"])
@pytest.mark.parametrize("num_classes", [NUM_CLASSES, NUM_CLASSES + 1])
def test_a_checkpoint_of_slim(name, num_classes, slim, tmp_path):
    weights = random_weights(slim, num_classes)
    version = getattr(tf.compat.v1.train.SaverDef, name)
    path = save_slim(tmp_path / "model.ckpt", weights, slim, version)
    found = run_weights.read(path, slim)
    files.check(found, slim, structure.weight_shapes(slim, num_classes))
    assert found.num_classes == num_classes
    assert_same_bits(found.weights, weights, any_order=True)
    model = AlexNet(slim, num_classes, weights=path)
    np.testing.assert_array_equal(
        get_weights(model)["fc6/kernel"], weights["fc6/kernel"]
    )


def test_slims_net_computes_what_slims_layers_do(slim):
    weights = random_weights(slim)
    model = AlexNet(slim, NUM_CLASSES, classifier_activation=None)
    run_weights.set_weights(model, weights)
    images = np.random.default_rng(0).normal(0, 50, (2, 127, 127, 3)).astype("f4")
    x = tf.constant(images)
    windows = as_windows(weights, slim)
    for layer in ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"):
        padding = "VALID" if layer in ("conv1", "fc6") else "SAME"
        stride = 4 if layer == "conv1" else 1
        x = tf.nn.conv2d(x, windows[f"{layer}/kernel"], stride, padding)
        x = x + weights[f"{layer}/bias"]
        x = x if layer == "fc8" else tf.nn.relu(x)
        if layer in ("conv1", "conv2", "conv5"):
            x = tf.nn.max_pool2d(x, 3, 2, "VALID")
    assert x.shape == (2, 1, 1, NUM_CLASSES)
    np.testing.assert_allclose(model(images), x[:, 0, 0], rtol=1e-4, atol=1e-3)


def test_a_damaged_checkpoint_of_slim(slim, tmp_path):
    path = save_slim(tmp_path / "model.ckpt", random_weights(slim), slim)
    (data,) = tmp_path.glob("*.data-*")
    flip_a_bit(data)
    with pytest.raises(UserError, match="not a checkpoint of TF-Slim") as caught:
        run_weights.read(path, slim)
    assert str(caught.value).isprintable()
    (tmp_path / "none.ckpt").write_bytes(b"nothing")
    with pytest.raises(UserError, match="not a checkpoint of TF-Slim"):
        run_weights.read(str(tmp_path / "none.ckpt"), slim)


def matconvnets(weights, net, *, is_old, mean):
    """What vl_simplenn_tidy saves: a cell of structs, and meta data beside it."""
    layers = []
    for layer, (kernel, bias) in by_layer(as_windows(weights, net)).items():
        pair = np.empty((1, 2), object)
        pair[0, :] = kernel, bias[None]
        given = {"weights": pair}
        if is_old:
            given = {"filters": kernel, "biases": bias[None]}
        layers.append({"name": layer, "type": "conv", "stride": 1.0} | given)
        layers.append({"name": f"relu{layer[-1]}", "type": "relu"})
    cell = np.empty((1, len(layers)), object)
    cell[0, :] = layers
    names = np.empty((1, NUM_CLASSES), object)
    names[0, :] = [f"class {i}" for i in range(NUM_CLASSES)]
    size = float(net.input_size)
    meta = {
        "normalization": {
            "imageSize": np.array([[size, size, 3.0]]),
            "averageImage": mean,
            "keepAspect": 0.0,
        },
        "classes": {"name": names, "description": names},
    }
    return {"layers": cell} | (meta if is_old else {"meta": meta})


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("is_old", [False, True])
def test_a_file_of_matconvnet(is_old, compressed, tmp_path):
    net = small_net("caffe", input_size=131)
    weights = random_weights(net)
    path = tmp_path / "imagenet-caffe-alex.mat"
    mean = np.random.default_rng(1).uniform(90, 130, (131, 131, 3)).astype("f4")
    content = matconvnets(weights, net, is_old=is_old, mean=mean)
    scipy.io.savemat(path, content, do_compression=compressed)
    found = read(path, net)
    assert_same_bits(found.weights, weights)
    assert found.labels == tuple(f"class {i}" for i in range(NUM_CLASSES))
    known = found.preprocessing
    assert (known.input_size, known.channel_order, known.resize) == (131, "rgb", "warp")
    np.testing.assert_allclose(known.mean, mean.mean((0, 1)), rtol=1e-5)
    # The centre of the 256 x 256 mean image is the file's.
    np.testing.assert_array_equal(known.mean_image[62:193, 62:193], mean)


def test_files_that_are_not_matconvnets(tmp_path):
    path, net = tmp_path / "net.mat", small_net("caffe")
    for content, text in (
        (b"", "no MATLAB file"),
        (b"\x89HDF\r\n\x1a\n" + bytes(200), "no MATLAB file"),
        ({"x": np.zeros(3)}, "no kernels and biases"),
        ({"layers": np.zeros(3)}, "no kernels and biases"),
        ({"layers": np.zeros((1, 10**7))}, "grows more than weights do"),
    ):
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            scipy.io.savemat(path, content, do_compression=True)
        assert_refused(path, net, text)
    weights = random_weights(net)
    content = matconvnets(weights, net, is_old=True, mean=np.full((7, 7, 3), 300.0))
    scipy.io.savemat(path, content)
    assert_refused(path, net, "averageImage")


@pytest.mark.parametrize(("at", "byte"), [(-2, 5), (-8, 200)])
def test_elements_that_would_crash_scipy_are_refused(at, byte, tmp_path):
    """The size and the type of an array's name, which is empty."""
    path = tmp_path / "net.mat"
    scipy.io.savemat(path, {"layers": {"weights": np.ones((3, 4), "f4")}})
    data = bytearray(path.read_bytes())
    data[data.index(b"\7\0\0\0\x30\0\0\0") + at] = byte
    path.write_bytes(data)
    text = "of type 200 in it has no place|is cut off"
    assert_refused(path, small_net("caffe"), text)
