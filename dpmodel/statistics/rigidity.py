"""Uncertainty from the last layer (Bigi, Chong, Ceriotti and Grasselli, Mach. Learn.: Sci. Technol. 5, 045018, 2024).

The energy of a frame is linear in ``F``, the sum of the last hidden layer over its atoms.  As for any linear fit, what
the training frames say of a new one is ``F^T (C + s I)^-1 F`` with ``C`` the sum of ``F F^T`` over them, per atom each;
times ``alpha^2`` it is the variance of the energy, and with the layer of one atom that of its energy.
"""

from dataclasses import dataclass
from functools import cached_property
from statistics import NormalDist
from typing import Any

import numpy as np

from dpmodel.errors import FileError, InputError
from dpmodel.xp import Array

PROBABILITIES = np.linspace(0.005, 0.995, 100)
SCAN = np.logspace(-8, 2, 101)  # of s, in units of the mean eigenvalue of C: below, rounding would speak
RULED_OUT = 1.92  # of the logarithm of the likelihood, at 95 %: half the quantile of chi^2 with one degree of freedom


@dataclass(frozen=True, eq=False)
class Rigidity:
    """The rigidity: how well the data determine the last layer of a model."""

    covariance: Array  # (d, d) C
    regularizer: float  # s
    alpha: float  # eV

    @cached_property
    def _basis(self) -> Array:
        """(d, d) whose product with features has the variance as its square."""
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors * (self.alpha / np.sqrt(np.maximum(values, 0.0) + self.regularizer))

    def deviation(self, features: Array) -> Array:
        """Standard deviations (...), eV, of energies that are linear in ``features`` (..., d)."""
        return np.linalg.norm(features @ self._basis, axis=-1)

    def entry(self) -> dict[str, Any]:
        """The section of a model file."""
        return {
            "@variables": {"covariance": self.covariance},
            "regularizer": self.regularizer,
            "alpha": self.alpha,
        }

    @classmethod
    def of_entry(cls, entry: Any, n_features: int, where: str) -> "Rigidity":
        """The inverse of ``entry``.  Raises FileError for anything else."""
        try:
            covariance = np.asarray(entry["@variables"]["covariance"], dtype=np.float64)
            numbers = float(entry["regularizer"]), float(entry["alpha"])
        except (TypeError, KeyError, ValueError) as error:
            raise FileError(f"{where}: expected covariance, regularizer and alpha, found {error!r} amiss") from None
        if covariance.shape != (n_features, n_features) or not np.isfinite(covariance).all() or not min(numbers) > 0:
            raise FileError(f"{where}: expected a finite covariance {(n_features, n_features)} and positive numbers")
        return cls(covariance, *numbers)


def calibrated(covariance: Array, features: Array, residuals: Array) -> Rigidity:
    """The rigidity that makes frames that were not trained on likely.

    ``features`` (nf, d) and ``residuals`` (nf,) of their energies (eV), both per atom.  The likelihood is Gaussian; for
    every ``s`` the best ``alpha`` is known.  Frames like those of the training say little of ``s``, and a large one
    makes all frames equally uncertain: it is the smallest that they do not rule out.
    """
    if len(residuals) < 2:
        raise InputError(
            f"a calibration needs at least 2 frames with energies that were not trained on, got {len(residuals)}"
        )
    values, vectors = np.linalg.eigh(covariance)
    along = (features @ vectors) ** 2
    scale = max(float(np.trace(covariance)) / len(covariance), np.finfo(float).tiny)

    def candidate(s: float) -> tuple[float, float, float]:
        q = along @ (1.0 / (np.maximum(values, 0.0) + s))
        alpha2 = float(np.mean(residuals**2 / q))
        return 0.5 * float(np.sum(np.log(alpha2 * q))), s, float(np.sqrt(alpha2))

    every = [candidate(float(s)) for s in scale * SCAN]
    best = min(loss for loss, _, _ in every)
    _, s, alpha = next(one for one in every if one[0] <= best + RULED_OUT)
    return Rigidity(covariance, s, alpha)


@dataclass(frozen=True, eq=False)
class Check:
    """Errors of energies beside what was expected of them, (nf,) eV per atom each."""

    residuals: Array
    deviations: Array

    def shares(self, expected: Array) -> Array:
        """(k,) the share of errors within the central interval of each probability ``expected`` (k,) of Gaussians."""
        widths = np.array([NormalDist().inv_cdf(0.5 + 0.5 * p) for p in expected])
        return np.mean(np.abs(self.residuals)[:, None] <= widths * self.deviations[:, None], axis=0)

    @property
    def area(self) -> float:
        """The miscalibration area, between the curve of shares and the diagonal: 0 if calibrated, 0.5 at worst."""
        return float(np.mean(np.abs(self.shares(PROBABILITIES) - PROBABILITIES)))

    def numbers(self) -> dict[str, float]:
        """The calibration in numbers."""
        within = self.shares(np.array([0.68, 0.95]))
        return {
            "rmse": float(np.sqrt(np.mean(self.residuals**2))),
            "expected": float(np.sqrt(np.mean(self.deviations**2))),
            "within_68": float(within[0]),
            "within_95": float(within[1]),
            "miscalibration_area": self.area,
        }

    @property
    def sentence(self) -> str:
        """The same in words."""
        n = self.numbers()
        return (
            f"errors of {len(self.residuals)} energies: rmse {1000 * n['rmse']:.3f} meV/atom, "
            f"expected {1000 * n['expected']:.3f}; within the bounds of 68 % and 95 %: {n['within_68']:.0%} and "
            f"{n['within_95']:.0%}; miscalibration area {n['miscalibration_area']:.3f}"
        )
