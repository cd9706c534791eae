"""Rules of the mathematics that no run can show: what other libraries could not do, array-api-strict allows."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import dpmodel

CORE = Path(dpmodel.__file__).parent
ONCE = {"build.py", "settings.py", "econf.py", "layout.py"}  # run before there is a model, on NumPy
FILES = [
    path for floor in ("ops", "nn", "dpa2", "model") for path in CORE.glob(f"{floor}/*.py") if path.name not in ONCE
]
BANNED = {"einsum", "index_add", "index_put", "scatter", "scatter_add", "at", "item", "nonzero", "tolist"}


def named(part: ast.Subscript) -> bool:
    """Whether it is an entry of a dictionary: no array has parts with names."""
    return isinstance(part.slice, ast.Constant) and isinstance(part.slice.value, str)


def complaints(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            for target in targets:
                if any(isinstance(part, ast.Subscript) and not named(part) for part in ast.walk(target or ast.Pass())):
                    yield f"line {node.lineno} assigns to a part of something"
        if isinstance(node, ast.Attribute) and node.attr in BANNED:
            yield f"line {node.lineno} uses .{node.attr}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_nothing_is_changed_in_place_or_scattered(path: Path) -> None:
    assert list(complaints(ast.parse(path.read_text(encoding="utf-8")))) == []


def test_the_rules_have_teeth() -> None:
    bad = "x[0] = 1\nxp.einsum('ij', x)\ny[:, 1] *= 2\nn: int = 3\nz = x[0]\na, b[0] = 1, 2\nd['x'] = 1"
    assert len(list(complaints(ast.parse(bad)))) == 4
