"""An exchange with other atoms is linear: its derivatives, first and second, are those of the same map by gathers."""

from typing import Any

import numpy as np

from dpmodel.backend import Engine
from dpmodel.ops.arrays import gather
from dpmodel.xp import namespace

OWNER = np.array([2, 0, 0])  # of the ghosts


def forward(rows: np.ndarray, count: int) -> np.ndarray:
    assert count == len(rows) + len(OWNER)
    return np.concatenate([rows, rows[OWNER]])


def adjoint(rows: np.ndarray, count: int) -> np.ndarray:
    result = rows[:count].copy()
    np.add.at(result, OWNER, rows[count:])
    return result


def test_first_and_second_derivatives(engine: Engine) -> None:
    """Of a function that is not linear, along a direction, as the heat flux takes them."""
    rng = np.random.default_rng(0)
    x, weight, v = (rng.normal(size=shape) for shape in ((4, 3), (7, 3), (4, 3)))
    native = engine.native
    exchange = engine.exchange(forward, adjoint)
    everyone = native(np.concatenate([np.arange(4), OWNER]))

    def both(all_rows: Any) -> list[np.ndarray]:
        def energy(x: Any, w: Any) -> Any:
            xp = namespace(x)
            return xp.sum(w * xp.tanh(all_rows(x) * all_rows(xp.tanh(x)))), None

        def along(w: Any) -> Any:
            (slope, _), _ = engine.grad_and_aux(energy, native(x), w)
            return namespace(slope).sum(slope * native(v)), None

        (first, _), _ = engine.grad_and_aux(energy, native(x), native(weight))
        return [engine.numpy(first), engine.numpy(engine.grad_and_aux(along, native(weight))[0][0])]

    for ours, right in zip(both(lambda x: exchange(x, 7)), both(lambda x: gather(x, everyone)), strict=True):
        np.testing.assert_allclose(ours, right, rtol=1e-12, atol=1e-14)
