"""Functions as static programs, one for each set of shapes of their arguments."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
from threading import RLock
from typing import Any

from dpmodel_paddle.quiet import paddle
from dpmodel_paddle.trees import leaves, replaced

Value = paddle.pir.Value  # what an array is while a program is traced
OPERATORS = {
    "__add__": paddle.add,
    "__sub__": paddle.subtract,
    "__mul__": paddle.multiply,
    "__truediv__": paddle.divide,
}
TRACING = RLock()


class Static:
    """``function`` of nested tuples and dicts of arrays, traced when it meets new shapes; its results are constants."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function
        self._programs: dict[Any, Any] = {}
        self._outputs: dict[Any, Any] = {}  # how results are nested

    def __call__(self, *args: Any) -> Any:
        flat = leaves(args)
        key = (repr(replaced(args, repeat("*"))), *[(*x.shape, x.dtype) for x in flat])
        if key in self._programs:
            results = self._programs[key](flat)
        else:
            with exact_numbers(), quiet_places():
                program = self._program(key, args)
                results = program(flat)
            self._programs[key] = program
        return replaced(self._outputs[key], iter(results if isinstance(results, list | tuple) else [results]))

    def _program(self, key: Any, args: Any) -> Any:
        def traced(flat: list[Any]) -> tuple[Any, ...]:
            result = self._function(*replaced(args, iter(flat)))
            self._outputs[key] = replaced(result, repeat("*"))
            return tuple(leaves(result))

        # the source is traced as it is: it has no branches on values for Paddle to rewrite
        program = paddle.jit.to_static(paddle.jit.not_to_static(traced), full_graph=True, backend=None)
        program.eval()  # keeps nothing for a derivative
        return program


@contextmanager
def quiet_places() -> Iterator[None]:
    """Traced arrays answer None when asked where they are, which is right, and warn, even if Paddle itself asks."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Tensor do not have '(place|device)' interface for pir", UserWarning)
        yield


@contextmanager
def exact_numbers() -> Iterator[None]:
    """While tracing, Python numbers meet arrays in the arrays' precision: Paddle's own operators round to float32."""
    with TRACING:
        saved = {name: getattr(Value, name) for left in OPERATORS for name in (left, _reflected(left))}
        for name, operator in OPERATORS.items():
            setattr(Value, name, lambda x, y, op=operator: op(x, _array(y, x)))
            setattr(Value, _reflected(name), lambda x, y, op=operator: op(_array(y, x), x))
        try:
            yield
        finally:
            for name, method in saved.items():
                setattr(Value, name, method)


def _reflected(name: str) -> str:
    return name.replace("__", "__r", 1)


def _array(y: Any, x: Any) -> Any:
    return paddle.full([], y, dtype=x.dtype) if isinstance(y, int | float) else y
