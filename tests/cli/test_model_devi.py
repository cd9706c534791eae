"""``dpmodel model-devi`` and ``neighbor-stat``: deepmd-kit's own files, and definitions written out."""

import json
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import molecule

import dpmodel
from command_line import Command

REFERENCE = Path(__file__).parents[1] / "reference"
MODELS = [REFERENCE / "trained" / name for name in ("single.pth", "strip.pth")]
OPTIONS = {
    "plain": [],
    "relative": ["--relative", "0.2", "--atomic"],
    "real": ["--real_error", "--frequency", "10"],
}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.mark.parametrize("name", OPTIONS)
def test_deepmd_kits_file(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """``dp --pt model-devi -m single.pth strip.pth -s small`` of deepmd-kit 3.2 with these options."""
    monkeypatch.chdir(REFERENCE / "model_devi")
    result = command("model-devi", *MODELS, "-s", "small", "-o", tmp_path / "out", *OPTIONS[name])
    assert result.code == 0, result.err
    assert (tmp_path / "out").read_text() == Path(f"{name}.out").read_text()


def test_structures_of_several_sizes(command: Command, tmp_path: Path) -> None:
    """A line a frame, steps apart; the definition written out; the same numbers for programs."""
    frames = [molecule("H2O"), molecule("H2O2"), molecule("OH")]
    ase.io.write(tmp_path / "in.xyz", frames)
    options = ["--frequency", "5", "--relative-v", "0.1", "--json"]
    result = command("model-devi", *MODELS, "-s", tmp_path / "in.xyz", "-o", tmp_path / "out", *options)
    assert result.code == 0, result.err
    lines = np.loadtxt(tmp_path / "out")
    assert lines[:, 0].tolist() == [0, 5, 10]
    rows = json.loads(result.out)[str(tmp_path / "in.xyz")]
    for atoms, line, row in zip(ase.io.read(tmp_path / "in.xyz", ":"), lines, rows, strict=True):
        ps = [dpmodel.load(path).evaluate_many([atoms])[0] for path in MODELS]
        f = np.linalg.norm(np.std([p.forces[0] for p in ps], axis=0), axis=-1)
        v = np.array([p.virial[0].ravel() / len(atoms) for p in ps])
        v = v.std(axis=0) / (np.abs(v.mean(axis=0)) + 0.1)
        e = np.std([p.energy[0] / len(atoms) for p in ps])
        right = [v.max(), v.min(), np.sqrt((v**2).mean()), f.max(), f.min(), f.mean(), e]
        np.testing.assert_allclose(line[1:], right, rtol=1e-6)
        np.testing.assert_allclose([row[name] for name in list(row)[1:]], right, rtol=1e-9)


def test_what_cannot_deviate(command: Command, tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.xyz", molecule("H2O"))
    out = ["-s", tmp_path / "in.xyz", "-o", tmp_path / "out"]
    assert "one model deviates from nothing" in command.refuses("model-devi", MODELS[0], *out)
    line = command.refuses("model-devi", *MODELS, *out, "--real-error")
    assert "in.xyz: --real-error needs energies, forces and virials" in line
    dipole = REFERENCE / "head_dipole" / "model.dp"
    assert "dipole model has no forces" in command.refuses("model-devi", dipole, dipole, *out)
    assert not (tmp_path / "out").exists()


def test_neighbors_of_a_lattice(command: Command, tmp_path: Path) -> None:
    """Face-centered cubic: 12 neighbors in the first shell, 6 more in the second, 24 in the third."""
    from ase.build import bulk

    ase.io.write(tmp_path / "in.xyz", [bulk("Cu", "fcc", a=4.0, cubic=True)])
    cutoffs = ["-r", "3.0", "-r", "4.1", "-r", "5.0"]
    result = command("neighbor-stat", "-s", tmp_path / "in.xyz", *cutoffs, "--json")
    assert result.code == 0, result.err
    found = json.loads(result.out)
    assert found["min_nbor_dist"] == pytest.approx(4.0 / np.sqrt(2))
    assert [entry["max_nbor_size"] for entry in found["cutoffs"]] == [12, 18, 42]
    assert [entry["auto"] for entry in found["cutoffs"]] == [16, 20, 48]  # 13.2, 19.8 and 46.2, up to fours
    text = command("neighbor-stat", "-s", tmp_path / "in.xyz", *cutoffs).out
    assert "shortest distance: 2.8284 Å" in text
