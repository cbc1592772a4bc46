"""What the 2012 program's files say of training: rates, momentum, decay, schedules."""

import re
import statistics
import typing
from collections.abc import Mapping


def settings(weights: Mapping[str, typing.Any]) -> dict[str, object]:
    """Settings of training; `--rates` has what is not alike in all layers.

    Args:
        weights: the layers of `net_files` that have weights, by their names here.
    """
    layers = list(weights.values())
    if not any("epsW" in layer.settings for layer in layers):
        return {}
    for name in ("momW", "momB", "wc", "schedW", "schedB", "sched"):
        if len({frozenset(layer.values(name)) for layer in layers}) > 1:
            raise layers[0].error(f"and others differ in {name}", name)
    momentum = layers[0].number("momW")
    if layers[0].number("momB", layers[0].text("momW")) != momentum:
        raise layers[0].error("has another momB than momW: here they are one", "momB")
    kernels, biases = ([x.number(name) for x in layers] for name in ("epsW", "epsB"))
    rate = statistics.mode(list(filter(None, kernels)) or [0.0])
    bias = statistics.mode(biases)
    parts = _parts(layers[0], "schedB")
    rows = [f"{part} all x{by:.9g}" for part, by in _parts(layers[0], "schedW")[1:]]
    rows += [f"{part} biases {bias * by:.9g}" for part, by in parts]
    for name, kernel, own in zip(weights, kernels, biases, strict=True):
        if kernel != rate:
            rows.append(f"0 {name}/kernel x{kernel / rate:.9g}")
        if own != bias:
            rows += [f"{part} {name}/bias {own * by:.9g}" for part, by in parts]
    train = {"learning_rate": rate, "momentum": momentum}
    train |= {"weight_decay": layers[0].number("wc", "0"), "decay_biases": False}
    return train | {"schedule": "constant", "rates": rows}


def _parts(layer: typing.Any, setting: str) -> list[tuple[str, float]]:
    """From which parts of the run on by what a rate is multiplied."""
    text = layer.text(setting, layer.text("sched", "default"))
    if text == "default":
        return [("0", 1.0)]
    # The factor, noise (none is here), and for `dexp` the number of steps.
    form = r"(?:dexp|linear)\[([1-9]\d*\.?\d*)(?:,0)?(?:,([2-9]|[1-9]\d))?\]"
    found = re.fullmatch(form, re.sub(r"\w+=", "", text))
    if not found or text.startswith("dexp") != bool(found[2]):
        raise layer.error(f"has {setting}={text}, which is not here", setting)
    factor, count = float(found[1]), int(found[2] or 20)
    falls = [1 - i / count * (1 - 1 / factor) for i in range(count)]
    if found[2]:
        falls = [factor ** (-i / (count - 1)) for i in range(count)]
    return [(f"{100 * i / count:.9g}%" if i else "0", by) for i, by in enumerate(falls)]
