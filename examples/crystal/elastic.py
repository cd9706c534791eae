"""Elastic constants: stresses of a crystal in twelve small strains, all of them relaxed at once.

    python elastic.py                                # writes elastic.png
    python elastic.py mine.cif --model mine.dp

The cell of the structure should be relaxed (dpmodel relax --cell).
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.units import GPa

from dpmodel import Potential, load

HERE = Path(__file__).parent
VOIGT = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]


def constants(potential: Potential, atoms: Atoms, strain: float, max_force: float) -> np.ndarray:
    """(6, 6) GPa in Voigt's order: slopes of the stress, the atoms relaxed, from strains of both signs."""
    starts = []
    for i, k in VOIGT:
        for sign in (1, -1):
            tensor = np.eye(3)
            tensor[i, k] += 0.5 * sign * strain  # a shear of Voigt is twice the tensor's; the diagonal is met twice
            tensor[k, i] += 0.5 * sign * strain
            starts.append(atoms.copy())
            starts[-1].set_cell(atoms.cell[:] @ tensor, scale_atoms=True)
    stresses = []
    for relaxed in potential.relax_many(starts, max_force=max_force, progress=True):
        virial = relaxed.prediction.virial[0]
        stress = -0.5 * (virial + virial.T) / abs(np.linalg.det(relaxed.structure.cell))
        stresses.append([stress[i, k] for i, k in VOIGT])
    pairs = np.reshape(stresses, (6, 2, 6))
    slopes = (pairs[:, 0] - pairs[:, 1]) / (2 * strain)
    return 0.5 * (slopes + slopes.T) / GPa


def moduli(c: np.ndarray) -> dict[str, tuple[float, float]]:
    """Bulk and shear modulus of a powder, GPa: the bounds of Reuss and of Voigt."""
    (diagonal, off, shear), (stretch, cross, slide) = (
        (np.trace(m[:3, :3]), m[:3, :3].sum() - np.trace(m[:3, :3]), np.trace(m[3:, 3:])) for m in (c, np.linalg.inv(c))
    )
    voigt = (diagonal + off) / 9, (2 * diagonal - off) / 30 + shear / 5
    reuss = 1 / (stretch + cross), 15 / (4 * stretch - 2 * cross + 3 * slide)
    return {"bulk modulus": (reuss[0], voigt[0]), "shear modulus": (reuss[1], voigt[1])}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure", type=Path, nargs="?", default=HERE / "ice.xyz")
    parser.add_argument("--model", type=Path, default=HERE.parent / "water" / "water.dp")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--strain", type=float, default=0.005)
    parser.add_argument("--fmax", type=float, default=0.0005, help="eV/angstrom")
    parser.add_argument("--output", type=Path, default=HERE / "elastic.png")
    options = parser.parse_args()
    c = constants(load(options.model, options.backend), ase.io.read(options.structure), options.strain, options.fmax)
    print("elastic constants (GPa): xx, yy, zz, yz, xz, xy")
    for row in c:
        print("".join(f"{value:9.2f}" for value in row))
    for name, (low, high) in moduli(c).items():
        print(f"{name} of a powder: {low:.2f} (Reuss) to {high:.2f} (Voigt) GPa")
    if np.linalg.eigvalsh(c).min() <= 0:
        print("the crystal is not stable: a strain lowers its energy")
    draw(c, options.output)
    print(f"wrote {options.output}")


def draw(c: np.ndarray, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.5, 4), layout="constrained")
    axes = figure.add_subplot()
    largest = np.abs(c).max()
    image = axes.imshow(c, cmap="RdBu_r", vmin=-largest, vmax=largest)
    for (i, k), value in np.ndenumerate(c):
        axes.text(k, i, f"{value:.1f}", ha="center", va="center", fontsize=8)
    names = ["xx", "yy", "zz", "yz", "xz", "xy"]
    axes.set(xticks=range(6), yticks=range(6), xticklabels=names, yticklabels=names)
    figure.colorbar(image, label="elastic constant (GPa)")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
