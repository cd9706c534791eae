"""The words of the house: names say what a thing is, docstrings begin with it, the spelling is American."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*ROOT.glob("dpmodel/**/*.py"), *ROOT.glob("backends/*/**/*.py")])
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("examples/**/*.md")])
BARE = set("found given place places known kept told mine".split())  # participles: of what?
BRITISH = re.compile(
    r"\b\w*(neighbour|centre|colour|behaviour|favour|normalis|initialis|optimis|organis|recognis|minimis|learnt|licence|mould|spelt)",
    re.IGNORECASE,
)
ODD = re.compile(r"clothes of|stands once|factor of a stair|\btexts\b", re.IGNORECASE)


def names(tree: ast.AST) -> Iterator[str]:
    """Names of variables, arguments, functions and attributes that a file defines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.id if isinstance(node, ast.Name) else node.attr
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name


def docstrings(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.FunctionDef | ast.ClassDef):
            yield ast.get_docstring(node) or ""


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_names_and_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not {name for name in names(tree) if name.strip("_") in BARE}
    assert not [text for text in docstrings(tree) if re.match(r"(What|How|Who|Where|Which|Why)\b", text)]


@pytest.mark.parametrize("path", [*SOURCES, *PAGES], ids=lambda path: str(path.relative_to(ROOT)))
def test_spelling(path):
    text = path.read_text(encoding="utf-8")
    assert not [match[0] for match in (*BRITISH.finditer(text), *ODD.finditer(text))]
