"""Forces, virials and Hessians are derivatives of the energy: compared with differences of energies."""

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import dense
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from random_models import evaluate, examples, random_frames, random_potential
from strategies import dpmodel_settings

SMOOTH = ("tanh", "gelu", "softplus", "sigmoid", "silu")
MODELS = dpmodel_settings(heads=("ener",), activations=SMOOTH, precisions=("float64",))
SEEDS = st.integers(0, 99)
STEP = 2e-4
POINTS = (-3, -2, -1, 1, 2, 3)
# slopes from all points, of sixth order in the step, and from four of them, of fourth order
WEIGHTS = np.array([[-1 / 60, 3 / 20, -3 / 4, 3 / 4, -3 / 20, 1 / 60], [0, 1 / 12, -2 / 3, 2 / 3, -1 / 12, 0]]) / STEP


def energies(
    potential: Potential, frames: dict[str, Any], positions: np.ndarray, cell: np.ndarray | None
) -> np.ndarray:
    """(k,) of structures (k, n, 3) that are otherwise those of ``frames``."""
    rest = {key: value if key == "pbc" else np.repeat(value, len(positions), axis=0) for key, value in frames.items()}
    return evaluate(potential, rest | {"positions": positions, "cell": cell}, forces=False).energy


def check(found: Any, expected: np.ndarray, values: Any) -> None:
    """Against slopes of both orders (2, ...), whose difference bounds the error; ``values`` is what was differentiated.

    Layer normalization of few channels makes functions that bend within a thousandth of an angstrom.
    """
    error = np.abs(expected[0] - expected[1]).max() + 1e-8 * np.abs(found).max()
    np.testing.assert_allclose(found, expected[0], rtol=0, atol=error + 1e-12 * np.abs(values).max() / STEP)


def jumps(settings: ModelSettings, frames: dict[str, Any]) -> bool:
    """Whether the steps may take a pair across a cutoff of a model that jumps there.

    Those without smoothing do, and those with a mean in repinit (test_smoothness.py says which of them).
    """
    if settings.descriptor.smooth and settings.descriptor.repinit.set_davg_zero:
        return False
    x, types, cell = frames["positions"][0], frames["types"][0], frames["cell"][0] if "cell" in frames else None
    near = [entry for i in range(len(x)) for entry in dense.neighbors(x, types, cell, i, settings.cutoff + 0.02)]
    return any(abs(r - rcut) < 0.02 for r, _, _ in near for rcut, _, _ in settings.descriptor.selections)


def strip_of(x: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """``x + k * STEP * moved`` for every point of the stencil."""
    return np.stack([x + k * STEP * moved for k in POINTS])


def difference_forces(potential: Potential, frames: dict[str, Any]) -> np.ndarray:
    x, cell = frames["positions"][0], frames.get("cell")
    forces = np.zeros((2, *x.shape))
    for i, k in np.ndindex(*x.shape):
        unit = np.zeros(x.shape)
        unit[i, k] = 1.0
        points = strip_of(x, unit)
        repeated = None if cell is None else np.repeat(cell, len(points), axis=0)
        forces[:, i, k] = -WEIGHTS @ energies(potential, frames, points, repeated)
    return forces


def difference_virial(potential: Potential, frames: dict[str, Any]) -> np.ndarray:
    """-dE/dstrain, where a strain e takes every point x, and the cell with it, to x + e x."""
    x, cell, virial = frames["positions"][0], frames.get("cell"), np.zeros((2, 3, 3))
    for k, j in np.ndindex(3, 3):
        strain = np.zeros((3, 3))
        strain[k, j] = 1.0
        box = None if cell is None else strip_of(cell[0], cell[0] @ strain.T)
        virial[:, k, j] = -WEIGHTS @ energies(potential, frames, strip_of(x, x @ strain.T), box)
    return virial


@examples(15)
@given(MODELS, SEEDS, st.booleans())
def test_forces(settings: ModelSettings, seed: int, periodic: bool) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, n=4, periodic=periodic)
    assume(not jumps(settings, frames))
    found = evaluate(potential, frames)
    check(found.forces[0], difference_forces(potential, frames), found.energy)
    np.testing.assert_allclose(found.forces.sum(axis=1), 0.0, atol=1e-12 * np.abs(found.forces).max() + 1e-15)


@pytest.mark.parametrize("pbc", [None, *product([False, True], repeat=3)])
@examples(2)
@given(MODELS, SEEDS)
def test_virial(pbc: tuple[bool, bool, bool] | None, settings: ModelSettings, seed: int) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, n=3, periodic=pbc is not None)
    assume(not jumps(settings, frames))
    frames |= {} if pbc is None else {"pbc": pbc}
    found = evaluate(potential, frames, atom_virial=True)
    check(found.virial[0], difference_virial(potential, frames), found.energy)
    size = np.abs(found.atom_virial).max() + 1e-3
    np.testing.assert_allclose(found.virial, np.swapaxes(found.virial, 1, 2), atol=1e-12 * size)  # no torque
    np.testing.assert_allclose(found.atom_virial.sum(axis=1), found.virial, atol=1e-12 * size)


@examples(6)
@given(MODELS, SEEDS)
def test_free_clusters_feel_no_torque(settings: ModelSettings, seed: int) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, periodic=False)
    found = evaluate(potential, frames)
    torque = np.cross(frames["positions"][0], found.forces[0]).sum(axis=0)
    np.testing.assert_allclose(torque, 0.0, atol=1e-11 * np.abs(found.forces).max() + 1e-14)
    # without images the virial is a sum over atoms
    np.testing.assert_allclose(found.virial, np.swapaxes(found.forces, 1, 2) @ frames["positions"], atol=1e-11)


@examples(5)
@given(MODELS, SEEDS, st.booleans())
def test_hessian(settings: ModelSettings, seed: int, periodic: bool) -> None:
    """Against differences of forces, which have been compared with those of energies."""
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, n=3, periodic=periodic)
    assume(not jumps(settings, frames))
    found = evaluate(potential, frames, hessian=True)
    hessian, x = found.hessian[0], frames["positions"][0]
    expected = np.zeros((2, *hessian.shape))
    rest = {key: np.repeat(value, len(POINTS), axis=0) for key, value in frames.items() if key != "positions"}
    for j, m in np.ndindex(*x.shape):
        unit = np.zeros(x.shape)
        unit[j, m] = 1.0
        forces = evaluate(potential, rest | {"positions": strip_of(x, unit)}).forces
        expected[:, :, :, j, m] = -np.tensordot(WEIGHTS, forces, axes=1)
    check(hessian, expected, found.forces)
    np.testing.assert_allclose(hessian, hessian.transpose(2, 3, 0, 1), atol=1e-10 * np.abs(hessian).max() + 1e-13)
    np.testing.assert_allclose(hessian.sum(axis=2), 0.0, atol=1e-10 * np.abs(hessian).max() + 1e-13)


@examples(4)
@given(MODELS, SEEDS)
def test_moving_edges_is_moving_atoms_in_mixed_periodicity(settings: ModelSettings, seed: int) -> None:
    """A slab: the direction that does not repeat may have a lattice vector of any length, or none."""
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, n=4)
    assume(not jumps(settings, frames))
    slab = frames | {"pbc": (True, True, False)}
    other = slab | {"cell": frames["cell"] * [[1.0], [1.0], [0.3]]}
    none = slab | {"cell": frames["cell"] * [[1.0], [1.0], [0.0]]}
    expected = evaluate(potential, slab)
    for same in (other, none):
        found = evaluate(potential, same)
        for name in ("energy", "forces", "virial"):
            size = np.abs(getattr(expected, name)).max() + 1.0
            np.testing.assert_allclose(getattr(found, name), getattr(expected, name), rtol=0, atol=1e-12 * size)
    check(expected.forces[0], difference_forces(potential, slab), expected.energy)
