"""Activation functions (specification/model.md 1.5), by formulas of the standard library and by derivatives."""

from collections.abc import Callable
from math import erf, exp, inf, log1p, pi, sqrt, tanh

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.ops.activations import ACTIVATIONS, activation

ENGINE = backend("numpy").engine()


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x)) if x >= 0 else exp(x) / (1 + exp(x))


def silut(x: float, t: float) -> float:
    s = sigmoid(t)
    return x * sigmoid(x) if x < t else tanh((s + t * s * (1 - s)) * (x - t)) + t * s


def gelu(x: float) -> float:
    return x / 2 * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x**3)))


FORMULAS: dict[str, Callable[[float], float]] = {
    "tanh": tanh,
    "relu": lambda x: max(x, 0.0),
    "relu6": lambda x: min(max(x, 0.0), 6.0),
    "gelu": gelu,
    "gelu_tf": gelu,
    "softplus": lambda x: max(x, 0.0) + log1p(exp(-abs(x))),
    "sigmoid": sigmoid,
    "silu": lambda x: x * sigmoid(x),
    "silut": lambda x: silut(x, 3.0),
    "custom_silu": lambda x: silut(x, 3.0),
    "silut:1.5": lambda x: silut(x, 1.5),
    "custom_silu:10": lambda x: silut(x, 10.0),
    "silut:-0.5": lambda x: silut(x, -0.5),
    "none": lambda x: x,
    "linear": lambda x: x,
}
POINTS = np.concatenate([np.linspace(-8.0, 8.0, 161), [-40.0, -1e-9, 1e-9, 40.0]])


def slope(name: str, x: np.ndarray) -> np.ndarray:
    (found,), _ = ENGINE.grad_and_aux(lambda x: (activation(name)(x).sum(), None), x)
    return found


def curvature(name: str, x: np.ndarray) -> np.ndarray:
    def total_slope(x: np.ndarray) -> tuple[np.ndarray, None]:
        (inner,), _ = ENGINE.grad_and_aux(lambda y: (activation(name)(y).sum(), None), x)
        return (inner + 0.0 * x).sum(), None  # piecewise linear functions have a slope that does not depend on x

    (found,), _ = ENGINE.grad_and_aux(total_slope, x)
    return found


def test_every_function_has_a_formula() -> None:
    assert set(ACTIVATIONS) <= set(FORMULAS)


@pytest.mark.parametrize("name", FORMULAS)
def test_values(name: str) -> None:
    expected = [FORMULAS[name](float(x)) for x in POINTS]
    np.testing.assert_allclose(activation(name)(POINTS), expected, rtol=1e-13, atol=1e-15)
    np.testing.assert_array_equal(activation(name.upper())(POINTS), activation(name)(POINTS))


@pytest.mark.parametrize("name", FORMULAS)
def test_slopes(name: str) -> None:
    h, f = 1e-4, FORMULAS[name]
    x = POINTS[np.abs(POINTS - np.round(POINTS * 2) / 2) > 0.01]  # away from kinks
    expected = [(8 * (f(t + h) - f(t - h)) - (f(t + 2 * h) - f(t - 2 * h))) / (12 * h) for t in map(float, x)]
    np.testing.assert_allclose(slope(name, x), expected, atol=1e-10 * max(1.0, np.abs(x).max()))


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_nothing_overflows(name: str, dtype: str) -> None:
    """Values and two derivatives, where the exponential of x is beyond all numbers (warnings are errors here)."""
    x = np.array([-1000.0, -200.0, -90.0, 0.0, 90.0, 200.0, 1000.0], dtype=dtype)
    for found in (activation(name)(x), slope(name, x), curvature(name, x)):
        assert np.isfinite(found).all()
    low, *_, high = activation(name)(x)
    assert low == pytest.approx(FORMULAS[name](-1000.0), rel=1e-6, abs=1e-30)
    assert high == pytest.approx(FORMULAS[name](1000.0), rel=1e-6)


@pytest.mark.parametrize("threshold", [0.5, 1.5, 3.0, 10.0])
def test_silut_joins_smoothly(threshold: float) -> None:
    """Value and slope are those of silu at the threshold; above it the function stays within 1 of its value there."""
    name, at = f"silut:{threshold}", np.array([threshold])
    just_below, just_above = np.nextafter(at, -inf), np.nextafter(at, inf)
    np.testing.assert_allclose(activation(name)(just_below), activation(name)(just_above), rtol=1e-15)
    np.testing.assert_allclose(slope(name, just_below), slope(name, just_above), rtol=1e-14)
    s = sigmoid(threshold)
    np.testing.assert_allclose(slope(name, at), s + threshold * s * (1 - s), rtol=1e-14)
    assert activation(name)(at + 1e6)[0] == pytest.approx(threshold * s + 1.0)


def test_gelu_is_the_tanh_form() -> None:
    """The other definition, by the error function, is another function: the two differ by 5e-4."""
    exact = [x / 2 * (1 + erf(x / sqrt(2))) for x in map(float, POINTS)]
    assert 1e-4 < np.abs(activation("gelu")(POINTS) - exact).max() < 1e-3


@pytest.mark.parametrize("name", ["swish", "", "relu7", "tanh:3", "silut:x"])
def test_unknown_names(name: str) -> None:
    with pytest.raises((KeyError, ValueError)):
        activation(name)
