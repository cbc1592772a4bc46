"""What the numbers of a net say of its training, and where they contradict each other.

A kernel's updates are sums of (activity of an input) x (error of an output), a bias's
of the errors alone: so a trained kernel's mean follows its biases, what it reads the
biases of the layer below, and the windows of a convolution share one sign. Each trace
is given as z, its distance from what chance gives in standard deviations.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
from absl import logging
from scipy import stats

from official.alexnet.modeling import structure
from official.alexnet.modeling.variants import Variant

# By chance one trace of 70 is above 2.2, and one of 30,000 above 4.
NONE, SOME, STRONG = 2.2, 4.0, 8.0
# In torchvision's trained conv1 the kernels of red have 1.5 times the energy of blue's.
COLOR_RATIO = 1.25
UNKNOWN = "cannot be told"
Weights = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Inspection:
    """What was found, in words; `evidence` is each layer's strongest trace, as z."""

    training: str = UNKNOWN
    channel_order: str = UNKNOWN
    flattening: str = UNKNOWN
    halves: str = UNKNOWN
    dropout: str = UNKNOWN
    evidence: Mapping[str, float] = dataclasses.field(default_factory=dict)
    faults: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        """The report, a line a question."""
        traces = ", ".join(f"{name} {z:.1f}" for name, z in self.evidence.items())
        return [
            f"training: {self.training}",
            f"traces of training (z, chance stays under {SOME:g}): {traces or UNKNOWN}",
            f"channel order: {self.channel_order}",
            f"flattening: {self.flattening}",
            f"halves: {self.halves}",
            f"dropout's factor: {self.dropout}",
            *([f"fault: {fault}" for fault in self.faults] or ["fault: none found"]),
        ]


@np.errstate(all="ignore")
def inspect(weights: Weights, net: Variant) -> Inspection:
    """Looks at weights by name, of the net's shapes; they may hold NaN."""
    if broken := [text for item in weights.items() if (text := _broken(*item))]:
        return Inspection(faults=tuple(broken))
    traces = _Traces(weights, net)
    first, (here, other) = traces.names[0], traces.orders
    flattening = "pixel by pixel (sure)" if here > max(SOME, other) else UNKNOWN
    crossed = traces.crossed()
    training, faults = _training(traces, net)
    faults += crossed
    if other > max(SOME, 2 * here):
        flattening = "map by map"
        faults.append(
            f"{traces.reader}/kernel is flattened map by map, where this layout has it "
            f"pixel by pixel (z {other:.1f} against {here:.1f})"
        )
    order = _channel_order(weights[f"{first}/kernel"])
    if order.startswith("BGR"):
        faults.append(f"{first}/kernel is for BGR, where this layout has RGB ({order})")
    dropout, scaled = _scales(weights, net, traces.names)
    known = [name for name, z in traces.straight.items() if z > SOME]
    halves = f"belong together in {', '.join(known)} (sure)" if known else UNKNOWN
    if net.num_columns == 1 or crossed:
        halves = "exchanged" if crossed else "the net has one column"
    words = training, order, flattening, halves, dropout
    return Inspection(*words, traces.evidence, tuple(faults + scaled))


def warn(path: str, weights: Weights, net: Variant) -> None:
    """Logs faults in one line; passes over weights of other shapes than the net's."""
    shapes = {name: array.shape for name, array in weights.items()}
    wanted = structure.weight_shapes(net, sum(shapes.get("fc8/bias", (0,))))
    if wanted == shapes and (faults := inspect(weights, net).faults):
        logging.warning("%s: %s", path, "; ".join(faults))


def _broken(name: str, array: np.ndarray) -> str | None:
    """Numbers that no trained layer has: NaN, infinity, a kernel of one number."""
    if count := int(np.count_nonzero(~np.isfinite(array))):
        return f"{name} holds NaN or infinity, {count} times"
    if not name.endswith("/kernel"):
        return None
    if array.min() == array.max():
        return f"{name} is {array.flat[0] or 0:g} everywhere"
    outputs = array.reshape(-1, array.shape[-1]).T
    inputs = np.moveaxis(array, -2, 0).reshape(array.shape[-2], -1)
    for what, rows in (("outputs", outputs), ("inputs", inputs)):
        dead = ~rows.any(1)
        if dead.mean() > 0.05:
            return f"{name} is zero for {dead.sum()} of {dead.size} {what}"
    seen: dict[bytes, int] = {}
    for i, output in enumerate(outputs):
        first = seen.setdefault(output[-8:].tobytes(), i)
        if first < i and output.any() and np.array_equal(output, outputs[first]):
            return f"{name} has the same numbers for outputs {first} and {i}"
    return None


class _Traces:
    """The traces of training in each layer, and between each and the one below."""

    def __init__(self, weights: Weights, net: Variant):
        self.weights, self.columns = weights, net.num_columns
        rows = {layer.name: layer for layer in (*net.convolutions, *net.dense)}
        self.names = [n for n in (*rows, "fc8") if f"{n}/kernel" in weights]
        self.reader, self.orders = net.dense[0].name, (0.0, 0.0)
        self.evidence: dict[str, float] = {}
        self.straight: dict[str, float] = {}
        self.exchanged: dict[str, float] = {}
        for below, name in zip([None, *self.names], self.names, strict=False):
            is_own = getattr(rows.get(name), "reads", "all") == "own"
            self._layer(name, below, self.columns if is_own else 1)

    def bias(self, name: str) -> np.ndarray:
        return np.asarray(self.weights[f"{name}/bias"], np.float64)

    def _layer(self, name: str, below: str | None, groups: int) -> None:
        kernel, bias = self.weights[f"{name}/kernel"], self.bias(name)
        inputs = self.bias(below).size // groups if below else kernel.shape[-2]
        # (columns, pixels of the window, inputs, outputs)
        whole = kernel.reshape(-1, inputs, groups, bias.size // groups)
        whole = whole.transpose(2, 0, 1, 3)
        biases = bias.reshape(groups, -1)
        means = whole.mean((1, 2))
        traces = [abs(_z(*(_centred(part).ravel() for part in (means, biases))))]
        traces += [_outlier(part.reshape(-1, part.shape[-1])) for part in whole]
        if kernel.ndim == 4:
            traces += [abs(_alike(part)) for part in whole]
        if below:
            traces += self._link(name, below, whole.mean(1), biases)
        if name == self.reader and groups == 1:
            by_map = kernel.reshape(inputs, -1, bias.size).transpose(1, 0, 2)
            self.orders = tuple(
                (_additive(part @ _centred(bias)) + _alike(part)) / np.sqrt(2)
                for part in (whole[0], by_map)
            )
            traces += self.orders
        self.evidence[name] = float(max(traces))

    def _link(self, name, below, read: np.ndarray, biases: np.ndarray) -> list[float]:
        """Whether (columns, inputs, outputs) read what the layer below gives most."""
        lower, energy = self.weights[f"{below}/kernel"], np.square(read).sum(-1).ravel()
        # Images have low frequencies of any sign, maps are positive.
        given = lower.reshape(-1, *lower.shape[-2:]).sum(0)
        is_first, columns = below == self.names[0], self.columns
        given = np.linalg.norm(given, axis=0) if is_first else given.sum(0)

        def score(shift: int, own: np.ndarray) -> float:
            follows = np.einsum("cio,co->ci", read, _centred(own)).ravel()
            pairs = (follows, self.bias(below)), (energy, given)
            a, b = (
                sum(map(_z, np.split(x, columns), np.split(np.roll(y, shift), columns)))
                for x, y in pairs
            )
            return max(a, b, (a + b) / np.sqrt(2)) / np.sqrt(columns)

        straight = score(0, biases)
        if columns == 1 or not below.startswith("conv"):
            return [straight]
        half = len(given) // 2
        exchanged = max(score(half, biases), score(half, biases[::-1]))
        self.straight[name], self.exchanged[name] = straight, exchanged
        return [straight, exchanged]

    def crossed(self) -> list[str]:
        """Links that hold only with the halves of the layer below exchanged."""
        return [
            f"{name}/kernel: its halves and those of {self.names[i - 1]} are exchanged "
            f"(z {self.exchanged[name]:.1f} against {self.straight[name]:.1f})"
            for i, name in enumerate(self.names)
            if self.exchanged.get(name, 0) > SOME
            and self.exchanged[name] - self.straight[name] > SOME
        ]


def _centred(parts: np.ndarray) -> np.ndarray:
    return parts - parts.mean(-1, keepdims=True)


def _z(x: np.ndarray, y: np.ndarray) -> float:
    """Rank correlation in standard deviations; 0 where one of them is constant."""
    if len(x) < 8 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return 0.0
    r = np.clip(stats.spearmanr(x, y)[0], -0.999, 0.999)
    return float(np.arctanh(r) * np.sqrt(len(x) - 3))


def _additive(profile: np.ndarray) -> float:
    """How far (pixels, maps) is a sum of both, beyond chance; z of a chi square."""
    pixels, maps = profile.shape
    if pixels < 2 or np.ptp(profile) == 0:
        return 0.0
    profile = profile - profile.mean()
    parts = pixels * (profile.mean(0) ** 2).sum() + maps * (profile.mean(1) ** 2).sum()
    freedom = pixels + maps - 2
    square = parts / (profile**2).sum() * profile.size
    return float((square - freedom) / np.sqrt(2 * freedom))


def _alike(part: np.ndarray) -> float:
    """Energy of low frequencies in (pixels, inputs, outputs), beyond chance."""
    x = part.reshape(len(part), -1)
    if len(x) < 2:
        return 0.0
    share = len(x) * np.var(x.mean(0), dtype=np.float64) / np.var(x, dtype=np.float64)
    return float((share - 1) * np.sqrt(x.shape[1] / 2))


def _outlier(matrix: np.ndarray) -> float:
    """How far the largest singular value is above Marchenko and Pastur's edge, in %."""
    edge = np.sqrt(np.mean(np.square(matrix))) * sum(np.sqrt(matrix.shape))
    vector = np.random.default_rng(0).normal(size=matrix.shape[1]).astype(np.float32)
    for _ in range(12):
        vector = matrix.T @ (matrix @ (vector / np.linalg.norm(vector)))
    return float(100 * (np.sqrt(np.linalg.norm(vector)) / edge - 1))


def _training(traces: _Traces, net: Variant) -> tuple[str, list[str]]:
    """Whether the net was trained; and layers that were not, where the others were."""
    evidence = traces.evidence
    kernels = {name: traces.weights[f"{name}/kernel"] for name in evidence}
    fixed = [name for name in evidence if np.ptp(traces.bias(name)) == 0]
    if max(evidence.values()) < SOME:
        sure = max(map(len, kernels.values())) > 200
        if net.output_stddev is None:
            sure = all(np.abs(k).max() < 1.00001 * _limit(k) for k in kernels.values())
        if sure or len(fixed) == len(evidence):
            fault = "all layers are freshly drawn, none was trained"
            return "freshly drawn (sure)", [fault]
        return UNKNOWN, []
    faults, drawn = [], net.output_stddev is not None
    for below, name in zip([None, *traces.names], traces.names, strict=False):
        rest = np.array([z for key, z in evidence.items() if key != name])
        # Where gradients vanish, biases hardly move either.
        spread, limit = np.std(traces.bias(name)), _limit(kernels[name])
        moved = spread > (0.05 * np.std(kernels[name]) if drawn else 0.7 * limit)
        # Convolutions show the least: of them all others have to show enough.
        enough, share = (SOME, 0.7) if name.startswith("fc") else (STRONG, 0.99)
        others = np.median(rest) > enough and np.mean(rest > SOME) > share
        if evidence[name] < NONE and moved and below not in fixed and others:
            faults.append(
                f"{name}/kernel has no trace of training, where other layers have: it "
                "is freshly drawn, or shuffled against its biases and neighbours (z "
                f"{evidence[name]:.1f} against {np.median(rest):.1f})"
            )
    beyond = {n: np.abs(k).max() / _limit(k) for n, k in kernels.items()}
    inside = [n for n, most in beyond.items() if 0.99 < most < 1.00001]
    if not drawn and all(most > 1.05 for n, most in beyond.items() if n not in inside):
        text = "lies within what it is drawn from, where others left it: not trained"
        faults += [f"{name}/kernel {text}" for name in inside]
    is_sure = np.median([*evidence.values()]) > SOME
    # Half precision may hide how little a bias moved.
    still = [n for n in fixed if not traces.bias(n)[0] or not _is_half(kernels[n])]
    if is_sure and len(still) == len(evidence):
        faults.append("no layer's biases were trained, as the kernels were")
    elif len(fixed) <= len(evidence) // 2:
        text = "everywhere: it was not trained, as other layers were"
        faults += [f"{n}/bias is {traces.bias(n)[0] + 0:g} {text}" for n in still]
    return f"trained ({'sure' if is_sure else 'likely'})", faults


def _is_half(kernel: np.ndarray) -> bool:
    """Whether it has been float16 or bfloat16, which leave the last bits at 0."""
    return not (np.ascontiguousarray(kernel).view(np.uint32) & 0xFFF).any()


def _limit(kernel: np.ndarray) -> float:
    """PyTorch's uniform kernels and biases stay within it."""
    return 1 / np.sqrt(np.prod(kernel.shape[:-1]))


def _channel_order(kernel: np.ndarray) -> str:
    """By the energy of conv1's kernels: of photographs blue says least."""
    colors = kernel.astype(np.float64).transpose(2, 0, 1, 3).reshape(3, -1)
    red, green, blue = np.square(colors).sum(1)
    ratio = max(red / blue, blue / red)
    alike = np.corrcoef(colors)
    # Of other pictures any colour may be strong. In photographs, and in torchvision's
    # conv1 (0.51, 0.55 and 0.31), red and blue are the least alike.
    if (
        ratio < COLOR_RATIO
        or green < 0.95 * max(red, blue)
        or min(alike[0, 1], alike[1, 2]) < max(0.2, alike[0, 2] + 0.1)
    ):
        return UNKNOWN
    text = f"red's and blue's energies differ {ratio:.2f} times"
    return f"{'RGB' if red > blue else 'BGR'}: {text}"


def _scales(weights: Weights, net: Variant, names: list[str]) -> tuple[str, list[str]]:
    """Kernels' sizes against those of initialisations that convolutions still show."""
    rows = {layer.name: layer for layer in (*net.convolutions, *net.dense)}
    factors, drawn, unit, odd = structure.input_factors(net), {}, {}, []
    for below, name in zip([None, *names], names, strict=False):
        kernel = weights[f"{name}/kernel"]
        stddev = rows[name].stddev if name in rows else net.output_stddev
        size = float(np.std(kernel, dtype=np.float64))
        stddev = stddev or _limit(kernel) / np.sqrt(3)
        least, most = sorted((size / stddev, size / _limit(kernel) / np.sqrt(2)))
        if least > 30 or (most < 1 / 30 and below):
            text = f"{least if least > 30 else most:.3g} times as large"
            odd.append(f"{name}/kernel is {text} as when drawn: was it scaled?")
        drawn[name] = size / stddev
        if name == "fc8" and drawn[name] > 1:
            # Gradients of the softmax sum to 0: the sum of the classes does not grow.
            drawn[name] *= np.std(kernel.sum(-1)) / np.sqrt(kernel.shape[-1]) / size
        then = rows[below].then if below else ()
        # --init=unit_variance: a ReLU halves the energy that the next layer reads.
        if {*then} - {"dropout"} == {"relu"} and name != "fc8":
            unit[name] = size * factors.get(name, 1) / _limit(kernel) / np.sqrt(2)
    for sizes, least in ((drawn, 4), (unit, 2)):
        core = [size for name, size in sizes.items() if name.startswith("conv")]
        near = sum(0.85 < size < 1.15 for size in core)
        if near < max(least, 0.7 * len(core)):
            continue
        dense = {name: size for name, size in sizes.items() if name.startswith("fc")}
        # fc8 itself grows, in long training.
        room = {name: 0.05 if name == "fc8" else 0.1 for name in dense}
        wrong = [
            n for n, s in dense.items() if abs(abs(np.log2(s)) - 1) < 1.44 * room[n]
        ]
        shown = ", ".join(f"{name} {size:.2f}" for name, size in dense.items())
        text = "times as large as others of its kind: dropout of another form?"
        faults = [f"{name}/kernel is {dense[name]:.2f} {text}" for name in wrong]
        return (
            f"kernels are {shown} times as large as the initialisation's",
            odd + faults,
        )
    return UNKNOWN, odd
