"""Modules are frozen dataclasses; everything else is derived from their fields.

A field is one of four things:

* ``param("n_in n_out")``  a trained array, its shape given by names;
* ``buffer("n_types")``    an array that travels with the model but is not trained;
* a module, or a tuple of modules: a child;
* anything else: a static setting (hashable: int, float, str, bool, None, tuples of these).

A module never changes.  To put it on another array library, keep its structure and swap its
arrays: ``Rebuilder(m)({path: array})``.  That one function serves NumPy, torch, JAX, Paddle,
loading, dtype casts and checkpoint surgery.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar, dataclass_transform

from dpmodel.xp import Array

T = TypeVar("T")
State = dict[str, Array]


def param(dims: str, *, trainable: bool = True, **extra: Any) -> Any:
    """Declare a trained array; ``dims`` names its axes, e.g. ``"n_in n_out"``."""
    return field(metadata={"dims": tuple(dims.split()), "trainable": trainable}, **extra)


def buffer(dims: str, **extra: Any) -> Any:
    """Declare an array that is stored with the model but never trained."""
    return param(dims, trainable=False, **extra)


def is_module(value: object) -> bool:
    return getattr(type(value), "__dpmodel_module__", False)


@dataclass_transform(kw_only_default=True, frozen_default=True, field_specifiers=(param, buffer))
def module(cls: type[T]) -> type[T]:
    """Make ``cls`` a module: a frozen, keyword-only dataclass."""
    cls.__dpmodel_module__ = True  # type: ignore[attr-defined]
    return dataclass(frozen=True, kw_only=True, eq=False, repr=False)(cls)


def arrays(m: Any, prefix: str = "") -> Iterator[tuple[str, Array, Mapping[str, Any]]]:
    """Walk the arrays of ``m``: ``("fitting.layers.0.weight", array, metadata)``."""
    for f in fields(m):
        value, path = getattr(m, f.name), f"{prefix}{f.name}"
        if "dims" in f.metadata:
            if isinstance(value, tuple):
                yield from ((f"{path}.{i}", member, f.metadata) for i, member in enumerate(value))
            elif value is not None:
                yield path, value, f.metadata
        elif is_module(value):
            yield from arrays(value, f"{path}.")
        elif isinstance(value, tuple) and value and is_module(value[0]):
            for i, child in enumerate(value):
                yield from arrays(child, f"{path}.{i}.")


def state(m: Any) -> State:
    """The arrays of ``m`` as one flat dictionary ``{path: array}``."""
    return {path: value for path, value, _ in arrays(m)}


class Rebuilder:
    """Put arrays, given by path, into the structure and settings of a module.

    The tree is walked once, on construction.  Calling only constructs objects: cheap enough
    for every forward pass, plain enough for every tracer, and it pickles.  Two are equal
    if their modules differ in nothing but the values in their arrays: a key for compiled code.
    """

    def __init__(self, m: Any, prefix: str = "") -> None:
        self.cls: type = type(m)
        self.settings: dict[str, Any] = {}
        self.paths: dict[str, str] = {}
        self.path_lists: dict[str, list[str]] = {}
        self.children: dict[str, Rebuilder] = {}
        self.lists: dict[str, list[Rebuilder]] = {}
        for f in fields(m):
            value, path = getattr(m, f.name), f"{prefix}{f.name}"
            if "dims" in f.metadata and isinstance(value, tuple):
                self.path_lists[f.name] = [f"{path}.{i}" for i in range(len(value))]
            elif "dims" in f.metadata and value is not None:
                self.paths[f.name] = path
            elif is_module(value):
                self.children[f.name] = Rebuilder(value, f"{path}.")
            elif isinstance(value, tuple) and value and is_module(value[0]):
                self.lists[f.name] = [Rebuilder(child, f"{path}.{i}.") for i, child in enumerate(value)]
            else:
                self.settings[f.name] = value

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Rebuilder) and vars(self) == vars(other))

    def __hash__(self) -> int:
        return hash((self.cls, *self.settings.items(), *self.paths.values(), *self.children))

    def __call__(self, source: Mapping[str, Array]) -> Any:
        new = dict(self.settings)
        for name, path in self.paths.items():
            new[name] = source[path]
        for name, paths in self.path_lists.items():
            new[name] = tuple([source[path] for path in paths])
        for name, child in self.children.items():
            new[name] = child(source)
        for name, members in self.lists.items():
            new[name] = tuple([member(source) for member in members])
        return self.cls(**new)


def convert(m: T, function: Callable[[Array], Array]) -> T:
    """``m`` with ``function`` applied to each of its arrays."""
    return Rebuilder(m)({path: function(value) for path, value in state(m).items()})


def expected_shapes(m: Any, prefix: str = "") -> Iterator[tuple[str, Array, tuple[int, ...], str]]:
    """``(path, array, the shape its class declares, that shape in words)`` for every array of ``m``."""
    for f in fields(m):
        value, path = getattr(m, f.name), f"{prefix}{f.name}"
        if "dims" in f.metadata:
            want = tuple(int(d) if d.isdigit() else getattr(m, d) for d in f.metadata["dims"])
            words = "(" + ", ".join(f.metadata["dims"]) + ")"
            members = [(f"{path}.{i}", v) for i, v in enumerate(value)] if isinstance(value, tuple) else [(path, value)]
            yield from ((p, v, want, words) for p, v in members if v is not None)
            continue
        children = [(path, value)] if is_module(value) else []
        if isinstance(value, tuple):
            children = [(f"{path}.{i}", v) for i, v in enumerate(value) if is_module(v)]
        for child_path, child in children:
            yield from expected_shapes(child, f"{child_path}.")


def check_shapes(m: Any) -> None:
    """Raise ValueError where an array disagrees with the shape its class declares."""
    for path, value, want, words in expected_shapes(m):
        if tuple(value.shape) != want:
            raise ValueError(f"{path} should have shape {words} = {want}, got {tuple(value.shape)}")
