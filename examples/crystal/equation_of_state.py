"""Energy against volume, and the bulk modulus: relaxations at fixed volumes, all of them at once.

python equation_of_state.py                      # writes equation_of_state.png
python equation_of_state.py mine.cif --model mine.dp
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.eos import EquationOfState
from ase.units import GPa

from dpmodel import Potential, load

HERE = Path(__file__).parent


def energies(potential: Potential, atoms: Atoms, scales: np.ndarray, max_force: float) -> np.ndarray:
    """(k,) eV, of ``atoms`` relaxed in their cell times each of ``scales`` (k,)."""
    starts = []
    for scale in scales:
        starts.append(atoms.copy())
        starts[-1].set_cell(scale * atoms.cell[:], scale_atoms=True)
    done = potential.relax_many(starts, max_force=max_force, progress=True)
    return np.array([relaxed.prediction.energy[0] for relaxed in done])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("structure", type=Path, nargs="?", default=HERE / "ice.xyz")
    parser.add_argument("--model", type=Path, default=HERE.parent / "water" / "water.dp")
    parser.add_argument("--backend", default="torch")
    parser.add_argument("--range", type=float, default=0.03, help="of the lengths, each way")
    parser.add_argument("--points", type=int, default=9)
    parser.add_argument("--fmax", type=float, default=0.002, help="eV/angstrom")
    parser.add_argument("--output", type=Path, default=HERE / "equation_of_state.png")
    options = parser.parse_args()
    atoms = ase.io.read(options.structure)
    scales = np.linspace(1 - options.range, 1 + options.range, options.points)
    energy = energies(load(options.model, options.backend), atoms, scales, options.fmax)
    volumes = scales**3 * atoms.get_volume()
    fit = EquationOfState(volumes, energy, eos="birchmurnaghan")
    volume, lowest, modulus = fit.fit()
    print("volume (angstrom^3)  energy (eV/atom)")
    for v, e in zip(volumes, energy / len(atoms), strict=True):
        print(f"{v:19.3f}{e:18.5f}")
    print(f"at {volume:.2f} angstrom^3, {lowest / len(atoms):.5f} eV/atom: bulk modulus {modulus / GPa:.2f} GPa")
    draw(fit, volumes, (energy - lowest) / len(atoms), len(atoms), options.output)
    print(f"wrote {options.output}")


def draw(fit: EquationOfState, volumes: np.ndarray, energy: np.ndarray, n: int, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6, 4), layout="constrained")
    axes = figure.add_subplot()
    axes.plot(volumes / n, 1000 * energy, "o", label="relaxed at this volume")
    smooth = np.linspace(volumes.min(), volumes.max(), 200)
    axes.plot(smooth / n, 1000 * (fit.func(smooth, *fit.eos_parameters) - fit.e0) / n, label="Birch and Murnaghan")
    axes.set(xlabel="volume (Å³/atom)", ylabel="energy above the minimum (meV/atom)")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
