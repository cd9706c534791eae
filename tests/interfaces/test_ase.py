"""The ASE calculator: ASE's units and signs, and neighbours searched only when atoms have moved."""

import warnings
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.md.verlet import VelocityVerlet

import dpmodel
from dpmodel.interfaces.ase import DPCalculator

REFERENCE = Path(__file__).parents[1] / "reference"
MODEL = REFERENCE / "three_body" / "model.dp"


@pytest.fixture(scope="module")
def potential():
    return dpmodel.load(MODEL)


@pytest.fixture
def atoms():
    frame = np.load(REFERENCE / "three_body" / "io.npz")
    symbols = ["OH"[t] for t in frame["atype"][0]]
    return Atoms(symbols, positions=frame["coord"][0], cell=frame["box"][0], pbc=True)


def test_results_are_those_of_the_potential(potential, atoms):
    atoms.calc = DPCalculator(potential)
    frame = np.load(REFERENCE / "three_body" / "io.npz")
    np.testing.assert_allclose(atoms.get_potential_energy(), frame["energy"][0, 0], rtol=1e-10)
    np.testing.assert_allclose(atoms.get_potential_energies(), frame["atom_energy"][0, :, 0], rtol=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), frame["force"][0], rtol=1e-10, atol=1e-12)
    stress = -frame["virial"][0] / atoms.get_volume()
    np.testing.assert_allclose(atoms.get_stress(voigt=False), stress, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(atoms.get_stresses().sum(axis=0), atoms.get_stress(), rtol=1e-9, atol=1e-12)
    described = atoms.calc.get_property("descriptor", atoms)
    np.testing.assert_allclose(described, frame["descriptor"][0], rtol=1e-9, atol=1e-12)


def test_stress_is_the_slope_of_the_energy_with_strain(potential, atoms):
    atoms.calc = DPCalculator(potential)
    stress, h = atoms.get_stress(voigt=False), 1e-5
    for i, j in ((0, 0), (1, 2)):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += 0.5 * sign * h
            strain[j, i] += 0.5 * sign * h
            strained = atoms.copy()
            strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
            strained.calc = atoms.calc
            energies.append(strained.get_potential_energy())
        slope = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
        np.testing.assert_allclose(stress[i, j], slope, rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("pbc", [(True, True, False), False])
def test_partly_periodic(potential, atoms, pbc):
    atoms.pbc = pbc
    atoms.calc = DPCalculator(potential)
    types = [potential.type_map.index(symbol) for symbol in atoms.symbols]
    p = potential.evaluate(atoms.positions, types, atoms.cell.array, pbc=pbc)
    np.testing.assert_allclose(atoms.get_potential_energy(), p.energy[0], rtol=1e-12)
    assert "stress" not in atoms.calc.results


def test_the_trajectory_does_not_depend_on_the_skin(potential, atoms):
    """Atoms leave the cell on the way, and are never wrapped."""
    ends = []
    for skin in (0.0, 0.6):
        run = atoms.copy()
        run.set_velocities(np.random.default_rng(1).normal(0.0, 0.1, (len(run), 3)))
        run.calc = DPCalculator(potential, skin=skin)
        VelocityVerlet(run, 0.5 * units.fs).run(20)
        ends.append((run.positions, run.calc.searches))
    np.testing.assert_allclose(ends[0][0], ends[1][0], atol=1e-10)
    assert ends[0][1] == 21  # every step
    assert ends[1][1] < 15


def test_models_disagree_by_the_spread_of_their_forces(potential, atoms):
    others = [potential, dpmodel.load(REFERENCE / "nopbc" / "model.dp")]
    atoms.calc = DPCalculator(others, skin=0.5)
    driven = atoms.get_forces()
    both = [_forces(p, atoms) for p in others]
    np.testing.assert_allclose(driven, both[0], rtol=1e-12)
    assert set(atoms.get_properties(["energy", "forces"])) >= {"energy", "forces", "stress"}
    half = 0.5 * np.linalg.norm(both[0] - both[1], axis=1)  # two models: each is this far from the mean
    found = atoms.calc.results["deviation"]
    np.testing.assert_allclose(
        [found["max_devi_f"], found["min_devi_f"], found["avg_devi_f"]], [half.max(), half.min(), half.mean()]
    )


def _forces(potential, atoms):
    alone = atoms.copy()
    alone.calc = DPCalculator(potential)
    return alone.get_forces()


def test_too_many_neighbors_are_told_once(potential, atoms):
    """Not at every step, though the numbers in the message change."""
    crowded = atoms.copy()
    crowded.set_cell(0.6 * atoms.cell.array, scale_atoms=True)
    crowded.calc = DPCalculator(potential)
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        for _ in range(3):
            crowded.get_forces()
            crowded.rattle(0.05, rng=np.random.default_rng(0))
    assert [warning.category for warning in told] == [dpmodel.NeighborOverflowWarning]


def test_an_unknown_element_is_named(potential):
    carbon = Atoms("C", positions=[[0, 0, 0]])
    carbon.calc = DPCalculator(potential)
    with pytest.raises(dpmodel.InputError, match=r"atom 0 is 'C'.*O, H"):
        carbon.get_potential_energy()
