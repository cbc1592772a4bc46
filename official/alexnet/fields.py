"""A setting as a field: its help, its values, and what a resumed run makes of it."""

import contextlib
import dataclasses
import functools
import math
import types
import typing

from official.alexnet import paths
from official.alexnet.errors import UserError


def _setting(
    change: str,
    default,
    help: str,
    choices: tuple[str, ...] | None = None,
    *,
    above: float | None = None,
    least: float | None = None,
    most: float | None = None,
    is_path: bool = False,
):
    """A field of a section of settings; its numbers lie within the bounds."""
    metadata = {"change": change, "help": help, "choices": choices, "is_path": is_path}
    metadata |= {"above": above, "least": least, "most": most}
    return dataclasses.field(default=default, metadata=metadata)


# What becomes of another value when a run is resumed.
net = functools.partial(_setting, "net")  # Refused: it says what the weights mean.
run = functools.partial(_setting, "run")  # Refused: a checkpoint holds a part of it.
start = functools.partial(_setting, "start")  # The run's stays: step 0 has read it.
free = functools.partial(_setting, "free")  # Taken from then on.


def kind_of(section: type, name: str) -> tuple[typing.Any, bool]:
    """The type of a setting, and whether it may have no value."""
    hint = typing.get_type_hints(section)[name]
    if not isinstance(hint, types.UnionType):
        return hint, False
    return typing.get_args(hint)[0], types.NoneType in typing.get_args(hint)


def check_bounds(field: dataclasses.Field, value) -> None:
    """Checks a number against the bounds of its field.

    Raises:
        UserError: it is outside.
    """
    if value is None:
        return
    bounds = field.metadata
    for words, bound, fits in (
        ("more than {}", bounds["above"], lambda bound: value > bound),
        ("{} or more", bounds["least"], lambda bound: value >= bound),
        ("at most {}", bounds["most"], lambda bound: value <= bound),
    ):
        if bound is not None and not fits(bound):
            raise UserError(
                f"--{field.name} should be {words.format(bound)}, not {value}"
            )


def convert(section: type, field: dataclasses.Field, value, what: str):
    """A value from YAML or a flag as the type of its field.

    Args:
        section: the class of the field.
        field: the setting.
        value: as it was read.
        what: what an error calls it.

    Raises:
        UserError: it is of another type, or none of the choices.
    """
    kind, optional = kind_of(section, field.name)
    if optional and value is None:
        return None
    if isinstance(value, dict):
        # A record, such as a net of the user's own.
        hint = typing.get_type_hints(section)[field.name]
        for each in filter(dataclasses.is_dataclass, (hint, *typing.get_args(hint))):
            return record(each, value, what)
    if dataclasses.is_dataclass(value):
        return value
    if typing.get_origin(kind) is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        of = typing.get_args(kind)[0]
        if dataclasses.is_dataclass(of):
            return tuple(record(of, item, what) for item in items)
        return tuple(_item(item, of, what) for item in items)
    choices = field.metadata.get("choices")
    if choices and type(value) is int:
        value = str(value)  # label_base: 1
    value = _item(value, kind, what)
    if choices and value not in choices:
        raise UserError(f"{what} should be one of {', '.join(choices)}, not {value!r}")
    if field.metadata.get("is_path") and value:
        path = paths.local(value, what)
        value = str(path) if value.startswith("~") else value
    return value


def record(kind: type, value, what: str):
    """A dataclass from YAML's dictionary of its fields; errors as of `convert`."""
    known = {field.name: field for field in dataclasses.fields(kind)}
    try:
        fields = {
            name: convert(kind, known[name], item, f"{what}.{name}")
            for name, item in value.items()
        }
        return kind(**fields)
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{what} is malformed: {error}") from error


def _item(value, kind: type, what: str):
    if isinstance(value, str) or (kind is float and type(value) is int):
        # A list's flag has texts; and "1e-3", in quotes.
        with contextlib.suppress(ValueError, OverflowError):
            value = kind(value) if kind in (int, float) else value
    if kind is bool and isinstance(value, str):
        # Text in YAML 1.2, but no other meaning.
        value = {"yes": True, "on": True, "no": False, "off": False}.get(value, value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise UserError(f"{what} should be of type {kind.__name__}, not {value!r}")
    if kind is int and not -(2**63) <= value < 2**63:
        raise UserError(f"{what} should be a number of 64 bits, not {value}")
    if kind is float and not math.isfinite(value):
        raise UserError(f"{what} should be a finite number, not {value}")
    return value


def show(value) -> str:
    """A setting as its flag takes it; `none` for no value."""
    if isinstance(value, tuple | list):
        return ",".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else getattr(value, "name", str(value))
