"""Settings of a run from YAML files and flags, those of earlier versions too."""

import importlib.resources

from absl import logging

from official.alexnet import fields, paths, plain_yaml
from official.alexnet.config import SETTINGS, Config
from official.alexnet.errors import UserError, check_known
from official.alexnet.modeling import net_files


def load(path: str) -> dict[str, dict]:
    """Reads a YAML file of settings, into sections for `override`.

    A path, or the name of a file that comes with the package: `paper` or `paper.yaml`.

    Raises:
        UserError: there is no such file, or it is not such YAML.
    """
    folder = importlib.resources.files("official.alexnet") / "configs"
    packaged = {file.name.removesuffix(".yaml"): file for file in folder.iterdir()}
    file = paths.local(path, "--config_file")
    if not file.is_file():
        file = packaged.get(path.removesuffix(".yaml"))
    if file is None:
        raise UserError(
            f"--config_file={path}: no such file, and the package has only "
            + ", ".join(sorted(packaged))
        )
    return parse_yaml(file.read_bytes(), path)


def parse_yaml(text: str | bytes, source: str) -> dict[str, dict]:
    """Sections of settings from YAML text; `source` is what an error calls it."""
    settings = plain_yaml.read(text, source)
    if settings is None:
        return {}
    sections = settings.values() if isinstance(settings, dict) else [settings]
    if all(isinstance(section, dict) for section in sections):
        return settings
    raise UserError(
        f"{source} should hold sections ({', '.join(vars(Config()))}) of settings, "
        "such as `train: {batch_size: 128}`"
    )


def override(config: Config, settings: dict[str, dict], source: str) -> Config:
    """Replaces settings by those of `source`, by section and name; as `layered`."""
    return layered(config, (settings, source))


def layered(config: Config, *sources: tuple[dict[str, dict], str]) -> Config:
    """Replaces settings by those of sources, each with its name; later ones win.

    What the files of the last `variant` and its `layer_params` say comes under all.

    Raises:
        UserError: an unknown section or setting, or a value of another type.
    """
    variant = params = None
    for settings, _ in sources:
        model = settings.get("model", {})
        if "variant" in model:
            variant, params = model["variant"], None
        params = model.get("layer_params", params)
    if str(variant).endswith(net_files.SUFFIX):
        net, found = net_files.read(variant, params)
        named = {"model": {"variant": net}}
        sources = ((found, variant), *sources, (named, variant))
    elif params is not None:
        raise UserError(f"--layer_params={params} needs --variant=FILE.cfg")
    for settings, source in sources:
        config = config.replace(**_converted(config, settings, source))
    return config


def _converted(config: Config, settings: dict, source: str) -> dict[str, object]:
    converted = {}
    for section, values in settings.items():
        check_known(section, vars(config), f"{source}: no section")
        known = vars(getattr(config, section))
        for name, value in _modern(config, section, values, source).items():
            if name == "layer_params":
                continue  # Is read with its net.
            check_known(name, known, f"{source}: {section} has no")
            where = f"{source}: {section}.{name}"
            what = f"--{name}" if source == "flags" else where
            converted[name] = fields.convert(SETTINGS[name][1], value, what)
    return converted


# Settings of versions before `rates`, with the values they had where none was given.
OLD_RATES = {
    **{"learning_rate_steps": (), "learning_rates": (), "layer_learning_rates": ()},
    **{"bias_learning_rate": 1.0, "bias_learning_rate_steps": (), "freeze_layers": ()},
    **{"bias_schedule": "same", "bias_dexp": (10, 2)},
}
# Settings of earlier versions that say nothing of what a run computed.
_DROPPED = {"run_eagerly", "max_bad_records"}


def _modern(config: Config, section: str, values: dict, source: str) -> dict:
    """New values of a section, with settings of earlier versions as they are now."""
    for name in _DROPPED & values.keys():
        if values[name]:
            logging.warning("%s: %s is gone, and not read.", source, name)
    new = {name: value for name, value in values.items() if name not in _DROPPED}
    is_old = OLD_RATES.keys() & values.keys() or values.get("schedule") == "steps"
    if section != "train" or not is_old:
        return new
    new = {name: value for name, value in new.items() if name not in OLD_RATES}
    if "rates" in values:
        raise UserError(f"{source}: train has rates and settings that rates replaced")
    if new.get("schedule") == "steps":
        new["schedule"] = "constant"
    try:
        return new | {"rates": _rows_of(values, config.train.learning_rate)}
    except (TypeError, ValueError, IndexError, ZeroDivisionError) as error:
        raise UserError(f"{source}: malformed learning rates: {error}") from error


def _rows_of(train: dict, learning_rate: float) -> list[str]:
    """`--rates` as the settings of an earlier version said it."""
    old = {}
    for name, default in OLD_RATES.items():
        old[name] = train.get(name, default)
        if isinstance(default, tuple) and not isinstance(old[name], list | tuple):
            old[name] = [old[name]]
    rate = float(train.get("learning_rate", learning_rate))
    rows = []
    if train.get("schedule") == "steps":
        given, epochs = old["learning_rates"], old["learning_rate_steps"]
        for i, epoch in enumerate(epochs):
            rows.append((epoch, "all", given[i] if given else rate / 10 ** (i + 1)))
    multiple = float(old["bias_learning_rate"])
    kind, of_biases = old["bias_schedule"], multiple * rate
    if kind != "same":
        rows.append((0, "biases", of_biases))
    elif multiple != 1:
        rows.append((0, "biases", f"x{multiple:.15g}"))
    if kind == "steps":
        for i, epoch in enumerate(old["bias_learning_rate_steps"], 1):
            rows.append((epoch, "biases", of_biases / 10**i))
    elif kind == "dexp":
        factor, levels = old["bias_dexp"]
        for i in range(1, int(levels)):
            part = of_biases * factor ** (-i / (levels - 1))
            rows.append((f"{100 * i / levels:.15g}%", "biases", part))
    frozen = [f"{name}=0" for name in old["freeze_layers"]]
    for text in [*frozen, *old["layer_learning_rates"]]:
        name, _, numbers = text.partition("=")
        factor, _, epoch = numbers.partition("@")
        rows.append((float(epoch or 0), name.strip(), f"x{float(factor):.15g}"))
    return [
        " ".join(x if isinstance(x, str) else f"{x:.15g}" for x in row) for row in rows
    ]


def differences(before: Config, now: Config, *changes: str) -> list[str]:
    """Settings of these kinds of change that differ: `--batch_size: 128 -> 64`."""
    found = []
    for name, (section, field) in SETTINGS.items():
        pair = [getattr(getattr(each, section), name) for each in (before, now)]
        if pair[0] != pair[1] and field.metadata["change"] in changes:
            shown = ["not given" if v is None else fields.show(v) for v in pair]
            found.append(f"--{name}: {' -> '.join(shown)}")
    return found


def with_start_of(config: Config, run: Config) -> Config:
    """The settings with those of a run that only its step 0 reads."""
    return config.replace(
        **{
            name: getattr(getattr(run, section), name)
            for name, (section, field) in SETTINGS.items()
            if field.metadata["change"] == "start"
        }
    )
