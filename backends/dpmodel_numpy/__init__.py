"""dpmodel on NumPy: the reference that others are checked against, forces included.

Derivatives are taken in reverse mode by HIPS autograd, a small pure-Python package, on the very functions that
compute the energy.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import autograd.numpy  # noqa: F401  (gives NumPy's functions their derivatives)
import numpy as np
from autograd.builtins import tuple as boxed_tuple
from autograd.core import make_vjp
from autograd.numpy.numpy_boxes import ArrayBox
from autograd.tracer import isbox

from dpmodel.backend import AdamRule, Alone, Transfer, linear_exchange
from dpmodel.errors import BackendError
from dpmodel.execution import Exchange, Execution
from dpmodel.xp import map_arrays, register_namespace
from dpmodel.xp import namespace as namespace_of
from dpmodel_numpy import namespace
from dpmodel_numpy.optimizer import Optimizer

register_namespace(ArrayBox, namespace)

Array = Any


@contextmanager
def _traced() -> Iterator[None]:
    """Constants meet traced arrays inside: functions that take both must be autograd's, whichever they are asked of."""
    before = namespace_of(np.empty(0))
    register_namespace(np.ndarray, namespace)
    try:
        yield
    finally:
        register_namespace(np.ndarray, before)


class Engine:
    """NumPy on the CPU; see ``dpmodel.backend.Engine``."""

    name = "numpy"
    device = "cpu"
    rounds_shapes = False

    def native(self, x: np.ndarray) -> np.ndarray:
        return x

    def numpy(self, x: Array) -> np.ndarray:
        return np.asarray(x)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def grad_and_aux(self, function: Callable[..., tuple[Array, Any]], *x: Array) -> tuple[tuple[Array, ...], Any]:
        kept = []

        def scalar(xs: Any) -> Array:
            value, aux = function(*xs)
            kept.append(aux)
            return value

        with _traced():
            vjp, _ = make_vjp(scalar, boxed_tuple(x))
        # without the boxes of the derivative that was just taken
        return tuple(vjp(np.ones(()))), map_arrays(lambda x: x._value if isbox(x) else x, kept[0])

    def checkpoint(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return function

    def exchange(self, forward: Transfer, adjoint: Transfer) -> Exchange:
        return linear_exchange(lambda function, x, count: function(x, count), forward, adjoint)

    def run(self, slope: bool) -> Execution:
        # so many atoms' pair features fit the cache of a processor; a derivative spends its time on calls
        return Execution(group=48 if slope else 12, most_bins=16 if slope else 8)

    def optimizer(self, parameters: Mapping[str, np.ndarray], rule: AdamRule) -> Optimizer:
        return Optimizer(parameters, rule)


class NumpyBackend:
    name = "numpy"
    processes = Alone  # autograd has no launcher

    def engine(self, device: str | None = None, compile: bool | None = None) -> Engine:
        if device not in (None, "cpu"):
            raise BackendError(f"the numpy backend runs on the cpu only, not on {device!r}")
        if compile:
            raise BackendError("the numpy backend does not compile; use torch, jax or paddle")
        return Engine()


backend = NumpyBackend()
