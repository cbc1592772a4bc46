"""The pages in docs/ name tests, files and links that are there."""

import ast
import functools
import pathlib
import re

import pytest

from official.alexnet.modeling.variants import VARIANTS

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = ROOT / "official" / "alexnet"
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
CLAIMS = ["claim", "paper", "2012 source", "Caffe", "here", "test that shows it"]
ROOMS = [
    folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").is_file()
]


def text_of(page: pathlib.Path) -> str:
    return page.read_text("utf-8")


@functools.cache
def functions_of(path: pathlib.Path) -> set[str]:
    """Names of a file's test functions, read and not imported."""
    return {
        node.name
        for node in ast.parse(path.read_text("utf-8")).body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def claims() -> list[list[str]]:
    """Rows of the tables of claims in docs/fidelity.md, cell by cell."""
    rows, inside = [], False
    for line in text_of(DOCS / "fidelity.md").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if not line.startswith("|"):
            inside = False
        elif cells == CLAIMS:
            inside = True
        elif inside and set(line) - set("|- "):
            rows.append(cells)
    return rows


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_tests_that_are_named_exist(page):
    for file, name in re.findall(r"\b(tests/[\w/]+\.py)::(\w+)", text_of(page)):
        assert (ROOT / file).is_file(), file
        assert name in functions_of(ROOT / file), f"{file}::{name}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(DOCS)))
def test_files_and_links_exist(page):
    text = text_of(page)
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        if "://" not in link:
            assert (page.parent / link).exists(), link
    for path in re.findall(r"(?<![\w/.])(?:docs|official|tests|tools)/[\w/.-]+", text):
        assert (ROOT / path.rstrip(".")).exists(), path
    # Within the package, as in `data/pipeline.py`.
    rooms = "|".join(ROOMS)
    for path in re.findall(rf"(?<![\w/.])(?:{rooms})/\w+\.(?:py|yaml)\b", text):
        assert (PACKAGE / path).is_file(), path


def anchors_of(page: pathlib.Path) -> set[str]:
    """What GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    words = [re.sub(r"[^\w -]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in words}


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.name)
def test_links_into_pages_lead_to_a_heading(page):
    for link, anchor in re.findall(r"\]\(([\w./]*)#([\w-]+)\)", text_of(page)):
        target = page.parent / link if link else page
        assert anchor in anchors_of(target), f"{link}#{anchor}"


@pytest.mark.parametrize("page", [ROOT / "README.md", *PAGES], ids=lambda p: p.name)
def test_rows_of_a_table_have_as_many_cells(page):
    table: list[str] = []
    for line in [*text_of(page).splitlines(), ""]:
        if line.startswith("|"):
            table.append(line)
            continue
        assert len({row.count("|") for row in table}) <= 1, table[:1]
        assert not table or set(table[1]) <= set("|-: "), table[0]
        table = []


def test_every_claim_has_a_test_or_says_that_it_has_none():
    rows = claims()
    assert len(rows) > 90
    for row in rows:
        assert len(row) == len(CLAIMS), row
        named = re.search(r"`tests/[\w/]+\.py::test_\w+`", row[-1])
        assert named or "no test" in row[-1], row
        assert all(row), row


def test_every_variant_and_recipe_is_on_the_page_of_training():
    text = text_of(DOCS / "training.md")
    for name in VARIANTS:
        assert f"`{name}`" in text, name
    for file in (PACKAGE / "configs").glob("*.yaml"):
        if file.stem != "demo":
            assert f"`{file.stem}`" in text, file.stem
