"""Net descriptions of the 2012 program as rows of the table of variants.

A description is two files of sections `[layer]` with lines `name=value`: the layers,
and their rates and constants. Two layers that do the same, each on a GPU of its own,
are the columns of one; either reads its own column or both.
"""

import contextlib
import dataclasses
import itertools
import math
import pathlib
import re

from absl import logging

from official.alexnet import paths
from official.alexnet.errors import UserError
from official.alexnet.modeling import net_rates
from official.alexnet.modeling.variants import LRN, Conv, Dense, Variant

SUFFIX = ".cfg"
# The types of layers that are here, and what one adds to the layer with weights.
_TYPES = {
    **{"data": (), "conv": (), "pool": ("pool",), "fc": (), "hs": ("dropout",)},
    **{"cmrnorm": ("lrn",), "rnorm": ("spatial_norm",)},
    **{"softmax": (), "cost.logreg": ()},
}
_SETTINGS = """type channels filters padding stride filterSize initW initB outputs pool
    sizeX size keep scale pow minDiv epsW epsB momW momB wc schedW schedB sched"""
# What may differ between columns, and the settings of which one value alone is here.
_OTHERS = "inputs gpu partialSum dataIdx topk quantF quantB initWFunc initBFunc"
_ONLY = {
    **{"groups": {"1"}, "sharedBiases": {"1"}, "coeff": {"1"}},
    **{"randSparse": {"0"}, "wball": {"0", "0.0", "0.00"}, "neuron": {"relu"}},
    **{"enable": {"true"}, "doMax": {"true"}, "quantF": {"half"}, "quantB": {"half"}},
}


@dataclasses.dataclass
class _Layer:
    """A section: its settings, each with the place where it stands."""

    name: str
    place: str
    settings: dict[str, tuple[str, str]] = dataclasses.field(default_factory=dict)

    def error(self, text: str, setting: str = "type") -> UserError:
        _, place = self.settings.get(setting, ("", self.place))
        return UserError(f"{place}: {self.name} {text}")

    def values(self, setting: str) -> set[str]:
        text, _ = self.settings.get(setting, ("", ""))
        listed = [text] if "[" in text else text.split(",")
        return {part.strip() for part in listed} - {""}

    def text(self, setting: str, default: str | None = None) -> str:
        """A setting; one that is given for each input is the same for all."""
        found = self.values(setting) or {default}
        if None in found:
            where = "here or in layer-params beside it (or --layer_params)"
            raise self.error(f"has no {setting}, {where}", setting)
        if len(found) > 1:
            raise self.error(f"has more than one {setting}", setting)
        return found.pop()

    def number(self, setting: str, default=None, least: float = 0, kind=float):
        text = self.text(setting, default)
        with contextlib.suppress(ValueError):
            if least <= (value := kind(text)) < math.inf:
                return value
        what = "whole number" if kind is int else "number"
        raise self.error(f"has {setting}={text}, no {what} from {least} on", setting)

    def whole(self, setting: str, default: str | None = None, least: int = 1) -> int:
        return self.number(setting, default, least, int)


def read(path: str, layer_params: str | None = None) -> tuple[Variant, dict[str, dict]]:
    """Reads a net, and what its files say of training, as settings by section.

    Without a second path `layer-params-x.cfg` is read beside `layers-x.cfg`, if there.

    Raises:
        UserError: a file is not there or malformed, or asks for what is not here.
    """
    source = paths.local(path, "--variant")
    layers = _sections(source, {})
    types = dict.fromkeys(layer.text("type") for layer in layers.values())
    missing = [name for name in types if name not in _TYPES]
    gpus = len({layer.text("gpu", "0") for layer in layers.values()})
    if missing := missing + [f"{gpus} GPUs"] * (gpus > 2):
        here = f"here are {', '.join(_TYPES)}, on one or two GPUs"
        raise UserError(f"{source}: the net needs {', '.join(missing)}; {here}")
    beside = source.with_name(re.sub("^layers", "layer-params", source.name))
    if layer_params is not None or (beside != source and beside.is_file()):
        _sections(paths.local(layer_params or beside, "--layer_params"), layers)
    known = {*_SETTINGS.split(), *_OTHERS.split(), *_ONLY}
    for layer in layers.values():
        for name, (value, _) in layer.settings.items():
            is_other = name in _ONLY and not layer.values(name) <= _ONLY[name]
            if is_other or name not in known:
                raise layer.error(f"has {name}={value}, which is not here", name)
    # Python code, which could do anything.
    functions = {"initWFunc", "initBFunc"}
    if own := [x.name for x in layers.values() if functions & {*x.settings}]:
        text = "%s: initWFunc and initBFunc of %s are not run: give --init_from"
        logging.warning(text, source, ", ".join(own))
    levels = _levels(source, list(layers.values()))
    net, weights = _row(source.name, levels)
    found = {
        "model": {"num_classes": net.num_classes},
        "train": net_rates.settings(weights),
    }
    half = {x.name for x in layers.values() if {"quantF", "quantB"} & {*x.settings}}
    pairs = itertools.pairwise(levels)
    crossing = {x.name for a, b in pairs if len(b[0].values("inputs")) > 1 for x in a}
    if half and half != crossing:
        raise layers[min(half ^ crossing)].error("is not quantized as all that cross")
    return net, found | ({"runtime": {"exchange_dtype": "fp16"}} if half else {})


def _sections(file: pathlib.Path, layers: dict[str, _Layer]) -> dict[str, _Layer]:
    """Adds a file's sections; a second file only adds to those of the first."""
    if not file.is_file():
        raise UserError(f"{file}: there is no such file")
    layer, known = None, set(layers)
    for number, text in enumerate(
        file.read_text("utf-8-sig", "replace").splitlines(), 1
    ):
        place, line = f"{file}:{number}", text.strip()
        name, _, value = (part.strip() for part in line.partition("="))
        if not line or line[0] in "#;":
            continue
        if section := re.fullmatch(r"\[\s*([^][]+?)\s*\]", line):
            if known and section[1] not in known:
                raise UserError(f"{place}: the net has no layer {section[1]}")
            layer = layers.setdefault(section[1], _Layer(section[1], place))
        elif layer is None or not (name and value):
            raise UserError(f"{place}: {line[:80]!r} is neither [layer] nor name=value")
        elif name in layer.settings:
            raise UserError(f"{place}: {name} is on {layer.settings[name][1]} already")
        else:
            layer.settings[name] = (value, place)
    return layers


def _levels(file: pathlib.Path, layers: list[_Layer]) -> list[list[_Layer]]:
    """From the image to the softmax: the layers that do the same, one a column."""
    images = [layer for layer in layers if layer.text("type") == "data"]
    below = {x.name for x in images if x.whole("dataIdx", "0", 0) == 0}
    levels: list[list[_Layer]] = []
    while not levels or levels[-1][0].text("type") != "softmax":
        readers = [layer for layer in layers if layer.values("inputs") & below]
        inputs = [layer.values("inputs") for layer in readers]
        if rest := (below or {"an image"}) - set().union(*inputs):
            raise UserError(f"{file}: no layer reads {min(rest)}")
        for layer, own in zip(readers, inputs, strict=True):
            # A net that goes round has more levels than layers.
            if not own <= below or len(own) != len(inputs[0]) or levels[len(layers) :]:
                raise layer.error("should read what stands before it", "inputs")
            names = {*readers[0].settings, *layer.settings} - {*_OTHERS.split()}
            for name in sorted(names):
                if layer.values(name) != readers[0].values(name):
                    raise layer.error(f"and {readers[0].name} differ in {name}", name)
        levels.append(readers)
        below = {layer.name for layer in readers}
    columns = min(2, len(levels[0]))
    if len(levels) < 3:
        raise UserError(f"{file}: the net has no layers")
    for level in levels:
        if len(level) != (wanted := 1 if level in levels[-2:] else columns):
            raise level[-1].error(f"is one of {len(level)} layers, not of {wanted}")
    return levels


def _row(name: str, levels: list[list[_Layer]]) -> tuple[Variant, dict[str, _Layer]]:
    """The row of a net, and its layers with weights by their names here."""
    columns, side, maps, rows, weights = len(levels[0]), 224, 3, [], {}
    layers, shared = [level[0] for level in levels[:-2]], {}
    for layer in reversed(layers):
        for key, value in _constants(layer).items():
            if shared.setdefault(key, value) != value and key != "dropout":
                raise layer.error(f"has another {key} than others: a net has one")
    kinds = [layer.text("type") for layer in layers]
    for i, (kind, layer) in enumerate(zip(kinds, layers, strict=True)):
        fits = kind in ("fc", "hs") if "fc" in kinds[:i] else rows or kind == "conv"
        if not fits or layer.whole("channels", str(maps)) != maps:
            raise layer.error(f"has no place here, after {maps} maps a column")
        reads = "all" if len(layer.values("inputs")) > 1 else "own"
        if kind == "conv":
            size, stride = layer.whole("filterSize"), layer.whole("stride", "1")
            room = side - size + 2 * (pad := layer.whole("padding", "0", 0))
            side, maps = -(-room // stride) + 1, layer.whole("filters")
            what = (columns * maps, size, reads if rows else "image", (), stride)
            padding = (pad, pad + -room % stride)
            rows.append(Conv(f"conv{len(rows) + 1}", *what, padding))
        elif kind == "fc":
            # A single one is fc7, whose output are the features of an image.
            number = len(rows) - kinds.count("conv") + (kinds.count("fc") == 1)
            title = ("fc6", "fc7", f"fc7_{number - 1}")[min(number, 2)]
            reads = reads if columns > 1 else "all"
            units = columns * layer.whole("outputs")
            rows.append(Dense(title, units, (), reads=reads))
        changes: dict[str, object] = {}
        if kind in ("conv", "fc"):
            weights[rows[-1].name] = layer
            changes["stddev"] = layer.number("initW", "0.01")
            changes["bias"] = layer.number("initB", "0", least=-math.inf)
        elif kind == "hs" and _constants(layer)["dropout"] != shared["dropout"]:
            changes = _constants(layer)
        elif kind == "pool":
            side = -((layer.whole("sizeX") - side) // layer.whole("stride")) + 1
        operations = (*rows[-1].then, *_TYPES[kind], *layer.values("neuron"))
        rows[-1] = dataclasses.replace(rows[-1], then=operations, **changes)
    parts = [tuple(x for x in rows if isinstance(x, kind)) for kind in (Conv, Dense)]
    (output,) = levels[-2]
    other = {"neuron", "initB"} & output.settings.keys()
    if output.text("type") != "fc" or not parts[1] or other:
        raise output.error("is no fc without neuron and initB above a hidden fc")
    shared["output_stddev"] = output.number("initW", "0.01")
    shared["num_classes"] = output.whole("outputs")
    net = Variant(name, *parts, columns, pool_ceil=True, **shared)
    return net, weights | {"fc8": output}


def _constants(layer: _Layer) -> dict[str, object]:
    """What a row has once, for all layers of a kind."""
    match layer.text("type"):
        case "cmrnorm" | "rnorm" as kind:
            size = layer.whole("size")
            if size % 2 == 0:
                raise layer.error(f"has size={size}, which has no middle", "size")
            alpha = layer.number("scale") / (size if kind == "cmrnorm" else size**2)
            norm = LRN(layer.number("minDiv", "1"), size, alpha, layer.number("pow"))
            return {_TYPES[kind][0]: norm}
        case "pool":
            if layer.text("pool") != "max" and "doMax" not in layer.settings:
                raise layer.error("pools otherwise than by max", "pool")
            stride = layer.whole("stride")
            return {"pool_size": layer.whole("sizeX"), "pool_stride": stride}
        case "hs":
            if not 0 < (keep := layer.number("keep")) <= 1:
                raise layer.error(f"has keep={keep:g}, not above 0 up to 1", "keep")
            return {"dropout": round(1 - keep, 12)}
    return {}
