""".pth files: PyTorch reads what is written, and what PyTorch saves is read."""

import collections
import io
import os
import pathlib
import pickle
import sys
import zipfile

import numpy as np
import pytest
from weight_nets import (
    NUM_CLASSES,
    assert_refused,
    assert_same_bits,
    random_weights,
    small_net,
    with_member,
    written,
)

from official.alexnet import AlexNet
from official.alexnet.errors import UserError
from official.alexnet.weights import files, formats, tensor_files

torch = pytest.importorskip("torch")
LEGACY = {"_use_new_zipfile_serialization": False}


def saved(obj, **options) -> bytes:
    buffer = io.BytesIO()
    torch.save(obj, buffer, **options)
    return buffer.getvalue()


def read(data):
    """As `files.read` does it, with the library's errors as one line."""
    form = formats.format_of(pathlib.Path("net.pth"))
    return files.parse("net.pth", form.advice, lambda: tensor_files.read_torch(data))


def torchvisions_alexnet(net):
    """Written down again from torchvision/models/alexnet.py, in another width."""
    nn = torch.nn
    maps = [conv.filters for conv in net.convolutions]
    units = [dense.units for dense in net.dense]

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Sequential(
                nn.Conv2d(3, maps[0], kernel_size=11, stride=4, padding=2),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=3, stride=2),
                nn.Conv2d(maps[0], maps[1], kernel_size=5, padding=2),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=3, stride=2),
                nn.Conv2d(maps[1], maps[2], kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(maps[2], maps[3], kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.Conv2d(maps[3], maps[4], kernel_size=3, padding=1),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(kernel_size=3, stride=2),
            )
            self.classifier = nn.Sequential(
                nn.Dropout(),
                nn.Linear(maps[4] * 6 * 6, units[0]),
                nn.ReLU(inplace=True),
                nn.Dropout(),
                nn.Linear(units[0], units[1]),
                nn.ReLU(inplace=True),
                nn.Linear(units[1], NUM_CLASSES),
            )

        def forward(self, x):
            return self.classifier(torch.flatten(self.features(x), 1))

    torch.manual_seed(0)
    return Net().eval()


def assert_same_logits(theirs, net, path) -> None:
    ours = AlexNet(net, NUM_CLASSES, classifier_activation=None, weights=str(path))
    images = np.random.default_rng(0).normal(0, 1, (2, 224, 224, 3)).astype(np.float32)
    with torch.no_grad():
        wanted = theirs(torch.from_numpy(images.transpose(0, 3, 1, 2).copy())).numpy()
    found = ours(images).numpy()
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * np.abs(wanted).max())


@pytest.mark.parametrize("options", [{}, LEGACY])
def test_torchvisions_net_computes_the_same_here(options, tmp_path):
    net = small_net("owt", input_size=224)
    theirs = torchvisions_alexnet(net)
    path = tmp_path / "alexnet.pth"
    path.write_bytes(saved(theirs.state_dict(), **options))
    assert_same_logits(theirs, net, path)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_what_is_written_computes_the_same_there(suffix, tmp_path):
    net = small_net("owt", input_size=224)
    path = tmp_path / f"alexnet{suffix}"
    written(path, net)
    theirs = torchvisions_alexnet(net)
    if suffix == ".pth":
        state = torch.load(path, weights_only=True)
    else:
        state = pytest.importorskip("safetensors.torch").load_file(path)
    theirs.load_state_dict(state)
    assert_same_logits(theirs, net, path)


def test_torch_load_gives_the_bits_that_were_written():
    rng = np.random.default_rng(0)
    arrays = {
        "conv1.weight": rng.normal(size=(8, 3, 5, 5)).astype(np.float32),
        "conv1.bias": np.float32([0.0, -0.0, 1e-45, 3e38, -1, 2, 3, 4]),
        "a.b": rng.normal(size=(70000, 1)).astype(np.float32),
    }
    written = tensor_files.write_torch(arrays, "notes")
    assert written == tensor_files.write_torch(arrays, "notes")
    for options in ({}, {"weights_only": True}, {"weights_only": False}):
        found = torch.load(io.BytesIO(written), **options)
        assert_same_bits({k: t.numpy() for k, t in found.items()}, arrays)
        assert found["a.b"].is_contiguous()
    found, notes = read(written)
    assert_same_bits(found, arrays)
    assert notes == "notes"


def test_torch_can_map_the_file_into_memory(tmp_path):
    array = np.arange(1000, dtype=np.float32)
    (tmp_path / "x.pth").write_bytes(
        tensor_files.write_torch({"a": array, "b": array}, "")
    )
    found = torch.load(tmp_path / "x.pth", mmap=True, weights_only=True)
    np.testing.assert_array_equal(found["b"].numpy(), array)
    assert found["b"].data_ptr() % 64 == 0


def states():
    torch.manual_seed(0)
    plain = torch.randn(4, 3, 2, 5)
    yield "float32", {"a.weight": plain}, torch.float32
    yield "float64", {"a.weight": plain.double()}, torch.float64
    yield "float16", {"a.weight": plain.half()}, torch.float16
    yield "bfloat16", {"a.weight": plain.bfloat16()}, torch.float32
    last = plain.to(memory_format=torch.channels_last)
    yield "channels last", {"a.weight": last}, torch.float32
    yield "transposed", {"a.weight": torch.randn(4, 6).T}, torch.float32
    yield "parameter", {"a.weight": torch.nn.Parameter(plain)}, torch.float32
    yield "ordered", collections.OrderedDict([("a.weight", plain)]), torch.float32
    nested = {"epoch": 3, "best": 0.5, "arch": "alexnet", "state_dict": {"x": plain}}
    yield "training", nested, torch.float32


@pytest.mark.parametrize("options", [{}, LEGACY])
@pytest.mark.parametrize("case", list(states()), ids=lambda case: case[0])
def test_what_torch_saves(case, options):
    _, state, dtype = case
    found, notes = read(saved(state, **options))
    assert notes == ""
    for name, tensor in state.get("state_dict", state).items():
        wanted = tensor.detach().to(dtype).numpy()
        assert found[name].dtype == wanted.dtype
        np.testing.assert_array_equal(found[name], wanted)


def test_names_of_parallel_training(tmp_path):
    net = small_net("owt", input_size=224)
    theirs = torchvisions_alexnet(net)
    path = tmp_path / "parallel.pth"
    torch.save(torch.nn.DataParallel(theirs).state_dict(), path)
    assert_same_logits(theirs, net, path)


class Call:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("options", [{}, LEGACY])
def test_a_call_in_the_file_is_not_made(options, tmp_path):
    mark = tmp_path / "mark"
    path = tmp_path / "evil.pth"
    path.write_bytes(saved({"conv1.weight": Call(mark)}, **options))
    with pytest.raises(UserError, match=r"asks for \w+\.system.*nothing was run"):
        AlexNet(small_net("owt"), weights=str(path))
    assert not mark.exists()
    # The oracle: it is a file that does harm.
    torch.load(path, weights_only=False)
    assert mark.exists()


def test_a_call_in_other_places_is_not_made(tmp_path):
    mark = tmp_path / "mark"
    call = pickle.dumps(Call(mark), 2)
    for name in ("archive/data.pkl", "x/data.pkl"):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr(name, call)
            archive.writestr(name.replace("data.pkl", "version"), "3")
        with pytest.raises(UserError, match="system"):
            read(buffer.getvalue())
    with pytest.raises(UserError, match="state_dict"):
        read(call)
    assert not mark.exists()


def test_a_whole_module_is_refused(tmp_path):
    path = tmp_path / "module.pth"
    torch.save(torch.nn.Linear(2, 2), path)
    text = r"nn\.modules\.linear\.Linear.*state_dict"
    assert_refused(path, small_net("owt"), text)


def test_views_are_read_and_may_not_claim_more_than_the_file_holds():
    whole = torch.randn(4, 4)
    found, _ = read(saved({"a": whole[2:], "b": whole.T}))
    np.testing.assert_array_equal(found["a"], whole[2:].numpy())
    np.testing.assert_array_equal(found["b"], whole.T.numpy())
    with pytest.raises(UserError, match="claim 40000000000 bytes"):
        read(saved({"a": whole[:1, :1].expand(100_000, 100_000)}))


@pytest.mark.parametrize(
    "state",
    [{}, [], {"a": 1.0}, {"a": [torch.zeros(2)]}, torch.zeros(2), {1: torch.zeros(2)}],
)
def test_what_is_no_state_dict(state):
    with pytest.raises(UserError, match="no state_dict"):
        read(saved(state))


def test_whole_numbers_are_refused():
    with pytest.raises(UserError, match=r"torch\.int64"):
        read(saved({"a": torch.zeros(2, dtype=torch.long)}))


def test_members_of_another_size_are_refused():
    data = tensor_files.write_torch({"a": np.zeros(100, np.float32)}, "")
    for size in (0, 4, 396):
        with pytest.raises(UserError, match="state_dict"):
            read(with_member(data, "archive/data/0", bytes(size)))


def test_a_bomb_is_not_unpacked():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a/data.pkl", bytes(10**8))
    assert len(buffer.getvalue()) < 10**6
    with pytest.raises(UserError, match="compressed"):
        read(buffer.getvalue())


def test_a_flipped_bit_in_the_numbers_is_seen():
    data = tensor_files.write_torch({"a": np.ones(100, np.float32)}, "")
    place = data.index(np.ones(100, np.float32).tobytes())
    for i in (0, 123, 399):
        changed = bytearray(data)
        changed[place + i] ^= 1
        with pytest.raises(UserError, match="checksum"):
            read(bytes(changed))


def test_a_legacy_file_that_was_cut():
    data = saved({"a": torch.arange(6.0), "b": torch.ones(2)}, **LEGACY)
    assert len(read(data)[0]) == 2
    with pytest.raises(UserError, match="state_dict"):
        read(data[:-1])


def test_without_torch_one_line_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "net.pth"
    path.write_bytes(b"PK")
    net = small_net("owt")
    for call in (
        lambda: files.read(str(path), net),
        lambda: files.write(str(path), random_weights(net), net),
    ):
        with pytest.raises(UserError, match=r"pip install .*\[torch\].*safetensors"):
            call()


def test_torchscript_is_named():
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), buffer)
    with pytest.raises(UserError, match="TorchScript"):
        read(buffer.getvalue())
