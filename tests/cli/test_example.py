"""``dpmodel example``, and the first commands with it, in an installation without ASE too."""

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms

import dpmodel
from command_line import Command
from dpmodel.data.xyz import read_xyz
from dpmodel.errors import InputError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def water(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The example in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    assert command("example", "water").code == 0
    monkeypatch.chdir(tmp_path / "water")
    return tmp_path / "water"


@pytest.fixture
def no_ase(monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr("dpmodel.cli.frames.find_spec", lambda name: None if name == "ase" else found(name))


def test_it_is_small_and_whole(water: Path) -> None:
    files = [path for path in water.rglob("*") if path.is_file()]
    assert not any(path.is_symlink() for path in water.rglob("*"))
    assert sum(path.stat().st_size for path in files) < 2_000_000
    settings = json.loads((water / "input.json").read_text())
    for part in ("training_data", "validation_data"):
        assert all((water / system).is_dir() for system in settings["training"][part]["systems"])


def test_its_commands_run(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything that the command proposes."""
    monkeypatch.chdir(tmp_path)
    first, *lines = command("example", "water").out.splitlines()
    monkeypatch.chdir(tmp_path / first.removeprefix("cd "))
    assert len(lines) == 4
    for line in lines:
        program, *arguments = line.split()
        assert program == "dpmodel"
        result = command(*arguments)
        assert result.code == 0, result.err


def test_nothing_is_replaced(command: Command, water: Path) -> None:
    assert "exists: name a new folder" in command.refuses("example", "water", water)
    assert "there is no example 'steam': there is water" in command.refuses("example", "steam", water / "new")


def test_eval_without_ase(command: Command, water: Path, no_ase: None) -> None:
    """ASE reads what is written: the labels of the data, as well as the model knows them."""
    result = command("eval", "water.dp", "water.xyz", "-o", "out.xyz")
    assert result.code == 0, result.err
    atoms = ase.io.read(water / "out.xyz", index=0)
    assert isinstance(atoms, Atoms)
    folder = water / "data" / "valid_16" / "set.000"
    assert atoms.get_potential_energy() / 48 == pytest.approx(np.load(folder / "energy.npy")[8] / 48, abs=0.005)
    error = atoms.get_forces() - np.load(folder / "force.npy")[8].reshape(-1, 3)
    assert np.sqrt(np.mean(error**2)) < 0.1
    virial = np.load(folder / "virial.npy")[8].reshape(3, 3)
    right = dpmodel.load("water.dp").evaluate(atoms.positions, [0, 1, 1] * 16, atoms.cell.array)
    np.testing.assert_allclose(atoms.get_stress(voigt=False) * -atoms.get_volume(), right.virial[0], atol=1e-5)
    np.testing.assert_allclose(right.virial[0], virial, atol=1.5)


def test_other_formats_want_ase(command: Command, water: Path, no_ase: None) -> None:
    (water / "a.cif").write_text("data_a")
    assert "pip install 'dpmodel[ase]'" in command.refuses("eval", "water.dp", "a.cif")


@pytest.mark.parametrize("index", ["0", "-1", ":", "1:"])
def test_frames_as_ase_counts_them(command: Command, water: Path, no_ase: None, index: str) -> None:
    expected = ase.io.read(water / "water.xyz", index=index)
    expected = expected if isinstance(expected, list) else [expected]
    assert command("eval", "water.dp", "water.xyz", "--index", index, "-o", "out.xyz").code == 0
    frames = read_xyz(water / "out.xyz")
    assert len(frames) == len(expected)
    for mine, its in zip(frames, expected, strict=True):
        np.testing.assert_allclose(mine.positions, its.positions, atol=1e-8)
        np.testing.assert_allclose(mine.cell, its.cell.array, atol=1e-8)


def test_what_ase_writes(tmp_path: Path) -> None:
    """Columns of every kind, quoted values, a frame without a cell, a slab."""
    slab = Atoms("CuO", [[0, 0, 0], [0, 0.5, 1.8]], cell=[3, 4, 20], pbc=[True, True, False])
    slab.set_array("tag", np.array([3, 4]))
    slab.info |= {"note": "two words", "fparam": np.array([0.5, 1.0])}
    ase.io.write(tmp_path / "a.xyz", [slab, Atoms("CH3OH", np.arange(18.0).reshape(6, 3))], format="extxyz")
    first, second = read_xyz(tmp_path / "a.xyz")
    assert first.get_chemical_symbols() == ["Cu", "O"]
    assert list(first.pbc) == [True, True, False]
    np.testing.assert_allclose(first.cell, np.diag([3.0, 4.0, 20.0]))
    assert list(first.arrays["tag"]) == [3, 4]
    assert first.info["note"] == "two words"
    np.testing.assert_allclose(first.info["fparam"], [0.5, 1.0])
    assert not second.pbc.any()
    assert not second.cell.any()
    assert second.get_chemical_formula() == "CH4O"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("two\n\nH 0 0 0\n", "line 1 should be the number of atoms, got 'two'"),
        ("2\n\nH 0 0 0\n", "line 1 says 2 atoms, 1 lines follow"),
        ("1\n\nH 0 0\n", "line 3 should have 4 columns, got 3"),
        ("1\n\nH 0 0 x\n", "could not convert string to float: 'x'"),
        ('1\nLattice="1 2 3"\nH 0 0 0\n', "cannot reshape"),
    ],
)
def test_bad_files(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.xyz").write_text(text)
    with pytest.raises(InputError, match=r"a\.xyz, frame 0") as error:
        read_xyz(tmp_path / "a.xyz")
    assert message in str(error.value)


@pytest.mark.slow
def test_the_wheel_has_it(tmp_path: Path) -> None:
    pytest.importorskip("hatchling")
    build = "from hatchling.build import build_wheel; import sys; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", build, str(tmp_path)], cwd=ROOT, check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        sizes = {info.filename: info.file_size for info in wheel.infolist() if "/examples/" in info.filename}
    assert sizes["dpmodel/examples/water/water.dp"] > 100_000
    assert "dpmodel/examples/water/data/valid_16/set.000/force.npy" in sizes
    assert sum(sizes.values()) < 2_000_000
