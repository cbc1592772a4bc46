"""The 14 nets of the 2012 program, from its files, against PyTorch from the same files.

What stands below reads the files with `configparser` and runs them section by section,
as that program does: it knows nothing of the table of variants or of its reader.
"""

import configparser

import numpy as np
import pytest
from files_2012 import FOLDER, NETS, layers_of, needs_files
from test_variants_torch import assert_close, draw, step  # Skips without PyTorch.

from official.alexnet import AlexNet, config_files
from official.alexnet.config import Config
from official.alexnet.modeling.weights import (
    get_weights,
    set_weights,
    variables_by_name,
)
from official.alexnet.training.optimizer import PaperSGD
from official.alexnet.training.rates import Plateau, Schedule

torch = pytest.importorskip("torch")
F = pytest.importorskip("torch.nn.functional")
pytestmark = needs_files
QUICK = ("145", "150", "177")


class Program:
    """A net as the files have it; weights by our names, in PyTorch's types."""

    def __init__(self, net: str, arrays: dict, masks: dict):
        self.file = configparser.RawConfigParser(strict=False)
        self.file.read(
            [FOLDER / f"layers-{net}.cfg", FOLDER / f"layer-params-{net}.cfg"]
        )
        self.arrays, self.masks = arrays, masks
        self.columns = sum(name.startswith("conv1") for name in self.file)
        self.ours = {}
        bases = {"conv": [], "fc": []}
        for name in self.file.sections():
            if (kind := self.file[name]["type"]) in bases:
                base = name[:-1]
                if base not in bases[kind]:
                    bases[kind].append(base)
                number = bases[kind].index(base) + (1 if kind == "conv" else 6)
                self.ours[name] = f"{kind}{number}"

    def column(self, name: str) -> slice | int:
        return "ab".find(name[-1])

    def first(self, section, key: str, default: str | None = None) -> float:
        """A number; equal ones are listed for several inputs."""
        return float(section.get(key, default).split(",")[0])

    def part(self, array, name: str, axis: int):
        """A column's part of an array along an axis; fc8 is whole."""
        if self.column(name) < 0 or self.columns == 1:
            return array
        return array.chunk(self.columns, axis)[self.column(name)]

    def weights(self, name: str, source: str, sources: list[str], maps: tuple) -> tuple:
        """(filters, channels, height, width) that read one of a layer's inputs."""
        kernel = self.arrays[f"{self.ours[name]}/kernel"]
        if kernel.dim() == 2:
            *sides, _ = (1, 1, 1, *maps)[-3:]
            kernel = kernel.reshape(*sides, -1, kernel.shape[-1])
        kernel = self.part(kernel, name, 3)
        if len(sources) > 1:
            kernel = self.part(kernel, source, 2)
        return kernel.permute(3, 2, 0, 1)

    def run(self, images, training: bool):
        values = {"data": images}
        for name, section in self.file.items():
            kind = section.get("type", "data")
            if kind == "data":
                continue
            sources = section.get("inputs", "").split(",")
            x = values.get(sources[0])
            if kind == "softmax":
                return x
            if kind == "conv":
                pad, stride = (
                    self.first(section, "padding"),
                    self.first(section, "stride"),
                )
                pad, stride = int(pad), int(stride)
                size = int(self.first(section, "filterSize"))
                over = -(x.shape[-1] + 2 * pad - size) % stride
                ys = [
                    F.conv2d(
                        F.pad(values[source], [pad, pad + over] * 2),
                        self.weights(name, source, sources, ()),
                        stride=stride,
                    )
                    for source in sources
                ]
                bias = self.part(self.arrays[f"{self.ours[name]}/bias"], name, 0)
                x = sum(ys) + bias[:, None, None]
            elif kind == "fc":
                ys = []
                for source in sources:
                    y = values[source]
                    maps = (*y.shape[2:], y.shape[1]) if y.dim() == 4 else ()
                    kernel = self.weights(name, source, sources, maps)
                    ys.append(y.flatten(1) @ kernel.flatten(1).T)
                x = sum(ys) + self.part(self.arrays[f"{self.ours[name]}/bias"], name, 0)
            elif kind in ("cmrnorm", "rnorm"):
                size = int(section["size"])
                squares, area = x**2, size if kind == "cmrnorm" else size**2
                if kind == "cmrnorm":
                    y = F.pad(squares, [0, 0, 0, 0, size // 2, size // 2])
                    sums = sum(y[:, i : i + x.shape[1]] for i in range(size))
                else:
                    sums = area * F.avg_pool2d(squares, size, 1, size // 2)
                least = self.first(section, "minDiv", "1")
                scale = self.first(section, "scale") / area
                x = x / (least + scale * sums) ** self.first(section, "pow")
            elif kind == "pool":
                assert section["pool"] == "max" or section["doMax"] == "true"
                x = F.max_pool2d(
                    x, int(section["sizeX"]), int(section["stride"]), ceil_mode=True
                )
            elif kind == "hs":
                mask = self.masks[f"drop{self.ours[sources[0]][-1]}"]
                keep = float(section["keep"])
                x = x * (self.part(mask, name, 1) if training else keep)
            if section.get("neuron"):
                assert section["neuron"] == "relu"
                x = F.relu(x)
            values[name] = x
        raise AssertionError("no softmax")


@pytest.mark.parametrize(
    "net", [n if n in QUICK else pytest.param(n, marks=pytest.mark.slow) for n in NETS]
)
def test_forward_and_a_training_step(net):
    rng = np.random.default_rng(4)
    images = rng.normal(0, 60, (4, 100, 100, 3)).astype(np.float32)
    labels = np.arange(4)
    small = {"num_classes": 7, "width": 0.125, "input_size": 100}
    model = AlexNet(layers_of(net), classifier_activation=None, **small)
    draw(model, rng)
    weights = get_weights(model)
    ours = [step(model, images, labels)]
    if net != "145-half":
        small["num_columns"] = 2
        columns = AlexNet(layers_of(net), classifier_activation=None, **small)
        set_weights(columns, weights)
        ours.append(step(columns, images, labels))
    arrays = {n: torch.tensor(a, requires_grad=True) for n, a in weights.items()}
    masks = {
        name: torch.tensor(mask.transpose(0, 3, 1, 2) if mask.ndim == 4 else mask)
        for name, mask in ours[0]["masks"].items()
    }
    program = Program(net, arrays, masks)
    x = torch.tensor(images.transpose(0, 3, 1, 2))
    logits = program.run(x, training=True)
    F.cross_entropy(logits, torch.tensor(labels)).backward()
    tested = program.run(x, training=False).detach().numpy()
    for got in ours:
        assert_close(got["tested"], tested, "tested")
        assert_close(got["logits"], logits.detach().numpy(), "logits")
        assert got["gradients"].keys() == weights.keys()
        for name, gradient in got["gradients"].items():
            assert_close(gradient, arrays[name].grad.numpy(), name)
    changed = velocities(net, model, weights, ours[0]["gradients"])
    for section, layer in program.ours.items():
        settings = program.file[section]
        for kind, letter in (("kernel", "W"), ("bias", "B")):
            rate = program.first(settings, f"eps{letter}")
            decay = program.first(settings, "wc") if kind == "kernel" else 0
            name = f"{layer}/{kind}"
            wanted = -rate * (arrays[name].grad + decay * arrays[name]).detach().numpy()
            if rate:
                assert_close(changed[name] / rate, wanted / rate, f"step of {name}")
            else:
                assert not changed[name].any(), name


def velocities(net: str, model, weights: dict, gradients: dict) -> dict:
    """What the first step adds to the weights, with the rates that the files give."""
    settings = {"model": {"variant": layers_of(net)}}
    train = config_files.override(Config(), settings, "test").train
    set_weights(model, weights)
    optimizer = PaperSGD(
        train.learning_rate,
        train.momentum,
        train.weight_decay,
        decay_biases=train.decay_biases,
    )
    variables = {name: parts[0] for name, parts in variables_by_name(model).items()}
    variables = {name: variables[name] for name in weights}
    optimizer.build(list(variables.values()))
    rates = Schedule(train, 100, 1000).rates(0, Plateau())
    optimizer.set_multiples(lambda name: rates.of(name) / rates.learning_rate)
    optimizer.apply([gradients[name] for name in variables], list(variables.values()))
    return {
        name: velocity.numpy()
        for name, velocity in zip(variables, optimizer.velocities, strict=True)
    }
