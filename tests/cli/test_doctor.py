"""``dpmodel doctor``: each fault that would end a run has a line and exit code 1, a sound set of files has none."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from command_line import Command
from dpmodel.cli import doctor
from dpmodel.cli.doctor import Finding

EXAMPLE = Path(__file__).parents[2] / "dpmodel" / "examples" / "water"
SCRIPT = "units metal\nread_data water.data\npair_style dpmodel water.dp backend numpy\npair_coeff * * O H\n"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    """Without what the machine has, which one test of its own looks at."""
    monkeypatch.setattr(doctor, "_machine", lambda: iter(()))
    return Command(capsys)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("water.dp", "water.data", "in.water"):
        shutil.copy(EXAMPLE / name, tmp_path)
    shutil.copytree(EXAMPLE / "data" / "valid_16", tmp_path / "data")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines(command: Command, code: int, *arguments: object) -> list[str]:
    result = command("doctor", *arguments)
    assert result.code == code, result
    return result.out.splitlines()


def test_the_machine() -> None:
    found = list(doctor._machine())
    assert found[0].words.startswith("dpmodel ")
    assert any("backend numpy runs on cpu" in finding.words for finding in found)
    assert all(isinstance(finding, Finding) and "\n" not in finding.words for finding in found)


def test_all_is_well(command: Command) -> None:
    found = lines(command, 0, "water.dp", "data", "in.water", "--atoms", 1000)
    assert {line.split()[0] for line in found} == {"ok"}
    assert "ener model of O, H" in found[0]
    size = float(re.findall(r"about (\S+) GiB", found[1])[0])
    assert 0.01 < size < 10.0
    assert "in.water" in found[-1]


def test_forecasts_grow_with_atoms(command: Command) -> None:
    sizes = []
    for n in (1000, 10000):
        text = command("doctor", "water.dp", "--atoms", n).out
        sizes.append(float(re.findall(r"about (\S+) GiB", text)[0]))
    assert sizes[1] == pytest.approx(10 * sizes[0], rel=0.1)


def test_data_against_the_model(command: Command, folder: Path) -> None:
    """An element that the model does not know; atoms closer together than the data it was made for; damage."""
    (folder / "data" / "type_map.raw").write_text("O\nF\n")
    assert any("fail" in line and "F" in line for line in lines(command, 1, "water.dp", "data"))
    (folder / "data" / "type_map.raw").write_text("O\nH\n")
    cells = folder / "data" / "set.000" / "box.npy"
    np.save(cells, np.load(cells) * 0.5)
    dense = lines(command, 1, "water.dp", "data")
    assert any("is too few: atoms have up to" in line for line in dense)
    cells.write_bytes(b"no array")
    assert any(line.startswith("fail") and "box.npy" in line for line in lines(command, 1, "data"))


def test_units(command: Command, folder: Path) -> None:
    energies = folder / "data" / "set.000" / "energy.npy"
    np.save(energies, np.load(energies) * 23.06)
    assert any(line.startswith("note") and "kcal/mol" in line for line in lines(command, 0, "data"))


@pytest.mark.parametrize(
    ("added", "message"),
    [
        ("compute q all heat/flux ke pe stress", "line 5: compute heat/flux is refused: the heat flux"),
        ("compute g all group/group all", "line 5: compute group/group is refused by LAMMPS"),
        ("pair_write 1 1 10 r 1.0 2.0 file a", "line 5: pair_write is refused by LAMMPS"),
        ("pair_style dpmodel none.dp", "there is no model none.dp"),
        ("variable m index none.dp\npair_style dpmodel ${m}", "line 6: there is no model none.dp"),
        ("pair_style dpmodel water.dp &\n backnd torch", "'backnd' is no option"),
        ("pair_style deepmd water.pb", "write 'pair_style dpmodel model.dp'"),
        ("pair_coeff * * O Cu", "pair_coeff names 'Cu', which the model does not know"),
        ("units lj", "units lj: a model needs one of metal"),
        ("read_data other.data", "there is no file other.data"),
    ],
)
def test_scripts(command: Command, folder: Path, added: str, message: str) -> None:
    (folder / "in.bad").write_text(SCRIPT + added + "\n")
    found = lines(command, 1, "water.dp", "in.bad")
    assert any(line.startswith("fail in.bad, line ") and message in line for line in found), found
    assert sum(line.startswith("fail") for line in found) == 1


def test_a_script_without_a_model(command: Command, folder: Path) -> None:
    (folder / "in.bad").write_text("units metal\n# pair_style dpmodel water.dp\n")
    assert "there is no 'pair_style dpmodel model.dp'" in lines(command, 1, "in.bad")[0]


def test_a_script_where_there_is_no_lammps(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "has_lammps", lambda: False)
    assert any("LAMMPS or MPI is not installed" in line for line in lines(command, 1, "water.dp", "in.water"))


def test_files_that_are_not_there(command: Command) -> None:
    assert lines(command, 1, "none.dp") == ["fail none.dp: there is no such file"]


def test_without_lammps_and_mpi(folder: Path) -> None:
    """A script is judged where LAMMPS is not installed."""
    code = """
import sys
class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name in {"lammps", "mpi4py", "ase"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse)
from dpmodel.engines.lammps.preflight import refusals
from pathlib import Path
print(list(refusals(Path("in.water"), ["O", "H"])))
"""
    result = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)
    assert result.stdout == "[]\n", result.stderr
