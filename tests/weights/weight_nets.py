"""Small nets, files of their weights, and Caffe's messages as protobuf has them."""

import functools
import io
import zipfile

import numpy as np
import pytest
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from official.alexnet.errors import UserError
from official.alexnet.modeling import options, structure
from official.alexnet.modeling.variants import find_variant
from official.alexnet.weights import files

NUM_CLASSES = 5


def small_net(variant, **changes):
    """A row of the table, an eighth as wide, for 67 or 64 pixels."""
    net = find_variant(variant)
    size = 67 if net.convolutions[0].padding == (0, 0) else 64
    return options.change(net, **({"width": 0.125, "input_size": size} | changes))


def random_weights(net, num_classes=NUM_CLASSES, seed=0):
    """Different numbers everywhere, of a size that keeps the signal alive."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in structure.weight_shapes(net, num_classes).items():
        scale = 1 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.1
        weights[name] = rng.normal(0, scale, shape).astype(np.float32)
    return weights


def assert_same_bits(found, wanted, any_order=False):
    order = set if any_order else list
    assert order(found) == order(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].shape == array.shape, name


def written(path, net, num_classes=NUM_CLASSES):
    """The path of a file of random weights."""
    files.write(str(path), random_weights(net, num_classes), net)
    return str(path)


def read(path, net, num_classes=NUM_CLASSES):
    """A file, as `load_into` reads it."""
    found = files.read(str(path), net)
    files.check(found, net, structure.weight_shapes(net, num_classes))
    return found


def assert_refused(path, net, text=None):
    """A file is refused in one line that can be printed, and says why."""
    with pytest.raises(UserError, match=text) as caught:
        files.read(str(path), net)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


def flip_a_bit(path):
    """In the middle of the file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def with_member(archive, name, content):
    """The bytes of a zip archive with other content of one member."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(archive)) as old,
        zipfile.ZipFile(buffer, "w") as new,
    ):
        assert name in old.namelist()
        for info in old.infolist():
            is_other = info.filename == name
            new.writestr(info.filename, content if is_other else old.read(info))
    return buffer.getvalue()


def by_layer(weights):
    """Kernel and biases of each layer."""
    layers = {}
    for name, array in weights.items():
        layers.setdefault(name.partition("/")[0], []).append(array)
    return layers


def save_npy(path, weights):
    """Caffe's weights for BGR images, named and laid out as TensorFlow's."""
    turned = {"conv1/kernel": weights["conv1/kernel"][:, :, ::-1]}
    layers = np.array(by_layer(weights | turned), dtype=object)
    np.save(path, layers, allow_pickle=True)


# Written down again from caffe.proto.
_MESSAGES = {
    "BlobShape": "packed int64 dim = 1",
    "BlobProto": "int64 num = 1; int64 channels = 2; int64 height = 3; "
    "int64 width = 4; packed float data = 5; packed float diff = 6; "
    "BlobShape shape = 7; packed double double_data = 8",
    "UnpackedBlob": "repeated float data = 5; BlobShape shape = 7; "
    "repeated double double_data = 8",
    "ConvolutionParameter": "uint32 num_output = 1; bool bias_term = 2; "
    "repeated uint32 pad = 3; repeated uint32 kernel_size = 4; uint32 group = 5; "
    "repeated uint32 stride = 6; repeated uint32 dilation = 18",
    "InnerProductParameter": "uint32 num_output = 1",
    "LRNParameter": "uint32 local_size = 1; float alpha = 2; float beta = 3; "
    "int32 norm_region = 4; float k = 5",
    "PoolingParameter": "int32 pool = 1; uint32 kernel_size = 2; uint32 stride = 3",
    "SliceParameter": "repeated uint32 slice_point = 2; int32 axis = 3",
    "DropoutParameter": "float dropout_ratio = 1",
    "LayerParameter": "string name = 1; string type = 2; repeated string bottom = 3; "
    "repeated string top = 4; repeated BlobProto blobs = 7; int32 phase = 10; "
    "ConvolutionParameter convolution_param = 106; "
    "DropoutParameter dropout_param = 108; "
    "InnerProductParameter inner_product_param = 117; LRNParameter lrn_param = 118; "
    "PoolingParameter pooling_param = 121; SliceParameter slice_param = 126",
    "V1LayerParameter": "repeated string bottom = 2; repeated string top = 3; "
    "string name = 4; int32 type = 5; repeated BlobProto blobs = 6; "
    "repeated float blobs_lr = 7; ConvolutionParameter convolution_param = 10; "
    "InnerProductParameter inner_product_param = 17; LRNParameter lrn_param = 18; "
    "PoolingParameter pooling_param = 19",
    "NetParameter": "string name = 1; repeated V1LayerParameter layers = 2; "
    "repeated string input = 3; repeated LayerParameter layer = 100",
}
V1_TYPES = {
    **{"Convolution": 4, "Data": 5, "Dropout": 6, "InnerProduct": 14, "LRN": 15},
    **{"Pooling": 17, "ReLU": 18, "Softmax": 20, "SoftmaxWithLoss": 21},
}


@functools.cache
def caffe_messages():
    """Classes of Caffe's messages, made by protobuf itself."""
    file = descriptor_pb2.FileDescriptorProto(
        name="caffe_of_the_tests.proto", package="caffe", syntax="proto2"
    )
    kinds = descriptor_pb2.FieldDescriptorProto
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split("; "):
            *label, kind, field_name, _, number = field.split()
            added = message.field.add(name=field_name, number=int(number))
            added.label = kinds.LABEL_REPEATED if label else kinds.LABEL_OPTIONAL
            added.options.packed = label == ["packed"]
            if kind in _MESSAGES:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found = {name: pool.FindMessageTypeByName(f"caffe.{name}") for name in _MESSAGES}
    return {name: message_factory.GetMessageClass(f) for name, f in found.items()}
