"""PyTorch on one device, as ``dpmodel.backend.Engine`` wants it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.checkpoint import checkpoint

from dpmodel.backend import AdamRule, Transfer, linear_exchange
from dpmodel.errors import BackendError
from dpmodel.execution import REMEMBERED, Exchange, Execution, Prepare, Rows, even
from dpmodel_torch.arrays import to_numpy, to_tensor
from dpmodel_torch.optimizer import Optimizer

Function = Callable[..., Any]
Tensor = torch.Tensor


def grad_and_aux(function: Callable[..., tuple[Tensor, Any]], *x: Tensor) -> tuple[tuple[Tensor, ...], Any]:
    """See ``dpmodel.backend.Engine``.

    As everywhere in PyTorch, the results can be differentiated again unless the caller said ``torch.no_grad()``; then
    the memory of the graph is freed while it is used.
    """
    if _is_transformed():
        return torch.func.grad(function, argnums=tuple(range(len(x))), has_aux=True)(*x)
    if torch.is_inference_mode_enabled():
        raise BackendError("forces are derivatives, which torch.inference_mode() forbids: use torch.no_grad()")
    again = torch.is_grad_enabled()
    with torch.enable_grad():
        own = [t.view_as(t) if again and t.requires_grad else t.detach().requires_grad_() for t in x]
        value, aux = function(*own)
        slopes = torch.autograd.grad(value, own, create_graph=again, allow_unused=True, materialize_grads=True)
    return slopes, aux if again else torch.utils._pytree.tree_map_only(Tensor, torch.detach, aux)


def _is_transformed() -> bool:
    """Whether Dynamo or a transformation of torch.func is at work: neither lets ``torch.autograd.grad`` in."""
    return torch.compiler.is_compiling() or torch._C._are_functorch_transforms_active()


def in_turn(function: Rows, rows: Sequence[Tensor], size: int, prepare: Prepare | None = None) -> tuple[Tensor, ...]:
    """``dpmodel.execution.in_turn`` with a split: the derivative of a slice fills an array as large as the whole."""
    rows = rows if prepare is None else prepare(*rows)
    size = even(len(rows[0]), size)
    parts = [function(*group) for group in zip(*[torch.split(x, size) for x in rows], strict=True)]
    return tuple(torch.cat(column) for column in zip(*parts, strict=True))


class _Recomputed(torch.autograd.Function):
    """A function of tensors alone, differentiated by running it again."""

    @staticmethod
    def forward(ctx: Any, function: Function, result: Callable[[], tuple[Tensor, ...]], *x: Tensor) -> Any:
        ctx.function = function
        ctx.save_for_backward(*x)
        ctx.set_materialize_grads(False)
        return tuple([y.view_as(y) for y in result()])

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor | None) -> tuple[Tensor | None, ...]:
        again, needed = torch.is_grad_enabled(), ctx.needs_input_grad[2:]
        with torch.enable_grad():
            # views: one argument may be a function of another
            x = [
                t.view_as(t) if again else t.detach().requires_grad_(w)
                for t, w in zip(ctx.saved_tensors, needed, strict=True)
            ]
            pairs = [(y, s) for y, s in zip(ctx.function(*x), slopes, strict=True) if s is not None and y.requires_grad]
            ends, starts = [y for y, _ in pairs], [t for t, w in zip(x, needed, strict=True) if w]
            gradients = torch.autograd.grad(
                ends, starts, [s for _, s in pairs], create_graph=again, allow_unused=True, materialize_grads=not pairs
            )
        each = iter(gradients)
        return None, None, *[next(each) if w else None for w in needed]


def recomputed(function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
    """See ``dpmodel.backend.Engine.checkpoint``.  PyTorch's own, which reaches parameters, costs more time."""

    def run(*x: Tensor) -> tuple[Tensor, ...]:
        if _is_transformed() or not torch.is_grad_enabled():  # saved-tensor hooks do not get in either
            return function(*x)
        result = function(*[t.detach() for t in x])
        if any(y.requires_grad for y in result):  # of something inside
            return checkpoint(function, *x, use_reentrant=False, preserve_rng_state=False)
        return _Recomputed.apply(function, lambda: result, *x)

    return run


class Engine:
    """PyTorch on ``device``, through ``torch.compile`` or not."""

    name = "torch"

    def __init__(self, device: torch.device, compiles: bool) -> None:
        self._device = device
        self.device = str(device)
        self.rounds_shapes = compiles

    def native(self, x: np.ndarray) -> Tensor:
        return to_tensor(x, self._device)

    def numpy(self, x: Tensor) -> np.ndarray:
        return to_numpy(x)

    def compile(self, function: Function) -> Function:
        """``function`` under ``torch.no_grad()``, compiled if the engine compiles."""
        if self.rounds_shapes:
            function = torch.compile(function, fullgraph=True, dynamic=False)
        return torch.no_grad()(function)

    def grad_and_aux(self, function: Callable[..., tuple[Tensor, Any]], *x: Tensor) -> tuple[tuple[Tensor, ...], Any]:
        return grad_and_aux(function, *x)

    def checkpoint(self, function: Callable[..., tuple[Tensor, ...]]) -> Callable[..., tuple[Tensor, ...]]:
        return recomputed(function)

    def exchange(self, forward: Transfer, adjoint: Transfer) -> Exchange:
        if self.rounds_shapes:
            raise BackendError("torch.compile cannot compile an exchange between processes: leave compile out")
        device = self._device

        def outside(function: Transfer, x: Tensor, count: int) -> Tensor:
            return to_tensor(function(to_numpy(x), count), device)

        return linear_exchange(outside, forward, adjoint)

    def out_of_memory(self, error: Exception) -> bool:
        words = ("can't allocate memory", "not enough memory")  # of the CPU, which has no class of its own
        return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(w in str(error) for w in words)

    def run(self, slope: bool) -> Execution:
        if self.rounds_shapes:
            return Execution()
        del slope  # what is never differentiated is never remembered
        size = 64 * torch.get_num_threads() if self._device.type == "cpu" else 1024
        return Execution(group=size, loop=in_turn, checkpoint=recomputed, remember=REMEMBERED, most_bins=16)

    def optimizer(self, parameters: Mapping[str, np.ndarray], rule: AdamRule) -> Optimizer:
        return Optimizer(parameters, rule, self._device)


def find_device(name: str | None) -> torch.device:
    """The device called "cpu", "cuda", "cuda:1", ...; None: the first GPU, else the CPU.

    Raises
    ------
    BackendError
        If it is not there, or has no double precision.
    """
    if name is None:
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.zeros(1, dtype=torch.float64, device=name).device
    except (RuntimeError, AssertionError, TypeError) as error:
        there = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
        reason = str(error).splitlines()[0]
        raise BackendError(f"torch cannot use device {name!r} ({reason}); there is {', '.join(there)}") from error
