"""Settings of a run from YAML files, `--params_override` and flags."""

import contextlib
import dataclasses
import difflib
import importlib.resources
import math
import types
import typing

from official.alexnet import paths, plain_yaml
from official.alexnet.config import Config
from official.alexnet.errors import UserError

# Settings that are paths.
_PATHS = ("data_dir", "statistics", "init_from")


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


def parse_override(text: str) -> dict[str, dict]:
    """Settings from `--params_override`, such as `train.seed=1,model.width=0.5`.

    Raises:
        UserError: the text is of another form, or a setting stands twice.
    """
    settings: dict[str, dict] = {}
    for item in _split_outside_brackets(text):
        key, equals, value = item.partition("=")
        section, dot, name = key.strip().partition(".")
        if not (equals and dot):
            raise UserError(
                f"--params_override: {item!r} should read section.setting=value"
            )
        if name in settings.setdefault(section, {}):
            raise UserError(f"--params_override: {section}.{name} stands twice")
        value = plain_yaml.read(value, f"--params_override: {item!r}")
        settings[section][name] = value
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
            if name in _PATHS and converted[name]:
                path = paths.local(converted[name], what)
                if converted[name].startswith("~"):
                    converted[name] = str(path)
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
        # Also "1e-3", in quotes.
        with contextlib.suppress(ValueError, OverflowError):
            value = float(value)
    if choices and type(value) is int:
        value = str(value)  # label_base: 1
    if kind is bool and isinstance(value, str):
        # Text in YAML 1.2, but no other meaning.
        value = {"yes": True, "on": True, "no": False, "off": False}.get(value, value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{what} should be of type {kind.__name__}, not {value!r}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{what} should be a finite number, not {value}")
    if choices and value not in choices:
        raise UserError(f"{what} should be one of {', '.join(choices)}, not {value!r}")
    return value


def differences(before: Config, now: Config, *changes: str) -> list[str]:
    """Settings of these kinds of change that differ: `--batch_size: 128 -> 64`."""
    found = []
    for section, values in vars(now).items():
        for field in dataclasses.fields(values):
            old = getattr(getattr(before, section), field.name)
            new = getattr(values, field.name)
            if old != new and field.metadata["change"] in changes:
                pair = ["not given" if v is None else show(v) for v in (old, new)]
                found.append(f"--{field.name}: {' -> '.join(pair)}")
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


def show(value) -> str:
    """A setting as its flag takes it; `none` for no value."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)
