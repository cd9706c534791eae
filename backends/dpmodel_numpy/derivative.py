"""Derivatives by HIPS autograd, in reverse mode, on the very functions that compute the energy."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Lock, local
from typing import Any

import autograd.numpy
import autograd.tracer
import numpy as np
from autograd.builtins import tuple as boxed_tuple
from autograd.core import make_vjp
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import isbox

from dpmodel.xp import map_arrays, register_namespace
from dpmodel.xp import namespace as namespace_of
from dpmodel_numpy import namespace

register_namespace(ArrayBox, namespace)

Array = Any
PLAIN = namespace_of(np.empty(0))


class TraceStack(local, autograd.tracer.TraceStack):
    """How deep derivatives are nested, in each thread: autograd counts those of all threads together."""


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
    kept = []

    def scalar(xs: Any) -> Array:
        value, aux = function(*xs)
        kept.append(aux)
        return value

    with traced():
        vjp, _ = make_vjp(scalar, boxed_tuple(x))
    # without the boxes of the derivative that was just taken
    return tuple(vjp(np.ones(()))), map_arrays(lambda x: x._value if isbox(x) else x, kept[0])
