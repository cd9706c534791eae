"""Relaxations of many structures against ASE's, one by one, and against slopes of the enthalpy."""

from collections.abc import Sequence

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE

from dpmodel.data.structure import Structure
from dpmodel.engines.ase import DPCalculator
from dpmodel.potential import Potential
from dpmodel.prediction import Prediction
from dpmodel.relax import Path, relax_many
from engines import engine_of, potential_of
from random_models import random_frames

GPA = 1.0 / 160.21766208  # eV/angstrom^3


@pytest.fixture(scope="module")
def potential() -> Potential:
    return potential_of(engine_of("torch"), "baseline")


def samples(potential: Potential, count: int, *, periodic: bool) -> list[Atoms]:
    sizes = [3 + i % 4 for i in range(count)]
    frames = [random_frames(potential.settings, i, n=n, periodic=periodic) for i, n in enumerate(sizes)]
    return [
        Atoms(
            [potential.type_map[t] for t in f["types"][0]],
            f["positions"][0],
            cell=f["cell"][0] if periodic else None,
            pbc=periodic,
        )
        for f in frames
    ]


@pytest.mark.parametrize("pressure", [0.0, 5.0])
def test_force_on_the_cell_is_the_slope_of_the_enthalpy(potential: Potential, pressure: float) -> None:
    structure = potential.structure(samples(potential, 1, periodic=True)[0])
    path, rng = Path(structure, True, pressure * GPA), np.random.default_rng(1)
    tilt = 0.05 * rng.normal(size=(3, 3))
    path.strain = 0.5 * (tilt + tilt.T)
    force = path.force(potential.evaluate_many([path.structure()])[0])
    n, step = len(structure.positions), 1e-4

    def enthalpy(move: np.ndarray) -> float:
        moved = Path(structure, True, 0.0)
        moved.positions, moved.strain = path.positions + move[:n], path.strain + move[n:] / n
        there = moved.structure()
        assert there.cell is not None
        energy = potential.evaluate_many([there], forces=False)[0].energy
        assert energy is not None
        return float(energy[0]) + pressure * GPA * abs(np.linalg.det(there.cell))

    for _ in range(4):
        way = rng.normal(size=(n + 3, 3))
        way[n:] = way[n:] + way[n:].T
        slope = (
            8 * (enthalpy(step * way) - enthalpy(-step * way)) - (enthalpy(2 * step * way) - enthalpy(-2 * step * way))
        ) / (12 * step)
        assert slope == pytest.approx(-np.vdot(force, way), rel=1e-6, abs=1e-8)


def test_minima_are_those_of_ase(potential: Potential) -> None:
    """Without a cell even the steps are the same."""
    atoms = samples(potential, 5, periodic=False)
    ours = potential.relax_many(atoms, max_force=1e-3, max_steps=3000)
    for start, relaxed in zip(atoms, ours, strict=True):
        theirs = start.copy()
        theirs.calc = DPCalculator(potential)
        mover = FIRE(theirs, logfile=None)
        assert mover.run(fmax=1e-3, steps=3000)
        assert relaxed.converged
        assert relaxed.steps == mover.nsteps
        assert relaxed.prediction.energy[0] == pytest.approx(theirs.get_potential_energy(), abs=1e-6)
        np.testing.assert_allclose(relaxed.structure.positions, theirs.positions, atol=1e-6)


def metal(structures: Sequence[Structure]) -> list[Prediction]:
    """What ASE's EMT says of gold and copper: a crystal that holds together, which a random model does not make."""
    every = []
    for s in structures:
        atoms = Atoms([("Cu", "Au")[t] for t in s.types], s.positions, cell=s.cell, pbc=s.pbc, calculator=EMT())
        virial = -atoms.get_volume() * atoms.get_stress(voigt=False)
        every.append(
            Prediction(
                energy=np.array([atoms.get_potential_energy()]), forces=atoms.get_forces()[None], virial=virial[None]
            )
        )
    return every


@pytest.mark.parametrize("pressure", [0.0, 10.0])
def test_cells_are_those_of_ase(pressure: float) -> None:
    """Alloys that are sheared and stretched, and relax at a pressure."""
    crystals = [bulk("Cu", cubic=True), bulk("Au", cubic=True) * (2, 1, 1), bulk("Cu", cubic=True)]
    crystals[1].symbols[::2] = "Cu"
    crystals[2].symbols[0] = "Au"
    for i, crystal in enumerate(crystals):
        rng = np.random.default_rng(i)
        crystal.set_cell(crystal.cell[:] @ (np.eye(3) + 0.04 * rng.normal(size=(3, 3))), scale_atoms=True)
        crystal.rattle(0.05, seed=i)
    starts = [
        Structure(c.positions, np.array([("Cu", "Au").index(s) for s in c.symbols]), c.cell[:], np.ones(3, dtype=bool))
        for c in crystals
    ]
    ours = relax_many(starts, metal, max_force=1e-5, max_steps=4000, with_cell=True, pressure=pressure * GPA)
    for crystal, relaxed in zip(crystals, ours, strict=True):
        crystal.calc = EMT()
        assert FIRE(FrechetCellFilter(crystal, scalar_pressure=pressure * GPA), logfile=None).run(fmax=1e-5, steps=4000)
        assert relaxed.converged
        assert relaxed.structure.cell is not None
        volume = abs(np.linalg.det(relaxed.structure.cell))
        enthalpy = crystal.get_potential_energy() + pressure * GPA * crystal.get_volume()
        assert relaxed.prediction.energy[0] + pressure * GPA * volume == pytest.approx(enthalpy, abs=1e-6)
        assert volume == pytest.approx(crystal.get_volume(), rel=1e-5)


def test_every_structure_stops_by_itself(potential: Potential) -> None:
    atoms = samples(potential, 4, periodic=False)
    done = potential.relax_many(atoms, max_force=1e-3, max_steps=2000)
    alone = [potential.relax_many([a], max_force=1e-3, max_steps=2000)[0] for a in atoms]
    assert [r.steps for r in done] == [r.steps for r in alone]
    assert len({r.steps for r in done}) > 1
    again = potential.relax_many([r.structure for r in done], max_force=1e-3, max_steps=0)
    assert all(r.converged and r.steps == 0 for r in again)
    short = potential.relax_many(atoms, max_force=1e-6, max_steps=2)
    assert not any(r.converged for r in short)
    assert {r.steps for r in short} == {2}
    assert isinstance(short[0].structure, Structure)
