"""Damaged files of weights: refused in one line, or read as what they say.

"Silently wrong" is a file that is accepted and gives other weights than the bytes in
it stand for. What is asserted of every damaged file:
- it is refused with a UserError of one printable line, or accepted;
- while it is read, nothing is run: no process, no code, no import (an audit hook
  looks);
- if it is accepted, names and shapes are the net's, and every weight is what was
  written, bit for bit. In files without checksums (.caffemodel and .safetensors of
  others, .npy, .mat that is not compressed, .pth from before PyTorch 1.6) there is one
  exception: where a byte of a number itself was changed, exactly that number is what
  its four bytes now say. Such damage cannot be seen without a checksum of the file,
  which is what `sha256` is for.
"""

import contextlib
import dataclasses
import functools
import hashlib
import io
import pickle
import re
import sys
import time
import zipfile
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import scipy.io
from weight_nets import (
    NUM_CLASSES,
    V1_TYPES,
    by_layer,
    caffe_messages,
    flip_a_bit,
    random_weights,
    read,
    save_npy,
    small_net,
    with_member,
)

from official.alexnet import AlexNet
from official.alexnet.errors import UserError
from official.alexnet.modeling.variants import Variant
from official.alexnet.modeling.weights import set_weights
from official.alexnet.weights import files, layouts

# Eight maps and units a layer: files of 40 kilobytes.
NET = small_net("owt", width=0.001)
CAFFE_NET = small_net("caffe", width=0.001)
WEIGHTS = {"owt": random_weights(NET), "caffe": random_weights(CAFFE_NET)}
SECONDS = 5
WITHOUT_CHECKSUMS = {
    "V1 caffemodel",
    "legacy pth",
    "package's safetensors",
    "caffe's npy",
    "plain mat",
}

_FORBIDDEN = re.compile(
    r"os\.(system|exec|fork|forkpty|posix_spawn|startfile|remove|rename|mkdir)|"
    r"subprocess\.Popen|exec|compile|import|ctypes\..*|socket\..*|pickle\.find_class"
)
_seen: list[str] | None = None


def _audit(event, arguments):
    if _seen is not None and _FORBIDDEN.fullmatch(event):
        _seen.append(f"{event} {arguments}")


sys.addaudithook(_audit)


@contextlib.contextmanager
def nothing_run():
    """Asserts that nothing was run inside, as Python's audit events tell it."""
    global _seen  # noqa: PLW0603
    _seen = seen = []
    try:
        yield
    finally:
        _seen = None
        assert not seen, seen


@dataclasses.dataclass
class Sample:
    """A whole file, what it holds, and where its numbers lie.

    `data` is what gets damaged, and `wrap` makes a file of it. `places` gives for each
    array of the foreign layout its first byte; none where a checksum covers it.
    `order` is that of its numbers, and `theirs` makes its layout of ours.
    """

    suffix: str
    net: Variant
    data: bytes
    arrays: dict[str, np.ndarray]
    places: dict[str, int]
    wrap: Callable[[bytes], bytes] = bytes
    order: str = "C"
    theirs: Callable[[files.WeightFile, Variant], dict] | None = None


def sample(kind, folder) -> Sample:
    """The file of that kind."""
    suffix = "." + kind.split()[-1]
    if suffix in (".npy", ".mat"):
        return sample_by_layer(kind, suffix, folder)
    variant = "caffe" if suffix == ".caffemodel" else "owt"
    net = CAFFE_NET if variant == "caffe" else NET
    order = "bgr" if variant == "caffe" else "rgb"
    arrays = layouts.to_theirs(WEIGHTS[variant], net, order)
    names = layouts.torch_names(arrays, net)
    wrap = bytes
    match kind:
        case "legacy pth" | "torch's pth":
            torch = pytest.importorskip("torch")
            buffer = io.BytesIO()
            torch.save(
                {name: torch.from_numpy(array) for name, array in names.items()},
                buffer,
                _use_new_zipfile_serialization=kind != "legacy pth",
            )
            data = buffer.getvalue()
        case "package's safetensors":
            data = pytest.importorskip("safetensors.numpy").save(names)
        case "the pickle in a pth":
            whole = written(folder, suffix, WEIGHTS[variant], net)
            data = zipfile.ZipFile(io.BytesIO(whole)).read("archive/data.pkl")
            wrap = functools.partial(with_member, whole, "archive/data.pkl")
        case "V1 caffemodel":
            data = as_v1(written(folder, suffix, WEIGHTS[variant], net))
        case _:
            data = written(folder, suffix, WEIGHTS[variant], net)
    places = {}
    if kind in WITHOUT_CHECKSUMS:
        places = {name: data.index(array.tobytes()) for name, array in arrays.items()}
    return Sample(suffix, net, data, arrays, places, wrap)


def sample_by_layer(kind, suffix, folder) -> Sample:
    """Kernels and biases by layer, in this package's order of axes."""
    path = folder / f"whole{suffix}"
    channels = slice(None, None, -1 if suffix == ".npy" else 1)

    def theirs(found, _):
        first = found.weights["conv1/kernel"][:, :, channels]
        return found.weights | {"conv1/kernel": first}

    arrays = theirs(files.WeightFile("", WEIGHTS["caffe"]), CAFFE_NET)
    if suffix == ".npy":
        save_npy(path, WEIGHTS["caffe"])
    else:
        layers = by_layer(arrays)
        cell = np.empty((1, len(layers)), object)
        cell[0, :] = [
            {"name": name, "filters": kernel, "biases": bias[None]}
            for name, (kernel, bias) in layers.items()
        ]
        scipy.io.savemat(path, {"layers": cell}, do_compression=kind != "plain mat")
    data, order, places = path.read_bytes(), "C" if suffix == ".npy" else "F", {}
    if kind in WITHOUT_CHECKSUMS:
        places = {n: data.index(a.tobytes(order)) for n, a in arrays.items()}
    return Sample(suffix, CAFFE_NET, data, arrays, places, order=order, theirs=theirs)


def written(folder, suffix, weights, net) -> bytes:
    path = folder / f"whole{suffix}"
    if suffix == ".keras":
        model = AlexNet(net, NUM_CLASSES)
        set_weights(model, weights)
        model.save(path)
    else:
        files.write(str(path), weights, net)
    return path.read_bytes()


def as_v1(data: bytes) -> bytes:
    """The net in the form of 2014, put together by protobuf."""
    messages = caffe_messages()
    old = messages["NetParameter"].FromString(data)
    new = messages["NetParameter"](name="AlexNet", input=["data"])
    for layer in old.layer[1:]:
        other = new.layers.add(name=layer.name, type=V1_TYPES[layer.type])
        other.bottom.extend(layer.bottom)
        other.top.extend(layer.top)
        for blob in layer.blobs:
            dims = list(blob.shape.dim)
            added = other.blobs.add(data=blob.data)
            shape = [1] * (4 - len(dims)) + dims
            added.num, added.channels, added.height, added.width = shape
        for name in ("convolution", "inner_product", "lrn", "pooling"):
            if layer.HasField(f"{name}_param"):
                param = getattr(layer, f"{name}_param")
                getattr(other, f"{name}_param").CopyFrom(param)
    return new.SerializeToString()


def damaged(whole: Sample, rng) -> tuple[bytes, list[int]]:
    """A damaged copy, and which bytes were changed, if nothing was moved."""
    data = bytearray(whole.data)
    size = len(data)
    kind = rng.choice(["byte", "structure", "bit", "few", "cut", "insert", "delete"])
    if kind == "cut":
        return bytes(data[: rng.integers(size)]), []
    if kind == "insert":
        at = rng.integers(size)
        return bytes(data[:at] + rng.bytes(rng.integers(1, 9)) + data[at:]), []
    if kind == "delete":
        at = rng.integers(size - 8)
        del data[at : at + rng.integers(1, 9)]
        return bytes(data), []
    if kind == "structure":
        # Most bytes are numbers: aim at the others.
        numbers = np.zeros(size, bool)
        for array in whole.arrays.values():
            at = whole.data.find(array.tobytes(whole.order))
            if at >= 0:
                numbers[at : at + array.nbytes] = True
        places = [int(rng.choice(np.flatnonzero(~numbers)))]
    else:
        places = [int(p) for p in rng.integers(size, size=4 if kind == "few" else 1)]
    for place in places:
        if kind == "bit":
            data[place] ^= 1 << int(rng.integers(8))
        else:
            data[place] = int(rng.integers(256))
    return bytes(data), places


def expected(whole: Sample, data: bytes, places: list[int]) -> dict[str, np.ndarray]:
    """What the bytes of the damaged file stand for."""
    arrays = {}
    for name, array in whole.arrays.items():
        begin = whole.places.get(name)
        if begin is None or not any(begin <= p < begin + array.nbytes for p in places):
            arrays[name] = array
            continue
        content = data[begin : begin + array.nbytes]
        changed = np.frombuffer(content, "<f4")
        arrays[name] = changed.reshape(array.shape, order=whole.order)
    return arrays


def fuzz(kind, count, folder) -> dict[str, int]:
    """Damages a file many times; returns how often what came of it."""
    if "pth" in kind:
        pytest.importorskip("torch")
    whole = sample(kind, folder)
    path = folder / f"damaged{whole.suffix}"
    path.write_bytes(whole.wrap(whole.data))
    theirs = whole.theirs or as_theirs
    assert theirs(read(path, whole.net), whole.net).keys() == whole.arrays.keys()
    rng = np.random.default_rng(zlib.crc32(kind.encode()))
    outcomes = {"refused": 0, "as written": 0, "a number changed": 0}
    for i in range(count):
        data, places = damaged(whole, rng)
        path.write_bytes(whole.wrap(data))
        start = time.monotonic()
        try:
            with nothing_run():
                found = read(path, whole.net)
        except UserError as error:
            text = str(error)
            assert text.startswith(str(path)), (kind, i)
            assert text.isprintable(), (kind, i)
            assert len(text) < 700, (kind, i)
            outcomes["refused"] += 1
            continue
        finally:
            assert time.monotonic() - start < SECONDS, (kind, i)
        arrays, wanted = theirs(found, whole.net), expected(whole, data, places)
        assert arrays.keys() == wanted.keys(), (kind, i)
        for name, array in wanted.items():
            assert arrays[name].tobytes() == array.tobytes(), (kind, i, name)
        same = all(array is whole.arrays[name] for name, array in wanted.items())
        outcomes["as written" if same else "a number changed"] += 1
    return outcomes


def as_theirs(found: files.WeightFile, net: Variant) -> dict[str, np.ndarray]:
    order = "bgr" if found.layers else "rgb"
    return layouts.to_theirs(found.weights, net, order)


KINDS = [
    "our caffemodel",
    "V1 caffemodel",
    "our pth",
    "torch's pth",
    "the pickle in a pth",
    "legacy pth",
    "our safetensors",
    "package's safetensors",
    "our keras",
    "caffe's npy",
    "plain mat",
    "compressed mat",
]


@pytest.mark.parametrize("kind", KINDS)
def test_a_hundred_damaged_files(kind, tmp_path):
    outcomes = fuzz(kind, 100, tmp_path)
    assert outcomes["refused"] >= 40
    assert bool(outcomes["a number changed"]) == (kind in WITHOUT_CHECKSUMS)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_thousand_damaged_files(kind, tmp_path):
    outcomes = fuzz(kind, 1000, tmp_path)
    print(kind, outcomes)
    assert outcomes["refused"] >= 400


def test_the_watch_sees_what_a_pickle_runs():
    with pytest.raises(AssertionError, match=r"os\.system"), nothing_run():
        pickle.loads(b"\x80\x02cposix\nsystem\nX\x04\x00\x00\x00true\x85R.")


def test_a_checksum_finds_a_changed_number(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes(
        as_v1(written(tmp_path, ".caffemodel", WEIGHTS["caffe"], CAFFE_NET))
    )
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    files.read(str(path), CAFFE_NET, sha256=digest)
    files.read(str(path), CAFFE_NET, sha256=digest[:8].upper())
    flip_a_bit(path)
    files.read(str(path), CAFFE_NET)
    for given in (digest, digest[:8], digest[:7], ""):
        with pytest.raises(UserError, match="its sha256 is"):
            files.read(str(path), CAFFE_NET, sha256=given)
