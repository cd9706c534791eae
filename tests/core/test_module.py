"""Modules: frozen structures whose arrays leave and enter by path."""

import pickle
from dataclasses import FrozenInstanceError, fields
from typing import Any

import numpy as np
import pytest
from hypothesis import given

from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import (
    Rebuilder,
    arrays,
    buffer,
    convert,
    expected_shapes,
    is_module,
    module,
    param,
    state,
)
from dpmodel.xp import Array
from random_models import examples
from strategies import dpmodel_settings


@module
class Leaf:
    weight: Array = param("n_in 2")
    offset: Array | None = buffer("n_in")
    n_in: int
    name: str = "leaf"


@module
class Tree:
    leaf: Leaf
    others: tuple[Leaf, ...]
    absent: Leaf | None
    steps: tuple[Array, ...] = param("width")
    width: int = 3


def leaf(n: int, offset: bool = True) -> Leaf:
    return Leaf(weight=np.full((n, 2), float(n)), offset=np.zeros(n) if offset else None, n_in=n)


TREE = Tree(leaf=leaf(2), others=(leaf(3), leaf(1, offset=False)), absent=None, steps=(np.zeros(3), np.ones(3)))


def test_paths() -> None:
    assert list(state(TREE)) == [
        "leaf.weight", "leaf.offset", "others.0.weight", "others.0.offset", "others.1.weight", "steps.0", "steps.1",
    ]  # fmt: skip
    trained = {path: metadata["trainable"] for path, _, metadata in arrays(TREE)}
    assert trained["leaf.weight"]
    assert not trained["leaf.offset"]


def test_modules_do_not_change() -> None:
    with pytest.raises(FrozenInstanceError):
        TREE.leaf.n_in = 5  # type: ignore[misc]
    assert is_module(TREE)
    assert not is_module(3)


def test_rebuilding_swaps_arrays_and_nothing_else() -> None:
    rebuild = pickle.loads(pickle.dumps(Rebuilder(TREE)))  # noqa: S301  (it should pickle: workers need it)
    doubled = {path: 2.0 * value + 1.0 for path, value in state(TREE).items()}
    again = rebuild(doubled)
    assert state(again).keys() == state(TREE).keys()
    for path, value in state(again).items():
        assert value is doubled[path]
    assert again.absent is None
    assert again.others[1].offset is None
    assert (again.width, again.leaf.name) == (3, "leaf")


def test_a_missing_array_is_named() -> None:
    arrays_but_one = {path: value for path, value in state(TREE).items() if path != "others.0.offset"}
    with pytest.raises(KeyError, match=r"others\.0\.offset"):
        Rebuilder(TREE)(arrays_but_one)


def test_convert() -> None:
    single = convert(TREE, lambda x: x.astype(np.float32))
    assert {value.dtype for value in state(single).values()} == {np.dtype(np.float32)}
    assert {value.dtype for value in state(TREE).values()} == {np.dtype(np.float64)}


def misfits(m: Any) -> dict[str, Any]:
    """Arrays of another shape than their class declares: that, the declared one, and in words."""
    return {path: (x.shape, want, words) for path, x, want, words in expected_shapes(m) if x.shape != want}


def test_shapes() -> None:
    assert not misfits(TREE)
    wrong = Rebuilder(TREE)(state(TREE) | {"others.0.weight": np.zeros((3, 4))})
    assert misfits(wrong) == {"others.0.weight": ((3, 4), (3, 2), "(n_in, 2)")}


@examples(25)
@given(dpmodel_settings())
def test_every_model_obeys(settings: ModelSettings) -> None:
    """Declared shapes are the true ones, every array is found, and settings are plain hashable values."""
    model = build(settings)
    assert not misfits(model)
    assert [path for path, *_ in expected_shapes(model)] == list(state(model))
    rebuilt = Rebuilder(model)(state(model))
    assert all(a is b for a, b in zip(state(rebuilt).values(), state(model).values(), strict=True))

    def visit(m: object) -> None:
        for f in fields(m):  # type: ignore[arg-type]
            value = getattr(m, f.name)
            if "dims" in f.metadata or value is None:
                continue
            for part in value if isinstance(value, tuple) else (value,):
                if is_module(part):
                    visit(part)
                else:
                    hash(part)

    visit(model)
