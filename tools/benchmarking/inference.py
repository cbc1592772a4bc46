"""Suite inference: probabilities of a batch, all peers with the same weights."""

import contextlib
import dataclasses
import functools
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from benchmarking import layers, networks, train
from benchmarking.report import Suite
from benchmarking.settings import Settings
from benchmarking.timing import Row, enter
from official.alexnet.backend import keras
from official.alexnet.data import dataset, preprocessing
from official.alexnet.data.statistics import IMAGE_SHAPE, STATISTICS_FILE
from official.alexnet.modeling.weights import copy_weights
from official.alexnet.serving.export import export
from official.alexnet.serving.signatures import ServedAlexNet
from official.alexnet.training import building
from official.alexnet.training.checkpoints import Checkpoints, Progress
from official.alexnet.training.optimizer import PaperSGD

# Largest difference of a probability, with which two nets count as the same.
TOLERANCE = 1e-3


@dataclasses.dataclass(frozen=True)
class Job:
    """What all contenders share.

    Attributes:
        settings: of the benchmark.
        work_dir: a folder to work in.
        model: our net in float32, with probabilities as its output.
        images: (batch, size, size, 3) float32, mean subtracted.
        pixels: (batch, 256, 256, 3) uint8.
    """

    settings: Settings
    work_dir: pathlib.Path
    model: keras.Model
    images: np.ndarray
    pixels: np.ndarray

    @property
    def channels_first(self) -> np.ndarray:
        return np.ascontiguousarray(self.images.transpose(0, 3, 1, 2))


@contextlib.contextmanager
def inference(settings: Settings, work_dir: pathlib.Path) -> Suite:
    """Everyone on one batch, after a look at what they answer."""
    rng = np.random.default_rng(0)
    size, count = settings.input_size, settings.batch_size
    images = rng.uniform(-127.5, 127.5, (count, size, size, 3)).astype(np.float32)
    model = networks.our_net(settings, "fp32")
    give_lively_weights(model, images[:16])
    pixels = rng.integers(0, 256, (count, *IMAGE_SHAPE), np.uint8)
    job = Job(settings, work_dir, model, images, pixels)
    peers = {
        "keras": _keras,
        "torch": _torch,
        "onnxruntime": _onnxruntime,
        "openvino": _openvino,
    }
    rows = []
    for dtype in dict.fromkeys(("fp32", *settings.dtypes)):
        rows.append(_ours(job, dtype))
        if dtype not in settings.dtypes:
            continue
        rows += [layers.limit(settings, dtype, backward=False), *_served(job, dtype)]
        rows += enter(settings.peers, peers, dtype, job, dtype)
    note_differences(rows)
    yield rows, []


def note_differences(rows: Sequence[Row]) -> None:
    """Says of a row whose probabilities are not ours that it differs.

    A row from pixels is compared with ours from pixels, the others with ours; both in
    fp32.
    """
    expected = {}
    for row in rows:
        if row.run is None or row.name == "limit":
            continue
        answer = np.array(row.run())
        expected.setdefault(row.against, answer)
        difference = float(np.max(np.abs(answer - expected[row.against])))
        if not difference <= TOLERANCE:  # True for NaN, too.
            words = (row.note, f"differs by {difference:.1e}")
            row.note = "; ".join(filter(None, words))


def give_lively_weights(model: keras.Model, images: np.ndarray) -> None:
    """Weights with which a mistake in any layer shows in the probabilities.

    With initial weights every probability is one in a thousand, and LRN hardly acts.
    Here biases are 0, the outputs of conv1 and conv2 have a standard deviation of 100
    and those of other layers 1.

    Args:
        model: the grouped form, whose layers are a chain.
        images: some of its input.
    """
    x = tf.constant(images)
    for layer in model.layers[1:]:
        if layer.trainable_weights:
            layer.bias.assign(tf.zeros_like(layer.bias))
            wanted = 100 if layer.name in ("conv1", "conv2") else 1
            found = tf.math.reduce_std(layer(x))
            layer.kernel.assign(layer.kernel * wanted / found)
        x = layer(x)


def _graph_of(model: keras.Model, images: np.ndarray) -> Callable[[], np.ndarray]:
    x = tf.constant(images)
    infer = tf.function(lambda images: model(images, training=False))
    return lambda: infer(x).numpy()


def _ours(job: Job, dtype: str) -> Row:
    model = networks.our_net(job.settings, dtype)
    copy_weights(job.model, model)
    infer, note = _graph_of(model, job.images), "in process, from float images"
    return Row("ours", infer, len(job.images), dtype, note=note)


def _served(job: Job, dtype: str) -> list[Row]:
    """The exported SavedModel, and the same work in process: 256x256 uint8 in."""
    config = train.config(job.settings, dtype)
    model = building.build_model(config.model, config.runtime)
    copy_weights(job.model, model)
    folder = job.work_dir / f"to_export_{dtype}"
    folder.mkdir()
    statistics = dataset.find_statistics(config.data, None)
    statistics.save(folder / STATISTICS_FILE)
    optimizer = PaperSGD()
    optimizer.build(model.trainable_variables)
    Checkpoints(folder, model, optimizer, Progress(), 1).save()
    served = ServedAlexNet(
        model,
        preprocessing.central_mean(statistics, job.settings.input_size),
        preprocessing.input_scale(statistics, config.data.input_scale),
    )
    pixels = tf.constant(job.pixels)

    def exported(portable: bool) -> Callable[[], np.ndarray]:
        target = job.work_dir / f"exported_{dtype}_{portable}"
        export(config, str(folder), str(target), portable=portable)
        loaded = tf.saved_model.load(str(target / "saved_model"))
        # The loaded object keeps the weights alive: it is held by the default.
        return lambda held=loaded: held.signatures["image_tensor"](images=pixels)[
            "probabilities"
        ].numpy()

    def in_process() -> np.ndarray:
        return served.classify_images(pixels)["probabilities"].numpy()

    against = "ours, from pixels"
    row = functools.partial(Row, images=len(pixels), dtype=dtype, against=against)
    return [
        row(against, in_process, note="in process, with the SavedModel's steps"),
        row("SavedModel", exported(portable=True), note="exported, image_tensor"),
        row(
            "SavedModel, not portable",
            exported(portable=False),
            note="exported with --noportable",
        ),
    ]


def _rows(job: Job, peer: str, forms: dict[str, Callable], note: str = "") -> list[Row]:
    count = len(job.images)
    return [
        Row(peer, infer, count, form=form, note=note) for form, infer in forms.items()
    ]


def _peer_weights(job: Job) -> dict[str, np.ndarray]:
    return networks.peer_weights(job.model, networks.net_of(job.settings))


def _keras(job: Job, dtype: str) -> list[Row]:
    net = networks.net_of(job.settings)
    model = networks.plain_keras(net, _peer_weights(job), dtype, softmax=True)
    forms = {
        "predict_on_batch": lambda: model.predict_on_batch(job.images),
        "tf.function": _graph_of(model, job.images),
    }
    return _rows(job, "plain Keras", forms)


def _torch(job: Job, dtype: str) -> list[Row]:
    torch = networks.import_torch()
    torch.set_num_threads(job.settings.threads)
    net, weights = networks.net_of(job.settings), _peer_weights(job)

    def make(memory_format) -> Callable[[], np.ndarray]:
        model = networks.torch_net(net, weights)
        model = model.to(memory_format=memory_format).eval()
        images = torch.from_numpy(job.channels_first).to(memory_format=memory_format)

        def infer() -> np.ndarray:
            autocast = torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16")
            with torch.inference_mode(), autocast:
                return torch.softmax(model(images).float(), dim=1).numpy()

        return infer

    forms = {
        "channels last": make(torch.channels_last),
        "channels first": make(torch.contiguous_format),
    }
    return _rows(job, "PyTorch", forms)


def _onnxruntime(job: Job, dtype: str) -> list[Row]:
    """Float32 only: its CPU kernels for bfloat16 do not cover the net."""
    import onnxruntime  # noqa: PLC0415

    if dtype != "fp32":
        return []
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = job.settings.threads
    images = job.channels_first

    def make(graph: bytes) -> Callable[[], np.ndarray]:
        session = onnxruntime.InferenceSession(
            graph, options, providers=["CPUExecutionProvider"]
        )
        return lambda: session.run(["probabilities"], {"images": images})[0]

    graphs = networks.onnx_graphs(job.model, job.work_dir)
    forms = {form: make(graph) for form, graph in graphs.items()}
    return _rows(job, "ONNX Runtime", forms)


def _openvino(job: Job, dtype: str) -> list[Row]:
    """Held to float32, or left to its own choice where that is bfloat16."""
    import openvino  # noqa: PLC0415

    core, images = openvino.Core(), job.channels_first
    default = core.get_property("CPU", "INFERENCE_PRECISION_HINT")
    if dtype == "bf16" and "bf" not in str(default):
        print(f"OpenVINO: its default here is {default}, no row in bf16", flush=True)
        return []
    held = {"INFERENCE_PRECISION_HINT": "f32"} if dtype == "fp32" else {}

    def make(graph: bytes) -> Callable[[], np.ndarray]:
        model = core.read_model(graph)
        model.reshape(images.shape)
        threads = {"INFERENCE_NUM_THREADS": job.settings.threads}
        compiled = core.compile_model(model, "CPU", held | threads)
        request = compiled.create_infer_request()
        return lambda: request.infer([images], share_inputs=True)["probabilities"]

    graphs = networks.onnx_graphs(job.model, job.work_dir)
    forms = {form: make(graph) for form, graph in graphs.items()}
    note = "held to f32" if held else "its default precision"
    return _rows(job, "OpenVINO", forms, note)
