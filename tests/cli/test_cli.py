"""The command line: eval, show, and what it says about bad input."""

import re
import subprocess
import sys
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
from dpmodel.engines.ase import DPCalculator
from dpmodel.errors import InputError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import write_model
from dpmodel.module import Rebuilder, arrays, state
from dpmodel.potential import Potential
from small_water import MODEL

REFERENCE = Path(__file__).parents[1] / "reference"
TRAINED = REFERENCE / "trained"
WATER = TRAINED / "single.dp"
EVERY_KIND = ["single.dp", "single.pth", "strip.dp", "strip_c.pth", "model.ckpt-300.pt", "bfloat16.dp"]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def liquid(pbc: Any = True) -> Atoms:
    s = example(["O", "H"])
    return Atoms(np.where(s.types == 0, 8, 1), s.positions, cell=s.cell, pbc=pbc)


def trajectory() -> list[Atoms]:
    """Frames of different sizes and kinds of periodicity."""
    pair, second = molecule("H2O"), molecule("H2O")
    second.translate([0.0, 0.5, 2.9])
    pair.extend(second)
    slab = liquid([True, True, False])
    slab.cell[2] *= 2.0
    return [molecule("H2O"), liquid(), pair, slab]


def read(path: Path) -> Atoms:
    atoms = ase.io.read(path)
    assert isinstance(atoms, Atoms)
    return atoms


def expected(atoms: Atoms) -> Any:
    types = [("O", "H").index(symbol) for symbol in atoms.symbols]
    cell = atoms.cell.array if atoms.pbc.any() else None
    return dpmodel.load(WATER).evaluate(atoms.positions, types, cell, pbc=atoms.pbc)


def check(atoms: Atoms, source: Atoms) -> None:
    """``atoms``, read from what the command wrote, carry what the library says of ``source``; files have 8 decimals."""
    right = expected(source)
    close: Any = {"rtol": 0, "atol": 6e-9}
    np.testing.assert_allclose(atoms.get_potential_energy(), right.energy[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(atoms.get_potential_energies(), right.atom_energy[0], **close)
    np.testing.assert_allclose(atoms.get_forces(), right.forces[0], **close)
    assert atoms.pbc.tolist() == source.pbc.tolist()
    if all(source.pbc):
        np.testing.assert_allclose(atoms.get_stress(voigt=False), -right.virial[0] / source.get_volume(), **close)


# --- eval ---


@pytest.mark.parametrize("name", ["in.xyz", "in.extxyz", "in.traj"])
def test_frames_of_different_sizes(tmp_path: Path, command: Command, name: str) -> None:
    ase.io.write(tmp_path / name, trajectory(), format="extxyz" if name.endswith("xyz") else None)
    result = command("eval", WATER, tmp_path / name, "-o", tmp_path / "out.xyz")
    assert result.code == 0, result.err
    assert result.out == ""
    found, given = ase.io.read(tmp_path / "out.xyz", ":"), ase.io.read(tmp_path / name, ":")
    assert len(found) == 4
    for atoms, source in zip(found, given, strict=True):
        check(atoms, source)
    energies = [line.split()[2] for line in result.err.splitlines()[-4:]]
    assert energies == [f"{expected(atoms).energy[0]:.6f}" for atoms in given]


@pytest.mark.parametrize(("name", "kind"), [("in.cif", "cif"), ("POSCAR", "vasp")])
def test_formats_of_crystals_to_standard_output(tmp_path: Path, command: Command, name: str, kind: str) -> None:
    ase.io.write(tmp_path / name, liquid(), format=kind)
    result = command("eval", WATER, tmp_path / name)
    assert result.code == 0, result.err
    (tmp_path / "out.xyz").write_text(result.out)
    check(read(tmp_path / "out.xyz"), read(tmp_path / name))


def test_some_frames_on_another_backend(tmp_path: Path, command: Command) -> None:
    pytest.importorskip("torch")
    ase.io.write(tmp_path / "in.xyz", trajectory())
    options = ["--index", "1:3", "--backend", "torch", "--device", "cpu"]
    result = command("eval", WATER, tmp_path / "in.xyz", "-o", tmp_path / "out.xyz", *options)
    assert result.code == 0, result.err
    found, given = ase.io.read(tmp_path / "out.xyz", ":"), ase.io.read(tmp_path / "in.xyz", "1:3")
    for atoms, source in zip(found, given, strict=True):
        check(atoms, source)


def test_the_stress_of_a_slab_is_that_of_the_calculator(tmp_path: Path, command: Command) -> None:
    slab = trajectory()[-1]
    ase.io.write(tmp_path / "in.xyz", slab)
    assert command("eval", WATER, tmp_path / "in.xyz", "-o", tmp_path / "out.xyz").code == 0
    slab.calc = DPCalculator(WATER)
    np.testing.assert_allclose(read(tmp_path / "out.xyz").get_stress(), slab.get_stress(), rtol=0, atol=6e-9)
    assert np.abs(slab.get_stress()).max() > 1e-4


def test_names_and_formats_of_files(tmp_path: Path, command: Command) -> None:
    """A name that promises another format is refused at once; a format that ASE does not see can be named."""
    ase.io.write(tmp_path / "in.xyz", molecule("H2O"))
    line = command.refuses("eval", WATER, tmp_path / "in.xyz", "-o", tmp_path / "out.traj")
    assert "expected a name ending in .xyz or .extxyz" in line
    assert not (tmp_path / "out.traj").exists()
    ase.io.write(tmp_path / "w.data", liquid(), format="lammps-data", masses=True)
    line = command.refuses("eval", WATER, tmp_path / "w.data")
    assert "--format lammps-data" in line
    result = command("eval", WATER, tmp_path / "w.data", "--format", "lammps-data", "-o", tmp_path / "out.xyz")
    assert result.code == 0, result.err
    assert abs(read(tmp_path / "out.xyz").get_potential_energy() - expected(liquid()).energy[0]) < 1e-6


def test_one_atomic_parameter_in_a_file(tmp_path: Path, command: Command) -> None:
    """A column of extended XYZ has no axis of one number."""
    potential = dpmodel.create(MODEL | {"fitting_net": {"neuron": [6], "numb_aparam": 1}})
    potential.save(tmp_path / "a.dp")
    atoms = molecule("H2O")
    atoms.arrays["aparam"] = np.array([0.3, -0.2, 0.7])
    ase.io.write(tmp_path / "in.xyz", atoms)
    result = command("eval", tmp_path / "a.dp", tmp_path / "in.xyz", "-o", tmp_path / "out.xyz")
    assert result.code == 0, result.err
    right = potential.evaluate(atoms.positions, [0, 1, 1], aparam=atoms.arrays["aparam"][:, None]).energy
    other = potential.evaluate(atoms.positions, [0, 1, 1], aparam=np.zeros((3, 1))).energy
    assert abs(read(tmp_path / "out.xyz").get_potential_energy() - right[0]) < 1e-6 < 1e-4 < abs(right[0] - other[0])


def test_numbers_that_are_not_finite(tmp_path: Path, command: Command) -> None:
    """The command and the calculator name frame and atom."""
    potential = dpmodel.load(WATER)
    arrays_ = {**state(potential.file.model), "out_bias": np.array([[1e308], [1e308]])}
    spoiled = Potential(ModelFile(potential.settings, Rebuilder(potential.file.model)(arrays_)), potential.engine)
    write_model(tmp_path / "a.dp", spoiled.file)
    ase.io.write(tmp_path / "in.xyz", molecule("H2O"))
    line = command.refuses("eval", tmp_path / "a.dp", tmp_path / "in.xyz")
    assert re.search(r"in.xyz: frame 0, atom \d: the energy is not a finite number", line)
    atoms = molecule("H2O")
    atoms.calc = DPCalculator(tmp_path / "a.dp")
    with pytest.raises(InputError, match=r"frame 0, atom \d: the energy is not a finite number"):
        atoms.get_forces()


def test_single_precision(tmp_path: Path, command: Command) -> None:
    ase.io.write(tmp_path / "in.xyz", liquid())
    result = command("eval", WATER, tmp_path / "in.xyz", "-o", tmp_path / "out.xyz", "--precision", "float32")
    assert result.code == 0, result.err
    right, forces = expected(liquid()).forces[0], read(tmp_path / "out.xyz").get_forces()
    assert 1e-9 < np.abs(forces - right).max() < 1e-4


def test_output_of_other_heads(tmp_path: Path, command: Command) -> None:
    path = REFERENCE / "head_polar" / "model.dp"
    potential = dpmodel.load(path)
    ase.io.write(tmp_path / "in.xyz", molecule("H2O"))
    result = command("eval", path, tmp_path / "in.xyz", "-o", tmp_path / "out.xyz")
    assert result.code == 0, result.err
    found, atoms = read(tmp_path / "out.xyz"), read(tmp_path / "in.xyz")
    right = potential.evaluate_many([atoms])[0].outputs
    np.testing.assert_allclose(np.reshape(found.info["polarizability"], -1), right["polarizability"].reshape(-1))
    assert found.arrays["atom_polarizability"].size == right["atom_polarizability"].size


def test_output_appears_whole_or_not_at_all(tmp_path: Path, command: Command) -> None:
    ase.io.write(tmp_path / "in.xyz", trajectory())
    (tmp_path / "out.xyz").write_text("precious")
    bad = trajectory()
    bad[2].positions[0, 0] = np.nan
    ase.io.write(tmp_path / "bad.traj", bad)
    command.refuses("eval", WATER, tmp_path / "bad.traj", "-o", tmp_path / "out.xyz")
    assert (tmp_path / "out.xyz").read_text() == "precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bad.traj", "in.xyz", "out.xyz"]


# --- bad input ---


def spoiled(what: str) -> Atoms:
    atoms = liquid()
    if what in ("nan", "inf"):
        atoms.positions[7, 1] = float(what)
    elif what == "coinciding":
        atoms.positions[5] = atoms.positions[9] + atoms.cell[0]
    elif what == "element":
        atoms.symbols[4] = "He"
    elif what == "singular":
        atoms.set_cell([[6.0, 0.0, 0.0], [0.0, 6.0, 0.0], [6.0, 6.0, 0.0]])
    elif what == "cell":
        atoms.cell[2, 2] = np.nan
    elif what == "flat":
        atoms.set_cell([6.0, 6.0, 0.0])
    elif what == "empty":
        return Atoms(cell=[6.0, 6.0, 6.0], pbc=True)
    return atoms


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", ["frame 1", "atom 7", "nan"]),
        ("inf", ["frame 1", "atom 7", "inf"]),
        ("coinciding", ["atom 5", "atom 9", "at the same place"]),
        ("element", ["frame 1", "atom 4", "'He'", "it knows O, H"]),
        ("singular", ["frame 1", "singular"]),
        ("cell", ["frame 1", "cell", "nan"]),
        ("flat", ["frame 1", "lattice vector 2", "zero"]),
        ("empty", ["frame 1", "no atoms"]),
    ],
)
def test_structures_that_cannot_be_used(tmp_path: Path, command: Command, what: str, words: list[str]) -> None:
    path = tmp_path / "in.traj"
    ase.io.write(path, [liquid(), spoiled(what)])
    line = command.refuses("eval", WATER, path)
    for word in (str(path), *words):
        assert word in line, line


def test_files_that_cannot_be_read(tmp_path: Path, command: Command) -> None:
    good, cut = tmp_path / "good.xyz", tmp_path / "cut.xyz"
    ase.io.write(good, liquid())
    cut.write_text("".join(good.read_text().splitlines(keepends=True)[:9]))
    assert "there is no such file" in command.refuses("eval", WATER, tmp_path / "none.xyz")
    assert f"{cut}: ASE cannot read" in command.refuses("eval", WATER, cut)
    (tmp_path / "words.xyz").write_text("these are no atoms\n")
    assert "ASE cannot read" in command.refuses("eval", WATER, tmp_path / "words.xyz")
    assert "ASE cannot read structures '7:x'" in command.refuses("eval", WATER, good, "--index", "7:x")
    assert "there are no structures '7:9'" in command.refuses("eval", WATER, good, "--index", "7:9")
    assert "there is no such file" in command.refuses("eval", tmp_path / "none.dp", good)
    (tmp_path / "cut.dp").write_bytes(WATER.read_bytes()[:5000])
    assert str(tmp_path / "cut.dp") in command.refuses("eval", tmp_path / "cut.dp", good)
    (tmp_path / "model.txt").write_text("")
    assert "expected a name ending in" in command.refuses("show", tmp_path / "model.txt")
    (tmp_path / "no.dp").write_text("text")
    assert "expected an HDF5 file, found text" in command.refuses("show", tmp_path / "no.dp")
    assert "xyz" in command.refuses("eval", WATER, good, "-o", tmp_path / "nowhere" / "out.xyz")


def test_choices_that_do_not_exist(tmp_path: Path, command: Command) -> None:
    path = tmp_path / "in.xyz"
    ase.io.write(path, liquid())
    assert "there is no backend 'tensorflow'; known are" in command.refuses("eval", WATER, path, "-b", "tensorflow")
    assert "cpu only, not on 'cuda'" in command.refuses("eval", WATER, path, "--device", "cuda")
    assert "multi-task" in command.refuses("eval", WATER, path, "--head", "water")


def test_what_the_command_itself_refuses(command: Command) -> None:
    wrong = ["--precision", "float65"]
    for arguments in (["eval"], ["nonsense"], ["eval", "--no-such-option"], ["eval", WATER, "a.xyz", *wrong]):
        result = command(*arguments)
        assert result.code == 2
        assert "Traceback" not in result.err
        assert result.out == ""


def test_too_many_neighbors(tmp_path: Path, command: Command) -> None:
    """A warning, once; with --strict an error."""
    dense = liquid()
    dense.set_cell(0.72 * dense.cell.array, scale_atoms=True)
    path = tmp_path / "in.xyz"
    ase.io.write(path, [dense * (2, 2, 2)] * 8)  # more than one call's worth
    result = command("eval", WATER, path, "-o", tmp_path / "out.xyz")
    assert result.code == 0, result.err
    assert result.err.count("warning: ") == 1
    assert "nearest neighbors within" in result.err
    assert len(ase.io.read(tmp_path / "out.xyz", ":")) == 8
    line = command.refuses("eval", WATER, path, "--strict")
    assert "would keep all" in line


# --- the others ---


@pytest.mark.parametrize("name", EVERY_KIND)
def test_show(command: Command, name: str) -> None:
    result = command("show", TRAINED / name)
    assert result.code == 0, result.err
    assert "ener model of O, H" in result.out
    potential = dpmodel.load(TRAINED / name)
    trained = [v.size for path, v, about in arrays(potential.file.model) if about["trainable"]]
    assert f"in all: {sum(trained):,}" in result.out
    assert f"rcut = {potential.settings.descriptor.repinit.rcut} Å" in result.out


def test_version_and_help(command: Command) -> None:
    assert command("--version").out == f"dpmodel {dpmodel.__version__}\n"
    everything = command("--help").out
    for name in ("eval", "show", "compare"):
        assert name in everything
    assert command().out.strip() == everything.strip()


def test_in_a_process_of_its_own(tmp_path: Path) -> None:
    run = [sys.executable, "-W", "error", "-m", "dpmodel"]
    version = subprocess.run([*run, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"dpmodel {dpmodel.__version__}\n"
    bad = subprocess.run([*run, "eval", str(WATER), "none[torch].xyz"], capture_output=True, text=True, check=False)
    assert bad.returncode == 2
    assert bad.stdout == ""
    assert bad.stderr == "error: none[torch].xyz: there is no such file\n"


def test_relax(command: Command, tmp_path: Path) -> None:
    frames = [molecule("H2O") for _ in range(3)]
    for i, atoms in enumerate(frames):
        atoms.rattle(0.05, seed=i)
    ase.io.write(tmp_path / "in.xyz", frames)
    model, out = REFERENCE.parents[1] / "examples" / "water" / "water.dp", tmp_path / "out.xyz"
    result = command("relax", model, tmp_path / "in.xyz", "-o", out, "--fmax", 0.05)
    assert result.code == 0, result
    assert "3 of 3 relaxed" in result.err
    for i in range(3):
        atoms = ase.io.read(out, i)
        assert isinstance(atoms, Atoms)
        assert np.linalg.norm(atoms.get_forces(), axis=1).max() <= 0.05
    assert "exists already" in command.refuses("relax", model, tmp_path / "in.xyz", "-o", out)
    assert "give --cell" in command.refuses("relax", model, tmp_path / "in.xyz", "-o", out, "-f", "--pressure", 1)
    never = command("relax", model, tmp_path / "in.xyz", "-o", out, "-f", "--fmax", "nan")
    assert never.code == 2
    assert "'--fmax'" in never.err
