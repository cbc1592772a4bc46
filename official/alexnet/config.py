"""The settings of a run: frozen dataclasses, read from YAML and flags, written to YAML.

Later sources win: the defaults here, `--config_file`, `--params_override`, flags.
"""

import contextlib
import dataclasses
import difflib
import importlib.resources
import math
import pathlib
import types
import typing

import yaml

from official.alexnet import checks
from official.alexnet.errors import UserError
from official.alexnet.modeling.variants import VARIANTS


def _field(default, help: str, choices: tuple[str, ...] | None = None):
    return dataclasses.field(
        default=default, metadata={"help": help, "choices": choices}
    )


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """The net; see `official.alexnet.AlexNet`."""

    variant: str = _field(
        "paper",
        "`paper`, or `one_gpu`: footnote 2's net with half the kernels.",
        tuple(VARIANTS),
    )
    num_classes: int = _field(1000, "Number of classes.")
    num_columns: int = _field(
        1,
        "1: the grouped form, a replica on one device; 2: two columns, each on a "
        "device of its own.",
    )
    init: str = _field(
        "published",
        "Initial weights: `published` (the variant's own), `source` (the 2012 "
        "source's, 0.03 after conv2) or `unit_variance` (measured on a batch of the "
        "training set: every layer's output has variance 1 and biases are 0).",
        ("published", "source", "unit_variance"),
    )
    width: float = _field(1.0, "Multiplies the number of kernels and hidden units.")
    input_size: int = _field(224, "Side of the crops the net reads, in pixels.")
    dropout: float = _field(0.5, "Rate of dropout after fc6 and fc7.")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """The images, and what is done to them."""

    data_dir: str | None = _field(
        None,
        "Directory of TFRecords: what tools/prepare_imagenet.py wrote, any classic "
        "ImageNet TFRecords, or a TFDS directory.",
    )
    tfds_name: str | None = _field(
        None, "TFDS dataset by name, such as imagenet2012; --data_dir is its root."
    )
    tfds_download: bool = _field(
        False, "Let TFDS download and prepare --tfds_name if it is not there."
    )
    statistics: str | None = _field(
        None,
        "statistics.npz with the mean image and colour PCA. Where none is named: the "
        "one in --data_dir, or measured on training images.",
    )
    use_synthetic_data: bool = _field(
        False, "Random images instead of a data set, to measure speed."
    )
    augment: bool = _field(
        True, "Random crops and flips while training; otherwise the centre crop."
    )
    color_noise: str = _field(
        "eigenvalues",
        "Colour noise of section 4.1: `eigenvalues` (the paper's formula), "
        "`standard_deviations` (the 2012 source) or `none`.",
        ("eigenvalues", "standard_deviations", "none"),
    )
    color_noise_sigma: float = _field(0.1, "Standard deviation of the colour noise.")
    input_scale: str = _field(
        "none",
        "`none`: grey levels 0..255 minus the mean image, as published; "
        "`unit_variance`: those divided by their standard deviation.",
        ("none", "unit_variance"),
    )
    shuffle_buffer: int = _field(
        8192, "Records held in memory to shuffle; shards are shuffled besides."
    )


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Section 5 of the paper, and when to look at what it does."""

    batch_size: int = _field(128, "Images a step, all replicas together.")
    train_epochs: float = _field(90, "Passes over the training set.")
    train_steps: int | None = _field(None, "Steps; instead of --train_epochs.")
    learning_rate: float = _field(0.01, "Initial learning rate.")
    momentum: float = _field(0.9, "Momentum.")
    weight_decay: float = _field(0.0005, "Weight decay, inside the velocity.")
    bias_learning_rate: float = _field(
        1.0, "Learning rate of biases as a multiple (the 2012 source: 2)."
    )
    decay_biases: bool = _field(
        True, "Weight decay on biases (the paper's rule; the 2012 source: no)."
    )
    schedule: str = _field(
        "plateau",
        "`plateau`: divide the learning rate by 10 when the validation error stops "
        "improving; `steps`: at --learning_rate_steps; `constant`.",
        ("plateau", "steps", "constant"),
    )
    learning_rate_steps: tuple[float, ...] = _field(
        (), "Epochs at which schedule `steps` divides the learning rate by 10."
    )
    plateau_patience: int = _field(
        3, "Evaluations without a lower error before `plateau` divides."
    )
    plateau_reductions: int = _field(3, "How often `plateau` divides at most.")
    epochs_between_evals: float = _field(1, "Epochs between evaluations.")
    eval_crops: int = _field(1, "Crops an image: 1 (centre) or 10 (section 4.1).")
    skip_eval: bool = _field(False, "Train without evaluating.")
    log_steps: int = _field(20, "Steps between lines of progress and of metrics.jsonl.")
    checkpoint_steps: int = _field(
        1000, "Steps between checkpoints; one follows every evaluation as well."
    )
    max_to_keep: int = _field(3, "Checkpoints kept.")
    steps_per_loop: int = _field(10, "Steps in one call of the compiled loop.")
    profile_steps: tuple[int, ...] = _field(
        (), "first,last: profile these steps for TensorBoard."
    )
    seed: int = _field(0, "Of weights, dropout, shuffling, crops and colour noise.")


@dataclasses.dataclass(frozen=True)
class RuntimeConfig:
    """The machine."""

    distribution_strategy: str = _field(
        "off",
        "`off` and `one_device`: one replica; `mirrored`: as many as the devices of "
        "this machine allow; `multi_worker_mirrored`: those of --worker_hosts.",
        ("off", "one_device", "mirrored", "multi_worker_mirrored"),
    )
    num_gpus: int | None = _field(
        None,
        "GPUs of this machine to use; each replica takes --num_columns of them; 0 for "
        "the CPU. Where no number is given: all.",
    )
    logical_cpus: int | None = _field(
        None,
        "Split the CPU into this many devices: two columns or several replicas run "
        "on a machine without GPUs.",
    )
    worker_hosts: str | None = _field(
        None, "host:port of every worker, with commas; instead of TF_CONFIG."
    )
    task_index: int = _field(0, "Which of --worker_hosts this process is.")
    dtype: str = _field(
        "fp32",
        "Type of the products: `fp32`; `bf16`, which recent CPUs and GPUs run faster; "
        "`fp16`, with loss scaling, for GPUs. Weights, velocity, LRN and loss are "
        "float32 in all.",
        ("fp32", "fp16", "bf16"),
    )
    enable_xla: bool = _field(
        False,
        "Compile the step with XLA; only one column on one replica. XLA draws other "
        "dropout masks and colour noise from the same seed.",
    )
    run_eagerly: bool = _field(False, "Run step by step without a graph, to debug.")


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    train: TrainConfig = TrainConfig()
    runtime: RuntimeConfig = RuntimeConfig()

    def to_yaml(self) -> str:
        return yaml.safe_dump(_plain(dataclasses.asdict(self)), sort_keys=False)


def _plain(value):
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return list(value) if isinstance(value, tuple) else value


def load(path: str) -> dict[str, dict]:
    """Reads a YAML file of settings, or one of those that come with the package.

    Args:
        path: a path, or the name of a packaged file: `paper` or `paper.yaml`.

    Returns:
        Sections of settings, for `override`.

    Raises:
        UserError: there is no such file, or it is not such YAML.
    """
    packaged = importlib.resources.files("official.alexnet") / "configs"
    names = sorted(file.name.removesuffix(".yaml") for file in packaged.iterdir())
    file = pathlib.Path(path).expanduser()
    if file.is_file():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{path} is not YAML: it is not UTF-8 text") from error
    elif path.removesuffix(".yaml") in names:
        name = path.removesuffix(".yaml") + ".yaml"
        text = (packaged / name).read_text(encoding="utf-8")
    else:
        raise UserError(
            f"--config_file={path}: no such file, and the package has only "
            + ", ".join(names)
        )
    return parse_yaml(text, path)


def parse_yaml(text: str, source: str) -> dict[str, dict]:
    """Sections of settings from YAML text; `source` is what an error calls it."""
    try:
        settings = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise UserError(f"{source} is not YAML: {line}") from error
    if not isinstance(settings, dict) or not all(
        isinstance(section, dict) for section in settings.values()
    ):
        raise UserError(
            f"{source} should hold sections ({', '.join(_sections())}) of settings, "
            "such as `train: {batch_size: 128}`"
        )
    return settings


def parse_override(text: str) -> dict[str, dict]:
    """Settings from `--params_override`, such as `train.seed=1,model.width=0.5`.

    Raises:
        UserError: the text is of another form.
    """
    settings: dict[str, dict] = {}
    for item in _split_outside_brackets(text):
        key, equals, value = item.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (equals and dot):
            raise UserError(
                f"--params_override: {item!r} should read section.setting=value"
            )
        try:
            settings.setdefault(section, {})[name] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise UserError(
                f"--params_override: {value!r} in {item!r} is not a value in YAML"
            ) from error
    return settings


def _split_outside_brackets(text: str) -> list[str]:
    items, depth, start = [], 0, 0
    for i, character in enumerate(text):
        depth += (character == "[") - (character == "]")
        if character == "," and depth == 0:
            items.append(text[start:i])
            start = i + 1
    return [item for item in [*items, text[start:]] if item.strip()]


def override(config: Config, settings: dict[str, dict], source: str) -> Config:
    """Replaces settings.

    Args:
        config: what to start from.
        settings: by section and name.
        source: where they come from, for the error.

    Raises:
        UserError: an unknown section or setting, or a value of another type.
    """
    sections = {}
    for section_name, values in settings.items():
        _check_name(section_name, _sections(), f"{source}: no section")
        section = getattr(config, section_name)
        fields = {field.name: field for field in dataclasses.fields(section)}
        hints = typing.get_type_hints(type(section))
        converted = {}
        for name, value in values.items():
            _check_name(name, list(fields), f"{source}: {section_name} has no")
            what = f"{source}: {section_name}.{name}"
            choices = fields[name].metadata["choices"]
            converted[name] = _convert(value, hints[name], choices, what)
        sections[section_name] = dataclasses.replace(section, **converted)
    return dataclasses.replace(config, **sections)


def _sections() -> list[str]:
    return [field.name for field in dataclasses.fields(Config)]


def _check_name(name: str, known: list[str], source: str) -> None:
    if name in known:
        return
    close = difflib.get_close_matches(str(name), known, n=1)
    advice = f"did you mean {close[0]}?" if close else f"known: {', '.join(known)}"
    raise UserError(f"{source} {name!r}; {advice}")


def _convert(value, hint, choices, what: str):
    """Checks a value from YAML or a flag against a field's type."""
    optional = isinstance(hint, types.UnionType)
    if optional and value is None:
        return None
    kind = typing.get_args(hint)[0] if optional else hint
    if typing.get_origin(kind) is tuple:
        item_kind = typing.get_args(kind)[0]
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_convert(item, item_kind, None, what) for item in items)
    if kind is float and isinstance(value, int | str) and not isinstance(value, bool):
        # YAML reads 1e-3 as text.
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if kind is str and isinstance(value, str) and value.startswith("~"):
        # The shell leaves the ~ of --data_dir=~/imagenet alone.
        value = str(pathlib.Path(value).expanduser())
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{what} should be of type {kind.__name__}, not {value!r}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{what} should be a finite number, not {value}")
    if choices and value not in choices:
        raise UserError(f"{what} should be one of {', '.join(choices)}, not {value!r}")
    return value


_MORE_THAN_0 = (
    "num_classes",
    "width",
    "shuffle_buffer",
    "batch_size",
    "train_epochs",
    "train_steps",
    "learning_rate",
    "plateau_patience",
    "epochs_between_evals",
    "log_steps",
    "checkpoint_steps",
    "max_to_keep",
    "steps_per_loop",
    "logical_cpus",
)
_AT_LEAST_0 = (
    "color_noise_sigma",
    "momentum",
    "weight_decay",
    "bias_learning_rate",
    "plateau_reductions",
    "seed",
    "num_gpus",
    "task_index",
)


def check(config: Config) -> None:
    """Checks what the types do not say.

    Raises:
        UserError: naming the flag to change.
    """
    model, data, train, runtime = (
        config.model,
        config.data,
        config.train,
        config.runtime,
    )
    values = {
        k: v for section in vars(config).values() for k, v in vars(section).items()
    }
    for name in _MORE_THAN_0:
        if values[name] is not None and values[name] <= 0:
            raise UserError(f"--{name} should be more than 0, not {values[name]}")
    for name in _AT_LEAST_0:
        if values[name] is not None and values[name] < 0:
            raise UserError(f"--{name} should be 0 or more, not {values[name]}")
    checks.check_net(model)
    checks.check_data(data)
    checks.check_schedule(train)
    checks.check_machine(runtime, model.num_columns)
