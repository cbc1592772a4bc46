"""A setting as a field: its help, its values, and what a resumed run makes of it."""

import contextlib
import dataclasses
import functools
import math
import operator
import types
import typing

from official.alexnet import paths
from official.alexnet.errors import UserError

_BOUNDS = {
    "above": ("more than {}", operator.gt),
    "least": ("{} or more", operator.ge),
    "most": ("at most {}", operator.le),
}


def _setting(
    change, default, help, choices=(), above=None, least=None, most=None, is_path=False
):
    """A field of a section of settings; its metadata are these arguments."""
    return dataclasses.field(default=default, metadata=locals())


# What becomes of another value when a run is resumed.
net = functools.partial(_setting, "net")  # Refused: it says what the weights mean.
run = functools.partial(_setting, "run")  # Refused: a checkpoint holds a part of it.
start = functools.partial(_setting, "start")  # The run's stays: step 0 has read it.
free = functools.partial(_setting, "free")  # Taken from then on.


def kinds_of(field: dataclasses.Field) -> tuple[typing.Any, ...]:
    """The types that a setting may have, that of its flag first."""
    is_union = isinstance(field.type, types.UnionType)
    return typing.get_args(field.type) if is_union else (field.type,)


def check_bounds(field: dataclasses.Field, value) -> None:
    """Raises a UserError where a number is outside the bounds of its field."""
    for name, (words, fits) in _BOUNDS.items():
        bound = field.metadata[name]
        if None not in (bound, value) and not fits(value, bound):
            raise UserError(
                f"--{field.name} should be {words.format(bound)}, not {value}"
            )


def convert(field: dataclasses.Field, value, what: str):
    """A value from YAML or a flag, which an error calls `what`, as its field's type.

    Raises:
        UserError: it is of another type, or none of the choices.
    """
    kind, *others = kinds_of(field)
    if value is None and types.NoneType in others:
        return None
    if isinstance(value, dict):  # A record, such as a net of the user's own.
        kind = next(filter(dataclasses.is_dataclass, (kind, *others)), kind)
    if dataclasses.is_dataclass(value):
        return value
    if typing.get_origin(kind) is tuple:
        items = value if isinstance(value, list | tuple) else [value]
        return tuple(_item(item, typing.get_args(kind)[0], what) for item in items)
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


def _record(kind: type, value, what: str):
    """A dataclass from YAML's dictionary of its fields."""
    known = kind.__dataclass_fields__
    try:
        return kind(
            **{k: convert(known[k], v, f"{what}.{k}") for k, v in value.items()}
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise UserError(f"{what} is malformed: {error}") from error


def _item(value, kind: type, what: str):
    if dataclasses.is_dataclass(kind):
        return _record(kind, value, what)
    if getattr(value, "shape", None) == () and hasattr(value, "item"):
        value = value.item()  # A number of NumPy's.
    if kind in (int, float) and type(value) in (int, str):
        # A list's flag has texts; and "1e-3", in quotes.
        with contextlib.suppress(ValueError, OverflowError):
            value = kind(value)
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
