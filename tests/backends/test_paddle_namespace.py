"""Paddle's functions under the names of the Array API: values, types and second derivatives."""

from collections.abc import Callable
from functools import partial
from typing import Any

import array_api_compat.numpy
import numpy as np
import pytest

import dpmodel_numpy.namespace
from dpmodel.ops.arrays import gather
from dpmodel.xp import like, namespace
from engines import engine_of

paddle = pytest.importorskip("paddle")
import dpmodel_paddle.namespace  # noqa: E402
from dpmodel_paddle.trees import mapped  # noqa: E402

EAGER, STATIC = (dpmodel_paddle.backend.engine("cpu", compile=wanted) for wanted in (False, True))

ROWS = np.array([2, 0, 0, 1])
SMOOTH: dict[str, Callable[[Any, Any], Any]] = {  # of x (3, 4), between 0.5 and 1.5
    "abs": lambda xp, x: xp.abs(x - 1.0),
    "astype": lambda xp, x: xp.astype(x, xp.float32) if x.dtype == xp.float64 else xp.astype(x, xp.float64),
    "astype, no copy": lambda xp, x: xp.astype(x, x.dtype, copy=False),
    "broadcast_to": lambda xp, x: xp.broadcast_to(x[:, None, :], (3, 2, 4)),
    "clip": lambda xp, x: xp.clip(x, 0.7, 1.1),
    "clip below": lambda xp, x: xp.clip(x, 0.7, None),
    "clip above": lambda xp, x: xp.clip(x, None, 1.1),
    "concat": lambda xp, x: xp.concat([x, x * x], axis=-1),
    "concat constants": lambda xp, x: xp.concat([x, xp.zeros((1, 4), **like(x)), xp.full((2, 4), 0.1, **like(x))]),
    "exp": lambda xp, x: xp.exp(x),
    "log": lambda xp, x: xp.log(x),
    "matrix_transpose": lambda xp, x: xp.matrix_transpose(x[None, :, :]),
    "mean": lambda xp, x: xp.mean(x * x, axis=-1),
    "mean, axis kept": lambda xp, x: xp.mean(x, axis=0, keepdims=True),
    "permute_dims": lambda xp, x: xp.permute_dims(x[:, :, None], (1, 2, 0)),
    "reshape": lambda xp, x: xp.reshape(x, (2, -1)),
    "slices": lambda xp, x: x[1:, :3] * x[:1, None, 1:],
    "sqrt": lambda xp, x: xp.sqrt(x),
    "sum": lambda xp, x: xp.sum(x),
    "sum, axis kept": lambda xp, x: xp.sum(x, axis=1, keepdims=True),
    "sum of axes": lambda xp, x: xp.sum(x[:, :, None] * x[:, None, :], axis=(1, 2)),
    "take": lambda xp, x: gather(x, index(x)),
    "tanh": lambda xp, x: xp.tanh(x),
    "where": lambda xp, x: xp.where(x > 1.0, x, x * x),
    "where, number first": lambda xp, x: xp.where(x > 1.0, 0.1, x),
    "where, number last": lambda xp, x: xp.where((x > 1.0)[:, :1], x, 0.1),
    "where, integer": lambda xp, x: xp.where(x > 1.0, x, 0),
    "quotient": lambda xp, x: x / xp.sum(x * x, axis=1, keepdims=True) + 0.1 / x - x / 0.3,
    "product": lambda xp, x: x @ xp.matrix_transpose(x) * 0.1,
}
OTHER: dict[str, Callable[[Any, Any], Any]] = {
    "arange": lambda xp, x: xp.arange(5, dtype=xp.int64),
    "argsort": lambda xp, x: xp.argsort(xp.where(x > 1.0, 1.0, x), axis=1, stable=True),
    "equal": lambda xp, x: xp.equal(xp.astype(x, xp.int64), xp.astype(x * x, xp.int64)),
    "eye": lambda xp, x: xp.eye(3, **like(x)),
    "floor": lambda xp, x: xp.floor(x * 10.0),
    "full of integers": lambda xp, x: xp.full((2, 1), -1, dtype=xp.int64),
    "infinite": lambda xp, x: xp.where(x > 1.0, float("inf"), x),
    "max": lambda xp, x: xp.max(x, axis=-1),
    "max, axis kept": lambda xp, x: xp.max(x, axis=-1, keepdims=True),
    "not_equal": lambda xp, x: xp.not_equal(xp.astype(x, xp.int64), 1),
    "quotients of integers": lambda xp, x: (xp.arange(7, dtype=xp.int64) - 3) // 2 % 2,
    "triu": lambda xp, x: xp.triu(x[:3, :3], k=1),
    "truth": lambda xp, x: xp.astype((x > 1.0) & (x < 1.4), xp.int64),
    "where, integers": lambda xp, x: xp.where(x > 1.0, xp.astype(x, xp.int64), 5),
    "zeros": lambda xp, x: xp.zeros((0, 4), **like(x)),
}


def index(x: Any) -> Any:
    return paddle.to_tensor(ROWS) if namespace(x) is dpmodel_paddle.namespace else ROWS


def given(dtype: str = "float64") -> np.ndarray:
    return np.random.default_rng(0).uniform(0.5, 1.5, (3, 4)).astype(dtype)


def test_every_function_is_compared() -> None:
    functions = {name for name, value in vars(dpmodel_paddle.namespace).items() if callable(value) and name[0] != "_"}
    compared = {name.split(",")[0].split()[0] for name in SMOOTH | OTHER}
    assert functions - compared == {"detach", "shape", "with_adjoint"}  # which the standard does not have


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", SMOOTH | OTHER)
def test_namespace_is_that_of_numpy(name: str, dtype: str) -> None:
    function = (SMOOTH | OTHER)[name]
    expected = np.asarray(function(array_api_compat.numpy, given(dtype)))
    found = EAGER.numpy(function(dpmodel_paddle.namespace, EAGER.native(given(dtype))))
    assert (found.dtype, found.shape) == (expected.dtype, expected.shape)
    # sums and exponentials may end differently
    rounding = 8.0 * float(np.finfo(dtype).eps) if expected.dtype.kind == "f" else 0.0
    np.testing.assert_allclose(found, expected, rtol=rounding, atol=0)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_programs_compute_with_exact_numbers(dtype: str) -> None:
    """Python numbers beside float64 arrays are float32 in Paddle's own programs: wrong in the eighth digit."""

    def every(x: Any) -> Any:
        return {name: function(dpmodel_paddle.namespace, x) for name, function in (SMOOTH | OTHER).items()}

    eager, static = (mapped(e.numpy, e.compile(every)(e.native(given(dtype)))) for e in (EAGER, STATIC))
    for name, expected in eager.items():
        assert static[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(static[name], expected, err_msg=name)


def slopes(function: Callable[[Any], Any], x: Any, grad: Any) -> tuple[Any, Any]:
    """First derivative of a sum of squares, and derivative of a sum of squares of that."""

    def first(x: Any) -> Any:
        y = function(x)
        return namespace(y).sum(y * y), y

    def second(x: Any) -> Any:
        (slope,), _ = grad(first, x)
        return namespace(slope).sum(slope * slope), slope

    (curvature,), slope = grad(second, x)
    return slope, curvature


@pytest.mark.parametrize("name", SMOOTH)
def test_second_derivatives(name: str) -> None:
    """Against HIPS autograd, which has rules of its own."""
    expected = slopes(partial(SMOOTH[name], dpmodel_numpy.namespace), given(), engine_of("numpy").grad_and_aux)
    with paddle.no_grad():
        found = slopes(partial(SMOOTH[name], dpmodel_paddle.namespace), EAGER.native(given()), EAGER.grad_and_aux)
    relative = 1e-6 if name == "astype" else 1e-13
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=relative * max(1.0, np.abs(theirs).max()))


def test_second_derivatives_in_programs() -> None:
    def every(x: Any) -> Any:
        xp, grad = dpmodel_paddle.namespace, STATIC.grad_and_aux
        return {name: slopes(partial(function, xp), x, grad) for name, function in chosen.items()}

    chosen = {name: SMOOTH[name] for name in ("clip", "concat constants", "take", "where", "quotient", "product")}
    eager, static = (mapped(e.numpy, e.compile(every)(e.native(given()))) for e in (EAGER, STATIC))
    for name in chosen:
        for found, expected in zip(static[name], eager[name], strict=True):
            np.testing.assert_allclose(found, expected, rtol=0, atol=1e-14 * np.abs(expected).max(), err_msg=name)
