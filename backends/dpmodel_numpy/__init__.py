"""dpmodel on NumPy: the reference that others are checked against, forces included.

Derivatives are taken by HIPS autograd, a small pure-Python package, which is imported for the first of them.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dpmodel.backend import AdamRule, Alone, Transfer, linear_exchange
from dpmodel.errors import BackendError
from dpmodel.execution import REMEMBERED, Exchange, Execution, keep_freed_memory

if TYPE_CHECKING:
    from dpmodel_numpy.optimizer import Optimizer

Array = Any


def recomputed(function: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
    """See ``dpmodel.backend.Engine.checkpoint``."""

    def run(*x: Array) -> tuple[Array, ...]:
        from dpmodel_numpy.derivative import recomputed

        return recomputed(function, *x)

    return run


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
        from dpmodel_numpy.derivative import grad_and_aux

        return grad_and_aux(function, *x)

    def checkpoint(self, function: Callable[..., Any]) -> Callable[..., Any]:
        return recomputed(function)

    def exchange(self, forward: Transfer, adjoint: Transfer) -> Exchange:
        return linear_exchange(lambda function, x, count: function(x, count), forward, adjoint)

    def out_of_memory(self, error: Exception) -> bool:
        return isinstance(error, MemoryError)

    def run(self, slope: bool) -> Execution:
        # so many atoms' pair features fit the cache of a processor; a derivative spends its time on calls
        if not slope:
            return Execution(group=12, most_bins=8)
        return Execution(group=48, most_bins=16, checkpoint=recomputed, remember=REMEMBERED)

    def optimizer(self, parameters: Mapping[str, np.ndarray], rule: AdamRule) -> "Optimizer":
        from dpmodel_numpy.optimizer import Optimizer

        return Optimizer(parameters, rule)


class NumpyBackend:
    name = "numpy"
    processes = Alone  # autograd has no launcher

    def engine(self, device: str | None = None, compile: bool | None = None) -> Engine:
        if device not in (None, "cpu"):
            raise BackendError(f"the numpy backend runs on the cpu only, not on {device!r}")
        if compile:
            raise BackendError("the numpy backend does not compile; use torch, jax or paddle")
        keep_freed_memory()
        return Engine()


backend = NumpyBackend()
