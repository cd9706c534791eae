"""Derivatives by Paddle's autograd, eager or traced."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

from dpmodel_paddle.quiet import paddle
from dpmodel_paddle.trees import mapped

Array = Any
Function = Callable[..., tuple[Array, ...]]


class _Derivative(NamedTuple):
    """One that is being taken: whether by others again, and the variables of those inside."""

    again: bool
    deeper: list[Array]


_current: ContextVar[_Derivative | None] = ContextVar("_current", default=None)


def grad_and_aux(function: Callable[..., tuple[Array, Any]], *x: Array) -> tuple[tuple[Array, ...], Any]:
    """See ``dpmodel.backend.Engine``.

    The results can be differentiated again unless the caller said ``paddle.no_grad()``; then the memory of the graph is
    freed while it is used.  Second derivatives want ``no_grad`` around them: Paddle has few third ones to prepare for.
    Nothing of the caller's changes: derivatives are taken by copies.
    """
    again = paddle.is_grad_enabled()
    outer = _current.get()
    with paddle.set_grad_enabled(True), _taking(again) as deeper:
        own = [_variable(v) for v in x]
        value, aux = function(*own)
        slopes = _slopes(value, [*own, *deeper], again)
    if outer is not None:
        outer.deeper.extend([v for v, source in zip(own, x, strict=True) if source.stop_gradient] + deeper)
    result = tuple([paddle.zeros_like(v) if g is None else g for g, v in zip(slopes, x, strict=False)]), aux
    return result if again else mapped(lambda v: v.detach(), result)


@contextmanager
def _taking(again: bool) -> Iterator[list[Array]]:
    """Collect the variables of the derivatives that are taken inside.

    Paddle 3.3 crashes in the second derivative of a quotient where that by the divisor was not asked for: the outer
    derivative asks for one by the inner variables too.
    """
    current = _Derivative(again, [])
    token = _current.set(current)
    try:
        yield current.deeper
    finally:
        _current.reset(token)


def _variable(x: Array) -> Array:
    """A copy of ``x`` to take the derivative by; if ``x`` depends on something, so does the copy."""
    x = paddle.assign(x)
    x.stop_gradient = False
    return x


def _slopes(value: Array, x: list[Array], again: bool) -> list[Array | None]:
    if paddle.in_dynamic_mode():
        return paddle.grad(value, x, create_graph=again, allow_unused=True)
    core = paddle.framework.core
    before = core._is_bwd_prim_enabled()
    core._set_prim_backward_enabled(again)  # as small operations, which programs can differentiate once more
    try:
        return paddle.static.gradients(value, x)
    finally:
        core._set_prim_backward_enabled(before)


def checkpoint(function: Function) -> Function:
    """See ``dpmodel.backend.Engine``; works where it matters, in forces of big systems.

    Where a derivative of the derivative or one by the parameters inside is wanted, results are remembered as ever.
    """

    def run(*x: Array) -> tuple[Array, ...]:
        current = _current.get()
        if not paddle.in_dynamic_mode() or not paddle.is_grad_enabled() or current is None or current.again:
            return function(*x)
        constants = [v.detach() for v in x]
        result = _distinct(function(*constants), constants)
        if all(v.stop_gradient for v in result):
            return _Recomputed.apply(function, lambda: result, *x)  # Paddle would take a plain tuple for more inputs
        return function(*x)

    return run


def _distinct(results: tuple[Array, ...], inputs: list[Array]) -> tuple[Array, ...]:
    """``results``, those that are inputs or come twice as copies: Paddle takes them for changes in place."""
    seen, distinct = {id(v) for v in inputs}, []
    for v in results:
        distinct.append(paddle.assign(v) if id(v) in seen else v)
        seen.add(id(v))
    return tuple(distinct)


class _Recomputed(paddle.autograd.PyLayer):
    @staticmethod
    def forward(ctx: Any, function: Function, result: Callable[[], tuple[Array, ...]], *x: Array) -> tuple[Array, ...]:
        ctx.function = function
        ctx.save_for_backward(*x)
        return result()

    @staticmethod
    def backward(ctx: Any, *slopes: Array) -> tuple[Array | None, ...]:
        saved = ctx.saved_tensor()
        own = [v.detach() for v in saved]
        for v, g in zip(own, saved, strict=True):
            v.stop_gradient = g.stop_gradient
        with paddle.set_grad_enabled(True):
            terms = [(y * s).sum() for y, s in zip(ctx.function(*own), slopes, strict=True) if not y.stop_gradient]
            paddle.add_n(terms).backward()
        return tuple([None if v.stop_gradient else paddle.zeros_like(v) if v.grad is None else v.grad for v in own])
