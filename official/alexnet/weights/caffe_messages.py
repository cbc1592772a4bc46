"""Caffe's messages, by google.protobuf: the fields of `caffe.proto` that AlexNets have.

In its present form (`layer`) and in that of 2014 (`layers`, V1), which the published
files are in.
"""

import functools

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import Message

_PACKAGE = "official_alexnet_caffe"
# Of each kind of parameters its field in a layer and in V1's, the numbers of settings
# that change nothing that is computed (fillers, engines), and the others, as below.
_PARAMETERS = {
    "convolution_param": (
        *(106, 10, (7, 8, 15)),
        "num_output:1 bias_term:2:bool=true pad:3* kernel_size:4* group:5=1 stride:6*",
    ),
    "inner_product_param": (117, 17, (3, 4), "num_output:1 bias_term:2:bool=true"),
    "lrn_param": (
        *(118, 18, (6,)),
        "local_size:1=5 alpha:2:float=1 beta:3:float=0.75 norm_region:4:NormRegion "
        "k:5:float=1",
    ),
    "pooling_param": (
        *(121, 19, (11,)),
        "pool:1:PoolMethod kernel_size:2 stride:3=1 pad:4",
    ),
    "concat_param": (104, 9, (), "axis:2=1"),
    "slice_param": (126, 31, (), "slice_point:2* axis:3=1"),
    "relu_param": (123, 30, (2,), "negative_slope:1:float"),
    "tanh_param": (127, 37, (1,), ""),
    "dropout_param": (108, 12, (), "dropout_ratio:1:float=0.5"),
    "softmax_param": (125, 39, (1,), ""),
    "input_param": (143, 143, (), "shape:1:BlobShape*"),
}
HARMLESS = {name: entry[2] for name, entry in _PARAMETERS.items()}
# name:number:type=default of each field; int64 where no type is said, * is repeated.
# Numbers of a blob are bytes here: that is how packed floats lie in the file.
_FIELDS = {
    "BlobShape": "dim:1*",
    "BlobProto": "num:1 channels:2 height:3 width:4 data:5:bytes* shape:7:BlobShape "
    "double_data:8:bytes*",
    "LayerParameter": "name:1:string type:2:string bottom:3:string* top:4:string* "
    "blobs:7:BlobProto* "
    + " ".join(f"{name}:{entry[0]}:{name}" for name, entry in _PARAMETERS.items()),
    # Its `layer` is one of the first form (V0).
    "V1LayerParameter": "layer:1:bytes name:4:string type:5 bottom:2:string* "
    "top:3:string* blobs:6:BlobProto* "
    + " ".join(f"{name}:{entry[1]}:{name}" for name, entry in _PARAMETERS.items()),
    "NetParameter": "name:1:string layers:2:V1LayerParameter* "
    "layer:100:LayerParameter*",
} | {name: entry[3] for name, entry in _PARAMETERS.items()}
_ENUMS = {
    "NormRegion": ("ACROSS_CHANNELS", "WITHIN_CHANNEL"),
    "PoolMethod": ("MAX", "AVE", "STOCHASTIC"),
}
# The types of layers: number among V1's, and field of the parameters.
_TYPES = {
    "Convolution": (4, "convolution_param"),
    "InnerProduct": (14, "inner_product_param"),
    "LRN": (15, "lrn_param"),
    "Pooling": (17, "pooling_param"),
    "Concat": (3, "concat_param"),
    "Slice": (33, "slice_param"),
    "ReLU": (18, "relu_param"),
    "TanH": (23, "tanh_param"),
    "Dropout": (6, "dropout_param"),
    "Softmax": (20, "softmax_param"),
    "Input": (None, "input_param"),
    "Split": (22, None),
    "Flatten": (8, None),
    # In training nets, and without effect on what the net computes.
    **{"Data": (5, None), "ImageData": (12, None), "MemoryData": (29, None)},
    **{"HDF5Data": (9, None), "WindowData": (24, None), "DummyData": (32, None)},
    **{"Accuracy": (1, None), "SoftmaxWithLoss": (21, None), "Silence": (36, None)},
}
PARAMETERS = {name: parameters for name, (_, parameters) in _TYPES.items()}
V1_TYPES = {number: name for name, (number, _) in _TYPES.items() if number}


@functools.cache
def message(name: str) -> type[Message]:
    """The class of one of Caffe's messages."""
    found = _descriptors().FindMessageTypeByName(f"{_PACKAGE}.{name}")
    return message_factory.GetMessageClass(found)


@functools.cache
def _descriptors() -> descriptor_pool.DescriptorPool:
    file = descriptor_pb2.FileDescriptorProto(
        name=f"{_PACKAGE}.proto", package=_PACKAGE, syntax="proto2"
    )
    for name, values in _ENUMS.items():
        enum = file.enum_type.add(name=name)
        for number, value in enumerate(values):
            enum.value.add(name=value, number=number)
    for owner, text in _FIELDS.items():
        added = file.message_type.add(name=owner)
        for entry in text.split():
            described, _, default = entry.partition("=")
            name, number, kind = (described.rstrip("*") + ":int64").split(":")[:3]
            field = added.field.add(name=name, number=int(number))
            field.label = 3 if described.endswith("*") else 1
            if kind in _FIELDS or kind in _ENUMS:
                field.type = 11 if kind in _FIELDS else 14
                field.type_name = f".{_PACKAGE}.{kind}"
            else:
                field.type = field.Type.Value(f"TYPE_{kind.upper()}")
            field.default_value = default
            if not default:
                field.ClearField("default_value")
            field.options.packed = name == "dim"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return pool
