"""YAML as all files of settings are read and written: YAML 1.2's values, and no code.

PyYAML alone follows YAML 1.1, where `off` is false, 1e-3 is text, 010 is 8 and 1:30
is 90, and where the second of two equal keys takes the place of the first.
"""

import re
import typing

import yaml

from official.alexnet.errors import UserError

# The longest recipe of the package has 2,000, and the deepest setting is a list.
_MOST_CHARACTERS = 100_000
_DEEPEST = 20
_TAG = "tag:yaml.org,2002:"
# What a value without quotes may be, and its first characters; all else is text.
_VALUES = (
    ("bool", "true|True|TRUE|false|False|FALSE", "tTfF"),
    ("null", "~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"[-+]?[0-9]+(_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
        r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
)


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: typing.ClassVar = {}

    def construct_mapping(self, node, deep=False):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if name in lines:
                raise ValueError(
                    f"line {line}: {name} stands on line {lines[name]} already"
                )
            lines[name] = line
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    pass


def _construct_int(loader: _Loader, node: yaml.Node) -> int:
    text = loader.construct_scalar(node)
    return int(text, 0 if text[:2] in ("0o", "0x") else 10)


_Loader.add_constructor(f"{_TAG}int", _construct_int)
for _kind, _pattern, _first in _VALUES:
    # What is written is in quotes where either version would read no text.
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"{_TAG}{_kind}", re.compile(f"(?:{_pattern})$"), list(_first)
        )


def read(text: str | bytes, source: object) -> object:
    """What YAML says: numbers, text, lists and dictionaries; None for an empty text.

    Args:
        text: a whole document.
        source: what an error calls it.

    Raises:
        UserError: it is anything else, or a key stands twice.
    """
    try:
        return _read(text if isinstance(text, str) else text.decode("utf-8-sig"))
    # PyYAML's own errors, and what its constructors raise on `!!bool x`.
    except Exception as error:
        what = " ".join(str(error).split())
        if isinstance(error, UnicodeDecodeError):
            what = "it is not UTF-8 text"
        raise UserError(f"{source} is not YAML of settings: {what}") from error


def _read(text: str) -> object:
    if len(text) > _MOST_CHARACTERS:
        raise ValueError(f"it is longer than {_MOST_CHARACTERS:,} characters")
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        # A few lines of them stand for more values than a memory holds.
        if isinstance(event, yaml.AliasEvent):
            raise ValueError(f"*{event.anchor} is an alias: write the value itself")
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        # PyYAML's time grows with the square of the depth.
        if depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
    return _Loader(text).get_single_data()


def write(values: dict) -> str:
    """YAML of plain values, in their order; other readers take it for the same."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)
