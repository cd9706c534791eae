"""JAX on one device, as ``dpmodel.backend.Engine`` wants it."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from dpmodel.backend import AdamRule, Transfer, linear_exchange
from dpmodel.errors import BackendError
from dpmodel.execution import Exchange, Execution, Prepare, Rows, one_by_one
from dpmodel.module import Rebuilder, state
from dpmodel.xp import Array

Function = Callable[..., Any]


def grad_and_aux(function: Callable[..., tuple[Array, Any]], *x: Array) -> tuple[tuple[Array, ...], Any]:
    """See ``dpmodel.backend.Engine``."""
    return jax.grad(function, argnums=tuple(range(len(x))), has_aux=True)(*x)


def in_turn(function: Rows, rows: Sequence[Array], size: int, prepare: Prepare | None = None) -> tuple[Array, ...]:
    """``function(*rows)`` on at most ``size`` rows at a time, by a loop in the program: it is compiled once.

    ``prepare`` sees a group as well: a program need not hold the rows of all of them.  Groups are of equal size; where
    they do not fill up, the first rows are treated twice.
    """
    count = rows[0].shape[0]
    groups = -(-count // size)
    size = -(-count // groups)

    def one(group: tuple[Array, ...]) -> tuple[Array, ...]:
        return function(*(group if prepare is None else prepare(*group)))

    def stacked(x: Array) -> Array:
        x = jnp.concatenate([x, x[: groups * size - count]])
        return x.reshape(groups, size, *x.shape[1:])

    results = jax.lax.map(one, tuple(map(stacked, rows)))
    return tuple(x.reshape(groups * size, *x.shape[2:])[:count] for x in results)


def recomputed_in_turn(
    function: Rows, rows: Sequence[Array], size: int, prepare: Prepare | None = None
) -> tuple[Array, ...]:
    """``in_turn``, with every group recomputed when derivatives are taken."""

    @jax.checkpoint
    def run(*group: Array) -> tuple[Array, ...]:
        return function(*(group if prepare is None else prepare(*group)))

    return in_turn(run, rows, size)


def traced_once(function: Callable[[Any, Any], Any], layers: Sequence[Any], x: Any) -> Any:
    """``dpmodel.execution.one_by_one``, with one tracing for ``layers`` that are alike.

    A loop in the program (``scan``) would have as little to trace, and yet takes longer to compile.
    """
    structures = [Rebuilder(layer) for layer in layers]
    if len(layers) < 2 or any(structure != structures[0] for structure in structures):
        return one_by_one(function, layers, x)
    step = jax.jit(lambda arrays, x: function(structures[0](arrays), x))
    return one_by_one(step, [state(layer) for layer in layers], x)


def grouped(platform: str | None = None) -> Execution:
    """Groups of atoms, recomputed where derivatives are taken: a tenth of the memory for twice the compilation.

    Forces are no slower for it, as 48 atoms fit the cache of a processor; other devices want much to do at once.
    """
    platform = platform or jax.default_backend()
    size = 48 if platform == "cpu" else 1024
    # four bins take twice the time of compiling, and 0.7 of that of running
    return Execution(group=size, loop=recomputed_in_turn, repeat=traced_once, most_bins=4, step=4)


class Engine:
    """JAX on ``device``, through ``jax.jit`` or not.

    Calls allow double precision for as long as they last, whatever ``jax_enable_x64`` says: nothing is ever rounded.
    Programs made once are found again by later processes if ``JAX_COMPILATION_CACHE_DIR`` names a folder.

    ``compilations``: how many programs the functions of this engine were compiled into so far, one for each new set of
    shapes.
    """

    name = "jax"

    def __init__(self, device: jax.Device, compiles: bool) -> None:
        self._device = device
        self.device = name_of(device)
        self.rounds_shapes = compiles
        self.compilations = 0

    def native(self, x: np.ndarray) -> jax.Array:
        with jax.enable_x64(True):
            # a copy, for the caller's memory may change; jnp.array would compile a program to make one
            return jax.device_put(np.array(x), self._device)

    def numpy(self, x: Array) -> np.ndarray:
        jax.block_until_ready(x)  # raises what went wrong, where a look at the numbers would end the process
        return np.array(x, dtype=np.float32 if x.dtype == jnp.bfloat16 else None)

    def compile(self, function: Function) -> Function:
        def traced(*x: Any) -> Any:
            self.compilations += 1  # JAX runs this to see what a function does, not to compute
            return function(*x)

        return in_double_precision(jax.jit(traced) if self.rounds_shapes else function)

    def grad_and_aux(self, function: Callable[..., tuple[Array, Any]], *x: Array) -> tuple[tuple[Array, ...], Any]:
        with jax.enable_x64(True):
            return grad_and_aux(function, *x)

    def checkpoint(self, function: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
        return jax.checkpoint(function)

    def exchange(self, forward: Transfer, adjoint: Transfer) -> Exchange:
        return linear_exchange(outside, forward, adjoint)

    def out_of_memory(self, error: Exception) -> bool:
        if isinstance(error, jax.errors.JaxRuntimeError):
            return "RESOURCE_EXHAUSTED" in str(error) or "out of memory" in str(error).lower()
        return isinstance(error, MemoryError)

    def run(self, slope: bool) -> Execution:
        del slope  # what is never differentiated is never recomputed
        return grouped(self._device.platform) if self.rounds_shapes else Execution()

    def optimizer(self, parameters: Mapping[str, np.ndarray], rule: AdamRule) -> Any:
        from dpmodel_jax.optimizer import Optimizer  # optax is wanted by those who train

        return Optimizer(parameters, rule, self.native)


def outside(function: Transfer, x: jax.Array, count: int) -> jax.Array:
    """``function(x, count)``, by NumPy in the middle of a program.

    Every call needs the result of the one before it: no order of them has to be asked for.  Numbers travel as bytes:
    the thread that calls back does not know of double precision and would round them.
    """
    dtype, width = x.dtype, x.shape[1:]

    def of_bytes(data: Any) -> np.ndarray:
        rows = np.asarray(data).view(dtype).reshape(-1, *width)
        return np.ascontiguousarray(function(rows, count)).view(np.uint8).reshape(result.shape)

    result = jax.ShapeDtypeStruct((count, *width, dtype.itemsize), jnp.uint8)
    raw = jax.pure_callback(of_bytes, result, jax.lax.bitcast_convert_type(x, jnp.uint8))
    return jax.lax.bitcast_convert_type(raw, dtype)


def in_double_precision(function: Function) -> Function:
    """``function`` with float64 allowed while it runs, and products of float32 not rounded to TF32 on a GPU.

    Whoever wants TF32 sets ``jax_default_matmul_precision``.
    """

    @wraps(function)
    def run(*x: Any) -> Any:
        precision = getattr(jax.config, "jax_default_matmul_precision", None) or "highest"
        with jax.enable_x64(True), jax.default_matmul_precision(precision):
            return function(*x)

    return run


def find_device(name: str | None) -> jax.Device:
    """The device called "cpu", "gpu", "cuda:1", ...; None: the one that JAX would take.

    Raises
    ------
    BackendError
        If it is not there.
    """
    if name is None:
        return jax.device_put(0.0).device
    platform, _, index = name.partition(":")
    try:
        return jax.local_devices(backend=platform)[int(index or 0)]
    except (RuntimeError, ValueError, IndexError) as error:
        raise BackendError(f"jax has no device {name!r}; there is {', '.join(available())}") from error


def available() -> list[str]:
    """Names of the devices of this process."""
    devices = jax.local_devices()
    with suppress(RuntimeError):  # JAX_PLATFORMS can switch the CPU off
        devices = [*jax.local_devices(backend="cpu"), *devices]
    return list(dict.fromkeys(map(name_of, devices)))


def name_of(device: jax.Device) -> str:
    return "cpu" if str(device) == "cpu:0" else str(device)
