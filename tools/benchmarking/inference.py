"""Suite inference: probabilities of a batch, all peers with the same weights."""

import dataclasses
import pathlib
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from benchmarking import limit, networks, onnx_graph, ours, peers
from benchmarking.bars import Fact
from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row, interleave
from official.alexnet.backend import keras
from official.alexnet.data import dataset, preprocessing
from official.alexnet.data.statistics import IMAGE_SHAPE, STATISTICS_FILE
from official.alexnet.modeling.alexnet import AlexNet
from official.alexnet.modeling.weights import copy_weights
from official.alexnet.serving.export import export
from official.alexnet.serving.signatures import ServedAlexNet
from official.alexnet.training import building
from official.alexnet.training.checkpoints import Checkpoints, Progress
from official.alexnet.training.optimizer import PaperSGD

# Largest difference of a probability, with which two nets count as the same.
TOLERANCE = 1e-3


def measure(settings: Settings, work_dir: pathlib.Path) -> tuple[list[Row], list[Fact]]:
    """Times everyone on one batch, after a look at what they answer."""
    job = _Job.make(settings)
    contenders, skipped = [], []
    for dtype in dict.fromkeys(("fp32", *settings.dtypes)):
        contenders.append(_ours(job, dtype))
        if dtype not in settings.dtypes:
            continue
        contenders += [_limit(settings, dtype), *_served(job, dtype, work_dir)]
        entered, absent = peers.enter(
            settings,
            {
                "keras": lambda dtype=dtype: _keras(job, dtype),
                "torch": lambda dtype=dtype: _torch(job, dtype),
                "onnxruntime": lambda dtype=dtype: _onnxruntime(job, dtype),
                "openvino": lambda dtype=dtype: _openvino(job, dtype),
            },
        )
        contenders += entered
        skipped += [dataclasses.replace(row, dtype=dtype) for row in absent]
    rows = interleave(
        with_differences(contenders),
        settings.rounds,
        settings.warmup,
        report=lambda line: print(f"inference: {line}", flush=True),
    )
    return rows + skipped, []


def with_differences(contenders: Sequence[Contender]) -> list[Contender]:
    """Says of a contender whose probabilities are not ours that it differs.

    A contender from pixels is compared with ours from pixels, the others with ours;
    both in fp32.
    """
    expected, checked = {}, []
    for contender in contenders:
        if contender.name == "limit":
            checked.append(contender)
            continue
        answer = np.array(contender.run())
        expected.setdefault(contender.against, answer)
        difference = float(np.max(np.abs(answer - expected[contender.against])))
        same = difference <= TOLERANCE
        words = [contender.note, "" if same else f"differs by {difference:.1e}"]
        note = "; ".join(filter(None, words))
        checked.append(dataclasses.replace(contender, note=note))
    return checked


@dataclasses.dataclass(frozen=True)
class _Job:
    """What all contenders share.

    Attributes:
        settings: of the benchmark.
        model: our net in float32, with probabilities as its output.
        weights: the same for peers.
        images: (batch, size, size, 3) float32, mean subtracted.
        pixels: (batch, 256, 256, 3) uint8.
    """

    settings: Settings
    model: keras.Model
    weights: dict[str, np.ndarray]
    images: np.ndarray
    pixels: np.ndarray

    @classmethod
    def make(cls, settings: Settings) -> "_Job":
        rng = np.random.default_rng(0)
        size, count = settings.input_size, settings.batch_size
        images = rng.uniform(-127.5, 127.5, (count, size, size, 3))
        images = images.astype(np.float32)
        model = _model(settings, "fp32")
        give_lively_weights(model, images[:16])
        weights = networks.peer_weights(model, networks.net_of(settings.width))
        pixels = rng.integers(0, 256, (count, *IMAGE_SHAPE), np.uint8)
        return cls(settings, model, weights, images, pixels)

    @property
    def channels_first(self) -> np.ndarray:
        return np.ascontiguousarray(self.images.transpose(0, 3, 1, 2))


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


def _model(settings: Settings, dtype: str) -> keras.Model:
    return AlexNet(
        "paper",
        settings.num_classes,
        input_size=settings.input_size,
        width=settings.width,
        dtype={"fp32": "float32", "bf16": "mixed_bfloat16"}[dtype],
    )


def _ours(job: _Job, dtype: str) -> Contender:
    model = _model(job.settings, dtype)
    copy_weights(job.model, model)
    images = tf.constant(job.images)
    infer = tf.function(lambda images: model(images, training=False))
    return Contender(
        "ours",
        lambda: infer(images).numpy(),
        len(job.images),
        dtype,
        note="in process, from float images",
    )


def _limit(settings: Settings, dtype: str) -> Contender:
    return limit.contender(
        networks.net_of(settings.width),
        settings.input_size,
        settings.num_classes,
        settings.batch_size,
        dtype,
        backward=False,
    )


def _served(job: _Job, dtype: str, work_dir: pathlib.Path) -> list[Contender]:
    """The exported SavedModel, and the same work in process: 256x256 uint8 in."""
    config = ours.config(job.settings, dtype)
    model = building.build_model(config)
    copy_weights(job.model, model)
    folder = work_dir / f"to_export_{dtype}"
    folder.mkdir()
    statistics = dataset.find_statistics(config.data, folder)
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
        target = work_dir / f"exported_{dtype}_{portable}"
        export(config, str(folder), str(target), portable=portable)
        loaded = tf.saved_model.load(str(target / "saved_model"))
        signature = loaded.signatures["image_tensor"]

        def classify() -> np.ndarray:
            # The loaded object keeps the weights alive.
            assert loaded
            return signature(images=pixels)["probabilities"].numpy()

        return classify

    def in_process() -> np.ndarray:
        return served.classify_images(pixels)["probabilities"].numpy()

    return [
        Contender(
            name,
            classify,
            len(job.pixels),
            dtype,
            against="ours, from pixels",
            note=note,
        )
        for name, classify, note in (
            (
                "ours, from pixels",
                in_process,
                "in process, with the SavedModel's preprocessing",
            ),
            ("SavedModel", exported(portable=True), "exported, image_tensor"),
            (
                "SavedModel, not portable",
                exported(portable=False),
                "exported with --noportable",
            ),
        )
    ]


def _keras(job: _Job, dtype: str) -> list[Contender]:
    net = networks.net_of(job.settings.width)
    model = networks.plain_keras(
        net, job.settings.input_size, job.weights, dtype, softmax=True
    )
    images = tf.constant(job.images)
    infer = tf.function(lambda images: model(images, training=False))
    forms = {
        "predict_on_batch": lambda: model.predict_on_batch(job.images),
        "tf.function": lambda: infer(images).numpy(),
    }
    return _contenders(job, "plain Keras", dtype, forms)


def _torch(job: _Job, dtype: str) -> list[Contender]:
    torch = peers.import_torch()

    torch.set_num_threads(job.settings.threads)
    net = networks.net_of(job.settings.width)

    def make(memory_format) -> Callable[[], np.ndarray]:
        model = networks.torch_net(net, job.settings.input_size, job.weights)
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
    return _contenders(job, "PyTorch", dtype, forms)


def _graphs(job: _Job) -> dict[str, bytes]:
    net = networks.net_of(job.settings.width)
    return {
        form: onnx_graph.serialized(net, job.settings.input_size, job.weights, form)
        for form in onnx_graph.FORMS
    }


def _onnxruntime(job: _Job, dtype: str) -> list[Contender]:
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
        return lambda: session.run(None, {"images": images})[0]

    forms = {form: make(graph) for form, graph in _graphs(job).items()}
    return _contenders(job, "ONNX Runtime", dtype, forms)


def _openvino(job: _Job, dtype: str) -> list[Contender]:
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
        request = core.compile_model(model, "CPU", held | threads)
        request = request.create_infer_request()
        return lambda: request.infer([images], share_inputs=True)[0]

    forms = {form: make(graph) for form, graph in _graphs(job).items()}
    note = "held to f32" if held else "its default precision"
    return _contenders(job, "OpenVINO", dtype, forms, note)


def _contenders(
    job: _Job,
    name: str,
    dtype: str,
    forms: dict[str, Callable[[], np.ndarray]],
    note: str = "",
) -> list[Contender]:
    return [
        Contender(name, infer, len(job.images), dtype, form, note=note)
        for form, infer in forms.items()
    ]
