"""``dpmodel test``: its numbers against the definition."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import dpmodel
from dpmodel.cli.app import app
from dpmodel.data.systems import System
from dpmodel.errors import FileError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import write_model
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from small_water import MODEL, write_system


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    settings = ModelSettings.read(MODEL)
    write_model(tmp_path / "model.dp", ModelFile(settings, build(settings, 1)))
    write_system(tmp_path / "data/a", 3)
    write_system(tmp_path / "data/b", 2, seed=1)
    return tmp_path


def run(folder: Path, *more: str) -> dict:
    result = CliRunner().invoke(app, ["test", str(folder / "model.dp"), "-s", str(folder / "data"), "--json", *more])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_numbers(folder: Path) -> None:
    found, potential = run(folder), dpmodel.load(folder / "model.dp")
    energies, forces, virials = [], [], []
    for frame in [frame for name in "ab" for frame in System(folder / "data" / name)]:
        s = frame.structure
        p = potential.evaluate(s.positions, s.types, s.cell)
        assert p.energy is not None
        assert p.forces is not None
        assert p.virial is not None
        energies.append((p.energy[0] - frame.labels["energy"]) / 6)
        forces.append(p.forces[0] - frame.labels["force"])
        virials.append((p.virial[0] - frame.labels["virial"]) / 6)
    assert [one["frames"] for one in found["systems"]] == [3, 2]
    for name, d in (("energy", energies), ("force", forces), ("virial", virials)):
        flat = np.array(d).ravel()
        assert found["total"][f"rmse_{name}"] == pytest.approx(np.sqrt((flat**2).mean()), rel=1e-12)
        assert found["total"][f"mae_{name}"] == pytest.approx(np.abs(flat).mean(), rel=1e-12)


def test_few_frames_and_details(folder: Path) -> None:
    found = run(folder, "-n", "1", "--detail", str(folder / "detail"))
    assert found["total"]["frames"] == 2
    assert sorted(path.name for path in (folder / "detail").iterdir()) == ["000_a.npz", "001_b.npz"]
    with np.load(folder / "detail/000_a.npz") as kept:
        rmse = np.sqrt(np.mean((kept["predicted_force"] - kept["force"]) ** 2))
    assert found["systems"][0]["rmse_force"] == pytest.approx(rmse, rel=1e-12)


def test_what_cannot_be(folder: Path) -> None:
    arguments = ["test", str(folder / "model.dp"), "-s", str(folder / "data")]
    for number in ("0", "-1"):
        result = CliRunner().invoke(app, [*arguments, "-n", number])
        assert result.exit_code == 2
        assert "--number" in result.output
    result = CliRunner().invoke(app, [*arguments, "--detail", "/proc/x"])
    assert isinstance(result.exception, FileError)
    assert str(result.exception).startswith("/proc/x: ")


def test_table_and_missing_labels(folder: Path) -> None:
    arguments = ["test", str(folder / "model.dp"), "-s", str(folder / "data")]
    (folder / "data/a/set.000/virial.npy").unlink()
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "160"})
    assert result.exit_code == 0, result.output
    assert "total" in result.stdout
    for name in ("energy", "force"):
        (folder / f"data/a/set.000/{name}.npy").unlink()
    result = CliRunner().invoke(app, arguments)
    assert isinstance(result.exception, FileError)
    assert "found none" in str(result.exception)
