"""Net descriptions in the grammar of the 2012 program."""

import dataclasses
import pathlib
import re
import shutil

import pytest
from files_2012 import FOLDER, NETS, layers_of, needs_files

from official.alexnet import AlexNet, UserError, config_files, run_files
from official.alexnet import config as config_lib
from official.alexnet.config import Config, DataConfig
from official.alexnet.modeling import net_files, options
from official.alexnet.modeling.counts import count
from official.alexnet.modeling.variants import VARIANTS
from official.alexnet.training.rates import Plateau, Schedule
from official.alexnet.training.trainer import train

EXAMPLE = pathlib.Path(__file__).parents[2] / "docs" / "net"
# The rows that a file says, but for their names, and where else they differ.
ROWS = {
    "145": ("original", {}),
    "145-half": ("original_one_gpu", {}),
    "146-2009": ("original_conv6", {"num_classes": 10_184}),
    "146-2012-2009": ("original_conv6", {}),
    "146-2012-2011": ("original_conv6", {}),
    "147": ("original_pool2x2", {}),
    # It has no LRN to give constants of.
    "148": ("original_no_lrn", {"lrn": VARIANTS["paper"].lrn}),
    "150": ("original_no_exchange", {}),
    "153": ("original", {}),
}


# Where layers have to be alike.
EVERYWHERE = ("filters=16", "momB=0.9", "keep=0.5", "size=5")


@pytest.fixture
def small(tmp_path) -> pathlib.Path:
    """A copy of the page's example."""
    for file in EXAMPLE.iterdir():
        shutil.copy(file, tmp_path)
    return tmp_path / "layers-small.cfg"


def rates(settings, weight: str, part: float = 0.0) -> float:
    """The learning rate of a weight after a part of a run of 100 epochs."""
    train = dataclasses.replace(settings, train_epochs=100)
    schedule = Schedule(train, 10, 1000)
    return schedule.rates(int(1000 * part), Plateau()).of(weight)


def read(path, layer_params=None, **sections) -> Config:
    model = {"variant": str(path)}
    if layer_params is not None:
        model["layer_params"] = str(layer_params)
    config = Config(data=DataConfig(use_synthetic_data=True))
    return config_files.override(config, {"model": model} | sections, "here")


def test_the_example_of_the_page(small):
    net = options.find(str(small))
    assert net.name == "layers-small.cfg"
    conv1, conv2 = net.convolutions
    assert (conv1.filters, conv1.size, conv1.stride, conv1.padding) == (
        32,
        11,
        4,
        (0, 3),
    )
    assert conv1.then == ("relu", "lrn", "pool")
    assert conv2.then == ("relu", "pool")
    assert (conv2.reads, conv2.bias) == ("own", 1)
    (fc7,) = net.dense
    assert (fc7.name, fc7.units, fc7.reads) == ("fc7", 256, "all")
    assert fc7.then == ("relu", "dropout")
    assert (net.lrn.k, net.lrn.n, net.lrn.alpha) == (1, 5, 0.0002 / 5)
    assert (net.num_columns, net.num_classes) == (2, 10)
    settings = read(small).train
    assert (settings.momentum, settings.weight_decay) == (0.9, 0.0005)
    assert not settings.decay_biases
    assert rates(settings, "conv2/kernel") == 0.01
    assert rates(settings, "conv2/kernel", 0.5) == pytest.approx(0.001)
    assert rates(settings, "conv1/kernel") == pytest.approx(0.005)
    assert rates(settings, "conv1/kernel", 0.99) == pytest.approx(0.0005)
    assert rates(settings, "fc8/bias", 0.99) == 0.02
    assert AlexNet(str(small)).output_shape == (None, 10)
    total = count(AlexNet(net))[-1].parameters
    assert total == count(AlexNet(net, num_columns=2))[-1].parameters


def test_a_run_needs_its_files_no_more(small, tmp_path):
    more = {"train": {"train_steps": 1, "batch_size": 2, "skip_eval": True}}
    size = read(small, model={"variant": str(small), "input_size": 96}, **more)
    assert train(size, str(tmp_path / "run"))["step"] == 1
    for file in (small, small.with_name("layer-params-small.cfg")):
        file.unlink()
    again = run_files.load_config(str(tmp_path / "run"))
    assert again.model.net() == size.model.net()
    assert again.train == size.train
    assert not run_files.other_net(size, again)


def test_what_is_said_besides_wins(small):
    config = read(small, train={"momentum": 0.5})
    assert (config.train.momentum, config.train.weight_decay) == (0.5, 0.0005)
    assert (
        read(small, model={"variant": str(small), "num_classes": 3}).model.num_classes
        == 3
    )
    with pytest.raises(UserError, match="--layer_params=x needs --variant="):
        config_files.override(Config(), {"model": {"layer_params": "x"}}, "here")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("[conv2a]", "conv2a", r"small.cfg:\d+: 'conv2a' is neither \[layer\] nor"),
        ("type=pool", "type=blur", "the net needs blur; here are data, conv"),
        ("gpu=1", "gpu=1\nsteps=3", r":\d+: conv1b has steps=3, which is not here"),
        ("filters=16", "filters=many", r":\d+: conv1a has filters=many, no whole"),
        ("filters=16", "filters=0", r":\d+: conv1a has filters=0, no whole number"),
        ("inputs=pool1b", "inputs=pool1a", "no layer reads pool1b"),
        ("inputs=pool1b", "inputs=data", "conv2b and conv1a differ in channels"),
        ("inputs=pool2a,pool2b", "inputs=pool2a", "fc128b should read what stands be"),
        ("channels=16", "channels=8", r":\d+: \w+ and \w+ differ in channels|channels"),
        ("pool=max", "pool=avg", "differ in pool|pools otherwise than by max"),
        ("outputs=10", "outputs=10\noutputs=9", r":\d+: outputs is on .*:\d+ already"),
        ("keep=0.5\n", "\n", r"\w+ has no keep|differ in keep"),
        ("keep=0.5", "keep=2", r":\d+: \w+ has keep=2, not above 0 up to 1"),
        ("size=5", "size=4", r":\d+: \w+ has size=4, which has no middle"),
        ("[probs]", "[probs2]", None),
        ("inputs=fc10", "inputs=nobody", "no layer reads fc10"),
        ("scale=0.0002", "", "differ in scale"),
        ("epsW=0.01", "epsW=x", "epsW=x, no number|differ in epsW"),
        ("momW=0.9", "momW=0.8", "differ in momW"),
        ("momB=0.9", "momB=0.8", "has another momB than momW"),
        ("dexp[10,2]", "cosine[3]", "differ in schedW|schedW=cosine"),
        ("[fc10]\nepsW", "[fc11]\nepsW", r"params-small.cfg:\d+: the net has no layer"),
    ],
)
def test_a_mistake_is_one_line_with_its_place(small, old, new, message):
    for file in (small, small.with_name("layer-params-small.cfg")):
        once = -1 if old in EVERYWHERE else 1
        file.write_text(file.read_text().replace(old, new, once))
    if message is None:
        assert options.find(str(small))
        return
    with pytest.raises(UserError, match=message) as caught:
        net_files.read(str(small))
    assert "\n" not in str(caught.value)


def test_notepads_byte_order_mark_and_line_ends_are_not_read(small):
    row = options.find(str(small))
    for file in (small, small.with_name("layer-params-small.cfg")):
        text = file.read_text("utf-8").replace("\n", "\r\n")
        file.write_bytes(text.encode("utf-8-sig"))
    assert options.find(str(small)) == row


def test_functions_in_a_file_are_not_run(small, caplog):
    row = options.find(str(small))
    assert "initWFunc" not in caplog.text
    line = "initWFunc=os.abort()\nfilters=16"
    small.write_text(small.read_text().replace("filters=16", line))
    assert options.find(str(small)) == row
    (record,) = caplog.records
    text = "initWFunc and initBFunc of conv1a, conv1b are not run: give --init_from"
    assert record.getMessage() == f"{small}: {text}"


def test_no_such_file(small):
    small.with_name("layer-params-small.cfg").unlink()
    with pytest.raises(UserError, match=r"nothing.cfg: there is no such file"):
        options.find("nothing.cfg")
    with pytest.raises(UserError, match=r"norm1a has no scale, here or in layer-par"):
        options.find(str(small))


@needs_files
def test_14_of_the_63_nets_are_here_and_each_other_names_what_it_needs():
    found = []
    for file in sorted(FOLDER.glob("layers-*.cfg")):
        net = file.stem.removeprefix("layers-")
        try:
            found.append((options.find(str(file)), net)[1])
        except UserError as error:
            (kinds,) = re.findall(r"the net needs (.*); here are", str(error))
            types = set(re.findall(r"^type=(.*)$", file.read_text(), re.MULTILINE))
            needed = types - {*net_files._TYPES}
            gpus = len(set(re.findall(r"^gpu=(.*)$", file.read_text(), re.MULTILINE)))
            needed |= {f"{gpus} GPUs"} if gpus > 2 else set()
            assert set(kinds.split(", ")) == needed
            assert "\n" not in str(error)
    assert sorted(found) == sorted(NETS)
    assert len(list(FOLDER.glob("layers-*.cfg"))) == 63


@needs_files
@pytest.mark.parametrize("net", ROWS)
def test_the_row_of_a_file_is_that_of_the_table(net):
    name, differences = ROWS[net]
    row = options.find(layers_of(net))
    expected = dataclasses.replace(VARIANTS[name], name=f"layers-{net}.cfg")
    assert row == dataclasses.replace(expected, **differences)


@needs_files
@pytest.mark.parametrize("net", NETS)
def test_a_net_of_2012_has_its_rates(net):
    """All are settings that can be trained with; conv3 stands for most layers."""
    config = read(layers_of(net))
    config_lib.check(config)
    assert (config.train.momentum, config.train.weight_decay) == (0.9, 0.0005)
    text = (FOLDER / f"layer-params-{net}.cfg").read_text()
    for layer in ("conv1", "conv3"):
        section = re.search(rf"\[{layer}a\]\n(.*?)(\n\n|\Z)", text, re.DOTALL)[1]
        settings = dict(line.split("=") for line in section.split())
        kernel, bias = float(settings["epsW"].split(",")[0]), float(settings["epsB"])
        assert rates(config.train, f"{layer}/kernel") == pytest.approx(kernel)
        assert rates(config.train, f"{layer}/bias") == pytest.approx(bias)


@needs_files
def test_schedules_and_half_precision_of_2013():
    layers = layers_of("153")
    linear = read(layers)
    assert rates(linear.train, "conv3/kernel", 0.5) == pytest.approx(0.01 * 0.5005)
    assert rates(linear.train, "conv3/bias", 0.95) == pytest.approx(0.02 * 0.05095)
    double = read(layers, FOLDER / "layer-params-170-256-double.cfg").train
    quarters = [rates(double, "conv3/kernel", i / 4) for i in range(4)]
    assert quarters == pytest.approx([0.02, 0.003174802, 0.000503968, 0.00008])
    assert rates(double, "conv3/bias", 0.5) == pytest.approx(0.004)
    quant = read(layers, FOLDER / "layer-params-170-quant.cfg")
    assert quant.runtime.exchange_dtype == "fp16"
    assert read(layers, FOLDER / "layer-params-170.cfg").runtime == Config().runtime
