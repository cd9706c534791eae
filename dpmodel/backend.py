"""Backends: what an array library adds to the mathematics, and how the installed ones are found.

A backend is a package with an object of type ``Backend``, announced under the entry-point group
``dpmodel.backends``.  It is imported when it is asked for, not before.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from importlib.metadata import entry_points
from importlib.util import find_spec
from logging import getLogger
from typing import Any, NamedTuple, Protocol

import numpy as np

from dpmodel.errors import BackendError
from dpmodel.execution import Exchange, Execution
from dpmodel.xp import Array, shape, with_adjoint

GROUP = "dpmodel.backends"
EXTRAS = {"torch": "torch", "jax": "jax", "paddle": "paddle"}  # backends of ours that need a framework

Transfer = Callable[[np.ndarray, int], np.ndarray]

# grad_and_aux(f, *x) -> (tuple of df/dx, aux) for f(*x) -> (scalar, aux)
GradAndAux = Callable[..., tuple[tuple[Array, ...], Any]]


class AdamRule(NamedTuple):
    """Adam, or AdamW if the weight decay is ``decoupled`` from the gradient; epsilon is 1e-8."""

    beta1: float
    beta2: float
    weight_decay: float
    decoupled: bool


class Optimizer(Protocol):
    """Parameters by name, and what an optimizer of the library remembers of them."""

    parameters: dict[str, Array]

    def step(self, gradients: Mapping[str, Array], learning_rate: float) -> None:
        """Move the parameters that have a gradient; the others, and what is remembered of them, stay."""

    def state(self) -> dict[str, np.ndarray]:
        """Parameters, first and second moments and numbers of steps: ``name``, ``name:first``, ``name:second``,
        ``name:step``; the same on every backend."""

    def load(self, state: Mapping[str, np.ndarray]) -> None:
        """Go on from what ``state`` gave."""


class Engine(Protocol):
    """One array library on one device."""

    name: str
    device: str
    rounds_shapes: bool  # whether functions are compiled for each shape, so that sizes are better rounded up

    def native(self, x: np.ndarray) -> Array:
        """A NumPy array as the library's own, on the device; the same dtype."""

    def numpy(self, x: Array) -> np.ndarray:
        """The library's array as NumPy's; the same dtype (bfloat16 may come back as float32)."""

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function(state, graph, positions, ...)`` of tuples and dicts of arrays, made fast if that was asked for."""

    def grad_and_aux(self, function: Callable[..., tuple[Array, Any]], *x: Array) -> tuple[tuple[Array, ...], Any]:
        """Derivatives by all arguments, and the second result, of ``function(*x) -> (scalar, aux)``; may be nested."""

    def checkpoint(self, function: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
        """``function``, recomputed when it is differentiated rather than remembered."""

    def exchange(self, forward: Transfer, adjoint: Transfer) -> Exchange:
        """``forward`` for arrays of the library, with a derivative.

        ``forward(x, A)`` of (N, d) is (A, d) and linear, and ``adjoint(slope, N)`` of (A, d) is its transpose, (N, d).
        Both take and give NumPy arrays.  They may wait for other processes: each is called as often as the model calls
        the exchange, and in that order or its reverse.

        Raises
        ------
        BackendError
            If functions that leave the library cannot be part of what this engine compiles.
        """

    def out_of_memory(self, error: Exception) -> bool:
        """Whether ``error`` is how the library says that the memory of the device does not suffice."""

    def run(self, slope: bool) -> Execution:
        """The best way to run a model here, with derivatives to be taken (``slope``) or without."""

    def optimizer(self, parameters: Mapping[str, np.ndarray], rule: AdamRule) -> Optimizer:
        """The library's own Adam for ``parameters``."""


class Processes(Protocol):
    """The processes that train one model together, and this one among them."""

    rank: int  # 0 writes files and talks
    size: int

    def sum(self, x: Array) -> Array:
        """The sum of everybody's ``x``, the same to the last bit in every process; all have to call it."""


class Alone:
    """One process."""

    rank, size = 0, 1

    def sum(self, x: Array) -> Array:
        return x


def linear_exchange(outside: Callable[..., Array], forward: Transfer, adjoint: Transfer) -> Exchange:
    """The exchange of ``Engine.exchange``, which may be differentiated any number of times.

    ``outside(function, x, count)`` is ``function(x, count)`` of an array of the library, computed by NumPy.
    """

    @lru_cache(maxsize=16)  # made once for a neighbor list: Paddle never lets go of a derivative's functions
    def linear(is_adjoint: bool, rows: int, count: int) -> Callable[..., Array]:
        return with_adjoint(
            lambda x: outside(adjoint if is_adjoint else forward, x, count),
            lambda _, slope, x: (linear(not is_adjoint, count, rows)(slope),),
        )

    return lambda x, count: linear(False, shape(x)[0], count)(x)


class Backend(Protocol):
    """The entry point of a backend's package."""

    name: str

    def processes(self) -> Processes:
        """The processes that the launcher of the library (torchrun, ...) started; ``Alone`` without one.

        To be called before an engine is made.
        """

    def engine(self, device: str | None = None, compile: bool | None = None) -> Engine:
        """The library on ``device`` ("cpu", "cuda:0", ...; None: its default), compiling or not (None: its default).

        Raises
        ------
        BackendError
            If the device is not there.
        """


def installed() -> list[str]:
    """Names of the backends that announce themselves; their frameworks may still be missing."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


FASTEST = ("torch", "jax", "numpy")  # by docs/performance.md; JAX takes longer to begin, Paddle to compute


def fastest() -> str:
    """The fastest of the backends that announce themselves and whose frameworks are there."""
    there = [name for name in FASTEST if name in installed() and (name == "numpy" or find_spec(name))]
    return there[0] if there else "numpy"


def backend(name: str) -> Backend:
    """The backend called ``name``; "auto": the fastest that is installed, which the logger "dpmodel" tells.

    Raises
    ------
    BackendError
        If there is none of that name, or its framework is not installed.
    """
    installed = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name == "auto":
        name = fastest()
        getLogger("dpmodel").info("backend: %s, the fastest that is installed", name)
    if name not in installed:
        raise BackendError(f"there is no backend {name!r}; known are {', '.join(sorted(installed)) or 'none'}")
    try:
        return installed[name].load()
    except ModuleNotFoundError as error:
        if error.name and error.name.startswith("dpmodel"):
            raise
        remedy = f"pip install 'dpmodel[{EXTRAS[name]}]'" if name in EXTRAS else f"pip install {error.name}"
        raise BackendError(f"the {name} backend needs the package {error.name!r}: {remedy}") from error
