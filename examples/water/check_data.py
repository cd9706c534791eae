"""Check the water data against energies of the quantum method alone, and look for broken molecules.

Run ``OMP_NUM_THREADS=1 python check_data.py``; about a minute.  Energies come from tblite's own interface, in its own
units, so that signs, units and order of the labels are tested, not repeated.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.neighborlist import neighbor_list
from ase.units import Bohr, Hartree
from tblite.interface import Calculator

HERE = Path(__file__).parent / "data"
STEP = 2e-3  # A for coordinates, relative for the strain, where smaller steps show the truncation of lattice sums


def energy(numbers: np.ndarray, coord: np.ndarray, box: np.ndarray) -> float:
    """GFN1-xTB energy in eV of one configuration in A; raises if self-consistency is not reached."""
    tblite = Calculator("GFN1-xTB", numbers, coord / Bohr, lattice=box / Bohr, periodic=np.full(3, True))
    tblite.set("accuracy", 0.01)
    tblite.set("verbosity", 0)
    return tblite.singlepoint().get("energy") * Hartree


def slope(values: Callable[[float], float]) -> float:
    """Derivative at zero by five-point central difference."""
    near, far = (values(n * STEP) - values(-n * STEP) for n in (1, 2))
    return (8 * near - far) / (12 * STEP)


def difference_force(numbers: np.ndarray, coord: np.ndarray, box: np.ndarray, atom: int, k: int) -> float:
    """-dE/dx of one coordinate."""
    move = np.zeros_like(coord)
    move[atom, k] = 1
    return -slope(lambda h: energy(numbers, coord + h * move, box))


def difference_virial(numbers: np.ndarray, coord: np.ndarray, box: np.ndarray, k: int, j: int) -> float:
    """-dE/d(strain), x_k growing by strain times x_j in coordinates and cell."""
    strain = np.zeros((3, 3))
    strain[j, k] = 1
    return -slope(lambda h: energy(numbers, coord @ (np.eye(3) + h * strain), box @ (np.eye(3) + h * strain)))


def check(system: Path, random: np.random.Generator) -> None:
    """Print what a reader wants to know of one system."""
    types = np.loadtxt(system / "type.raw", dtype=int)
    data = {path.stem: np.load(path) for path in (system / "set.000").glob("*.npy")}
    n_frames, numbers = len(data["energy"]), np.array([8, 1])[types]
    positions, boxes = data["coord"].reshape(n_frames, -1, 3), data["box"].reshape(n_frames, 3, 3)
    forces, virials = data["force"].reshape(n_frames, -1, 3), data["virial"].reshape(n_frames, 3, 3)

    print(f"{system.name}: {n_frames} frames of {len(types)} atoms")
    per_molecule = data["energy"] / (types == 0).sum()
    print(f"  energy per molecule {per_molecule.min():.3f} .. {per_molecule.max():.3f} eV")
    print(f"  force components {forces.min():.2f} .. {forces.max():.2f} eV/A, rms {forces.std():.3f}")
    print(f"  largest sum of forces {np.abs(forces.sum(1)).max():.1e} eV/A")
    traces = np.trace(virials, axis1=1, axis2=2) / 3 / np.linalg.det(boxes) * 160.21766
    print(f"  pressure without motion {traces.min():.2f} .. {traces.max():.2f} GPa")
    bonds, contacts = distances(numbers, positions, boxes)
    print(f"  O-H bonds {bonds.min():.3f} .. {bonds.max():.3f} A, between molecules from {contacts.min():.3f} A")

    f, atom, k, (a, b) = *(int(random.integers(n)) for n in (n_frames, len(types), 3)), random.permutation(3)[:2]
    frame = numbers, positions[f], boxes[f]
    report(f"energy of frame {f}", data["energy"][f], energy(*frame))
    report(f"force {k} of atom {atom}", forces[f, atom, k], difference_force(*frame, atom, k))
    report(f"virial {a}{a}", virials[f, a, a], difference_virial(*frame, a, a))
    report(f"virial {a}{b}", virials[f, a, b], difference_virial(*frame, a, b))


def distances(numbers: np.ndarray, positions: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lengths of the O-H bonds as built (atoms in the order O H H), and of all pairs between molecules below 2.5 A."""
    bonds, others = [], []
    for coord, box in zip(positions, boxes, strict=True):
        i, j, d = neighbor_list("ijd", Atoms(numbers, coord, cell=box, pbc=True), 2.5)
        same = i // 3 == j // 3
        bonds.append(d[same & (numbers[i] != numbers[j])])
        others.append(d[~same])
    return np.concatenate(bonds), np.concatenate(others)


def report(what: str, label: float, difference: float) -> None:
    """One comparison."""
    print(f"  {what:20s} label {label:16.8f}  from energies {difference:16.8f}  differ {label - difference:9.1e}")


if __name__ == "__main__":
    generator = np.random.default_rng(0)
    for path in sorted(HERE.iterdir()):
        check(path, generator)
