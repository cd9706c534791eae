"""Nested tuples, lists and dicts of arrays, some of them None."""

from collections.abc import Callable, Iterator
from typing import Any


def leaves(tree: Any) -> list[Any]:
    """The arrays of ``tree`` in order."""
    if isinstance(tree, dict):
        tree = tuple(tree.values())
    if isinstance(tree, (tuple, list)):
        return [leaf for branch in tree for leaf in leaves(branch)]
    return [] if tree is None else [tree]


def replaced(tree: Any, new: Iterator[Any]) -> Any:
    """``tree`` with its arrays exchanged for the next ones of ``new``."""
    if isinstance(tree, dict):
        return {key: replaced(branch, new) for key, branch in tree.items()}
    if isinstance(tree, (tuple, list)):
        branches = [replaced(branch, new) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else type(tree)(branches)
    return None if tree is None else next(new)


def mapped(function: Callable[[Any], Any], tree: Any) -> Any:
    """``tree`` with ``function`` applied to each of its arrays."""
    return replaced(tree, map(function, leaves(tree)))
