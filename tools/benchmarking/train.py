"""Suites train_step, end_to_end and normalization: steps of the trainer itself."""

import contextlib
import functools
import pathlib
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from benchmarking import crossing, layers, networks, records
from benchmarking.child import Child, peak_memory
from benchmarking.report import Fact, Suite
from benchmarking.settings import NUM_CLASSES, Settings
from benchmarking.timing import Row, enter
from official.alexnet.backend import keras
from official.alexnet.config import (
    Config,
    DataConfig,
    ModelConfig,
    RuntimeConfig,
    TrainConfig,
)
from official.alexnet.distribution.strategy import place
from official.alexnet.training.step import Steps
from official.alexnet.training.trainer import Trainer

# So small that weights and speed stay what they are while steps are timed.
LEARNING_RATE = 1e-5
NORMALIZATIONS = ("lrn", "none", "batch_norm")
_STEPS_IN_A_CALL = 10
# In a segment of the suite end_to_end.
_STEPS_IN_A_SEGMENT = 2


@contextlib.contextmanager
def train_step(settings: Settings, work_dir: pathlib.Path) -> Suite:
    """Forward, backward and update; also memory, and what columns exchange."""
    rows, facts, size = [], [], settings.batch_size
    for dtype in settings.dtypes:
        with Child("train:memory", settings, dtype, work_dir) as child:
            for when, value in child.ask().items():
                facts.append(Fact(f"peak memory {when} {dtype}", value, "MB"))
        sent = _bytes_crossing(config(settings, dtype, num_columns=2), work_dir) / 1000
        facts.append(Fact(f"sent between two columns {dtype}", sent, "kB an image"))
    # bf16 is compared with our own fp32.
    for dtype in dict.fromkeys(("fp32", *settings.dtypes)):
        step = stepper(config(settings, dtype), work_dir)
        rows.append(Row("ours", step, size, dtype))
        if dtype not in settings.dtypes:
            continue
        columns = stepper(config(settings, dtype, num_columns=2), work_dir)
        devices = f"two logical {'GPU' if settings.gpu else 'CPU'}s"
        rows += [
            *([] if settings.gpu else [layers.limit(settings, dtype, backward=True)]),
            Row("ours, two columns", columns, size, dtype, note=devices),
            Row(
                f"ours, {_STEPS_IN_A_CALL} steps a call",
                functools.partial(step, _STEPS_IN_A_CALL),
                _STEPS_IN_A_CALL * size,
                dtype,
                calls=_STEPS_IN_A_CALL,
            ),
        ]
        peers = {"keras": _keras, "torch": _torch}
        rows += enter(settings.peers, peers, dtype, settings, dtype)
    yield rows, facts


@contextlib.contextmanager
def end_to_end(settings: Settings, work_dir: pathlib.Path) -> Suite:
    """Training from records, against the same step on synthetic data.

    A pipeline that keeps up has filled its buffer again when a segment ends.
    """
    data_dir, count = records.find(settings, work_dir), _STEPS_IN_A_SEGMENT
    names = records.find_train(data_dir).label_names
    net = {"num_classes": len(names)} if names else {}
    yield (
        [
            Row(
                name,
                functools.partial(
                    stepper(config(settings, dtype, data_dir=source, **net), work_dir),
                    count,
                ),
                count * settings.batch_size,
                dtype,
                calls=count,
                against="synthetic data",
            )
            for dtype in settings.dtypes
            for name, source in (("synthetic data", None), ("records", data_dir))
        ],
        [],
    )


@contextlib.contextmanager
def normalization(settings: Settings, work_dir: pathlib.Path) -> Suite:
    """The step with each; what LRN takes of it is the difference to `none`."""
    yield (
        [
            Row(
                kind,
                stepper(config(settings, dtype, normalization=kind), work_dir),
                settings.batch_size,
                dtype,
                against=NORMALIZATIONS[0],
            )
            for dtype in settings.dtypes
            for kind in NORMALIZATIONS
        ],
        [],
    )


def config(
    settings: Settings, dtype: str, *, data_dir: str | None = None, **net
) -> Config:
    """Settings of training; without a data_dir, on synthetic data."""
    label_base = "auto"
    if data_dir:  # Which may have fewer classes than the net.
        label_base = str(records.find_train(data_dir).records.first_label)
    columns = net.get("num_columns", 1)
    return Config(
        ModelConfig(
            width=settings.width,
            input_size=settings.input_size,
            **{"num_classes": NUM_CLASSES} | net,
        ),
        DataConfig(
            data_dir=data_dir,
            use_synthetic_data=data_dir is None,
            label_base=label_base,
        ),
        TrainConfig(
            batch_size=settings.batch_size,
            learning_rate=LEARNING_RATE,
            train_steps=1,
            schedule="constant",
            skip_eval=True,
        ),
        _machine(settings, columns, dtype),
    )


def _machine(settings: Settings, columns: int, dtype: str) -> RuntimeConfig:
    if settings.gpu:
        split = {"logical_gpus": 2, "gpu_memory_mb": 3072}
        return RuntimeConfig("one_device", num_gpus=columns, dtype=dtype, **split)
    logical_cpus = columns if columns > 1 else None
    return RuntimeConfig(num_gpus=0, logical_cpus=logical_cpus, dtype=dtype)


def _trainer(run: Config, work_dir: pathlib.Path) -> tuple[Trainer, Iterator]:
    placement = place(run.runtime, run.model.num_columns)
    trainer = Trainer(run, work_dir / "run", placement, clean=False)
    return trainer, iter(trainer.batches(0))


def stepper(run: Config, work_dir: pathlib.Path) -> Callable[..., object]:
    """This project's own training step, made and called as the trainer does it.

    Args:
        run: settings.
        work_dir: a folder to work in.

    Returns:
        A function that makes so many steps in one call of the compiled loop, and
        returns when they are finished.
    """
    trainer, batches = _trainer(run, work_dir)
    loop = trainer.step.loop
    return lambda count=1: Steps.of(loop(batches, tf.constant(count))).sums


def _bytes_crossing(run: Config, work_dir: pathlib.Path) -> float:
    """Bytes an image that devices send one another in a training step."""
    trainer, batches = _trainer(run, work_dir)
    sent = crossing.crossings(
        tf.function(lambda: trainer.step.train_step(next(batches)))
    )
    return sum(each.bytes for each in sent) / run.train.batch_size


def memory(settings: Settings, dtype: str, work_dir: pathlib.Path) -> Callable:
    """Task of a child: the peak memory of a training step, and before it, in MB."""

    def answer(_: str) -> dict[str, float]:
        step = stepper(config(settings, dtype), work_dir)
        before = peak_memory()
        step(3)
        return {"before the first step": before, "of a training step": peak_memory()}

    return answer


def _peer_input(settings: Settings) -> tuple:
    """Weights and a batch: a peer has no mean to subtract and no noise to add."""
    net = networks.net_of(settings)
    model = networks.our_net(settings, "fp32")
    rng, count = np.random.default_rng(0), settings.batch_size
    images = rng.uniform(-127.5, 127.5, (count, net.input_size, net.input_size, 3))
    labels = rng.integers(0, NUM_CLASSES, count)
    return net, networks.peer_weights(model, net), images.astype(np.float32), labels


def _keras(settings: Settings, dtype: str) -> list[Row]:
    """`fit` of a compiled model, with and without XLA."""
    net, weights, images, labels = _peer_input(settings)

    def make(jit_compile: str | bool) -> Callable[[], object]:
        model = networks.plain_keras(net, weights, dtype, softmax=False)
        model.compile(
            keras.optimizers.SGD(LEARNING_RATE, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=jit_compile,
        )
        data = tf.data.Dataset.from_tensors((images, labels)).repeat()
        return lambda: model.fit(data, steps_per_epoch=1, verbose=0)

    return [
        Row("plain Keras", make(jit), len(images), form=f"fit, jit_compile={jit!r}")
        for jit in ("auto", False)
    ]


def _torch(settings: Settings, dtype: str) -> list[Row]:
    """An eager step, channels last and first."""
    torch = networks.import_torch()
    torch.set_num_threads(settings.threads)
    net, weights, images, labels = _peer_input(settings)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    y = torch.from_numpy(labels)

    def make(memory_format) -> Callable[[], float]:
        model = networks.torch_net(net, weights).to(memory_format=memory_format).train()
        inputs = x.to(memory_format=memory_format)
        optimizer = torch.optim.SGD(
            model.parameters(),
            LEARNING_RATE,
            momentum=0.9,
            weight_decay=networks.WEIGHT_DECAY,
        )

        def step() -> None:
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                loss = torch.nn.functional.cross_entropy(model(inputs), y)
            loss.backward()
            optimizer.step()
            loss.item()

        return step

    forms = (("last", torch.channels_last), ("first", torch.contiguous_format))
    return [
        Row("PyTorch", make(layout), len(images), form=f"channels {name}")
        for name, layout in forms
    ]
