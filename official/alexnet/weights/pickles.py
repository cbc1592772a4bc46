"""Reads pickles as data: an interpreter that can neither import nor call anything.

Python's `pickle` runs whatever a file names. This one knows the operations that build
plain values (numbers, text, tuples, lists, dictionaries), and hands what the file
wants constructed to functions of ours, listed by the caller; everything else is
refused before it has any effect. No operation allocates more than the file is long.
"""

import dataclasses
import struct
from collections.abc import Callable, Mapping

_MARK = object()
_MAX_PROTOCOL = 5
# A state_dict of AlexNet takes some five hundred.
_MOST_OPERATIONS = 1_000_000


class PickleError(ValueError):
    """The bytes are not a pickle that may be read; the text says why."""


@dataclasses.dataclass(frozen=True)
class Global:
    """A name of a module, as the file gives it; nothing was imported."""

    module: str
    name: str


@dataclasses.dataclass(frozen=True)
class Rules:
    """What a pickle may ask for.

    Attributes:
        globals: names it may mention. One with a function may also be called: the
            function is ours, and gets the arguments as a tuple of plain values.
        persistent: what its persistent ids stand for.
        states: for types that the functions return, what takes a BUILD's state.
    """

    globals: Mapping[Global, Callable[[tuple], object] | None]
    persistent: Callable[[object], object] | None = None
    states: Mapping[type, Callable[[object, object], None]] = dataclasses.field(
        default_factory=dict
    )


def load(data: bytes | memoryview, rules: Rules, start: int = 0) -> tuple[object, int]:
    """Reads one pickle.

    Args:
        data: bytes that hold the pickle; more may follow it.
        rules: what it may ask for.
        start: where it begins.

    Returns:
        Its value, and where it ends.

    Raises:
        PickleError: it is damaged, or asks for what the rules do not allow.
    """
    machine = _Machine(memoryview(data), rules, start)
    try:
        return machine.run(), machine.position
    except IndexError:
        raise PickleError(f"it takes from nothing at byte {machine.position}") from None


class _Machine:
    """The stack machine of the pickle format."""

    def __init__(self, data: memoryview, rules: Rules, start: int):
        self.data = data
        self.position = start
        self.rules = rules
        self.stack: list = []
        self.memo: dict[int, object] = {}

    def run(self) -> object:
        for _ in range(_MOST_OPERATIONS):
            start = self.position
            opcode = self.take(1)[0]
            if opcode == _STOP:
                if len(self.stack) != 1 or self.stack[0] is _MARK:
                    raise PickleError("it does not end with one value")
                return self.stack[0]
            if opcode not in _OPERATIONS:
                raise PickleError(
                    f"operation {bytes([opcode])!r} at byte {start} has no use in a "
                    "file of weights"
                )
            _OPERATIONS[opcode](self)
        raise PickleError(f"it takes more than {_MOST_OPERATIONS} operations")

    def take(self, count: int) -> memoryview:
        """The next bytes."""
        if count > len(self.data) - self.position:
            raise PickleError(f"it ends too soon, at byte {self.position}")
        taken = self.data[self.position : self.position + count]
        self.position += count
        return taken

    def number(self, form: str) -> int | float:
        """The next number, in the notation of `struct`."""
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def line(self) -> str:
        """The text up to the next line break; names are short."""
        start = self.position
        for end in range(start, min(start + 256, len(self.data))):
            if self.data[end] == ord("\n"):
                self.position = end + 1
                return _text(self.data[start:end])
        raise PickleError(f"a name does not end, at byte {start}")

    def push(self, value: object) -> None:
        self.stack.append(value)

    def pop(self) -> object:
        value = self.stack.pop()
        if value is _MARK:
            raise PickleError(f"a value is missing at byte {self.position}")
        return value

    def pop_to_mark(self) -> list:
        for i in range(len(self.stack) - 1, -1, -1):
            if self.stack[i] is _MARK:
                values = self.stack[i + 1 :]
                del self.stack[i:]
                return values
        raise PickleError(f"a mark is missing at byte {self.position}")

    def push_tuple(self, size: int) -> None:
        values = [self.pop() for _ in range(size)]
        self.push(tuple(reversed(values)))

    def find(self, module: object, name: object) -> None:
        if not isinstance(module, str) or not isinstance(name, str):
            raise PickleError(f"a name that is no text at byte {self.position}")
        found = Global(module, name)
        if found not in self.rules.globals:
            raise PickleError(
                f"it asks for {module}.{name}, of which a file of weights has no need; "
                "nothing of it was run"
            )
        self.push(found)

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        known = isinstance(function, Global) and isinstance(arguments, tuple)
        made_by = self.rules.globals.get(function) if known else None
        if made_by is None:
            raise PickleError(f"it calls what is no function at byte {self.position}")
        self.push(made_by(arguments))

    def build(self) -> None:
        state, target = self.pop(), self.stack[-1]
        if type(target) not in self.rules.states:
            raise PickleError(f"it changes a value at byte {self.position}")
        self.rules.states[type(target)](target, state)

    def set_items(self, items: list) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise PickleError(f"items of no dictionary at byte {self.position}")
        for key, value in zip(items[::2], items[1::2], strict=True):
            # Others may be nested so deeply that hashing them exhausts the C stack.
            if not isinstance(key, str | int):
                raise PickleError(f"a key that is no text at byte {self.position}")
            target[key] = value

    def append(self, values: list) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise PickleError(f"items of no list at byte {self.position}")
        target.extend(values)

    def remember(self, index: int) -> None:
        value = self.stack[-1]
        if value is _MARK:
            raise PickleError(f"a value is missing at byte {self.position}")
        self.memo[index] = value

    def recall(self, index: int) -> None:
        if index not in self.memo:
            raise PickleError(f"it recalls what it never kept, number {index}")
        self.push(self.memo[index])

    def resolve(self) -> None:
        identity = self.pop()
        if self.rules.persistent is None:
            raise PickleError("it refers to something outside of it")
        self.push(self.rules.persistent(identity))

    def check_protocol(self) -> None:
        protocol = self.number("<B")
        if protocol > _MAX_PROTOCOL:
            raise PickleError(f"it is of protocol {protocol}")


def _text(data: memoryview) -> str:
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise PickleError("text in it is not UTF-8") from None


_STOP = ord(".")
_OPERATIONS: dict[int, Callable[[_Machine], object]] = {
    0x80: _Machine.check_protocol,
    0x95: lambda m: m.number("<Q"),  # FRAME: where to read ahead; nothing to do.
    ord("("): lambda m: m.push(_MARK),
    ord("0"): _Machine.pop,
    ord("N"): lambda m: m.push(None),
    0x88: lambda m: m.push(True),
    0x89: lambda m: m.push(False),
    ord("J"): lambda m: m.push(m.number("<i")),
    ord("K"): lambda m: m.push(m.number("<B")),
    ord("M"): lambda m: m.push(m.number("<H")),
    0x8A: lambda m: m.push(
        int.from_bytes(m.take(m.number("<B")), "little", signed=True)
    ),
    ord("G"): lambda m: m.push(m.number(">d")),
    ord("X"): lambda m: m.push(_text(m.take(m.number("<I")))),
    0x8C: lambda m: m.push(_text(m.take(m.number("<B")))),
    # Python 2 wrote text as bytes, with these two.
    ord("T"): lambda m: m.push(_text(m.take(m.number("<I")))),
    ord("U"): lambda m: m.push(_text(m.take(m.number("<B")))),
    ord("B"): lambda m: m.push(m.take(m.number("<I"))),
    ord("C"): lambda m: m.push(m.take(m.number("<B"))),
    0x8E: lambda m: m.push(m.take(m.number("<Q"))),
    ord(")"): lambda m: m.push(()),
    0x85: lambda m: m.push_tuple(1),
    0x86: lambda m: m.push_tuple(2),
    0x87: lambda m: m.push_tuple(3),
    ord("t"): lambda m: m.push(tuple(m.pop_to_mark())),
    ord("]"): lambda m: m.push([]),
    ord("a"): lambda m: m.append([m.pop()]),
    ord("e"): lambda m: m.append(m.pop_to_mark()),
    ord("}"): lambda m: m.push({}),
    ord("s"): lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    ord("u"): lambda m: m.set_items(m.pop_to_mark()),
    ord("c"): lambda m: m.find(m.line(), m.line()),
    0x93: lambda m: m.find(*[m.pop(), m.pop()][::-1]),
    ord("R"): _Machine.call,
    ord("b"): _Machine.build,
    ord("q"): lambda m: m.remember(m.number("<B")),
    ord("r"): lambda m: m.remember(m.number("<I")),
    0x94: lambda m: m.remember(len(m.memo)),
    ord("h"): lambda m: m.recall(m.number("<B")),
    ord("j"): lambda m: m.recall(m.number("<I")),
    ord("Q"): _Machine.resolve,
}
