"""Whole programs: a step of training, a step of molecular dynamics in LAMMPS, an export; for ``bench.py --programs``.

Every program is run twice, for a few steps and for some more; the difference is the time of the steps alone, without
imports, statistics and compilation.  Processor seconds of all threads and processes, the smaller of two runs.
"""

import copy
import json
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from water import DATA, MEDIUM, water

import dpmodel

PEER = "deepmd-kit"
OURS = [sys.executable, "-W", "ignore", "-m", "dpmodel"]
LEARNING = {
    "learning_rate": {"type": "exp", "start_lr": 1e-3, "stop_lr": 1e-5, "decay_steps": 100},
    "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "limit_pref_f": 1}
    | {"start_pref_v": 0, "limit_pref_v": 0},
}
MD = """\
units metal
atom_style atomic
read_data water.data
{pair}
pair_coeff * * O H
neighbor 1.0 bin
neigh_modify every 1 delay 0 check no
velocity all create 300 1
fix 1 all nve
timestep 0.0005
run {steps}
"""
Row = tuple[str, str, float, float | None]  # task, program, seconds, how many times as fast as deepmd-kit


def whole_programs(backends: list[str], deepmd: str | None, folder: Path, mpirun: str | None) -> Iterator[Row]:
    """Measured one after the other, with the medium model of float64."""
    dpmodel.create(MEDIUM, seed=1).save(folder / "model.dp", overwrite=True)
    if deepmd:
        run([deepmd, "-m", "deepmd", "convert-backend", "model.dp", "model.pth"], folder)
    yield from _training([name for name in backends if name != "numpy"], deepmd, folder)
    yield from _lammps([name for name in backends if name in ("torch", "jax")], deepmd, folder)
    if mpirun and "torch" in backends:
        yield from _weak_scaling(mpirun, folder)
    yield from _export(folder)


def _training(backends: list[str], deepmd: str | None, folder: Path) -> Iterator[Row]:
    """A step on one frame of 48 atoms."""
    section = {"systems": [str(DATA.resolve())], "batch_size": 1}
    run_section: dict[str, Any] = {"training_data": section, "seed": 1, "disp_freq": 10_000, "save_freq": 10_000}

    def prepare(steps: int) -> None:
        script = {"model": copy.deepcopy(MEDIUM), "training": run_section | {"numb_steps": steps}, **LEARNING}
        (folder / "input.json").write_text(json.dumps(script))

    commands = {PEER: [deepmd, "-m", "deepmd", "--pt", "train", "input.json"]} if deepmd else {}
    commands |= {name: [*OURS, "train", "--backend", name, "input.json"] for name in backends}
    yield from _steps("training step, 48 atoms", commands, prepare, folder, 10, 20)


def _lammps(backends: list[str], deepmd: str | None, folder: Path) -> Iterator[Row]:
    """A step of 192 atoms in one process."""
    _write_data(folder / "water.data", 192)
    for name in backends:
        commands = {name: [*OURS, "lammps", "-log", "none", "-in", "in.water"]}
        style = f"pair_style dpmodel model.dp backend {name}"
        yield from _steps("LAMMPS step, 192 atoms", commands, _md(folder, style), folder, 2, 8)
    if deepmd:
        commands = {PEER: [str(Path(deepmd).with_name("lmp")), "-log", "none", "-in", "in.water"]}
        yield from _steps("LAMMPS step, 192 atoms", commands, _md(folder, "pair_style deepmd model.pth"), folder, 1, 3)


def _weak_scaling(mpirun: str, folder: Path) -> Iterator[Row]:
    """Seconds a step, summed over processes, where each has as many atoms."""
    for ranks in (1, 2):
        _write_data(folder / "water.data", 384 * ranks)
        command = [mpirun, "-np", str(ranks), *OURS, "lammps", "-log", "none", "-in", "in.water"]
        prepare = _md(folder, "pair_style dpmodel model.dp backend torch")
        yield from _steps(f"LAMMPS step, {384 * ranks} atoms", {f"torch, {ranks} MPI": command}, prepare, folder, 1, 4)


def _export(folder: Path) -> Iterator[Row]:
    """An export with its test in a fresh process, from beginning to end."""
    for suffix in (".pth", ".stablehlo"):
        yield "export", suffix, run([*OURS, "export", "model.dp", f"exported{suffix}"], folder), None


def _md(folder: Path, pair: str) -> Callable[[int], None]:
    def prepare(steps: int) -> None:
        (folder / "in.water").write_text(MD.format(pair=pair, steps=steps))

    return prepare


def _steps(
    task: str, commands: dict[str, list[str]], prepare: Callable[[int], None], folder: Path, few: int, more: int
) -> Iterator[Row]:
    """Seconds a step of every program; deepmd-kit comes first or not at all."""
    peer = None
    for name, command in commands.items():
        costs = []
        for steps in (few, few + more):
            prepare(steps)
            costs.append(min(run(command, folder) for _ in range(2)))
        seconds = (costs[1] - costs[0]) / more
        peer = seconds if name == PEER else peer
        yield task, name, seconds, None if peer is None else peer / seconds


def run(command: list[str], folder: Path) -> float:
    """Processor seconds of a command with all its children.  Raises RuntimeError if it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout[-1000:]}{done.stderr[-1000:]}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _write_data(path: Path, n_atoms: int) -> None:
    """Water as LAMMPS reads it."""
    x, types, cell = water(n_atoms)
    inside = x @ np.linalg.inv(cell) % 1.0 @ cell
    box = "".join(f"0 {float(length)!r} {axis}lo {axis}hi\n" for axis, length in zip("xyz", np.diag(cell), strict=True))
    head = f"water\n\n{n_atoms} atoms\n2 atom types\n{box}\nMasses\n\n1 15.999\n2 1.008\n\nAtoms\n\n"
    atoms = zip(types, inside.tolist(), strict=True)
    rows = (f"{i} {t + 1} {a!r} {b!r} {c!r}\n" for i, (t, (a, b, c)) in enumerate(atoms, 1))
    path.write_text(head + "".join(rows))


def find_mpirun() -> str | None:
    """The launcher beside this Python, or that of the system."""
    beside = Path(sys.executable).with_name("mpirun")
    return str(beside) if beside.exists() else shutil.which("mpirun")
