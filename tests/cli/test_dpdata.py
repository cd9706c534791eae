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
    with pytest.raises(DpmodelError, match=r"torn.xyz: damaged data of the format extxyz"):
        convert("torn.xyz", "data", "--format", "extxyz")
    with pytest.raises(DpmodelError, match=r"nowhere/data: cannot be written: No such file or directory: .*nowhere"):
        convert("frames.xyz", "nowhere/data", "--format", "extxyz")
    assert not Path("data").exists()
    Path("data").mkdir()
    with pytest.raises(DpmodelError, match=r"data: exists already"):
        convert("frames.xyz", "data", "--format", "extxyz")
    assert sorted(path.name for path in Path().iterdir()) == ["data", "frames.xyz", "torn.xyz"]
