"""The dictionary of a model file, read by someone who always knows where in which file they are."""

import difflib
from collections.abc import Iterable
from typing import Any, NoReturn, TypeVar

import numpy as np

from dpmodel.errors import FileError

T = TypeVar("T")
REQUIRED: Any = object()
_WORDS = {dict: "a mapping", list: "a list", str: "text", int: "an integer", float: "a number", bool: "true or false"}


class Node:
    """One mapping of the tree in a file: ``Node(tree, "model.dp")`` is its root.

    Every accessor raises FileError that names file, path, what was expected and what is there.
    A node remembers what it was asked for, so ``finish()`` at the end can name the keys nobody knows.
    """

    def __init__(self, tree: Any, file: str, path: str = "") -> None:
        self.file, self.path = str(file), path
        if not isinstance(tree, dict):
            self.fail(_WORDS[dict], describe(tree))
        self.tree: dict[str, Any] = tree
        self.asked: set[str] = set()
        self.children: list[Node] = []

    def __contains__(self, key: str) -> bool:
        """Whether ``key`` is there and not null."""
        return self.tree.get(key) is not None

    def fail(self, expected: str, found: str, key: str = "") -> NoReturn:
        """Raise FileError for this node, or for what stands under ``key``."""
        place = f"{self.path}/{key}" if key else self.path or "/"
        raise FileError(f"{self.file}: {place}: expected {expected}, found {found}")

    def child(self, key: str) -> "Node":
        """The mapping under ``key``."""
        return self._descend(self._get(key, _WORDS[dict]), key)

    def child_list(self, key: str) -> list["Node"]:
        """The mappings in the list under ``key``."""
        return [self._descend(member, f"{key}/{i}") for i, member in enumerate(self.value(key, list))]

    def value(self, key: str, kind: type[T], default: Any = REQUIRED) -> T:
        """The plain value under ``key``; ``default`` when it is absent, or null and ``default`` is None."""
        value = self._get(key, _WORDS[kind], default)
        if value is None and default is None:
            return None  # type: ignore[return-value]  # whoever gives None as default expects it
        return self._typed(value, kind, key)

    def values(self, key: str, kind: type[T], default: Any = REQUIRED) -> tuple[T, ...]:
        """The list of plain values under ``key``, as a tuple."""
        members = self.value(key, list, default)
        if members is default:
            return default  # type: ignore[return-value]
        return tuple(self._typed(member, kind, f"{key}/{i}") for i, member in enumerate(members))

    def array(self, key: str, shape: Iterable[int | None] | None = None, default: Any = REQUIRED) -> np.ndarray:
        """The array under ``key``; None in ``shape`` allows any length; ``default`` as for ``value``."""
        value = self._get(key, "an array", default)
        if value is None and default is None:
            return None  # type: ignore[return-value]
        return self._array(value, shape, key)

    def array_list(self, key: str, shape: Iterable[int | None] | None = None) -> list[np.ndarray]:
        """The arrays in the list under ``key``, each of ``shape``."""
        shape = None if shape is None else tuple(shape)
        return [self._array(member, shape, f"{key}/{i}") for i, member in enumerate(self.value(key, list))]

    def version(self, newest: int, oldest: int = 1) -> int:
        """``@version``, 1 when absent, checked to lie between ``oldest`` and ``newest``."""
        version = self.value("@version", int, 1)
        if not oldest <= version <= newest:
            wanted = f"version {newest}" if oldest == newest else f"a version from {oldest} to {newest}"
            self.fail(wanted, f"{version}; another release of the software wrote this file", "@version")
        return version

    def ignore(self, *keys: str) -> None:
        """Let ``keys`` pass unread."""
        self.asked.update(keys)

    def finish(self) -> None:
        """Raise FileError for the first key, here or below, that was neither asked for nor ignored."""
        for key in self.tree:
            if key not in self.asked:
                near = difflib.get_close_matches(key, sorted(self.asked - set(self.tree)), 1)
                self.fail("a known key" + (f" (perhaps {near[0]!r})" if near else ""), f"{key!r}", key)
        for child in self.children:
            child.finish()

    def _get(self, key: str, expected: str, default: Any = REQUIRED) -> Any:
        self.asked.add(key)
        if key not in self.tree and default is REQUIRED:
            self.fail(expected, "nothing", key)
        return self.tree.get(key, default)

    def _descend(self, tree: Any, key: str) -> "Node":
        self.children.append(Node(tree, self.file, f"{self.path}/{key}"))
        return self.children[-1]

    def _typed(self, value: Any, kind: type[T], key: str) -> T:
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value) if abs(value) < 2**1023 else describe(value)
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            self.fail(_WORDS[kind], describe(value), key)
        return value

    def _array(self, value: Any, shape: Iterable[int | None] | None, key: str) -> np.ndarray:
        if isinstance(value, bool | int | float):  # the YAML form may hold bare numbers
            value = np.asarray(value)
        if not isinstance(value, np.ndarray):
            self.fail("an array", describe(value), key)
        if shape is not None:
            want = tuple(shape)
            if len(want) != value.ndim or any(w not in (None, n) for w, n in zip(want, value.shape, strict=True)):
                text = str(want).replace("None", "any")
                self.fail(f"shape {text}", f"{value.shape}", key)
        return value


def describe(value: Any) -> str:
    """A value of a tree in a few words, for messages."""
    if value is None:
        return "null"
    if isinstance(value, np.ndarray):
        return f"an array of shape {value.shape}"
    if isinstance(value, dict):
        return f"a mapping with keys {', '.join(list(map(str, value))[:4])}" if value else "an empty mapping"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
