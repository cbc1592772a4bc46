"""tools/convert_weights.py in this process, and small files for it."""

import importlib.util
import pathlib

import numpy as np
from absl import flags
from absl.testing import flagsaver

from official.alexnet.modeling import options, structure
from official.alexnet.modeling.variants import find_variant
from official.alexnet.weights import files

TOOL = pathlib.Path(__file__).parents[1] / "tools" / "convert_weights.py"
CLASSES = 4

_spec = importlib.util.spec_from_file_location("convert_weights", TOOL)
_module = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_module)


def run(*arguments) -> dict:
    """What the tool does with these arguments; its flags are gone afterwards."""
    with flagsaver.flagsaver():
        _module.define_flags()
        flags.FLAGS(["convert_weights", *arguments])
        return _module.main()


def convert(source, target, *arguments) -> dict:
    return run(f"--input={source}", f"--output={target}", *arguments)


def inspect(path, *arguments) -> dict:
    return run(f"--inspect={path}", *arguments)


def small_file(folder, variant, suffix, **changes):
    """A file of random weights, and the flags that name its net."""
    size = changes.setdefault("input_size", 67 if variant.startswith("caffe") else 64)
    net = options.change(find_variant(variant), width=0.125, **changes)
    rng = np.random.default_rng(0)
    weights = {
        name: rng.normal(0, 0.05, shape).astype(np.float32)
        for name, shape in structure.weight_shapes(net, CLASSES).items()
    }
    path = folder / f"{variant}{suffix}"
    files.write(str(path), weights, net)
    given = [f"--variant={variant}", "--width=0.125", f"--input_size={size}"]
    return path, given, net, weights
