"""The ASE calculator: ASE's units and signs, and neighbors searched only when atoms have moved."""

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.calculator import PropertyNotImplementedError, get_calculator_class
from ase.md.verlet import VelocityVerlet
from ase.vibrations import Infrared

import dpmodel
from dpmodel.data.structure import Structure
from dpmodel.engines.ase import DPCalculator
from small_water import MODEL as MODEL_SETTINGS

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


@pytest.mark.parametrize("name", ["dipole", "polar"])
def test_other_heads(potential, atoms, name):
    """A dipole beside the energy, and alone; both turn with the atoms."""
    frame = np.load(REFERENCE / f"head_{name}" / "io.npz")
    model = REFERENCE / f"head_{name}" / "model.dp"
    label = {"dipole": "dipole", "polar": "polarizability"}[name]
    alone = Atoms(["OH"[t] for t in frame["atype"][0]], positions=frame["coord"][0], cell=frame["box"][0], pbc=True)
    alone.calc = DPCalculator(model)
    np.testing.assert_allclose(
        alone.calc.get_property(label, alone).ravel(), frame[f"numpy_{label}"][0].ravel(), rtol=1e-9
    )
    with pytest.raises(PropertyNotImplementedError):
        alone.get_potential_energy()
    atoms.calc = DPCalculator([potential, model])
    energy, before = atoms.get_potential_energy(), atoms.calc.get_property(label, atoms)
    assert energy == potential.evaluate(atoms.positions, frame_types(atoms), atoms.cell.array).energy[0]
    turn = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    atoms.set_cell(atoms.cell.array @ turn.T, scale_atoms=True)
    expected = turn @ before if name == "dipole" else turn @ before @ turn.T
    np.testing.assert_allclose(atoms.calc.get_property(label, atoms), expected, rtol=1e-8, atol=1e-10)


def test_an_infrared_spectrum(potential, tmp_path):
    """ASE's frequencies and intensities of a molecule, by differences, against the exact Hessian and finer ones."""
    water = Atoms("OHH", positions=[[0.0, 0.0, 0.0], [0.96, 0.1, 0.0], [-0.3, 0.9, 0.1]])
    model = dpmodel.load(REFERENCE / "head_dipole" / "model.dp")
    water.calc = DPCalculator([potential, model])
    spectrum = Infrared(water, name=str(tmp_path / "ir"), delta=0.002, nfree=4)
    spectrum.run()
    with (tmp_path / "summary").open("w") as file:
        spectrum.summary(log=file)
    x, types, step = water.positions, frame_types(water), 1e-4

    def dipole(positions):
        return model.evaluate(positions, types).outputs["dipole"][0]

    moves = step * np.eye(9).reshape(9, 3, 3)
    slope = np.array([(dipole(x + move) - dipole(x - move)) / (2 * step) for move in moves])  # e
    roots = np.repeat(water.get_masses() ** -0.5, 3)
    hessian = potential.evaluate(x, types, hessian=True).hessian[0].reshape(9, 9)
    squares, modes = np.linalg.eigh(roots[:, None] * hessian * roots)
    energies = units._hbar * 1e10 / np.sqrt(units._e * units._amu) * np.sqrt(squares.astype(complex))
    intensities = ((modes.T @ (roots[:, None] * slope)) ** 2).sum(axis=1) / units.Debye**2
    inner = np.argsort(abs(energies))[6:]  # the others move or turn the molecule as a whole
    np.testing.assert_allclose(spectrum.get_energies()[inner], energies[inner], rtol=1e-5)
    np.testing.assert_allclose(spectrum.intensities[inner], intensities[inner], rtol=1e-4)
    np.testing.assert_allclose(spectrum.intensities.sum(), intensities.sum(), rtol=1e-5)
    assert "Static dipole moment" in (tmp_path / "summary").read_text()


def frame_types(atoms):
    return ["OH".index(symbol) for symbol in atoms.get_chemical_symbols()]


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


PATTERNS = [(True, True, True), (True, True, False), (False, True, False), (False, False, False)]


@pytest.mark.parametrize("pbc", PATTERNS)
def test_stress_is_the_slope_of_the_energy_with_strain(potential, atoms, pbc):
    """Of slabs, wires and molecules, too, as long as there is a cell whose volume it can be divided by."""
    atoms.pbc = pbc
    atoms.calc = DPCalculator(potential)
    stress, h = atoms.get_stress(voigt=False), 1e-5
    for i, j in ((0, 0), (2, 2), (1, 2)):
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


@pytest.mark.parametrize("pbc", PATTERNS[1:])
def test_partly_periodic(potential, atoms, pbc):
    atoms.pbc = pbc
    atoms.calc = DPCalculator(potential)
    types = [potential.type_map.index(symbol) for symbol in atoms.symbols]
    p = potential.evaluate(atoms.positions, types, atoms.cell.array, pbc=pbc)
    np.testing.assert_allclose(atoms.get_potential_energy(), p.energy[0], rtol=1e-12)


def test_without_a_cell_there_is_no_stress(potential, atoms):
    free = Atoms(atoms.symbols, atoms.positions, calculator=DPCalculator(potential))
    free.get_forces()
    with pytest.raises(PropertyNotImplementedError):
        free.get_stress()


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


def test_neighbors_move_with_a_cell_that_changes(potential, atoms):
    """A search is repeated neither for small strains of all, nor for a drift of all, but before it is too late."""
    run = atoms.copy()
    run.pbc = (True, True, False)
    run.calc = DPCalculator(potential, skin=0.5)
    fresh = run.copy()
    rng = np.random.default_rng(3)
    for step in range(40):
        strain = np.eye(3) + 0.006 * rng.standard_normal((3, 3)) - 0.006 * np.eye(3)  # compressed, on the whole
        run.set_cell(run.cell.array @ strain, scale_atoms=True)
        run.positions += 0.01 * rng.standard_normal((len(run), 3)) + 0.3
        fresh.set_cell(run.cell)
        fresh.positions = run.positions
        fresh.calc = DPCalculator(potential, skin=0.0)
        np.testing.assert_allclose(run.get_forces(), fresh.get_forces(), rtol=0, atol=1e-10, err_msg=f"step {step}")
    assert 2 < run.calc.searches < 20


@pytest.fixture
def with_parameters():
    """One frame parameter with a default, and one atomic parameter."""
    fitting = {"neuron": [6], "numb_fparam": 1, "default_fparam": [0.5], "numb_aparam": 1}
    return dpmodel.create(MODEL_SETTINGS | {"fitting_net": fitting})


def test_parameters_of_atoms_and_frames_are_noticed(with_parameters, atoms):
    """Though ASE does not look at them to see whether anything has changed."""
    types = [with_parameters.type_map.index(symbol) for symbol in atoms.symbols]
    atoms.calc = DPCalculator(with_parameters)
    a, b = np.zeros((len(atoms), 1)), np.linspace(-1.0, 1.0, len(atoms))[:, None]
    energies = []
    for fparam, aparam in ((None, a), ([0.5], a), ([3.0], a), ([3.0], b)):
        if fparam is not None:
            atoms.info["fparam"] = fparam
        atoms.arrays["aparam"] = aparam
        p = with_parameters.evaluate(atoms.positions, types, atoms.cell.array, fparam=fparam, aparam=aparam)
        energies.append(atoms.get_potential_energy())
        np.testing.assert_allclose(energies[-1], p.energy[0], rtol=1e-12)
    assert energies[0] == energies[1]
    assert len(set(energies)) == 3


def test_structures_without_frame_parameters_have_the_default(with_parameters, atoms):
    types = np.array([with_parameters.type_map.index(symbol) for symbol in atoms.symbols])
    aparam = np.zeros((len(atoms), 1))
    frame = Structure(atoms.positions, types, atoms.cell.array, atoms.pbc, aparam=aparam)
    (found,) = with_parameters.evaluate_many([frame])
    expected = with_parameters.evaluate(atoms.positions, types, atoms.cell.array, fparam=[0.5], aparam=aparam)
    np.testing.assert_allclose(found.energy, expected.energy, rtol=1e-12)
    with pytest.raises(dpmodel.InputError, match="structure 0: the model needs aparam"):
        with_parameters.evaluate_many([replace(frame, aparam=None)])


def test_settings_do_not_change_afterwards(potential):
    with pytest.raises(TypeError, match="bakend"):
        DPCalculator(potential, bakend="torch")  # type: ignore[call-arg]
    with pytest.raises(dpmodel.InputError, match="cannot change its skin"):
        DPCalculator(potential).set(skin=0.3)


def test_ase_knows_the_name():
    assert get_calculator_class("dpmodel") is DPCalculator


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
