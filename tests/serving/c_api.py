"""Runs a SavedModel by TensorFlow's C API, as its Go and Java bindings do.

Arguments: library, SavedModel, inputs (.npz), a JSON file of calls, answers (.npz). A
call is the name of an input in the .npz and in the graph, and the graph's outputs.
"""

import ctypes
import json
import pathlib
import sys
from ctypes import POINTER, byref, c_char_p, c_int, c_int64, c_size_t, c_void_p

import numpy as np


class Port(ctypes.Structure):
    """`TF_Output`."""

    _fields_ = (("operation", c_void_p), ("index", c_int))


TYPES = {1: np.float32, 4: np.uint8, 9: np.int64}
STRING, STRING_SIZE = 7, 24

tf = ctypes.CDLL(sys.argv[1])
for name, result, *arguments in (
    ("TF_NewStatus", c_void_p),
    ("TF_NewGraph", c_void_p),
    ("TF_NewSessionOptions", c_void_p),
    ("TF_GetCode", c_int, c_void_p),
    ("TF_Message", c_char_p, c_void_p),
    (
        *("TF_LoadSessionFromSavedModel", c_void_p, c_void_p, c_void_p, c_char_p),
        *(POINTER(c_char_p), c_int, c_void_p, c_void_p, c_void_p),
    ),
    ("TF_GraphOperationByName", c_void_p, c_void_p, c_char_p),
    ("TF_AllocateTensor", c_void_p, c_int, POINTER(c_int64), c_int, c_size_t),
    ("TF_TensorData", c_void_p, c_void_p),
    ("TF_TensorType", c_int, c_void_p),
    ("TF_NumDims", c_int, c_void_p),
    ("TF_Dim", c_int64, c_void_p, c_int),
    ("TF_StringInit", None, c_void_p),
    ("TF_StringCopy", None, c_void_p, c_char_p, c_size_t),
    (
        *("TF_SessionRun", None, c_void_p, c_void_p),
        *(POINTER(Port), POINTER(c_void_p), c_int),
        *(POINTER(Port), POINTER(c_void_p), c_int),
        *(c_void_p, c_int, c_void_p, c_void_p),
    ),
):
    getattr(tf, name).restype = result
    getattr(tf, name).argtypes = arguments

status, graph = tf.TF_NewStatus(), tf.TF_NewGraph()


def check() -> None:
    if tf.TF_GetCode(status):
        sys.exit(tf.TF_Message(status).decode())


def port(name: str) -> Port:
    operation, index = name.split(":")
    return Port(tf.TF_GraphOperationByName(graph, operation.encode()), int(index))


def to_tensor(array: np.ndarray) -> int:
    sides = (c_int64 * array.ndim)(*array.shape)
    if array.dtype != object:
        (kind,) = (number for number, dtype in TYPES.items() if dtype == array.dtype)
        tensor = tf.TF_AllocateTensor(kind, sides, array.ndim, array.nbytes)
        ctypes.memmove(tf.TF_TensorData(tensor), array.tobytes(), array.nbytes)
        return tensor
    tensor = tf.TF_AllocateTensor(STRING, sides, array.ndim, STRING_SIZE * array.size)
    for i, value in enumerate(array):
        place = tf.TF_TensorData(tensor) + STRING_SIZE * i
        tf.TF_StringInit(place)
        tf.TF_StringCopy(place, value, len(value))
    return tensor


def to_array(tensor: int) -> np.ndarray:
    shape = [tf.TF_Dim(tensor, i) for i in range(tf.TF_NumDims(tensor))]
    array = np.empty(shape, TYPES[tf.TF_TensorType(tensor)])
    ctypes.memmove(array.ctypes.data, tf.TF_TensorData(tensor), array.nbytes)
    return array


session = tf.TF_LoadSessionFromSavedModel(
    *(tf.TF_NewSessionOptions(), None, sys.argv[2].encode()),
    *((c_char_p * 1)(b"serve"), 1, graph, None, status),
)
check()
inputs, answers = np.load(sys.argv[3], allow_pickle=True), {}
calls = json.loads(pathlib.Path(sys.argv[4]).read_text())
for key, (name, images, outputs) in calls.items():
    count = len(outputs)
    found = (c_void_p * count)()
    tf.TF_SessionRun(
        *(session, None, byref(port(images)), (c_void_p * 1)(to_tensor(inputs[name]))),
        *(1, (Port * count)(*map(port, outputs.values())), found, count),
        *(None, 0, None, status),
    )
    check()
    for output, tensor in zip(outputs, found, strict=True):
        answers[f"{key}/{output}"] = to_array(tensor)
np.savez(sys.argv[5], **answers)
assert "tensorflow" not in sys.modules
