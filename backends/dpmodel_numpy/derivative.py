"""Derivatives by HIPS autograd, in reverse mode, on the very functions that compute the energy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

import autograd.numpy
import autograd.tracer
import numpy as np
from autograd.builtins import tuple as boxed_tuple
from autograd.core import defvjp_argnums, make_vjp
from autograd.extend import primitive
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import getval, isbox

from dpmodel.xp import map_arrays, register_namespace
from dpmodel.xp import namespace as namespace_of
from dpmodel_numpy import namespace

register_namespace(ArrayBox, namespace)

Array = Any
PLAIN = namespace_of(np.empty(0))


class TraceStack(local, autograd.tracer.TraceStack):
    """The depth of nested derivatives, thread by thread: autograd counts those of all threads together."""


autograd.tracer.trace_stack = TraceStack()


class Traced:
    """Derivatives that are being taken, by all threads: while there are any, autograd's functions serve constants too.

    Functions of a constant and a traced array must be autograd's, whichever they are asked of.
    """

    def __init__(self) -> None:
        self._number, self._lock = 0, Lock()

    @contextmanager
    def __call__(self) -> Iterator[None]:
        self._count(1)
        try:
            yield
        finally:
            self._count(-1)

    def _count(self, change: int) -> None:
        with self._lock:
            self._number += change
            register_namespace(np.ndarray, namespace if self._number else PLAIN)


traced = Traced()


def grad_and_aux(function: Callable[..., tuple[Array, Any]], *x: Array) -> tuple[tuple[Array, ...], Any]:
    """See ``dpmodel.backend.Engine``."""
    extra = []

    def scalar(xs: Any) -> Array:
        value, aux = function(*xs)
        extra.append(aux)
        return value

    with traced():
        vjp, _ = make_vjp(scalar, boxed_tuple(x))
    # without the boxes of the derivative that was just taken
    return tuple(vjp(np.ones(()))), map_arrays(lambda x: x._value if isbox(x) else x, extra[0])


def recomputed(function: Callable[..., tuple[Array, ...]], *x: Array) -> tuple[Array, ...]:
    """``function(*x)``, run again where it is differentiated, unless slopes flow to something inside."""
    if not any(map(isbox, x)):
        return function(*x)
    result = function(*map(getval, x))
    if any(map(isbox, result)):
        return function(*x)
    results = _recomputed(function, lambda: result, *x)
    return tuple([results[i] for i in range(len(result))])


@primitive
def _recomputed(
    function: Callable[..., tuple[Array, ...]], result: Callable[[], tuple[Array, ...]], *x: Array
) -> tuple[Array, ...]:
    del function, x
    return result()


def _recomputed_vjp(argnums: tuple[int, ...], _: Any, arguments: tuple[Any, ...], __: Any) -> Callable[..., Any]:
    function, _result, *x = arguments

    def again(variables: Any) -> Any:
        own = list(x)
        for k, i in enumerate(argnums):
            own[i - 2] = variables[k]
        return boxed_tuple(function(*own))

    def slopes_of(slopes: Any) -> tuple[Array, ...]:
        with traced():
            vjp, _ = make_vjp(again, boxed_tuple([x[i - 2] for i in argnums]))
        return tuple(vjp(slopes))

    return slopes_of


defvjp_argnums(_recomputed, _recomputed_vjp)
