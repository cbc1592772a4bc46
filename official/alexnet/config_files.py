"""Settings of a run from YAML files and flags, those of earlier versions too."""

import dataclasses
import importlib.resources

from absl import logging

from official.alexnet import fields, paths, plain_yaml
from official.alexnet.config import Config, TrainConfig
from official.alexnet.errors import UserError, check_known
from official.alexnet.modeling import net_files


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
    file = paths.local(path, "--config_file")
    if file.is_file():
        text = file.read_bytes()
    elif path.removesuffix(".yaml") in names:
        name = path.removesuffix(".yaml") + ".yaml"
        text = (packaged / name).read_bytes()
    else:
        raise UserError(
            f"--config_file={path}: no such file, and the package has only "
            + ", ".join(names)
        )
    return parse_yaml(text, path)


def parse_yaml(text: str | bytes, source: str) -> dict[str, dict]:
    """Sections of settings from YAML text; `source` is what an error calls it."""
    settings = plain_yaml.read(text, source)
    if settings is None:
        return {}
    if not isinstance(settings, dict) or not all(
        isinstance(section, dict) for section in settings.values()
    ):
        raise UserError(
            f"{source} should hold sections ({', '.join(_sections())}) of settings, "
            "such as `train: {batch_size: 128}`"
        )
    return settings


def override(config: Config, settings: dict[str, dict], source: str) -> Config:
    """Replaces settings.

    Args:
        config: what to start from.
        settings: by section and name.
        source: where they come from, for the error.

    Raises:
        UserError: an unknown section or setting, or a value of another type.
    """
    config, settings = _with_net_files(config, settings)
    sections = {}
    for section_name, values in settings.items():
        check_known(section_name, _sections(), f"{source}: no section")
        section = getattr(config, section_name)
        known = {field.name: field for field in dataclasses.fields(section)}
        converted = {}
        for name, value in _modern(section, values, source).items():
            check_known(name, known, f"{source}: {section_name} has no")
            what = f"{source}: {section_name}.{name}"
            if source == "flags":
                what = f"--{name}"
            converted[name] = fields.convert(type(section), known[name], value, what)
        sections[section_name] = dataclasses.replace(section, **converted)
    return dataclasses.replace(config, **sections)


def _with_net_files(config: Config, settings: dict) -> tuple[Config, dict]:
    """The files of `variant` and `layer_params` as what they say, under all else."""
    model = dict(settings.get("model", {}))
    variant, params = model.get("variant"), model.pop("layer_params", None)
    if str(variant).endswith(net_files.SUFFIX):
        model["variant"], found = net_files.read(variant, params)
        config = override(config, found, variant)
    elif params is not None:
        raise UserError(f"--layer_params={params} needs --variant=FILE.cfg")
    return config, settings | ({"model": model} if model else {})


# Settings of versions before `rates`, with the values they had where none was given.
_OLD_RATES = {
    "learning_rate_steps": (),
    "learning_rates": (),
    "bias_learning_rate": 1.0,
    "bias_schedule": "same",
    "bias_learning_rate_steps": (),
    "bias_dexp": (10, 2),
    "layer_learning_rates": (),
    "freeze_layers": (),
}


# Settings of earlier versions that say nothing of what a run computed.
_DROPPED = {"run_eagerly", "max_bad_records"}


def _modern(section, values: dict, source: str) -> dict:
    """New values of a section, with settings of earlier versions as they are now."""
    for name in _DROPPED & values.keys():
        if values[name]:
            logging.warning("%s: %s is gone, and not read.", source, name)
    values = {name: value for name, value in values.items() if name not in _DROPPED}
    is_old = _OLD_RATES.keys() & values.keys() or values.get("schedule") == "steps"
    if not isinstance(section, TrainConfig) or not is_old:
        return values
    if "rates" in values:
        raise UserError(f"{source}: train has rates and settings that rates replaced")
    kept = {name: value for name, value in values.items() if name not in _OLD_RATES}
    if kept.get("schedule") == "steps":
        kept["schedule"] = "constant"
    try:
        return kept | {"rates": _rows_of(values, section.learning_rate)}
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"{source}: malformed learning rates: {error}") from error


def _rows_of(train: dict, learning_rate: float) -> list[str]:
    """`--rates` as the settings of an earlier version said it."""
    old = {name: train.get(name, value) for name, value in _OLD_RATES.items()}
    for name, default in _OLD_RATES.items():
        if isinstance(default, tuple) and not isinstance(old[name], list | tuple):
            old[name] = [old[name]]
    rate = float(train.get("learning_rate", learning_rate))
    rows = []
    if train.get("schedule") == "steps":
        for i, epoch in enumerate(old["learning_rate_steps"]):
            given = old["learning_rates"]
            rows.append((epoch, "all", given[i] if given else rate / 10 ** (i + 1)))
    multiple = float(old["bias_learning_rate"])
    kind = old["bias_schedule"]
    if kind != "same":
        rows.append((0, "biases", multiple * rate))
    elif multiple != 1:
        rows.append((0, "biases", f"x{multiple:.15g}"))
    if kind == "steps":
        for i, epoch in enumerate(old["bias_learning_rate_steps"]):
            rows.append((epoch, "biases", multiple * rate / 10 ** (i + 1)))
    elif kind == "dexp":
        factor, levels = old["bias_dexp"]
        for i in range(1, int(levels)):
            part = multiple * rate * factor ** (-i / (levels - 1))
            rows.append((f"{100 * i / levels:.15g}%", "biases", part))
    layers = [f"{name}=0" for name in old["freeze_layers"]]
    for text in layers + list(old["layer_learning_rates"]):
        name, _, numbers = text.partition("=")
        factor, _, epoch = numbers.partition("@")
        rows.append((float(epoch or 0), name.strip(), f"x{float(factor):.15g}"))
    return [" ".join(map(_short, row)) for row in rows]


def _short(value) -> str:
    return value if isinstance(value, str) else f"{value:.15g}"


def _sections() -> list[str]:
    return [field.name for field in dataclasses.fields(Config)]


def differences(before: Config, now: Config, *changes: str) -> list[str]:
    """Settings of these kinds of change that differ: `--batch_size: 128 -> 64`."""
    found = []
    for section, values in vars(now).items():
        for field in dataclasses.fields(values):
            old = getattr(getattr(before, section), field.name)
            new = getattr(values, field.name)
            if old != new and field.metadata["change"] in changes:
                pair = ["not given" if v is None else v for v in (old, new)]
                shown = " -> ".join(map(fields.show, pair))
                found.append(f"--{field.name}: {shown}")
    return found


def with_start_of(config: Config, run: Config) -> Config:
    """The settings with those of a run that only its step 0 reads."""
    sections = {
        section: dataclasses.replace(
            values,
            **{
                field.name: getattr(getattr(run, section), field.name)
                for field in dataclasses.fields(values)
                if field.metadata["change"] == "start"
            },
        )
        for section, values in vars(config).items()
    }
    return Config(**sections)
