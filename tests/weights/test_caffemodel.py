""".caffemodel and mean files: written and read by protobuf, run by OpenCV."""

import dataclasses

import numpy as np
import pytest
from slow_cases import slow_but
from weight_nets import (
    NUM_CLASSES,
    V1_TYPES,
    assert_refused,
    assert_same_bits,
    by_layer,
    caffe_messages,
    random_weights,
    read,
    small_net,
    written,
)

from official.alexnet import AlexNet
from official.alexnet.errors import UserError
from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.weights import caffemodel

# bvlc_alexnet's and CaffeNet's first layers, as their train_val.prototxt have them.
HEADS = {
    "caffe": ("LRN", "Pooling", "Convolution", "ReLU", "LRN", "Pooling"),
    "caffenet": ("Pooling", "LRN", "Convolution", "ReLU", "Pooling", "LRN"),
}


def blob_of(array, legacy=False, kind="BlobProto", doubles=False):
    blob = caffe_messages()[kind]()
    (blob.double_data if doubles else blob.data).extend(array.ravel().tolist())
    if legacy:
        shape = (1,) * (4 - array.ndim) + array.shape
        blob.num, blob.channels, blob.height, blob.width = shape
    else:
        blob.shape.dim.extend(array.shape)
    return blob


def caffes_weights(net):
    """Random weights in Caffe's layout, made without this package's conversion."""
    rng = np.random.default_rng(0)
    arrays = {}
    for name, shape in structure.weight_shapes(net, NUM_CLASSES).items():
        axes = (3, 2, 0, 1) if len(shape) == 4 else range(len(shape))[::-1]
        array = rng.normal(0, 0.1, [shape[axis] for axis in axes])
        arrays[name] = array.astype(np.float32)
    return by_layer(arrays)


def published_net(variant, arrays, v1=False, **options):
    """A training net as Caffe saves it, message by message."""
    net = caffe_messages()["NetParameter"](name=variant)
    bottom = "data"

    def add(name, kind, blobs=(), in_place=False, bottoms=None):
        nonlocal bottom
        layer = net.layers.add() if v1 else net.layer.add()
        layer.name, layer.type = name, V1_TYPES[kind] if v1 else kind
        layer.bottom.extend([bottom] if bottoms is None else bottoms)
        if bottoms is None and not in_place:
            bottom = name
        layer.top.append(bottom if bottoms is None else name)
        for array in blobs:
            layer.blobs.add().ParseFromString(
                blob_of(array, legacy=v1, **options).SerializeToString()
            )
        return layer

    add("data", "Data", bottoms=[]).top.append("label")

    def convolution(name, group=1, pad=0, stride=1):
        kernel, bias = arrays[name]
        param = add(name, "Convolution", (kernel, bias)).convolution_param
        param.num_output = len(bias)
        param.kernel_size.append(kernel.shape[-1])
        if group > 1:
            param.group = group
        if pad:
            param.pad.append(pad)
        if stride > 1:
            param.stride.append(stride)

    def pool(number):
        param = add(f"pool{number}", "Pooling").pooling_param
        param.pool, param.kernel_size, param.stride = 0, 3, 2

    def lrn(number):
        param = add(f"norm{number}", "LRN").lrn_param
        param.local_size, param.alpha, param.beta = 5, 0.0001, 0.75

    convolution("conv1", stride=4)
    add("relu1", "ReLU", in_place=True)
    for kind in HEADS[variant][:2]:
        {"LRN": lrn, "Pooling": pool}[kind](1)
    convolution("conv2", group=2, pad=2)
    add("relu2", "ReLU", in_place=True)
    for kind in HEADS[variant][4:]:
        {"LRN": lrn, "Pooling": pool}[kind](2)
    for number, group in ((3, 1), (4, 2), (5, 2)):
        convolution(f"conv{number}", group=group, pad=1)
        add(f"relu{number}", "ReLU", in_place=True)
    pool(5)
    for number in (6, 7):
        layer = add(f"fc{number}", "InnerProduct", arrays[f"fc{number}"])
        layer.inner_product_param.num_output = len(arrays[f"fc{number}"][1])
        add(f"relu{number}", "ReLU", in_place=True)
        add(f"drop{number}", "Dropout", in_place=True)
    layer = add("fc8", "InnerProduct", arrays["fc8"])
    layer.inner_product_param.num_output = NUM_CLASSES
    add("loss", "SoftmaxWithLoss", bottoms=["fc8", "label"])
    return net


def in_our_layout(arrays, net):
    """By index, weight for weight."""
    found = {}
    for layer, (kernel, bias) in arrays.items():
        if kernel.ndim == 4:
            ours = np.einsum("oihw->hwio", kernel)
            if layer == "conv1":
                ours = ours[:, :, [2, 1, 0]]
        elif layer == "fc6":
            maps = arrays["conv5"][0].shape[0]
            side = int((kernel.shape[1] / maps) ** 0.5)
            cube = kernel.reshape(-1, maps, side, side)
            ours = np.einsum("oihw->hwio", cube).reshape(-1, len(kernel))
        else:
            ours = kernel.T
        found[f"{layer}/kernel"], found[f"{layer}/bias"] = ours, bias
    return found


@pytest.mark.parametrize("variant", ["caffe", "caffenet"])
@pytest.mark.parametrize("form", ["layer", "V1", "unpacked", "double"])
def test_what_caffe_saves(variant, form, tmp_path):
    # 131 pixels: fc6 reads 3 x 3 maps, so their order matters.
    net = small_net(variant, input_size=131)
    arrays = caffes_weights(net)
    kind = "UnpackedBlob" if form == "unpacked" else "BlobProto"
    options = {"v1": form == "V1", "doubles": form == "double", "kind": kind}
    found = read(write(published_net(variant, arrays, **options), tmp_path), net)
    wanted = in_our_layout(arrays, net)
    assert found.weights["fc6/kernel"].shape[0] == 9 * len(arrays["conv5"][1])
    assert_same_bits(found.weights, wanted)


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_protobuf_reads_what_is_written(variant, tmp_path):
    net = small_net(variant)
    weights, path = random_weights(net), tmp_path / "net.caffemodel"
    written(path, net)
    message = caffe_messages()["NetParameter"].FromString(path.read_bytes())
    by_name = {layer.name: layer for layer in message.layer}
    conv1 = by_name["conv1"]
    assert conv1.type == "Convolution"
    assert list(conv1.convolution_param.stride) == [4]
    bgr = np.einsum("hwio->oihw", weights["conv1/kernel"])[:, ::-1]
    np.testing.assert_array_equal(np.float32(conv1.blobs[0].data), bgr.ravel())
    assert list(conv1.blobs[0].shape.dim) == list(bgr.shape)
    np.testing.assert_array_equal(conv1.blobs[1].data, weights["conv1/bias"])
    assert message.layer[0].type == "Input"
    assert message.layer[-1].type == "Softmax"


def assert_same_logits_in_opencv(net, path):
    written(path, net)
    model = AlexNet(net, NUM_CLASSES, classifier_activation=None, weights=str(path))
    shape = (2, net.input_size, net.input_size, 3)
    images = np.random.default_rng(1).normal(0, 60, shape).astype(np.float32)
    ours = model(images).numpy()
    before, after = net.convolutions[0].padding
    theirs = logits_of_opencv(path, images, after - before)
    assert np.abs(ours - ours[:1]).max() > 0.01 * np.abs(ours).max()
    np.testing.assert_allclose(theirs, ours, rtol=0, atol=1e-4 * np.abs(ours).max())


def logits_of_opencv(path, images, pad):
    cv2 = pytest.importorskip("cv2")
    if not hasattr(cv2.dnn, "readNetFromCaffe"):
        pytest.skip("OpenCV 5 cannot read Caffe's files: install '.[oracles]'")
    net = cv2.dnn.readNetFromCaffe(str(path.with_suffix(".prototxt")), str(path))
    images = np.pad(images, ((0, 0), (0, pad), (0, pad), (0, 0)))
    blobs = np.ascontiguousarray(images[..., ::-1].transpose(0, 3, 1, 2))
    logits = []
    for blob in blobs:
        net.setInput(blob[None])
        logits.append(net.forward("fc8")[0])
    return np.array(logits)


@pytest.mark.parametrize(
    "variant", slow_but(("paper", "one_gpu", "caffe", "owt"), sorted(VARIANTS))
)
def test_opencv_computes_the_same_logits(variant, tmp_path):
    # At 224 slim's pooling leaves a column out, which Caffe's does not.
    net = small_net(variant, input_size=227 if variant == "slim" else None)
    # OpenCV knows no k but 1. With alpha 30 times as large the rest of LRN matters.
    lrn = dataclasses.replace(net.lrn, k=1.0, alpha=30 * net.lrn.alpha)
    net = dataclasses.replace(net, lrn=lrn)
    assert_same_logits_in_opencv(net, tmp_path / "net.caffemodel")


@pytest.mark.parametrize("variant", ["caffe", "caffenet"])
def test_opencv_on_the_published_nets(variant, tmp_path):
    net = small_net(variant, input_size=None)
    assert_same_logits_in_opencv(net, tmp_path / "net.caffemodel")


def test_wrong_variant(tmp_path):
    net, other = small_net("caffe"), small_net("caffenet")
    path = write(published_net("caffenet", caffes_weights(other)), tmp_path)
    text = r"pool1 \(Pooling\) stands where this net has norm1 \(LRN\)"
    with pytest.raises(UserError, match=text):
        AlexNet(net, NUM_CLASSES, weights=path)
    AlexNet(other, NUM_CLASSES, weights=path)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda n: n.layer[3].lrn_param.ClearField("alpha"), "norm1 has alpha 1.0"),
        (lambda n: setattr(n.layer[3].lrn_param, "norm_region", 1), "norm_region"),
        (lambda n: setattr(n.layer[4].pooling_param, "pool", 1), "pool1 has pool AVE"),
        (lambda n: setattr(n.layer[1], "type", "Deconvolution"), "Deconvolution"),
        (lambda n: setattr(n.layer[2], "type", "TanH"), r"relu1 \(TanH\)"),
        (lambda n: n.layer.__delitem__(2), r"norm1 \(LRN\) stands where .* relu1"),
        (
            lambda n: n.layer[5].convolution_param.stride.append(2),
            "conv2 has stride 2, this net's conv2 1",
        ),
        (
            lambda n: n.layer[5].convolution_param.dilation.append(2),
            "layer conv2 has a setting that no AlexNet has, number 18",
        ),
        (lambda n: n.layer[5].bottom.__setitem__(0, "conv1"), "conv2 reads something"),
        (lambda n: n.layer[5].blobs.__delitem__(1), r"conv2 .* holds 1 blobs"),
        (lambda n: n.layer[5].blobs[0].shape.dim.__setitem__(0, 31), "should have"),
        (
            lambda n: n.layer[5].blobs[0].shape.dim.__setitem__(0, -(2**62)),
            "should have",
        ),
        (lambda n: setattr(n.layer[5], "name", "conv1"), "conv1 stands in it twice"),
        (lambda n: setattr(n.layer[5], "name", "conv9"), "lacks conv2/kernel"),
        (lambda n: n.layer[5].blobs[0].data.__setitem__(0, np.nan), "NaN or infinity"),
        (lambda n: n.ClearField("layer"), "no layer with weights"),
    ],
)
def test_layers_that_are_not_the_nets(change, text, tmp_path):
    net = small_net("caffe")
    message = published_net("caffe", caffes_weights(net))
    AlexNet(net, NUM_CLASSES, weights=write(message, tmp_path))
    change(message)
    with pytest.raises(UserError, match=text):
        AlexNet(net, NUM_CLASSES, weights=write(message, tmp_path))


def write(message, tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(message.SerializeToString())
    return str(path)


def test_ten_gigabytes_in_a_kilobyte(tmp_path):
    message = caffe_messages()["NetParameter"]()
    layer = message.layer.add(name="conv1", type="Convolution")
    blob = layer.blobs.add()
    blob.shape.dim.extend([2_500_000_000, 1, 1, 1])
    blob.data.extend([1.0] * 200)
    text = "2500000000 numbers of 4 bytes"
    assert_refused(write(message, tmp_path), small_net("caffe"), text)
    blob.shape.dim[:] = [2**62, 2**62, 2**62, 0]
    assert_refused(write(message, tmp_path), small_net("caffe"), "800 bytes")


def test_a_first_generation_file_is_named(tmp_path):
    # V1LayerParameter.layer (1) is a V0LayerParameter.
    content = b"\x12\x04\x0a\x02\x0a\x00"
    with pytest.raises(ValueError, match="upgrade_net_proto_binary"):
        caffemodel.read(content)


def test_mean_image():
    mean = np.random.default_rng(0).uniform(0, 255, (1, 3, 4, 5)).astype(np.float32)
    read = caffemodel.read_blob(blob_of(mean, legacy=True).SerializeToString())
    np.testing.assert_array_equal(read, mean)


def test_what_caffe_cannot_hold(tmp_path):
    path = tmp_path / "net.caffemodel"
    with pytest.raises(UserError, match="batch normalisation"):
        written(path, small_net("caffe", normalization="batch_norm"))
    # Floor and ceiling differ here: 16 x 16 maps.
    with pytest.raises(UserError, match="Caffe's pooling keeps a last window"):
        written(path, small_net("owt", input_size=68))
    assert not list(tmp_path.iterdir())


def test_the_prototxt_says_what_the_input_is(tmp_path):
    written(tmp_path / "net.caffemodel", small_net("paper"))
    text = (tmp_path / "net.prototxt").read_text()
    assert "# Input: BGR." in text
    assert "64 x 64 has 3 zeros at its bottom and right" in text
    assert text.split().count("67") == 2
    assert "OpenCV ignores k" in text
    written(tmp_path / "net.caffemodel", small_net("caffe"))
    assert "OpenCV" not in (tmp_path / "net.prototxt").read_text()
