"""Energies, forces and distances in units that cannot be, of trajectories of particles on springs."""

from pathlib import Path

import numpy as np
import pytest

from dpmodel.data.check import check_system
from dpmodel.data.structure import Structure
from dpmodel.data.systems import Frame
from dpmodel.data.units import doubts, remote

KT = 0.07  # eV
UNITS = {  # energy, force and length of the numbers in the file, in eV and angstrom
    "energies in kcal/mol": (23.0605, 1.0, 1.0),
    "energies in kJ/mol": (96.4853, 1.0, 1.0),
    "energies in hartree": (1 / 27.2114, 1.0, 1.0),
    "forces in kcal/mol/Å": (1.0, 23.0605, 1.0),
    "forces in hartree/bohr": (1.0, 1 / 51.4221, 1.0),
    "coordinates in bohr": (1.0, 1.0, 1 / 0.529177),
    "gradients in the place of forces": (1.0, -1.0, 1.0),
}


def springs(
    step: float | None, n: int = 20, n_frames: int = 40, energy: float = 1, force: float = 1, length: float = 1
) -> list[Frame]:
    """Frames of atoms that swing about sites; ``step`` in periods between two frames, None: of a liquid, far apart."""
    random = np.random.default_rng(3)
    sites, phase, speed = random.uniform(0, 20, (n, 3)), *random.uniform((0, 0.7), (2 * np.pi, 1.4), (n, 3, 2)).T
    phase, speed, stiffness = phase.T, speed.T, random.uniform(0.3, 5, (n, 3))  # eV/angstrom^2
    frames = []
    for k in range(n_frames):
        if step is None:
            sites, phase = random.uniform(0, 20, (n, 3)), random.uniform(0, 2 * np.pi, (n, 3))
        moved = np.sqrt(2 * KT / stiffness) * np.sin(2 * np.pi * (step or 0.0) * k * speed + phase)
        labels = {"energy": np.asarray(energy * (-50.0 + 0.5 * np.sum(stiffness * moved**2)))}
        x = (sites + moved) * length % (20 * length)
        s = Structure(x, np.zeros(n, int), 20 * length * np.eye(3), np.ones(3, bool))
        frames.append(Frame(s, labels | {"force": -force * stiffness * moved}))
    return frames


@pytest.mark.parametrize("step", [0.02, 0.37, None])
def test_nothing_is_odd_about_right_units(step: float | None) -> None:
    assert doubts(springs(step)) == ""


@pytest.mark.parametrize("unit", UNITS)
def test_short_steps_tell_the_unit(unit: str) -> None:
    energy, force, length = UNITS[unit]
    assert unit in doubts(springs(0.02, energy=energy, force=force, length=length))


@pytest.mark.parametrize(
    "unit", [unit for unit, (energy, force, _) in UNITS.items() if energy != 1 or force not in (1, -1)]
)
def test_without_a_trajectory_the_scales_do(unit: str) -> None:
    energy, force, length = UNITS[unit]
    odd = doubts(springs(None, energy=energy, force=force, length=length))
    assert odd.startswith(f"energies vary too {'much' if energy > force else 'little'} for the forces")


def test_few_frames_and_equal_energies_say_nothing() -> None:
    assert doubts(springs(None, n_frames=4, energy=23.0)) == ""
    assert doubts([Frame(f.structure, f.labels | {"energy": np.asarray(1.0)}) for f in springs(0.02)]) == ""


@pytest.mark.parametrize(("bond", "odd"), [(0.96, False), (0.96 / 0.529177, True)])
def test_bonds_as_long_as_none(bond: float, odd: bool, tmp_path: Path) -> None:
    (tmp_path / "set.000").mkdir()
    for name, text in (("type.raw", "0 1 1"), ("type_map.raw", "O H"), ("nopbc", "")):
        (tmp_path / name).write_text(text)
    np.save(tmp_path / "set.000/coord.npy", bond * np.array([[0.0, 0, 0, 1, 0, 0, -0.25, 0.97, 0]]))
    remarks = check_system(str(tmp_path)).remarks
    assert [("coordinates in bohr?" in remark, str(tmp_path) in remark) for remark in remarks] == [(True, True)] * odd


def test_gases_of_unknown_or_single_atoms_are_left_alone() -> None:
    assert remote(np.nan, 5) == remote(np.inf, 1) == remote(1.0, 5) == ""
