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
from dataclasses import Field, dataclass, field, fields
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


def is_part(f: Field[Any], value: Any) -> bool:
    """Whether the field ``f`` with ``value`` holds arrays or modules, rather than a setting."""
    if "dims" in f.metadata:
        return value is not None
    return is_module(value) or (isinstance(value, tuple) and bool(value) and is_module(value[0]))


def walk(m: Any, prefix: str = "") -> Iterator[tuple[str, Array, Field[Any], Any]]:
    """Every array in ``m``: its path, the array, its field and the module that holds it."""
    for f in fields(m):
        value = getattr(m, f.name)
        if not is_part(f, value):
            continue
        members = enumerate(value) if isinstance(value, tuple) else [(None, value)]
        for i, member in members:
            path = f"{prefix}{f.name}" if i is None else f"{prefix}{f.name}.{i}"
            if is_module(member):
                yield from walk(member, f"{path}.")
            else:
                yield path, member, f, m


def arrays(m: Any) -> Iterator[tuple[str, Array, Mapping[str, Any]]]:
    """Walk the arrays of ``m``: ``("fitting.layers.0.weight", array, metadata)``."""
    return ((path, value, f.metadata) for path, value, f, _ in walk(m))


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
        self.parts: dict[str, Part] = {}
        for f in fields(m):
            value, path = getattr(m, f.name), f"{prefix}{f.name}"
            if not is_part(f, value):
                self.settings[f.name] = value
            elif isinstance(value, tuple):
                self.parts[f.name] = tuple([_part(member, f"{path}.{i}") for i, member in enumerate(value)])
            else:
                self.parts[f.name] = _part(value, path)

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Rebuilder) and vars(self) == vars(other))

    def __hash__(self) -> int:
        return hash((self.cls, *self.settings.items(), *self.parts))

    def __call__(self, source: Mapping[str, Array]) -> Any:
        return self.cls(**self.settings, **{name: _filled(part, source) for name, part in self.parts.items()})


Part = str | Rebuilder | tuple[Any, ...]  # the path of an array, a module, or several of either


def _part(value: Any, path: str) -> Part:
    return Rebuilder(value, f"{path}.") if is_module(value) else path


def _filled(part: Part, source: Mapping[str, Array]) -> Any:
    if isinstance(part, str):
        return source[part]
    return tuple([_filled(member, source) for member in part]) if isinstance(part, tuple) else part(source)


def convert(m: T, function: Callable[[Array], Array]) -> T:
    """``m`` with ``function`` applied to each of its arrays."""
    return Rebuilder(m)({path: function(value) for path, value in state(m).items()})


def expected_shapes(m: Any) -> Iterator[tuple[str, Array, tuple[int, ...], str]]:
    """``(path, array, the shape its class declares, that shape in words)`` for every array of ``m``."""
    for path, value, f, owner in walk(m):
        dims = f.metadata["dims"]
        yield path, value, tuple(int(d) if d.isdigit() else getattr(owner, d) for d in dims), f"({', '.join(dims)})"
