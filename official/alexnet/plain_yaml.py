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
# What a value without quotes may be, the first that fits; all else is text.
_VALUES = {
    "bool": "true|True|TRUE|false|False|FALSE",
    "null": "~|null|Null|NULL|",
    "int": r"[-+]?[0-9]+(_[0-9]+)*|0o[0-7]+|0x[0-9a-fA-F]+",
    "float": r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"
    r"|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
}


class _Loader(yaml.SafeLoader):
    yaml_implicit_resolvers: typing.ClassVar = {}
    depth = 0

    def compose_node(self, parent, index):
        # A few lines of them stand for more values than a memory holds.
        if self.check_event(yaml.AliasEvent):
            name = self.peek_event().anchor
            raise ValueError(f"*{name} is an alias: write the value itself")
        self.depth += 1
        # PyYAML's time grows with the square of the depth.
        if self.depth > _DEEPEST:
            raise ValueError("it is nested too deeply")
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node, deep=False):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if first := lines.get(name):
                raise ValueError(f"line {line}: {name} stands on line {first} already")
            lines[name] = line
        return super().construct_mapping(node, deep)

    def construct_int(self, node):
        text = self.construct_scalar(node)
        return int(text, 0 if text[:2] in ("0o", "0x") else 10)


class _Dumper(yaml.SafeDumper):
    """Writes in quotes what either version of YAML would read as no text."""


_Loader.add_constructor(f"{_TAG}int", _Loader.construct_int)
for _kind, _pattern in _VALUES.items():
    for _class in (_Loader, _Dumper):
        _class.add_implicit_resolver(
            f"{_TAG}{_kind}", re.compile(f"(?:{_pattern})$"), None
        )


def read(text: str | bytes, source: object) -> object:
    """The numbers, text, lists and dictionaries of a document; None for an empty one.

    Raises:
        UserError: `source` holds anything else, or a key twice.
    """
    try:
        text = text if isinstance(text, str) else text.decode("utf-8-sig")
        if len(text) > _MOST_CHARACTERS:
            raise ValueError(f"it is longer than {_MOST_CHARACTERS:,} characters")
        return _Loader(text).get_single_data()
    # PyYAML's own errors, and what its constructors raise on `!!bool x`.
    except Exception as error:
        is_text = not isinstance(error, UnicodeDecodeError)
        what = " ".join(str(error).split()) if is_text else "it is not UTF-8 text"
        raise UserError(f"{source} is not YAML of settings: {what}") from error


def write(values: dict) -> str:
    """YAML of plain values, in their order; other readers take it for the same."""
    return yaml.dump(values, Dumper=_Dumper, sort_keys=False)
