"""Make the water data of this folder: molecular dynamics and labels with GFN1-xTB, a semi-empirical quantum method.

Needs ``pip install tblite ase typer rich``.  Run ``OMP_NUM_THREADS=1 python make_data.py``; about 40 minutes on one
free core.  It may be stopped at any moment: run again, it goes on from the last finished block.

A chain is one box of water cooled through four temperatures.  It advances in blocks of ``STRIDE`` steps; the last
configuration of a block is labeled with a tightly converged calculation and, past equilibration, becomes a frame.
A block depends on nothing but the one before it and the seed, so an interrupted run gives the same frames.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.md.langevin import Langevin
from ase.md.velocitydistribution import thermalize_momenta
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from scipy.spatial.transform import Rotation
from tblite.ase import TBLite

TEMPERATURES = (600.0, 450.0, 350.0, 300.0)  # K, in the order of cooling
DENSITIES = (0.9, 1.0, 1.1)  # g/cm3
SYSTEMS = {  # densities, and frames at each temperature and density
    "train_16": (DENSITIES, 15),
    "valid_16": ((0.9, 1.0), 4),
    "valid_32": ((1.0,), 4),
    "train_32": ((1.0,), 4),
}

TIME_STEP = 1.0  # fs
HYDROGEN_MASS = 4.0  # u: configurations do not depend on masses, and 1 fs now does what 0.5 fs did
FRICTION = 0.02  # 1/fs
STRIDE = 20  # steps per block
FIRST_BLOCKS = 8  # not recorded, at the first temperature
COOLING_BLOCKS = 1  # not recorded, at each later temperature

METHOD = "GFN1-xTB"
LABEL_ACCURACY = 0.01  # tblite's SCF and integral thresholds are proportional to it; 1 is its default
MOTION_ACCURACY = 100.0  # forces within 0.01 eV/A of the converged ones: enough to choose configurations

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Chain:
    """One trajectory: a system's name, its density in g/cm3 and the seed of all its random numbers."""

    system: str
    density: float
    seed: tuple[int, ...]

    @property
    def name(self) -> str:
        return f"{self.system}_{self.density:.2f}_seed{self.seed[0]}"

    def schedule(self) -> list[tuple[float, bool]]:
        """For every block: the temperature in K, and whether its last configuration becomes a frame."""
        blocks: list[tuple[float, bool]] = []
        for temperature in TEMPERATURES:
            skipped = COOLING_BLOCKS if blocks else FIRST_BLOCKS
            blocks += [(temperature, False)] * skipped + [(temperature, True)] * SYSTEMS[self.system][1]
        return blocks

    def random(self, block: int) -> np.random.Generator:
        """Random numbers of one block; block 0 is the starting box."""
        return np.random.default_rng((*self.seed, block))


def chains(seed: int) -> list[Chain]:
    """All trajectories, in the order they are made."""
    return [
        Chain(system, density, (seed, i, DENSITIES.index(density)))
        for i, (system, (densities, _)) in enumerate(SYSTEMS.items())
        for density in densities
    ]


def water_box(n_molecules: int, density: float, random: np.random.Generator) -> Atoms:
    """A cube of 16 (bcc) or 32 (fcc) randomly turned molecules, atoms in the order O H H O H H ..."""
    water = molecule("H2O")
    length = (n_molecules * water.get_masses().sum() * units._amu * 1e27 / density) ** (1 / 3)
    sites = bulk("O", {16: "bcc", 32: "fcc"}[n_molecules], a=length / 2, cubic=True) * (2, 2, 2)
    shape = water.positions - water.get_center_of_mass()
    turns = Rotation.random(n_molecules, random).as_matrix()
    positions = sites.positions[:, None] + np.einsum("mij,aj->mai", turns, shape)
    return Atoms(np.tile(water.numbers, n_molecules), positions.reshape(-1, 3), cell=sites.cell, pbc=True)


def calculator(accuracy: float) -> TBLite:
    """GFN1-xTB, started without memory; raises if self-consistency is not reached."""
    return TBLite(method=METHOD, accuracy=accuracy, verbosity=0)


def begin(chain: Chain) -> Arrays:
    """The state of a chain before its first block: no frames, atoms in ``atoms_*``."""
    random = chain.random(0)
    atoms = water_box(int(chain.system[-2:]), chain.density, random)
    set_masses(atoms)
    thermalize_momenta(atoms, temperature_K=TEMPERATURES[0], rng=random)
    return {
        "atoms_position": atoms.positions,
        "atoms_velocity": atoms.get_velocities(),
        "atoms_number": atoms.numbers,
        "cell": atoms.cell.array,
    }


def set_masses(atoms: Atoms) -> None:
    """Give hydrogen the mass used for the motion."""
    atoms.set_masses(np.where(atoms.numbers == 1, HYDROGEN_MASS, atoms.get_masses()))


def move(atoms: Atoms, temperature: float, random: np.random.Generator) -> None:
    """Langevin dynamics for one block, in place."""
    atoms.calc = calculator(MOTION_ACCURACY)
    Langevin(
        atoms,
        TIME_STEP * units.fs,
        temperature_K=temperature,
        friction=FRICTION / units.fs,
        fixcm=False,
        rng=random,
    ).run(STRIDE)


def label(atoms: Atoms) -> Arrays:
    """One frame with its labels, in eV and A; virial = -volume * stress (positive when the box wants to expand)."""
    atoms.calc = calculator(LABEL_ACCURACY)
    return {
        "coord": atoms.positions.reshape(-1),
        "box": atoms.cell.array.reshape(-1),
        "energy": np.array(atoms.get_potential_energy()),
        "force": atoms.get_forces().reshape(-1),
        "virial": -atoms.get_volume() * atoms.get_stress(voigt=False).reshape(-1),
    }


def advance(state: Arrays, temperature: float, random: np.random.Generator) -> Arrays:
    """The state after one more block, with one more labeled configuration."""
    atoms = Atoms(state["atoms_number"], state["atoms_position"], cell=state["cell"], pbc=True)
    set_masses(atoms)
    atoms.set_velocities(state["atoms_velocity"])
    move(atoms, temperature, random)
    frame = {
        name: np.concatenate([state[name], value[None]]) if name in state else value[None]
        for name, value in label(atoms).items()
    }
    return state | frame | {"atoms_position": atoms.positions, "atoms_velocity": atoms.get_velocities()}


def run(chain: Chain, path: Path) -> Iterator[int]:
    """Advance a chain to its end, saving after every block; yields the number of finished blocks."""
    state = dict(np.load(path)) if path.exists() else begin(chain)
    schedule = chain.schedule()
    done = len(state.get("energy", ()))
    yield done
    for block in range(done, len(schedule)):
        state = advance(state, schedule[block][0], chain.random(block + 1))
        write(path, state)
        yield block + 1


def write(path: Path, state: Arrays) -> None:
    """Save arrays so that a kill at any moment leaves the old file or the new one."""
    temporary = path.with_suffix(".tmp")
    with temporary.open("wb") as file:
        np.savez(file, **state)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)


def collect(system: str, every: list[Chain], work: Path, folder: Path) -> None:
    """Write the recorded frames of a system's chains in the standard npy layout, chain after chain."""
    states = [(chain, np.load(work / f"{chain.name}.npz")) for chain in every if chain.system == system]
    target = folder / system / "set.000"
    target.mkdir(parents=True, exist_ok=True)
    for name in ("coord", "box", "energy", "force", "virial"):
        kept = [state[name][[record for _, record in chain.schedule()]] for chain, state in states]
        np.save(target / f"{name}.npy", np.concatenate(kept))
    types = np.where(states[0][1]["atoms_number"] == 8, 0, 1)
    (folder / system / "type.raw").write_text(" ".join(map(str, types)) + "\n")
    (folder / system / "type_map.raw").write_text("O\nH\n")


def main(
    folder: Annotated[Path, typer.Option(help="Where the systems go.")] = Path(__file__).parent / "data",
    work: Annotated[Path, typer.Option(help="Where unfinished chains are kept.")] = Path("water_work.tmp"),
    seed: Annotated[int, typer.Option(help="Seed of all random numbers.")] = 1,
) -> None:
    """Make the water data, or go on with it where it was interrupted."""
    work.mkdir(parents=True, exist_ok=True)
    every = chains(seed)
    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn()
    with Progress(*columns, TimeRemainingColumn(elapsed_when_finished=False)) as progress:
        task = progress.add_task("", total=sum(len(chain.schedule()) for chain in every))
        finished = 0
        for chain in every:
            progress.update(task, description=chain.name)
            for blocks in run(chain, work / f"{chain.name}.npz"):
                progress.update(task, completed=finished + blocks)
            finished += blocks
            progress.console.print(f"{chain.name}: {blocks} blocks")
        for system in SYSTEMS:
            collect(system, every, work, folder)


if __name__ == "__main__":
    typer.run(main)
