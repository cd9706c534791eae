"""How more keys than slots share them (specification/descriptor.md 12): an equation solved by its formula."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import dense
from dpmodel.backend import backend
from dpmodel.ops.attention import crowded_softmax, slot_occupancy
from random_models import examples

ENGINE = backend("numpy").engine()
weights = st.lists(st.floats(1e-6, 1.0) | st.sampled_from([0.0, 0.5, 1.0]), min_size=1, max_size=12)


@examples(300)
@given(weights, st.integers(1, 12))
@example([0.5] * 5, 3)  # all alike: they share evenly
@example([1.0, 1.0, 1e-12], 2)  # one that has hardly arrived
@example([1.0, 1e-9, 1e-9, 1e-9], 2)
@example([0.0, 0.0], 1)
def test_occupancies_fill_the_slots(values: list[float], capacity: int) -> None:
    w = np.array(values)
    theta = slot_occupancy(w, capacity)
    np.testing.assert_allclose(theta, dense.occupancy(w, capacity), atol=1e-9)
    assert theta.min() >= 0.0
    assert theta.max() <= 1.0
    assert theta.sum() == pytest.approx(min(int(np.count_nonzero(w)), capacity), rel=1e-12)


def slope(w: np.ndarray, capacity: int, direction: np.ndarray) -> np.ndarray:
    (found,), _ = ENGINE.grad_and_aux(lambda x: ((slot_occupancy(x, capacity) * direction).sum(), None), w)
    return found


@pytest.mark.parametrize("capacity", [1, 3, 5, 6, 8])
def test_slope(capacity: int) -> None:
    rng = np.random.default_rng(capacity)
    w, direction, h = rng.uniform(0.05, 1.0, 7), rng.standard_normal(7), 1e-6
    differences = [
        (slot_occupancy(w + h * e, capacity) - slot_occupancy(w - h * e, capacity)) @ direction / (2 * h)
        for e in np.eye(7)
    ]
    np.testing.assert_allclose(slope(w, capacity, direction), differences, atol=1e-7)


@pytest.mark.parametrize("arriving", [1e-6, 1e-9, 1e-12, 1e-15])
def test_one_more_than_there_are_slots_takes_nothing_at_first(arriving: float) -> None:
    """An arriving neighbor has weight s(r) = O(x^3) at a distance x inside the cutoff."""
    before = slot_occupancy(np.array([1.0, 0.7, 0.4, 0.0]), 3)
    after = slot_occupancy(np.array([1.0, 0.7, 0.4, arriving]), 3)
    np.testing.assert_array_equal(before, [1.0, 1.0, 1.0, 0.0])
    # h(u w) = 1 - (1 - u w)^2 for the weakest of the others: they give what the newcomer takes, 2 w / 0.4
    np.testing.assert_allclose(after - before, [0, 0, -5 * arriving, 5 * arriving], atol=20 * arriving**1.5 + 1e-15)


def test_slope_where_the_fourth_arrives() -> None:
    w = np.array([1.0, 0.7, 0.4, 1e-9])
    exact = slope(w, 3, np.array([0.0, 0.0, 0.0, 1.0]))[3]
    assert exact == pytest.approx(2 / 0.4, rel=1e-3)
    assert np.isfinite(slope(w - [0, 0, 0, 1e-9], 3, np.ones(4))).all()


@pytest.mark.parametrize("logit", [-60.0, -21.0, -20.0, -3.0, 40.0])
def test_a_newcomer_does_not_change_the_weights_of_the_others(logit: float) -> None:
    """The shifted logit of an arriving neighbor is near -20, whatever it is further inside."""
    logits, key = np.array([0.3, -1.0, 2.0]), np.array([1.0, 0.7, 0.4])
    alone = crowded_softmax(logits, key, 3)
    for w in (1e-4, 1e-7, 1e-10):
        shifted = (logit + 20.0) * w - 20.0
        found = crowded_softmax(np.append(logits, shifted), np.append(key, w), 3)
        np.testing.assert_allclose(found[:3], alone, atol=1e-7 * w)
