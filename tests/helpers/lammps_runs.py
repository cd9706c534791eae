"""LAMMPS as a program: scripts on any number of processes, and what they print."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from dpmodel.io.model import write_model
from lammps_systems import System, lammps_with, model_file

TESTS = Path(__file__).parent
BIN = Path(sys.executable).parent
BOX = System.random(8, np.diag([4.2, 4.5, 4.9]))
WIDE = System.random(30, np.diag([7.0, 7.5, 9.0]), seed=2)
Result = subprocess.CompletedProcess[str]


def mpirun(processes: int, *command: object, cwd: Path | None = None) -> Result:
    line = list(map(str, [BIN / "mpirun", "-np", processes, *command]))
    environment = os.environ | {"OMP_NUM_THREADS": "1", "NPROC": "1", "PYTHONPATH": str(TESTS)}
    return subprocess.run(
        line, cwd=cwd, env=environment, capture_output=True, text=True, errors="replace", check=False, timeout=300
    )


def lammps_command(processes: int, script: Path, *switches: object) -> Result:
    """``dpmodel lammps`` in the folder of the script."""
    command = [BIN / "dpmodel", "lammps", "-in", script.name, "-log", "none", *switches]
    return mpirun(processes, *command, cwd=script.parent)


def energies(output: str) -> list[float]:
    """What the lines of a script have printed that are ``print "energy $(pe:%.15g)"``."""
    return [float(line.split()[1]) for line in output.splitlines() if line.startswith("energy ")]


def make_folder(path: Path) -> Path:
    """Models and data files for scripts."""
    for seed in (0, 1):
        write_model(path / f"model{seed}.dp", model_file(seed))
    for name, system in {"box": BOX, "wide": WIDE}.items():
        lmp = lammps_with(system)
        lmp.commands_string(f"pair_style zero 4.0\npair_coeff * *\nwrite_data {path}/{name}.data nocoeff")
    return path


def write_script(path: Path, lines: Sequence[str] | str) -> Path:
    path.write_text(lines if isinstance(lines, str) else "\n".join(lines) + "\n")
    return path
