"""Walking the dictionary of a model file: which leaves are arrays follows from their keys."""

import json
from collections.abc import Callable
from typing import Any

import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.values import describe

MAX_DEPTH = 64  # a DPA-2 tree is 12 deep; more is a cycle or an attack
LONGEST_NUMBER = 100  # characters; Python takes long to read a number of many digits, and may refuse to show it

Leaf = Callable[[Any, bool, str], Any]


def map_leaves(tree: Any, leaf: Leaf, file: str, path: str = "", flagged: bool = False, depth: int = 0) -> Any:
    """A copy of ``tree`` with ``leaf(value, flagged, place)`` in the place of every leaf.

    ``flagged`` tells that the leaf lies below a key ``@variables``, where everything but null is an array
    (specification/serialization.md 1.2).  A mapping marked ``@is_variable``, an array in text form, is a leaf.
    """
    if depth > MAX_DEPTH:
        raise FileError(f"{file}: {path[:200]}...: expected at most {MAX_DEPTH} levels, found more")
    if isinstance(tree, dict) and not tree.get("@is_variable"):
        for key in tree:
            if not isinstance(key, str):
                raise FileError(f"{file}: {path or '/'}: expected text as key, found {describe(key)}")
        return {
            key: map_leaves(value, leaf, file, f"{path}/{key}", flagged or key == "@variables", depth + 1)
            for key, value in tree.items()
        }
    if isinstance(tree, list | tuple):
        return [map_leaves(v, leaf, file, f"{path}/{i}", flagged, depth + 1) for i, v in enumerate(tree)]
    return leaf(tree, flagged, f"{file}: {path or '/'}")


def count_arrays(tree: Any) -> int:
    """The number of arrays in ``tree``."""
    if isinstance(tree, np.ndarray):
        return 1
    members = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else ()
    return sum(map(count_arrays, members))


def expect_mapping(tree: Any, file: str) -> dict[str, Any]:
    """``tree`` if it is a mapping, as the root of every model file is."""
    if not isinstance(tree, dict):
        raise FileError(f"{file}: /: expected a mapping, found {describe(tree)}")
    return tree


def parse_json(text: str, where: str) -> Any:
    """JSON as plain values; unlike ``json.loads`` it does not let a key come twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_int=_integer)
    except (ValueError, RecursionError) as error:
        raise FileError(f"{where}: expected JSON, found {error}") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    mapping = dict(pairs)
    if len(mapping) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(k for k in keys if keys.count(k) > 1)!r} twice in one mapping")
    return mapping


def _integer(digits: str) -> int:
    if len(digits) > LONGEST_NUMBER:
        raise ValueError(f"a number of {len(digits)} digits")
    return int(digits)
