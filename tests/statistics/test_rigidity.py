"""Uncertainties from the last layer, against dense linear algebra and against Gaussian processes that are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpmodel.errors import FileError, InputError
from dpmodel.statistics.rigidity import Check, Rigidity, calibrated
from random_models import examples


@examples(20)
@given(st.integers(1, 12), st.integers(0, 2**16), st.floats(1e-6, 10.0), st.floats(1e-3, 10.0))
def test_deviation_is_the_quadratic_form(d: int, seed: int, s: float, alpha: float) -> None:
    rng = np.random.default_rng(seed)
    training, f = rng.normal(size=(20, d)), rng.normal(size=(3, 2, d))
    covariance = training.T @ training
    inverse = np.linalg.inv(covariance + s * np.eye(d))
    expected = alpha * np.sqrt(np.einsum("abi,ij,abj->ab", f, inverse, f))
    np.testing.assert_allclose(Rigidity(covariance, s, alpha).deviation(f), expected, rtol=1e-9)


def test_what_was_seen_often_is_certain() -> None:
    """n frames along one feature and none along the other: 1/sqrt(n + s) and 1/sqrt(s)."""
    rigidity = Rigidity(np.diag([100.0, 0.0]), 0.5, 3.0)
    np.testing.assert_allclose(rigidity.deviation(np.eye(2)), 3.0 / np.sqrt([100.5, 0.5]), rtol=1e-12)


@pytest.mark.parametrize("noise", [0.01, 1.0])
def test_calibration_finds_the_deviation_of_a_linear_model(noise: float) -> None:
    """Least squares on noisy numbers: the errors of new ones are what the calibrated rigidity says they are.

    The weights are drawn with deviation 1, so that the true s is noise^2.
    """
    rng, d = np.random.default_rng(1), 10
    scales = np.logspace(0, -2, d)
    training, valid, test = (rng.normal(size=(n, d)) * scales for n in (40, 3000, 3000))
    weights = rng.normal(size=d)
    y = training @ weights + noise * rng.normal(size=40)
    fitted = np.linalg.solve(training.T @ training + noise**2 * np.eye(d), training.T @ y)
    rigidity = calibrated(training.T @ training, valid, valid @ (fitted - weights))
    residuals, deviations = test @ (fitted - weights), rigidity.deviation(test)
    check = Check(residuals, deviations)
    assert abs(check.shares(np.array([0.68, 0.95])) - [0.68, 0.95]).max() < 0.12
    assert check.area < 0.1
    assert Check(residuals, 10.0 * deviations).area > 3 * check.area


def log_likelihood(r: Rigidity, features: np.ndarray, residuals: np.ndarray) -> float:
    sigma = r.deviation(features)
    return float(-np.sum(np.log(sigma) + 0.5 * (residuals / sigma) ** 2))


def test_alpha_is_the_likeliest_and_s_the_smallest_that_is_likely() -> None:
    rng = np.random.default_rng(2)
    training, valid = rng.normal(size=(30, 4)) * [1.0, 1.0, 0.1, 0.01], rng.normal(size=(50, 4))
    residuals = valid @ [0.1, 0.1, 0.1, 0.1]  # no larger where the training says little
    covariance = training.T @ training
    found = calibrated(covariance, valid, residuals)
    reached = log_likelihood(found, valid, residuals)
    for times in (1.05, 0.95):
        other = Rigidity(covariance, found.regularizer, found.alpha * times)
        assert log_likelihood(other, valid, residuals) < reached

    def best(s: float) -> float:
        alpha = float(np.sqrt(np.mean((residuals / Rigidity(covariance, s, 1.0).deviation(valid)) ** 2)))
        return log_likelihood(Rigidity(covariance, s, alpha), valid, residuals)

    largest = max(best(s) for s in found.regularizer * np.logspace(-3, 6, 200))
    assert largest - 1.93 < reached < largest
    assert best(0.9 * found.regularizer * 10**-0.1) < largest - 1.92


def test_shares_of_gaussians() -> None:
    z = np.random.default_rng(3).normal(size=200_000)
    ones = np.ones(len(z))
    np.testing.assert_allclose(Check(z, ones).shares(np.array([0.5, 0.683, 0.954])), [0.5, 0.683, 0.954], atol=5e-3)
    assert Check(z, ones).area < 5e-3
    assert Check(z, 1e-9 * ones).area == pytest.approx(0.5, abs=1e-2)


def test_entries_of_files() -> None:
    rigidity = Rigidity(np.diag([2.0, 1.0]), 0.5, 3.0)
    again = Rigidity.of_entry(rigidity.entry(), 2, "m.dp")
    np.testing.assert_array_equal(again.deviation(np.eye(2)), rigidity.deviation(np.eye(2)))
    for wrong, n in ((rigidity.entry(), 3), ({}, 2), (None, 2), (rigidity.entry() | {"alpha": -1.0}, 2)):
        with pytest.raises(FileError, match=r"m\.dp: expected"):
            Rigidity.of_entry(wrong, n, "m.dp")


def test_one_frame_is_too_few() -> None:
    with pytest.raises(InputError, match="at least 2 frames"):
        calibrated(np.eye(2), np.ones((1, 2)), np.ones(1))
