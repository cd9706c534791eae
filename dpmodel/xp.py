"""The namespace of an array: the standard one, or one a backend registered.

The mathematics asks ``xp = namespace(x)`` and then uses functions of the Array API standard
2024.12 only.  What the standard does not have (``detach``) is at the end of this file.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any  # one array type per call

_REGISTERED: dict[type, Any] = {np.ndarray: np}  # array_api_compat finds the others


def register_namespace(array_type: type, xp: Any) -> None:
    """Tell dpmodel which namespace serves ``array_type`` and its subclasses.

    For libraries that array-api-compat does not know, and to keep compilers away from
    its cache.
    """
    _REGISTERED[array_type] = xp


def namespace(x: Array) -> Any:
    """The Array API namespace of ``x``."""
    xp = _registered(type(x))
    if xp is None:
        import array_api_compat

        xp = array_api_compat.array_namespace(x)
    return xp


def _registered(array_type: type) -> Any:
    """The entry registered for the type or else for the nearest of its bases; None if there is none."""
    if array_type in _REGISTERED:
        return _REGISTERED[array_type]
    return next((_REGISTERED[base] for base in array_type.__mro__ if base in _REGISTERED), None)


def like(x: Array) -> dict[str, Any]:
    """``dtype`` and ``device`` of ``x``, for creation functions: ``xp.zeros(n, **like(x))``."""
    return {"dtype": x.dtype, "device": getattr(x, "device", None)}  # JAX tracers have no device


def shape(x: Array) -> tuple[Any, ...]:
    """``x.shape``, with what a tracer leaves unknown asked of the array itself."""
    xp = _registered(type(x))
    return xp.shape(x) if hasattr(xp, "shape") else tuple(x.shape)


def cast(x: Array, dtype: Any) -> Array:
    """``x`` in the precision ``dtype``, that of another array or a name ("float64"); unchanged if it has it."""
    xp = namespace(x)
    return xp.astype(x, getattr(xp, dtype) if isinstance(dtype, str) else dtype, copy=False)


def map_arrays(function: Callable[[Array], Any], tree: Any) -> Any:
    """``tree``, nested tuples and dictionaries of arrays and None such as a graph, with ``function`` of each array."""
    if isinstance(tree, dict):
        return {key: map_arrays(function, branch) for key, branch in tree.items()}
    if isinstance(tree, tuple):
        branches = [map_arrays(function, branch) for branch in tree]
        return type(tree)(*branches) if hasattr(tree, "_fields") else tuple(branches)
    return None if tree is None else function(tree)


Adjoint = Callable[..., tuple[Array, ...]]


def with_adjoint(function: Callable[..., Array], adjoint: Adjoint) -> Callable[..., Array]:
    """``function`` of arrays, to be differentiated by ``adjoint`` where the library profits from it.

    ``adjoint(result, slope, *arguments)`` gives a slope of the shape of every argument.  Both are made of functions of
    arrays that can be differentiated themselves, so that second derivatives are right.
    """

    def call(*x: Array) -> Array:
        own = getattr(namespace(x[0]), "with_adjoint", None)
        return function(*x) if own is None else own(function, adjoint, *x)

    return call


def detach(x: Array) -> Array:
    """``x`` as a constant: no derivative flows through it."""
    return getattr(namespace(x), "detach", _same)(x)


def _same(x: Array) -> Array:
    return x
