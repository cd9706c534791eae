"""``dpmodel label``: what is written is read back as data, and is what the model says."""

import shutil
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule

import dpmodel
from command_line import Command
from dpmodel.data.samples import example
from dpmodel.data.systems import System, find_systems

REFERENCE = Path(__file__).parents[1] / "reference"
MODEL = REFERENCE / "trained" / "single.dp"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def liquids(n: int) -> list[Atoms]:
    s = example(["O", "H"])
    moves = np.random.default_rng(0).normal(0, 0.02, (n, *s.positions.shape))
    symbols = np.where(s.types == 0, 8, 1)
    return [Atoms(symbols, s.positions + move, cell=s.cell, pbc=True) for move in moves]


@pytest.fixture
def structures(tmp_path: Path) -> Path:
    """Liquids, molecules, and a molecule with its atoms in another order."""
    ase.io.write(tmp_path / "in.xyz", [*liquids(5), molecule("H2O"), molecule("H2O")[[1, 0, 2]]])
    return tmp_path / "in.xyz"


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_labels_are_what_the_model_says(command: Command, tmp_path: Path, structures: Path) -> None:
    result = command("label", MODEL, structures, "--to", tmp_path / "data", "--set-size", "2")
    assert result.code == 0, result.err
    assert "7 frames in 3 systems" in result.err
    found = [frame for path in find_systems([str(tmp_path / "data")]) for frame in System(path)]
    assert len(found) == 7
    right = {a.get_positions().tobytes(): a for a in ase.io.read(structures, ":")}
    potential = dpmodel.load(MODEL)
    for frame in found:
        s = frame.structure
        atoms = right.pop(s.positions.tobytes())  # each once, atoms in their order
        p = potential.evaluate_many([atoms])[0]
        assert s.pbc.all() == atoms.pbc.all()
        np.testing.assert_allclose(frame.labels["energy"], p.energy[0], rtol=1e-14)
        np.testing.assert_allclose(frame.labels["force"], p.forces[0], rtol=0, atol=1e-12)
        np.testing.assert_allclose(frame.labels["virial"], p.virial[0], rtol=0, atol=1e-12)
    assert "0" in command("test", MODEL, "-s", tmp_path / "data").out


def test_it_goes_on_where_it_stopped(
    command: Command, tmp_path: Path, structures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sets that are there are not computed again; in the end all files are as if it had never stopped."""
    options = ["label", MODEL, structures, "--set-size", "2", "--to"]
    assert command(*options, tmp_path / "whole").code == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "part")
    liquid = next(path for path in (tmp_path / "part").iterdir() if (path / "set.000002").is_dir())
    shutil.rmtree(liquid / "set.000001")
    asked: list[int] = []
    evaluate = dpmodel.Potential.evaluate_many

    def counted(self: dpmodel.Potential, frames: list[Any]) -> list[Any]:
        asked.append(len(frames))
        return evaluate(self, frames)

    monkeypatch.setattr(dpmodel.Potential, "evaluate_many", counted)
    assert command(*options, tmp_path / "part").code == 0
    assert asked == [2]
    assert files(tmp_path / "part") == files(tmp_path / "whole")


def test_other_heads(command: Command, tmp_path: Path) -> None:
    path = REFERENCE / "head_polar" / "model.dp"
    ase.io.write(tmp_path / "in.xyz", molecule("H2O"))
    assert command("label", path, tmp_path / "in.xyz", "--to", tmp_path / "data").code == 0
    (frame,) = System(find_systems([str(tmp_path / "data")])[0])
    p = dpmodel.load(path).evaluate_many([ase.io.read(tmp_path / "in.xyz")])[0]
    np.testing.assert_allclose(frame.labels["polarizability"], p.outputs["polarizability"][0], rtol=1e-12)
    np.testing.assert_allclose(frame.labels["atom_polarizability"], p.outputs["atom_polarizability"][0], rtol=1e-12)


def test_a_folder_of_something_else_is_left_alone(command: Command, tmp_path: Path, structures: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    (data / "precious").write_text("")
    assert "name a new folder" in command.refuses("label", MODEL, structures, "--to", data)
    assert [path.name for path in data.iterdir()] == ["precious"]
    done = tmp_path / "done"
    assert command("label", MODEL, structures, "--to", done).code == 0
    before = files(done)
    strip = REFERENCE / "trained" / "strip.dp"
    assert "no labels of this model" in command.refuses("label", strip, structures, "--to", done)
    ase.io.write(tmp_path / "other.xyz", liquids(6)[1:])
    assert "holds other structures" in command.refuses("label", MODEL, tmp_path / "other.xyz", "--to", done)
    assert files(done) == before


def test_slabs_have_no_place_in_systems(command: Command, tmp_path: Path) -> None:
    slab = liquids(1)[0]
    slab.pbc = [True, True, False]
    ase.io.write(tmp_path / "in.xyz", slab)
    line = command.refuses("label", MODEL, tmp_path / "in.xyz", "--to", tmp_path / "data")
    assert "repeat in all directions or in none" in line
