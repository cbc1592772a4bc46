"""Settings: where they come from, which wins, and what is refused."""

import ast
import functools
import pathlib
import types
import typing

import numpy as np
import pytest
import yaml
from absl import flags

import official.alexnet
from official.alexnet import config as config_lib
from official.alexnet import config_files, setting_flags
from official.alexnet.config import (
    SETTINGS,
    Config,
    DataConfig,
    ModelConfig,
    RuntimeConfig,
    TrainConfig,
)
from official.alexnet.errors import UserError

PACKAGE = pathlib.Path(official.alexnet.__file__).parent
SYNTHETIC = Config(data=DataConfig(use_synthetic_data=True))
config_of = functools.partial(setting_flags.config_of, reads_data=False)
FIELDS = [(section, name) for name, (section, _) in SETTINGS.items()]


def bounds(kind: str) -> list[tuple[str, str, float]]:
    """Settings with a bound of this kind."""
    return [
        (section, name, bound)
        for name, (section, field) in SETTINGS.items()
        if (bound := field.metadata[kind]) is not None
    ]


@pytest.fixture
def parse_flags(monkeypatch):
    """Parses a command line into settings, with flags of its own."""

    def parse(*arguments: str, of_run=None, base: Config | None = None) -> Config:
        values = flags.FlagValues()
        monkeypatch.setattr(setting_flags, "FLAGS", values)
        with pytest.MonkeyPatch.context() as patch:
            for kind in ("string", "bool", "integer", "float", "list", "enum"):
                define = getattr(flags, f"DEFINE_{kind}")
                patch.setattr(
                    flags,
                    f"DEFINE_{kind}",
                    functools.partial(define, flag_values=values),
                )
            setting_flags.define_config_flags(of_run)
        values(["program", *arguments])
        return setting_flags.config_from_flags(base)

    return parse


def test_flags_win_over_the_file_over_defaults(parse_flags, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "data: {use_synthetic_data: true}\n"
        "train: {batch_size: 2, momentum: 0.2, seed: 2}\n"
    )
    config = parse_flags(f"--config_file={file}", "--batch_size=4")
    assert config.train.batch_size == 4
    assert config.train.momentum == 0.2
    assert config.train.seed == 2
    assert config.train.weight_decay == 0.0005
    assert config.data.use_synthetic_data


def test_a_flag_that_is_given_wins_though_it_says_the_default(parse_flags, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("train: {seed: 7}")
    config = parse_flags("--use_synthetic_data", f"--config_file={file}", "--seed=0")
    assert config.train.seed == 0


def test_flags_of_a_later_command_start_from_the_run(parse_flags):
    base = SYNTHETIC.replace(batch_size=7, seed=5)
    config = parse_flags("--batch_size=9", of_run=["batch_size"], base=base)
    assert (config.train.batch_size, config.train.seed) == (9, 5)
    with pytest.raises(flags.UnrecognizedFlagError):
        parse_flags("--seed=1", of_run=["batch_size"], base=base)


@pytest.mark.parametrize(("section", "name"), FIELDS)
def test_every_setting_has_a_flag_that_arrives(parse_flags, section, name):
    default = getattr(getattr(Config(), section), name)
    _, field = SETTINGS[name]
    kind = field.type
    kind = typing.get_args(kind)[0] if isinstance(kind, types.UnionType) else kind
    text, value = {
        bool: (str(not default), not default),
        int: ("2", 2),
        float: ("0.25", 0.25),
        str: ("text", "text"),
        tuple[float, ...]: ("3.5,4", (3.5, 4)),
        tuple[int, ...]: ("3,4", (3, 4)),
        tuple[str, ...]: ("conv3,conv4", ("conv3", "conv4")),
    }[kind]
    if field.metadata["choices"]:
        text = value = field.metadata["choices"][-1]
    text, value = {
        "eval_crops": ("10", 10),
        "variant": ("caffe", "caffe"),
        "input_size": ("64", 64),
        "rates": ("0 fc8 x10,3 conv1 0", ("0 fc8 x10", "3 conv1 0")),
        "dexp": ("16,3", (16, 3)),
    }.get(name, (text, value))
    extra = {
        "exchange_dtype": ["--num_columns=2"],
        "task_index": [
            "--worker_hosts=a:1,b:2,c:3",
            "--distribution_strategy=multi_worker_mirrored",
        ],
        "worker_hosts": ["--distribution_strategy=multi_worker_mirrored"],
        "tfds_download": ["--tfds_name=x"],
        "skip_eval": ["--schedule=constant"],
        "init_layers": ["--init_from=x"],
    }.get(name, [])
    named = name in ("data_dir", "tfds_name", "tfds_download", "use_synthetic_data")
    source = [] if named else ["--use_synthetic_data"]
    config = parse_flags(f"--{name}={text}", *extra, *source)
    assert getattr(getattr(config, section), name) == value


def test_a_home_directory_is_found(parse_flags, monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_flags("--data_dir=~/set").data.data_dir == str(tmp_path / "set")


def test_numbers_of_numpy_are_numbers():
    config = config_of({"learning_rate": np.float64(0.5), "batch_size": np.int64(8)})
    assert (config.train.learning_rate, config.train.batch_size) == (0.5, 8)
    assert "learning_rate: 0.5" in config.to_yaml()


def test_epochs_of_a_flag_win_over_steps_of_a_recipe():
    config = config_of({"config_file": "demo", "train_epochs": 3})
    assert (config.train.train_epochs, config.train.train_steps) == (3, None)
    both = {"config_file": "demo", "train_epochs": 3, "train_steps": 7}
    assert config_of(both).train.train_steps == 7


def test_a_file_of_settings_wins_over_a_nets_own_files(tmp_path):
    net = pathlib.Path(__file__).parents[1] / "docs" / "net" / "layers-small.cfg"
    (tmp_path / "mine.yaml").write_text("train: {momentum: 0.5}")
    given = {"variant": str(net), "config_file": str(tmp_path / "mine.yaml")}
    config = config_of(given)
    assert (config.train.momentum, config.train.weight_decay) == (0.5, 0.0005)
    assert config.model.net().name == "layers-small.cfg"
    # Another net's files, which it names, are not read.
    text = "model: {variant: nothing.cfg, layer_params: no.cfg}\ntrain: {momentum: 0.7}"
    (tmp_path / "mine.yaml").write_text(text)
    config = config_of(given)
    assert (config.train.momentum, config.train.weight_decay) == (0.7, 0.0005)
    assert config.model.net().name == "layers-small.cfg"


def test_an_empty_name_of_a_file_of_settings_is_none():
    with pytest.raises(UserError, match="--config_file=: no such file"):
        config_of({"config_file": ""})


def test_yaml_round_trip_keeps_every_setting():
    changed = Config(
        model=ModelConfig(variant="one_gpu", width=0.5),
        data=DataConfig(data_dir="a: b, 'c'", augment=False),
        train=TrainConfig(
            learning_rate=1e-7,
            dexp=(16.0, 3.0),
            profile_steps=(2, 4),
            rates=("1.5 all 0.001", "2 conv1 x0.1"),
        ),
        runtime=RuntimeConfig(logical_cpus=2, worker_hosts="h:1,i:2"),
    )
    for config in (Config(), changed):
        text = config.to_yaml()
        assert set(yaml.safe_load(text)) == {"model", "data", "train", "runtime"}
        read = config_files.parse_yaml(text, "text")
        assert config_files.override(Config(), read, "text") == config


@pytest.mark.parametrize("file", sorted((PACKAGE / "configs").glob("*.yaml")), ids=str)
def test_packaged_settings_load_and_fit(file):
    for name in (file.stem, file.name, str(file)):
        settings = config_files.load(name)
        assert set(settings) >= {"model", "train"}
        config = config_files.override(SYNTHETIC, settings, name)
        if config.train.init_layers:
            with pytest.raises(UserError, match="--init_layers needs --init_from"):
                config_lib.check(config)
            config = config.replace(init_from="run")
        config_lib.check(config)


def test_the_paper_file_is_the_defaults():
    assert config_files.override(Config(), config_files.load("paper"), "") == Config()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"trian": {}}, r"no section 'trian'; did you mean train\?"),
        ({"zzz": {}}, "known: model, data, train, runtime"),
        ({"train": {"batchsize": 1}}, r"'batchsize'; did you mean batch_size\?"),
        ({"train": {3: 1}}, "train has no 3"),
        ({"train": {"batch_size": "many"}}, "train.batch_size .* int, not 'many'"),
        ({"train": {"batch_size": 1.5}}, "int, not 1.5"),
        ({"train": {"batch_size": True}}, "int, not True"),
        ({"train": {"batch_size": None}}, "int, not None"),
        ({"train": {"momentum": True}}, "float, not True"),
        ({"train": {"momentum": "much"}}, "float, not 'much'"),
        ({"train": {"momentum": float("nan")}}, "finite number"),
        ({"train": {"learning_rate": "inf"}}, "finite number"),
        ({"train": {"seed": 2**63}}, "a number of 64 bits"),
        ({"train": {"skip_eval": 1}}, "bool, not 1"),
        ({"train": {"profile_steps": [1.5, 2]}}, "int, not 1.5"),
        ({"train": {"schedule": "cosine"}}, "one of plateau, dexp"),
        ({"model": {"variant": 3}}, "str, not 3"),
        ({"model": {"variant": {"name": "x", "dense": [{"units": "y"}]}}}, "units .*y"),
        ({"model": {"variant": {"name": "x"}}}, "model.variant is malformed: .*dense"),
        ({"model": {"variant": {"side": 3}}}, "model.variant is malformed: 'side'"),
        ({"data": {"data_dir": 3}}, "str, not 3"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(UserError, match=f"^here: .*{message}"):
        config_files.override(Config(), settings, "here")


def test_values_that_look_otherwise_are_taken():
    text = "{learning_rate: 1e-3, train_epochs: 3, dexp: [1, 2.5]}"
    read = config_files.parse_yaml(f"train: {text}", "text")
    train = config_files.override(Config(), read, "text").train
    assert train.learning_rate == 0.001
    assert isinstance(train.train_epochs, float)
    assert train.dexp == (1.0, 2.5)
    assert all(isinstance(value, float) for value in train.dexp)
    one = config_files.override(Config(), {"train": {"dexp": 4}}, "")
    assert one.train.dexp == (4.0,)
    none = config_files.override(Config(), {"runtime": {"num_gpus": None}}, "")
    assert none.runtime.num_gpus is None


def test_off_is_no_number_and_no_truth(parse_flags, tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text(
        "data: {use_synthetic_data: yes, tfds_name: 2024-01-31}\n"
        "runtime: {distribution_strategy: off, worker_hosts: }\n"
        "train:\n  skip_eval: off\n  learning_rate: 1e-3\n  batch_size: 010\n"
        "  train_steps: 1_000\n  seed: 0x10\n"
    )
    settings = config_files.load(str(file))
    assert settings["data"]["tfds_name"] == "2024-01-31"
    settings["data"]["tfds_name"] = None
    config = config_files.override(Config(), settings, "file")
    assert config.runtime == RuntimeConfig()
    assert config.data == SYNTHETIC.data
    # 010 is what --batch_size=010 is.
    train = TrainConfig(batch_size=10, train_steps=1000, learning_rate=1e-3, seed=16)
    assert config.train == train
    config = parse_flags("--use_synthetic_data", "--batch_size=010")
    assert config.train.batch_size == 10


def test_a_file_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(UserError, match=r"papr: no such file.* demo, .*, paper"):
        config_files.load("papr")
    file = tmp_path / "x.yaml"
    file.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="is not YAML"):
        config_files.load(str(file))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        *[
            ({section: {name: bound}}, f"--{name} should be more than 0, not 0")
            for section, name, bound in bounds("above")
        ],
        *[
            ({section: {name: bound - 1}}, f"--{name} should be 0 or more, not -1")
            for section, name, bound in bounds("least")
        ],
        ({"data": {"use_synthetic_data": False}}, "no data: give --data_dir"),
        ({"data": {"data_dir": "x"}}, "--nouse_synthetic_data"),
        ({"data": {"tfds_download": True}}, "--tfds_download needs --tfds_name"),
        ({"train": {"eval_crops": 5}}, "--eval_crops should be 1 or 10"),
        ({"model": {"input_size": 63}}, "--input_size=63 is too small"),
        ({"model": {"input_size": 257}}, "--input_size should be at most 256"),
        ({"model": {"pool_stride": 4}}, "--pool_stride=4 should be 1 to --pool_size=3"),
        ({"model": {"pool_size": 0}}, "--pool_size should be more than 0"),
        ({"model": {"remove": ["conv6"]}}, "--remove=conv6: the variant paper has"),
        ({"model": {"variant": "papr"}}, "'papr': --variant takes paper, original, "),
        ({"model": {"variant": "owt", "init": "source"}}, "--init=source: .* owt"),
        ({"model": {"dropout": 1}}, "--dropout should be in"),
        ({"model": {"dropout": -0.1}}, "--dropout should be in"),
        ({"model": {"num_columns": 3}}, "--num_columns=3: .* takes 1 or 2"),
        (
            {"model": {"variant": "one_gpu", "num_columns": 2}},
            "--num_columns=2: the variant one_gpu takes 1 only",
        ),
        *[
            ({"train": {"dexp": values}}, "--dexp takes a factor and a number")
            for values in ([250], [250, 4, 1], [0, 4], [250, 1], [250, 3.5])
        ],
        *[
            ({"train": {"rates": [text]}}, f"--rates: '{text}' should read EPOCH WHAT")
            for text in (
                *("0 conv1", "0 conv1 y", "0 conv1 -1", "conv1 0", "-1 all 1"),
                *("0 all nan", "101% all 1", "x all 1", "0 all 1 2", "1e999 all 1"),
            )
        ],
        ({"train": {"init_layers": ["conv1"]}}, "--init_layers needs --init_from"),
        ({"train": {"skip_eval": True}}, "--schedule=constant"),
        ({"train": {"profile_steps": [1]}}, "--profile_steps takes"),
        ({"train": {"profile_steps": [5, 5]}}, "--profile_steps takes"),
        ({"train": {"profile_steps": [-1, 5]}}, "--profile_steps takes"),
        (
            {"runtime": {"enable_xla": True}, "model": {"num_columns": 2}},
            "--enable_xla .* --num_columns=1",
        ),
        *[
            (
                {"runtime": {"enable_xla": True, "distribution_strategy": name}},
                "--enable_xla works on one replica",
            )
            for name in ("mirrored", "multi_worker_mirrored")
        ],
        ({"runtime": {"num_gpus": 1, "logical_cpus": 1}}, "cannot go together"),
        ({"runtime": {"worker_hosts": "a:1"}}, "multi_worker_mirrored"),
        ({"runtime": {"task_index": 1}}, "--task_index needs --worker_hosts"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit(settings, message):
    config_lib.check(SYNTHETIC)
    config = config_files.override(SYNTHETIC, settings, "here")
    with pytest.raises(UserError, match=message) as error:
        config_lib.check(config)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "settings",
    [
        {"runtime": {"enable_xla": True}},
        {"runtime": {"enable_xla": True, "distribution_strategy": "one_device"}},
        {"runtime": {"num_gpus": 0, "logical_cpus": 2}, "model": {"num_columns": 2}},
        {"train": {"skip_eval": True, "schedule": "constant"}},
        {"train": {"profile_steps": [0, 1], "eval_crops": 10}},
        {"model": {"input_size": 64, "dropout": 0}},
        {"model": {"variant": "caffe", "input_size": 63}},
        {"model": {"activation": "tanh", "normalization": "none", "pool_size": 2}},
        {"model": {"remove": ["conv3", "conv4"], "num_columns": 2}},
    ],
    ids=str,
)
def test_settings_that_fit(settings):
    config_lib.check(config_files.override(SYNTHETIC, settings, "here"))


def _settings_read() -> set[tuple[str, str]]:
    """Each `section.setting` that the code reads, checks of it left out."""
    read = set()
    for path in PACKAGE.rglob("*.py"):
        if path.name in ("config.py", "machine.py", "cli.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute):
                owner = node.value
                name = getattr(owner, "attr", None) or getattr(owner, "id", "")
                read.add((name.lstrip("_"), node.attr))
    return read


def test_no_setting_is_taken_and_ignored():
    # `AlexNet` takes all options by name, and `ModelConfig.net` the variant.
    options = {("model", name) for name in (*ModelConfig().options(), "variant")}
    assert set(FIELDS) - _settings_read() - options == set()


def test_a_file_cannot_split_the_cpu_of_a_machine_with_gpus(parse_flags):
    common = ("--config_file=demo", "--use_synthetic_data", "--num_gpus=2")
    with pytest.raises(UserError, match="taken back with --logical_cpus=0"):
        parse_flags(*common)
    assert parse_flags(*common, "--logical_cpus=0").runtime.num_gpus == 2
