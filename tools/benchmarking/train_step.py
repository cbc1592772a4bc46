"""Suite train_step: one step of training, forward, backward and update."""

import dataclasses
import pathlib

import numpy as np
import tensorflow as tf

from benchmarking import limit, networks, ours, peers
from benchmarking.bars import Fact
from benchmarking.child import Child
from benchmarking.settings import Settings
from benchmarking.timing import Contender, Row, fastest, interleave
from official.alexnet.backend import keras
from official.alexnet.modeling.alexnet import AlexNet

_STEPS_IN_A_CALL = 10


def measure(settings: Settings, work_dir: pathlib.Path) -> tuple[list[Row], list[Fact]]:
    """Times the step of everyone, and measures memory and what columns exchange."""
    facts = []
    for dtype in settings.dtypes:
        with Child("training_memory", settings, dtype=dtype) as child:
            facts += [Fact(**fact) for fact in child.ask("measure")["facts"]]
        columns = ours.config(settings, dtype, num_columns=2)
        sent = ours.bytes_crossing(columns, work_dir) / 1000
        facts.append(Fact(f"sent between two columns {dtype}", sent, "kB an image"))
    contenders, skipped = [], []
    # bf16 is compared with our own fp32.
    for dtype in dict.fromkeys(("fp32", *settings.dtypes)):
        contenders += _ours(settings, work_dir, dtype)
        if dtype not in settings.dtypes:
            continue
        entered, absent = peers.enter(
            settings,
            {
                "keras": lambda dtype=dtype: [_keras(settings, dtype)],
                "torch": lambda dtype=dtype: [_torch(settings, dtype)],
            },
        )
        contenders += entered
        skipped += [dataclasses.replace(row, dtype=dtype) for row in absent]
    rows = interleave(contenders, settings.rounds, settings.warmup, report=_report)
    return rows + skipped, facts


def _report(line: str) -> None:
    print(f"train_step: {line}", flush=True)


def _ours(settings: Settings, work_dir: pathlib.Path, dtype: str) -> list[Contender]:
    """The real step: uint8 crops in; mean, colour noise, update and metrics inside."""
    grouped = ours.stepper(ours.config(settings, dtype), work_dir)
    size = settings.batch_size
    contenders = [Contender("ours", grouped, size, dtype)]
    if dtype not in settings.dtypes:
        return contenders
    columns = ours.stepper(ours.config(settings, dtype, num_columns=2), work_dir)
    return [
        *contenders,
        limit.contender(
            networks.net_of(settings.width),
            settings.input_size,
            settings.num_classes,
            size,
            dtype,
            backward=True,
        ),
        Contender("ours, two columns", columns, size, dtype, note="two logical CPUs"),
        Contender(
            f"ours, {_STEPS_IN_A_CALL} steps a call",
            lambda: grouped(_STEPS_IN_A_CALL),
            _STEPS_IN_A_CALL * size,
            dtype,
            calls=_STEPS_IN_A_CALL,
            rounds=2,
        ),
    ]


def _weights(settings: Settings) -> tuple:
    net = networks.net_of(settings.width)
    model = AlexNet(
        "paper",
        settings.num_classes,
        input_size=settings.input_size,
        width=settings.width,
    )
    return net, networks.peer_weights(model, net)


def _batch(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Ready for the net: a peer has no mean to subtract and no noise to add."""
    rng = np.random.default_rng(0)
    shape = (settings.batch_size, settings.input_size, settings.input_size, 3)
    images = rng.uniform(-127.5, 127.5, shape).astype(np.float32)
    return images, rng.integers(0, settings.num_classes, settings.batch_size)


def _keras(settings: Settings, dtype: str) -> Contender:
    """`fit` of a compiled model, with or without XLA, whichever is faster."""
    net, weights = _weights(settings)
    images, labels = _batch(settings)

    def make(jit_compile: str | bool):
        model = networks.plain_keras(
            net, settings.input_size, weights, dtype, softmax=False
        )
        model.compile(
            keras.optimizers.SGD(ours.LEARNING_RATE, momentum=0.9),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
            jit_compile=jit_compile,
        )

        def fit(count: int = settings.batch_size):
            data = tf.data.Dataset.from_tensors((images[:count], labels[:count]))
            model.fit(data.repeat(), steps_per_epoch=1, verbose=0)

        return fit

    forms = {"jit_compile='auto'": make("auto"), "jit_compile=False": make(False)}
    part = max(1, settings.batch_size // 4)
    chosen = fastest({name: lambda fit=fit: fit(part) for name, fit in forms.items()})
    return Contender(
        "plain Keras",
        forms[chosen],
        settings.batch_size,
        dtype,
        note=f"fit, {chosen}: the faster of {' and '.join(forms)}",
    )


def _torch(settings: Settings, dtype: str) -> Contender:
    """An eager step, channels last or first, whichever is faster."""
    torch = peers.import_torch()

    torch.set_num_threads(settings.threads)
    net, weights = _weights(settings)
    images, labels = _batch(settings)
    x = torch.from_numpy(images.transpose(0, 3, 1, 2).copy())
    y = torch.from_numpy(labels)

    def make(memory_format):
        model = networks.torch_net(net, settings.input_size, weights)
        model = model.to(memory_format=memory_format).train()
        inputs = x.to(memory_format=memory_format)
        optimizer = torch.optim.SGD(
            model.parameters(),
            ours.LEARNING_RATE,
            momentum=0.9,
            weight_decay=networks.WEIGHT_DECAY,
        )

        def step(count: int = settings.batch_size):
            optimizer.zero_grad(set_to_none=True)
            with torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bf16"):
                logits = model(inputs[:count])
                loss = torch.nn.functional.cross_entropy(logits, y[:count])
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    forms = {
        "channels last": make(torch.channels_last),
        "channels first": make(torch.contiguous_format),
    }
    part = max(1, settings.batch_size // 4)
    chosen = fastest({name: lambda s=step: s(part) for name, step in forms.items()})
    return Contender(
        "PyTorch",
        forms[chosen],
        settings.batch_size,
        dtype,
        note=f"{chosen}: the faster of {' and '.join(forms)}",
    )
