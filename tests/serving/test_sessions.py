"""The SavedModel in a session: `tf.compat.v1`, and the C API without Python's part.

TensorFlow Serving and the C, Java and Go bindings load one in this way.
"""

import contextlib
import json
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf
from interchange_nets import make_images, make_net
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from official.alexnet.modeling.columns import portable
from official.alexnet.serving.signatures import ServedAlexNet

LAYERS = ("conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8")

# net, portable, dtype
CASES = {
    "not portable": ("batch_norm", False, "float32"),
    "spatial norm": ("original", True, "mixed_bfloat16"),
    "one column": ("cuda_convnet2", False, "mixed_bfloat16"),
    "pooling rounds up": ("caffenet", True, "float32"),
    "no norm": ("owt", False, "float32"),
}


def test_an_export_answers_in_a_session(all_formats, tmp_path):
    *columns, fc8 = LAYERS
    layers = [fc8, *(name + column for name in columns for column in "ab")]
    weights = [f"{layer}/{kind}" for layer in layers for kind in ("kernel", "bias")]
    check_sessions(all_formats.folder / "saved_model", weights, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_every_kind_of_net_answers_in_a_session(case, tmp_path):
    name, is_portable, dtype = CASES[case]
    mean = np.random.default_rng(1).uniform(60, 180, (64, 64, 3)).astype(np.float32)
    net = make_net(
        name,
        make_images(3, 256)[:, 96:160, 96:160] - mean,
        input_size=64,
        classifier_activation=None,
        dtype=dtype,
    )
    served = ServedAlexNet(net, mean, 1.0)
    with portable() if is_portable else contextlib.nullcontext():
        tf.saved_model.save(served, str(tmp_path / "saved"), served.signatures())
    weights = [weight.path for layer in net.layers for weight in layer.weights]
    check_sessions(tmp_path / "saved", weights, tmp_path)


def check_sessions(path: pathlib.Path, weights: list[str], folder: pathlib.Path):
    """Each weight is in the file once; every signature answers, for no image too."""
    (graph,) = SavedModel.FromString((path / "saved_model.pb").read_bytes()).meta_graphs
    handles = [node.name for node in graph.graph_def.node if node.op == "VarHandleOp"]
    assert sorted(handles) == sorted(weights)
    stored = tf.train.list_variables(str(path / "variables" / "variables"))
    assert len([shape for _, shape in stored if shape]) == len(weights)

    images = make_images(3, 256)
    encoded = [tf.io.encode_png(image).numpy() for image in images]
    inputs = {"images": images, "image_bytes": np.array(encoded, object)}
    inputs |= {f"no_{name}": value[:0] for name, value in inputs.items()}
    expected, calls = {}, {}
    loaded = tf.saved_model.load(str(path))
    for key in ("serving_default", "image_tensor", "features"):
        signature = graph.signature_def[key]
        ((name, feed),) = signature.inputs.items()
        outputs = {name: output.name for name, output in signature.outputs.items()}
        for given in (name, f"no_{name}"):
            calls[f"{key}/{given}"] = (given, feed.name, outputs)
            answer = loaded.signatures[key](tf.constant(inputs[given], feed.dtype))
            for output, value in answer.items():
                expected[f"{key}/{given}/{output}"] = value.numpy()
    assert np.ptp(expected["image_tensor/images/probabilities"], axis=0).max() > 0.05
    for run in (by_session, by_c_api):
        found = run(path, inputs, calls, folder)
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert found[key].shape == value.shape, key
            np.testing.assert_allclose(found[key], value, rtol=1e-5, atol=1e-5)


def by_session(path, inputs: dict, calls: dict, _) -> dict[str, np.ndarray]:
    answers = {}
    with tf.Graph().as_default(), tf.compat.v1.Session() as session:
        tf.compat.v1.saved_model.loader.load(session, ["serve"], str(path))
        for key, (name, images, outputs) in calls.items():
            found = session.run(outputs, {images: inputs[name]})
            answers |= {f"{key}/{output}": value for output, value in found.items()}
    return answers


def by_c_api(path, inputs: dict, calls: dict, folder) -> dict[str, np.ndarray]:
    library = pathlib.Path(tf.sysconfig.get_lib()) / "libtensorflow_cc.so.2"
    if not library.exists():
        pytest.skip("this TensorFlow has no library of its own for C")
    np.savez(folder / "inputs.npz", **inputs)
    (folder / "calls.json").write_text(json.dumps(calls))
    script = pathlib.Path(__file__).parent / "c_api.py"
    done = subprocess.run(
        [
            *(sys.executable, script, library, path, "inputs.npz"),
            *("calls.json", "answers.npz"),
        ],
        capture_output=True,
        text=True,
        cwd=folder,
        env={"PATH": "", "TF_CPP_MIN_LOG_LEVEL": "2"},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return dict(np.load(folder / "answers.npz"))
