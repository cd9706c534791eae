"""Data of other programs."""

from pathlib import Path

import ase
import ase.io
import numpy as np
import pytest
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from dpmodel.cli.app import app
from dpmodel.data.systems import System, find_systems
from dpmodel.errors import DpmodelError


@pytest.fixture
def frames(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[ase.Atoms]:
    """Two frames of a molecule and one of two, in frames.xyz of the present folder."""
    monkeypatch.chdir(tmp_path)
    random, made = np.random.default_rng(0), []
    for n in (3, 3, 6):
        atoms = ase.Atoms("OHH" * (n // 3), positions=random.uniform(0, 5, (n, 3)), cell=6 * np.eye(3), pbc=True)
        stress = random.normal(size=6)
        atoms.calc = SinglePointCalculator(atoms, energy=-1.5 * n, forces=random.normal(size=(n, 3)), stress=stress)
        made.append(atoms)
    ase.io.write("frames.xyz", made, format="extxyz")
    return made


def convert(*options: str) -> None:
    result = CliRunner().invoke(app, ["data", "convert", *options])
    if result.exception is not None:
        raise result.exception


@pytest.mark.parametrize("options", [(), ("--mixed",)])
def test_labels_arrive(frames: list[ase.Atoms], options: tuple[str, ...]) -> None:
    convert("frames.xyz", "data", "--format", "extxyz", *options)
    found = [frame for path in find_systems("data") for frame in System(path)]
    assert len(found) == len(frames)
    for frame in found:
        theirs = next(a for a in frames if len(a) == len(frame.structure.types) and _same(a, frame))
        assert frame.labels["energy"] == pytest.approx(theirs.get_potential_energy())
        virial = -theirs.get_volume() * theirs.get_stress(voigt=False)
        np.testing.assert_allclose(frame.labels["virial"], virial, rtol=1e-6, atol=1e-6)


def _same(atoms: ase.Atoms, frame) -> bool:
    """Whether the forces agree, atom by atom in order of type."""
    ours = frame.labels["force"][np.lexsort(frame.labels["force"].T)]
    forces = atoms.get_forces()
    return bool(np.allclose(ours, forces[np.lexsort(forces.T)], atol=1e-6))


def test_what_cannot_be_used(frames: list[ase.Atoms]) -> None:
    with pytest.raises(DpmodelError, match=r"format should be one of .*extxyz.*, got 'extxzy'"):
        convert("frames.xyz", "data", "--format", "extxzy")
    with pytest.raises(DpmodelError, match=r"nothing.xyz: there is no such file"):
        convert("nothing.xyz", "data", "--format", "extxyz")
    Path("torn.xyz").write_text(Path("frames.xyz").read_text()[:300])
    with pytest.raises(
        DpmodelError, match=r"torn.xyz: cannot be read as data of the format extxyz \(it is text, extxyz for ASE\)"
    ):
        convert("torn.xyz", "data", "--format", "extxyz")
    with pytest.raises(
        DpmodelError, match=r"frames.xyz/a/b: expected a folder or a new name, but .*frames.xyz is a file"
    ):
        convert("frames.xyz", "frames.xyz/a/b/data", "--format", "extxyz")
    with pytest.raises(DpmodelError, match=r"frames.xyz: cannot be read as .*dump \(it is text, extxyz for ASE\)"):
        convert("frames.xyz", "data", "--format", "lammps/dump")
    assert not Path("data").exists()
    Path("data").mkdir()
    with pytest.raises(DpmodelError, match=r"data: exists already"):
        convert("frames.xyz", "data", "--format", "extxyz")
    assert sorted(path.name for path in Path().iterdir()) == ["data", "frames.xyz", "torn.xyz"]


@pytest.mark.parametrize("kind", ["ase/traj", "ase/structure", "extxyz"])
@pytest.mark.parametrize("options", [(), ("--mixed",)])
def test_every_composition_keeps_its_elements(
    kind: str, options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Frames of as many atoms, but other elements or another order of them, are none of the first frame's."""
    monkeypatch.chdir(tmp_path)
    random, frames = np.random.default_rng(0), list[ase.Atoms]()
    for symbols in ("Cu3Au", "Cu2Au2", "CuAu3", "AuCu3", "Cu3Au"):
        atoms = ase.Atoms(symbols, positions=random.uniform(0, 5, (4, 3)), cell=6 * np.eye(3), pbc=True)
        forces = np.arange(12.0).reshape(4, 3) + len(frames)
        atoms.calc = SinglePointCalculator(atoms, energy=-float(atoms.numbers.sum()), forces=forces)
        frames.append(atoms)
    ase.io.write(name := f"frames.{'xyz' if kind == 'extxyz' else 'traj'}", frames)
    result = CliRunner().invoke(app, ["data", "convert", name, "new/data", "-f", kind, *options])
    assert result.exit_code == 0, result.output
    systems = [System(path) for path in find_systems("new/data")]
    head = f"new/data: {len(systems)} systems, 5 frames, 20 atoms in all; labels: energy, force"
    assert head in " ".join(result.output.split())
    assert len(systems) == (1 if options else 3)
    for frame, names in [(f, np.array(s.type_map)[f.structure.types]) for s in systems for f in s]:
        assert frame.labels["energy"] == -sum(29 if name == "Cu" else 79 for name in names)
        theirs = next(a for a in frames if _same(a, frame))
        for x, force, name in zip(frame.structure.positions, frame.labels["force"], names, strict=True):
            i = int(np.linalg.norm(theirs.positions - x, axis=1).argmin())
            assert (theirs.symbols[i], *theirs.get_forces()[i]) == pytest.approx((name, *force), abs=1e-6)
