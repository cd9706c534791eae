"""Functions as static programs, one for each shape of their arguments."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import repeat
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


class Static:
    """``function`` of nested tuples and dicts of arrays, traced when it meets new shapes."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        self.programs: dict[Any, Any] = {}
        self.outputs: dict[Any, Any] = {}

    def __call__(self, *args: Any) -> Any:
        flat = leaves(args)
        key = (repr(replaced(args, repeat("*"))), *((*x.shape, x.dtype, x.stop_gradient) for x in flat))
        if key not in self.programs:
            self.programs[key] = self._program(key, args)
            with exact_numbers():
                results = self.programs[key](flat)
        else:
            results = self.programs[key](flat)
        return replaced(self.outputs[key], iter(results if isinstance(results, (tuple, list)) else [results]))

    def _program(self, key: Any, args: Any) -> Any:
        def traced(flat: Any) -> Any:
            result = self.function(*replaced(args, iter(flat)))
            self.outputs[key] = replaced(result, repeat("*"))
            return tuple(leaves(result))

        # the source is traced as it stands: it has no branches on values for Paddle to rewrite
        program = paddle.jit.to_static(paddle.jit.not_to_static(traced), full_graph=True, backend=None)
        program.eval()  # nothing is kept for a derivative
        return program


@contextmanager
def exact_numbers() -> Iterator[None]:
    """While tracing, let Python numbers meet arrays in the arrays' precision; Paddle's own operators round to float32."""

    def number(y: Any, x: Any) -> Any:
        return paddle.full([], y, dtype=x.dtype) if isinstance(y, (int, float)) else y

    saved = {}
    for name, operator in OPERATORS.items():
        turned = name.replace("__", "__r", 1)
        saved |= {name: getattr(Value, name), turned: getattr(Value, turned)}
        setattr(Value, name, lambda x, y, op=operator: op(x, number(y, x)))
        setattr(Value, turned, lambda x, y, op=operator: op(number(y, x), x))
    try:
        yield
    finally:
        for name, method in saved.items():
            setattr(Value, name, method)
