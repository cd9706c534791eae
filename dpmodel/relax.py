"""Relaxation of many structures at once by FIRE (Bitzek et al., Phys. Rev. Lett. 97, 170201, 2006), each at its pace.

With the cell, a structure is ``x = x0 exp(U)``, ``cell = cell0 exp(U)`` with a symmetric ``U``, and the numbers that
FIRE moves are ``x0`` and ``n U`` for ``n`` atoms: those of ASE's ``FrechetCellFilter``, less its rotations.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dpmodel.data.structure import Structure
from dpmodel.prediction import Prediction
from dpmodel.xp import Array

LONGEST_STEP = 0.2  # angstrom; with the constants of FIRE those of its authors and of ASE
FIRST_TIME, LONGEST_TIME = 0.1, 1.0
PATIENCE, FASTER, SLOWER, FIRST_MIXING, LESS_MIXING = 5, 1.1, 0.5, 0.1, 0.99

Evaluate = Callable[[Sequence[Structure]], list[Prediction]]


@dataclass(frozen=True)
class Relaxation:
    """The end of a relaxation: the structure, and the model's prediction for it."""

    structure: Structure
    prediction: Prediction
    steps: int
    max_force: float  # eV/angstrom: the longest force that is left, those on the cell (per atom) included
    converged: bool


class Fire:
    """The pace of one structure."""

    def __init__(self) -> None:
        self.time, self.mixing, self.downhill = FIRST_TIME, FIRST_MIXING, 0
        self.velocity: Array | None = None

    def step(self, force: Array) -> Array:
        """The step of FIRE for the force (k, 3)."""
        v = np.zeros_like(force) if self.velocity is None else self.velocity
        if np.vdot(force, v) > 0.0:
            v = (1.0 - self.mixing) * v + self.mixing * force * np.linalg.norm(v) / np.linalg.norm(force)
            if self.downhill > PATIENCE:
                self.time, self.mixing = min(self.time * FASTER, LONGEST_TIME), self.mixing * LESS_MIXING
            self.downhill += 1
        elif self.velocity is not None:
            v = np.zeros_like(force)
            self.time, self.mixing, self.downhill = self.time * SLOWER, FIRST_MIXING, 0
        self.velocity = v + self.time * force
        move = self.time * self.velocity
        return move * min(1.0, LONGEST_STEP / max(float(np.linalg.norm(move)), 1e-300))


class Path:
    """One structure on its way down."""

    def __init__(self, structure: Structure, with_cell: bool, pressure: float) -> None:
        """``pressure`` in eV/angstrom^3."""
        self.start, self.with_cell, self.pressure = structure, with_cell, pressure
        self.positions, self.strain, self.fire = structure.positions, np.zeros((3, 3)), Fire()
        self.steps = 0

    def structure(self) -> Structure:
        """The present structure."""
        if not self.with_cell:
            return replace(self.start, positions=self.positions)
        stretch, _, _ = _exponential(self.strain)
        assert self.start.cell is not None
        return replace(self.start, positions=self.positions @ stretch, cell=self.start.cell @ stretch)

    def force(self, p: Prediction) -> Array:
        """(n, 3), or (n + 3, 3) with the cell: minus the slope of the enthalpy with the coordinates, eV/angstrom."""
        if not self.with_cell:
            return p.forces[0]
        stretch, values, axes = _exponential(self.strain)
        assert self.start.cell is not None
        volume = abs(np.linalg.det(self.start.cell @ stretch))
        virial = 0.5 * (p.virial[0] + p.virial[0].T) - self.pressure * volume * np.eye(3)
        slope = axes.T @ np.linalg.solve(stretch, virial) @ axes  # with the stretch, along its axes
        gaps, ends = values[:, None] - values, np.exp(values)
        near = np.abs(gaps) < 1e-8
        ratio = np.where(near, ends[:, None] + ends, 2.0 * (ends[:, None] - ends) / np.where(near, 1.0, gaps)) / 2.0
        of_strain = axes @ (0.5 * (slope + slope.T) * ratio) @ axes.T
        return np.concatenate([p.forces[0] @ stretch, of_strain / len(self.positions)])

    def move(self, force: Array) -> None:
        """One step along ``force``."""
        step = self.fire.step(force)
        n = len(self.positions)
        self.positions = self.positions + step[:n]
        if self.with_cell:
            self.strain = self.strain + step[n:] / n
        self.steps += 1


def _exponential(strain: Array) -> tuple[Array, Array, Array]:
    """exp of a symmetric matrix, with its eigenvalues and axes."""
    values, axes = np.linalg.eigh(strain)
    return (axes * np.exp(values)) @ axes.T, values, axes


def relax_many(
    structures: Sequence[Structure],
    evaluate: Evaluate,
    *,
    max_force: float,
    max_steps: int,
    with_cell: bool = False,
    pressure: float = 0.0,
    watch: Callable[[int], None] = lambda done: None,
) -> list[Relaxation]:
    """Every structure at its own minimum; those still on their way are evaluated together.

    ``evaluate`` gives energies, forces and virials.  ``watch`` is called with the number of those done.
    """
    paths, results = [Path(s, with_cell, pressure) for s in structures], dict[int, Relaxation]()
    while len(results) < len(paths):
        active = [i for i in range(len(paths)) if i not in results]
        now = [paths[i].structure() for i in active]
        for i, structure, p in zip(active, now, evaluate(now), strict=True):
            force = paths[i].force(p)
            longest = float(np.linalg.norm(force, axis=1).max())
            if longest <= max_force or paths[i].steps >= max_steps:
                results[i] = Relaxation(structure, p, paths[i].steps, longest, longest <= max_force)
            else:
                paths[i].move(force)
        watch(len(results))
    return [results[i] for i in range(len(paths))]
