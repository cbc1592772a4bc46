"""The rooms in their order: every import, wherever it stands, only goes down."""

import ast
import pathlib

import pytest

PACKAGE = pathlib.Path(__file__).parents[1] / "official/alexnet"
# From the ground up; files are rooms of their own.
ROOMS = (
    *("errors", "disk", "paths", "plain_yaml", "backend", "registration", "fields"),
    *("rate_rows", "machine", "distribution", "modeling", "config", "config_files"),
    *("data", "weights", "run_files", "training", "serving", "preparation"),
    *("setting_flags", "library", "cli", "__init__"),
    *("train", "eval", "export", "predict"),
)
FILES = sorted(PACKAGE.rglob("*.py"))


def imported(path: pathlib.Path) -> list[str]:
    """Modules of this package that a file imports, at its head or in a function."""
    found = []
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return [name for name in found if name.startswith("official.alexnet.")]


def room_of(module: str) -> str:
    """`modeling` of `official.alexnet.modeling.lrn`; a name of the package's own."""
    name = module.split(".")[2]
    if name == "__version__":  # It stands before all imports.
        return ROOMS[0]
    return name if name in ROOMS else "__init__"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_down(path):
    module = ".".join(path.relative_to(PACKAGE.parents[1]).with_suffix("").parts)
    room = ROOMS.index(room_of(module))
    for name in imported(path):
        assert ROOMS.index(room_of(name)) <= room, f"{module} imports {name}"


def test_no_file_is_in_a_cycle():
    graph = {}
    for path in FILES:
        module = ".".join(path.relative_to(PACKAGE.parents[1]).with_suffix("").parts)
        names = imported(path)
        # Of `from official.alexnet.data import dataset`, the file that it names.
        graph[module] = {n for name in names for n in (name, name.rpartition(".")[0])}
    while leaves := [m for m, names in graph.items() if not names & graph.keys()]:
        for module in leaves:
            del graph[module]
    assert sorted(graph) == []
