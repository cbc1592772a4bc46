"""Small nets with random weights, and Caffe's messages as protobuf has them."""

import functools

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

from official.alexnet.modeling import options, structure
from official.alexnet.modeling.variants import find_variant

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


def assert_same_bits(found, wanted):
    assert list(found) == list(wanted)
    for name, array in wanted.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].tobytes() == array.tobytes(), name
        assert found[name].shape == array.shape, name


# Written down again from caffe.proto: (name, number, type, repeated, packed).
_MESSAGES = {
    "BlobShape": [("dim", 1, "int64", True, True)],
    "BlobProto": [
        ("num", 1, "int64", False, False),
        ("channels", 2, "int64", False, False),
        ("height", 3, "int64", False, False),
        ("width", 4, "int64", False, False),
        ("data", 5, "float", True, True),
        ("diff", 6, "float", True, True),
        ("shape", 7, "BlobShape", False, False),
        ("double_data", 8, "double", True, True),
    ],
    "UnpackedBlob": [
        ("data", 5, "float", True, False),
        ("shape", 7, "BlobShape", False, False),
        ("double_data", 8, "double", True, False),
    ],
    "ConvolutionParameter": [
        ("num_output", 1, "uint32", False, False),
        ("bias_term", 2, "bool", False, False),
        ("pad", 3, "uint32", True, False),
        ("kernel_size", 4, "uint32", True, False),
        ("group", 5, "uint32", False, False),
        ("stride", 6, "uint32", True, False),
        ("dilation", 18, "uint32", True, False),
    ],
    "InnerProductParameter": [("num_output", 1, "uint32", False, False)],
    "LRNParameter": [
        ("local_size", 1, "uint32", False, False),
        ("alpha", 2, "float", False, False),
        ("beta", 3, "float", False, False),
        ("norm_region", 4, "int32", False, False),
        ("k", 5, "float", False, False),
    ],
    "PoolingParameter": [
        ("pool", 1, "int32", False, False),
        ("kernel_size", 2, "uint32", False, False),
        ("stride", 3, "uint32", False, False),
    ],
    "SliceParameter": [
        ("slice_point", 2, "uint32", True, False),
        ("axis", 3, "int32", False, False),
    ],
    "DropoutParameter": [("dropout_ratio", 1, "float", False, False)],
    "LayerParameter": [
        ("name", 1, "string", False, False),
        ("type", 2, "string", False, False),
        ("bottom", 3, "string", True, False),
        ("top", 4, "string", True, False),
        ("blobs", 7, "BlobProto", True, False),
        ("phase", 10, "int32", False, False),
        ("convolution_param", 106, "ConvolutionParameter", False, False),
        ("dropout_param", 108, "DropoutParameter", False, False),
        ("inner_product_param", 117, "InnerProductParameter", False, False),
        ("lrn_param", 118, "LRNParameter", False, False),
        ("pooling_param", 121, "PoolingParameter", False, False),
        ("slice_param", 126, "SliceParameter", False, False),
    ],
    "V1LayerParameter": [
        ("bottom", 2, "string", True, False),
        ("top", 3, "string", True, False),
        ("name", 4, "string", False, False),
        ("type", 5, "int32", False, False),
        ("blobs", 6, "BlobProto", True, False),
        ("blobs_lr", 7, "float", True, False),
        ("convolution_param", 10, "ConvolutionParameter", False, False),
        ("inner_product_param", 17, "InnerProductParameter", False, False),
        ("lrn_param", 18, "LRNParameter", False, False),
        ("pooling_param", 19, "PoolingParameter", False, False),
    ],
    "NetParameter": [
        ("name", 1, "string", False, False),
        ("layers", 2, "V1LayerParameter", True, False),
        ("input", 3, "string", True, False),
        ("layer", 100, "LayerParameter", True, False),
    ],
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
        for field, number, kind, repeated, packed in fields:
            added = message.field.add(name=field, number=number)
            added.label = kinds.LABEL_REPEATED if repeated else kinds.LABEL_OPTIONAL
            if kind in _MESSAGES:
                added.type, added.type_name = kinds.TYPE_MESSAGE, f".caffe.{kind}"
            else:
                added.type = getattr(kinds, f"TYPE_{kind.upper()}")
            if packed:
                added.options.packed = True
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(
            pool.FindMessageTypeByName(f"caffe.{name}")
        )
        for name in _MESSAGES
    }
