"""``array_api_compat.torch``, and what dpmodel wants beside the standard."""

from collections.abc import Callable
from typing import Any

import array_api_compat.torch
import torch

from dpmodel.xp import Adjoint

Tensor = torch.Tensor


def __getattr__(name: str) -> Any:
    return getattr(array_api_compat.torch, name)


class _Derived(torch.autograd.Function):
    @staticmethod
    def forward(function: Callable[..., Tensor], adjoint: Adjoint, *x: Tensor) -> Tensor:
        del adjoint
        return function(*x)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.adjoint = inputs[1]
        ctx.save_for_backward(output, *inputs[2:])

    @staticmethod
    def backward(ctx: Any, slope: Tensor) -> tuple[Tensor | None, ...]:
        result, *x = ctx.saved_tensors
        return None, None, *ctx.adjoint(result, slope, *x)


def with_adjoint(function: Callable[..., Tensor], adjoint: Adjoint, *x: Tensor) -> Tensor:
    """``function(*x)`` with the derivative ``adjoint``; compilers and tracers see ``function`` alone."""
    if torch.compiler.is_compiling() or torch.jit.is_tracing():
        return function(*x)
    return _Derived.apply(function, adjoint, *x)
