"""What becomes of the lines of a LAMMPS script, and what is said of those that cannot be used."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from dpmodel.errors import InputError
from dpmodel.interfaces.lammps.script import Options, coefficients, cut, models_and_options, styles

PLAIN = """units metal
pair_style dpmodel a.dp b.dp & # not a continuation
   backend torch
mass 1 16
pair_coeff * * O H   # oxygen and hydrogen
run 10
"""


def test_a_script_is_cut_at_its_two_lines() -> None:
    script = cut(PLAIN.replace(" # not a continuation", ""), "in.water")
    assert script.before == ["units metal"]
    assert script.style == ["dpmodel", "a.dp", "b.dp", "backend", "torch"]
    assert script.between == ["mass 1 16"]
    assert script.elements == ["O", "H"]
    assert script.after == ["run 10"]


def test_hybrid_lines_are_found_among_others() -> None:
    lines = [
        "pair_style hybrid/overlay zbl 1 2 dpmodel m.dp",
        "pair_coeff 1 1 zbl 8 8",
        "pair_coeff * * dpmodel O NULL",
    ]
    script = cut("\n".join([*lines, "pair_coeff 2 2 zbl 1 1"]), "in.hybrid")
    assert script.between == [lines[1]]
    assert script.elements == ["O", "NULL"]
    style = styles(script.style, {"zbl", "lj/cut"})
    assert (style.before, style.own, style.after) == (["hybrid/overlay", "zbl", "1", "2"], ["m.dp"], [])
    inside = styles("hybrid dpmodel m.dp backend jax lj/cut 3.0".split(), {"zbl", "lj/cut"})
    assert (inside.own, inside.after) == (["m.dp", "backend", "jax"], ["lj/cut", "3.0"])


def test_types_without_an_element_have_no_list() -> None:
    assert coefficients(["O", "H"], False) == ["pair_coeff * *"]
    assert coefficients(["O", None, "H"], True) == [f"pair_coeff {pair} zero" for pair in ("1 1", "1 3", "3 3")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("units metal\n", "in.x has no line 'pair_style dpmodel'; a file that it includes is not looked into"),
        ("pair_style dpmodel a.dp\n" * 2, "in.x has 2 lines 'pair_style dpmodel', but there can be one only"),
        ("pair_style dpmodel a.dp\n", "in.x has no line 'pair_coeff"),
        ("pair_style hybrid dpmodel a.dp zbl 1 2\npair_coeff * * zbl 1 1", "in.x has no line 'pair_coeff * * dpmodel"),
        ("pair_style dpmodel a.dp\npair_coeff 1 1 O", "'pair_coeff 1 1 O' should be 'pair_coeff * * ...'"),
    ],
)
def test_scripts_that_cannot_be_used(text: str, message: str) -> None:
    with pytest.raises(InputError) as error:
        cut(text, "in.x")
    assert message in str(error.value)


def test_styles_that_cannot_be() -> None:
    with pytest.raises(InputError, match="hybrid/scaled cannot scale or switch dpmodel: use hybrid/overlay"):
        styles("hybrid/scaled 0.5 zbl 1 2 0.5 dpmodel a.dp".split(), {"zbl"})
    with pytest.raises(InputError, match="dpmodel can be there only once"):
        styles("hybrid/overlay dpmodel a.dp zbl 1 2 dpmodel b.dp".split(), {"zbl"})


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
    program = f"import sys; sys.modules[{missing!r}] = None; from dpmodel.interfaces.cli import main; main()"
    command = [sys.executable, "-c", program, "lammps", "-in", "in.water"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert "pip install 'dpmodel[lammps]'" in result.stderr
    assert result.stderr.count("\n") == 1


SHARE = """
from mpi4py import MPI
from dpmodel.interfaces.cores import THREADS, os, share_cores
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
