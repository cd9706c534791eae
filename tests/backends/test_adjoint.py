"""Derivatives that are given by hand: against the library's own, once and twice."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import Engine
from dpmodel.ops.attention import scaled_softmax, softmax
from dpmodel.xp import namespace, with_adjoint

Function = Callable[..., Any]
SHAPES = {"pairs": ((3, 5, 2, 5), (3, 5, 1, 5)), "local": ((3, 2, 5), (3, 1, 5)), "gated": ((3, 5, 5), (3, 5, 5))}


def derivatives(function: Function, engine: Engine, x: list[np.ndarray], c: np.ndarray, d: list[np.ndarray]) -> Any:
    """Slopes of the sum of ``c`` times ``function(*x)`` squared, and slopes of these along ``d``."""
    weight, *directions = map(engine.native, (c, *d))

    def value(*x: Any) -> tuple[Any, Any]:
        y = function(*x)
        return namespace(y).sum(weight * y * y), None

    def along(*x: Any) -> tuple[Any, Any]:
        slopes, _ = engine.grad_and_aux(value, *x)
        parts = [namespace(s).sum(s * v) for s, v in zip(slopes, directions, strict=True)]
        return sum(parts[1:], parts[0]), None

    both = lambda *x: (engine.grad_and_aux(value, *x)[0], engine.grad_and_aux(along, *x)[0])  # noqa: E731
    return [[engine.numpy(s) for s in slopes] for slopes in engine.compile(both)(*map(engine.native, x))]


@pytest.mark.parametrize("phantoms", [0, 7])
@pytest.mark.parametrize("name", SHAPES)
def test_attention_weights(engine: Engine, name: str, phantoms: int) -> None:
    rng = np.random.default_rng(4)
    large, small = SHAPES[name]
    x, d = ([rng.normal(size=s) for s in (large, small, small)] for _ in range(2))
    c = rng.normal(size=large)
    by_hand = derivatives(lambda z, f, s: scaled_softmax(z, f, s, phantoms + 5), engine, x, c, d)
    by_library = derivatives(lambda z, f, s: softmax(z * f + s, phantoms), engine, x, c, d)
    for found, expected in zip(by_hand, by_library, strict=True):
        for a, b in zip(found, expected, strict=True):
            assert np.abs(b).max() > 1e-3
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())


def test_the_given_derivative_is_the_one_that_is_taken(engine: Engine) -> None:
    if engine.name == "paddle" and engine.rounds_shapes:
        pytest.skip("programs of Paddle differentiate what they see")
    wrong = with_adjoint(lambda x: x * x, lambda result, slope, x: (3.0 * slope * x,))

    def both(x: Any) -> tuple[Any, Any]:
        (first,), _ = engine.grad_and_aux(lambda x: (namespace(x).sum(wrong(x)), None), x)
        second = lambda x: (namespace(x).sum(engine.grad_and_aux(lambda x: (wrong(x)[0], None), x)[0][0]), None)  # noqa: E731
        return first, engine.grad_and_aux(second, x)[0][0]

    first, second = map(engine.numpy, engine.compile(both)(engine.native(np.array([2.0, 5.0]))))
    np.testing.assert_array_equal(first, [6.0, 15.0])
    np.testing.assert_array_equal(second, [3.0, 0.0])
