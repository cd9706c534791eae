"""Schedules against the formulas of specification/training.md 3, and against a real learning curve."""

from math import cos, floor, log, pi

import numpy as np
import pytest

from dpmodel.errors import SettingError
from dpmodel.train.schedule import schedule
from dpmodel.train.settings.schedule import CosineSchedule, ExpSchedule, WSDSchedule


def test_exponential_stairs() -> None:
    at = schedule(ExpSchedule.read({"start_lr": 2e-3, "stop_lr": 1e-5, "decay_steps": 50}), 300)
    rate = np.exp(np.log(1e-5 / 2e-3) / (300 / 50))
    for t in range(300):
        np.testing.assert_allclose(at(t), 2e-3 * rate ** floor(t / 50), rtol=1e-13)
    assert at(300) == pytest.approx(1e-5)
    assert at(10_000) == 1e-5


def test_smooth_exponential() -> None:
    at = schedule(ExpSchedule.read({"start_lr": 1.0, "stop_lr": 0.1, "decay_steps": 50, "smooth": True}), 100)
    assert at(50) == pytest.approx(0.1**0.5)
    assert at(25) == pytest.approx(0.1**0.25)


@pytest.mark.parametrize(("n_steps", "stair"), [(2000, 100), (500, 6), (1000, 11)])
def test_stairs_longer_than_the_run_are_replaced(n_steps: int, stair: int) -> None:
    at = schedule(ExpSchedule.read({"start_lr": 1.0, "stop_lr": 1e-3}), n_steps)
    assert at(stair - 1) == 1.0
    assert at(stair) == pytest.approx(1e-3 ** (stair / n_steps))


def test_given_rate_stops_at_the_end_value() -> None:
    at = schedule(ExpSchedule.read({"start_lr": 1.0, "stop_lr": 0.3, "decay_steps": 10, "decay_rate": 0.5}), 100)
    assert [at(t) for t in (0, 9, 10, 19, 20, 99)] == [1.0, 1.0, 0.5, 0.5, 0.3, 0.3]


def test_final_rate_of_zero() -> None:
    at = schedule(ExpSchedule.read({"start_lr": 1.0, "stop_lr": 0.0, "decay_steps": 10}), 100)
    assert at(50) == pytest.approx(1e-5)


def test_cosine() -> None:
    at = schedule(CosineSchedule.read({"start_lr": 1.0, "stop_lr": 0.2}), 100)
    for t in range(0, 100, 7):
        assert at(t) == pytest.approx(0.2 + 0.8 / 2 * (1 + cos(pi * t / 100)))
    assert at(100) == at(500) == 0.2


@pytest.mark.parametrize("shape", ["inverse_linear", "cosine", "linear"])
def test_stable_then_decay(shape: str) -> None:
    at = schedule(
        WSDSchedule.read({"start_lr": 1.0, "stop_lr": 0.1, "decay_type": shape, "decay_phase_ratio": 0.2}), 100
    )
    assert all(at(t) == 1.0 for t in range(80))
    x = 5 / 20
    middle = {
        "inverse_linear": 1 / (x / 0.1 + (1 - x) / 1.0),
        "cosine": 0.1 + 0.9 / 2 * (1 + cos(pi * x)),
        "linear": 1.0 + (0.1 - 1.0) * x,
    }
    assert at(85) == pytest.approx(middle[shape])
    assert at(100) == 0.1


def test_warm_up() -> None:
    given = {"start_lr": 1.0, "stop_lr": 0.01, "decay_steps": 10, "warmup_steps": 10, "warmup_start_factor": 0.2}
    at = schedule(ExpSchedule.read(given), 110)
    assert at(0) == 0.2
    assert at(5) == pytest.approx(0.6)
    assert at(10) == 1.0
    assert log(at(60)) == pytest.approx(log(0.01) / 2)
    by_ratio = schedule(CosineSchedule.read({"start_lr": 1.0, "stop_lr": 0.01, "warmup_ratio": 0.1}), 100)
    assert by_ratio(0) == 0.0
    assert by_ratio(9) == pytest.approx(0.9)
    assert by_ratio(10) == 1.0


def test_warm_up_longer_than_the_run() -> None:
    with pytest.raises(SettingError, match="warmup_steps should be below"):
        schedule(ExpSchedule.read({"start_lr": 1.0, "warmup_steps": 10}), 10)


def test_the_learning_curve_of_deepmd_kit() -> None:
    """Column ``lr`` of a run of 300 steps, printed with two digits (start 2e-3, stop 1e-5, stairs of 50)."""
    printed = {1: 2.0e-3, 50: 2.0e-3, 60: 8.3e-4, 110: 3.4e-4, 160: 1.4e-4, 210: 5.8e-5, 260: 2.4e-5, 300: 2.4e-5}
    at = schedule(ExpSchedule.read({"start_lr": 2e-3, "stop_lr": 1e-5, "decay_steps": 50}), 300)
    for step, value in printed.items():
        assert float(f"{at(step - 1):.1e}") == value
