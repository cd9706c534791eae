"""Water at constant energy and at constant pressure, in LAMMPS and in ASE, and plots of what came out.

    python run.py                     all of it; half an hour on one core
    python run.py --steps 200         to see that it works
    python run.py --plot-only         the plots once more

Everything goes to ``results.tmp``, the plot ``water_md.png`` too, and the numbers below it to standard output.
"""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
from ase import Atoms, units
from ase.geometry.rdf import get_rdf
from ase.io import read, write
from ase.md.velocitydistribution import force_temperature

from dpmodel.data.systems import System

HERE = Path(__file__).parent
ENSEMBLES = {"nve": "constant energy", "npt": "300 K, -3.5 kbar"}
ENGINES = {"lammps": "LAMMPS", "ase": "ASE"}
RADIUS = 4.7  # angstrom: half of the box


def start() -> Atoms:
    """32 molecules of a frame that no model here was trained on, with velocities drawn for 300 K."""
    system = System(HERE.parent / "data" / "valid_32")
    frame = system.frame(len(system) - 1).structure
    assert frame.cell is not None
    atoms = Atoms([system.type_map[t] for t in frame.types], frame.positions, cell=frame.cell, pbc=True)
    atoms.wrap()
    width = np.sqrt(atoms.get_masses() * 300 * units.kB)[:, None]
    momenta = width * np.random.default_rng(1).standard_normal((len(atoms), 3))
    atoms.set_momenta(momenta - momenta.mean(axis=0))
    force_temperature(atoms, 300)
    return atoms


def simulate(given: argparse.Namespace) -> None:
    given.results.mkdir(exist_ok=True)
    atoms = start()
    write(given.results / "water.xyz", atoms)
    lammps_data = {"format": "lammps-data", "specorder": ["O", "H"], "masses": True, "velocities": True}
    write(given.results / "water.data", atoms, **lammps_data)
    for name in ("in.nve", "in.npt", "output.lammps"):
        shutil.copy(HERE / name, given.results)
    installed = Path(sys.executable).parent
    model, steps = given.model.resolve(), str(given.steps)
    for ensemble in ENSEMBLES:
        lammps = [installed / "dpmodel", "lammps", "-in", f"in.{ensemble}", "-log", f"lammps_{ensemble}.log"]
        switches = ["-screen", "none", "-var", "steps", steps, "-var", "backend", given.backend, "-var", "model", model]
        options = ["--steps", steps, "--backend", given.backend, "--model", model]
        commands = {
            "lammps": [installed / "mpirun", "-np", given.processes, *lammps, *switches],
            "ase": [sys.executable, HERE / "ase_md.py", ensemble, *options],
        }
        for engine in given.engines:
            print(f"{ENGINES[engine]}, {ENSEMBLES[ensemble]}, {steps} steps", flush=True)
            subprocess.run(list(map(str, commands[engine])), cwd=given.results, check=True)


def frames(results: Path, engine: str, ensemble: str) -> Iterator[Atoms]:
    """The second half of a trajectory."""
    found: Any = (
        read(results / f"lammps_{ensemble}.dump", index=":", format="lammps-dump-text")
        if engine == "lammps"
        else read(results / f"ase_{ensemble}.traj", index=":")
    )
    yield from found[len(found) // 2 :]


def distribution(trajectory: Iterable[Atoms], elements: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Radial distribution function, averaged over frames."""
    each = [get_rdf(atoms, RADIUS, 120, elements=elements) for atoms in trajectory]
    return each[0][1], np.mean([g for g, _ in each], axis=0)


def plot(results: Path, output: Path) -> None:
    figure, ((energy, temperature), (density, pairs)) = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained")
    n_atoms = len(start())
    for engine, name in ENGINES.items():
        for ensemble, words in ENSEMBLES.items():
            path = results / f"{engine}_{ensemble}.txt"
            if not path.exists():
                continue
            time, kelvin, _, total, volume = np.loadtxt(path).T
            if ensemble == "nve":
                energy.plot(time, 1e3 * (total - total[0]) / n_atoms, lw=0.8, label=name)
                drift = np.polyfit(time, total, 1)[0] / n_atoms
                print(f"{name}: drift of the energy {drift:.2e} eV/atom/ps over {time[-1]:.2f} ps")
            else:
                density.plot(time, 32 * 18.015 / 0.602214076 / volume, lw=0.8, label=name)
            temperature.plot(time, kelvin, lw=0.8, label=f"{name}, {words}")
            half = len(time) // 2
            print(f"{name}, {words}: {kelvin[half:].mean():.0f} K in the second half")
    for elements, label in (((8, 8), "O-O"), ((8, 1), "O-H")):
        for (engine, name), style in zip(ENGINES.items(), ("-", ":"), strict=True):
            if (results / f"{engine}_nve.txt").exists():
                pairs.plot(*distribution(frames(results, engine, "nve"), elements), style, label=f"{label}, {name}")
    energy.set(xlabel="time (ps)", ylabel="total energy (meV/atom)", title="Constant energy")
    temperature.set(xlabel="time (ps)", ylabel="temperature (K)")
    density.set(xlabel="time (ps)", ylabel="density (g/cm³)", title=ENSEMBLES["npt"])
    pairs.set(xlabel="distance (Å)", ylabel="radial distribution", ylim=(0, 4), xlim=(0.5, RADIUS))
    temperature.set_ylim(200, 460)  # room for the legend
    for axes in (energy, temperature, density, pairs):
        axes.legend(fontsize=7, frameon=False, loc="upper right")
    figure.savefig(output, dpi=85)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", type=Path, default=HERE.parent / "water.dp")
    parser.add_argument("--backend", default="torch", help="numpy torch jax paddle")
    parser.add_argument("--steps", type=int, default=5000, help="of 0.5 fs")
    parser.add_argument("--processes", type=int, default=1, help="of LAMMPS")
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--results", type=Path, default=HERE / "results.tmp", help="folder")
    parser.add_argument("--plot-only", action="store_true")
    parser.add_argument("--output", type=Path, help="the plot; water_md.png among the results if not given")
    given = parser.parse_args()
    mpl.use("Agg")
    if not given.plot_only:
        simulate(given)
    plot(given.results, given.output or given.results / "water_md.png")


if __name__ == "__main__":
    main()
