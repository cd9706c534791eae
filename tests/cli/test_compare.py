"""``dpmodel compare``: backends beside NumPy, models beside each other."""

import json
import re
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

import dpmodel
from command_line import Command
from dpmodel import backend as backends
from dpmodel.cli.compare import compare
from dpmodel.errors import BackendError
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, arrays, convert, state

REFERENCE = Path(__file__).parents[1] / "reference"
WATER = REFERENCE / "trained" / "single.dp"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture
def changed(tmp_path: Path) -> Path:
    """WATER with its energies 1e-7 higher: a hundredth of what single precision would excuse."""
    potential = dpmodel.load(WATER)
    file = potential.file
    bias = file.model.out_bias
    model = convert(file.model, lambda x: x * (1.0 + 1e-7) if x is bias else x)
    path = tmp_path / "changed.dp"
    dpmodel.Potential(ModelFile(file.settings, model, file.extras), potential.engine).save(path)
    return path


def table(out: str) -> dict[str, list[str]]:
    """Cells of each row, by the first."""
    return {cells[0]: cells[1:] for line in out.splitlines() if (cells := line.split())}


def test_backends_agree(command: Command) -> None:
    pytest.importorskip("torch")
    result = command("compare", WATER, "--backends", "numpy,torch")
    assert result.code == 0, result.out + result.err
    rows = table(result.out)
    assert rows["torch"][-1] == "ok"
    assert all(float(cell) < 1e-12 * 200.0 for cell in rows["torch"][:4])
    assert [cell[0] for cell in rows["numpy"][:4]] == ["("] * 4
    assert "allowed is 1e-10" in result.out


def test_for_programs(tmp_path: Path, command: Command) -> None:
    pytest.importorskip("torch")
    atoms = [molecule("H2O"), molecule("H2O")]
    atoms[1].rattle(0.1)
    ase.io.write(tmp_path / "in.xyz", atoms)
    result = command("compare", WATER, "--backends", "torch", "--structure", tmp_path / "in.xyz", "--json")
    found = json.loads(result.out)
    assert result.code == 0
    assert found["ok"] is True
    assert found["tolerance"] == 1e-10
    assert found["reference"]["name"] == "numpy"
    (line,) = found["lines"]
    assert line["name"] == "torch"
    assert line["first_seconds"] > 0 < line["seconds"]
    potential = dpmodel.load(WATER)
    right = potential.evaluate_many(ase.io.read(tmp_path / "in.xyz", ":"))
    scales = {name: quantity["scale"] for name, quantity in found["reference"]["quantities"].items()}
    assert scales["energy/atom"] == max(abs(p.energy[0]) / 3 for p in right)
    assert scales["forces"] == max(np.abs(p.forces).max() for p in right)
    assert scales["virial"] == max(np.abs(p.virial).max() for p in right)
    assert set(line["quantities"]) == {"energy/atom", "forces", "virial", "descriptor"}


def test_one_frame_of_a_file(tmp_path: Path) -> None:
    ase.io.write(tmp_path / "in.xyz", [molecule("H2O"), molecule("O2")])
    with pytest.raises(dpmodel.InputError, match="ASE cannot read"):
        compare(WATER, backends=["numpy"], structures=[tmp_path / "in.xyz"], index="x")
    assert "1 structure(s)" in compare(WATER, backends=["numpy"], structures=[tmp_path / "in.xyz"], index="1").title


def test_another_model(changed: Path, command: Command) -> None:
    result = command("compare", WATER, "--with", changed)
    assert result.code == 1
    rows = table(result.out)
    assert rows["changed.dp"][-1] == "differs"
    # the mean of what 16 H and 8 O atoms gained
    bias = dpmodel.load(WATER).file.model.out_bias[:, 0]
    gained = 1e-7 * abs(bias[0] + 2 * bias[1]) / 3
    assert float(rows["changed.dp"][0]) == pytest.approx(gained, rel=0.1)
    assert float(rows["changed.dp"][1]) == 0.0
    assert command("compare", WATER, "--with", changed, "--tolerance", "1e-6").code == 0
    assert command("compare", WATER, "--with", changed, "--tolerance", "1e-8").code == 1
    assert command("compare", WATER, "--with", WATER).code == 0


def test_types_are_known_by_their_names(tmp_path: Path) -> None:
    """The same model with its types in another order is the same model."""
    potential = dpmodel.load(WATER)
    file = potential.file
    settings = ModelSettings.read(file.settings.model_dump() | {"type_map": ["H", "O"]})
    by_type = {path for path, _, about in arrays(file.model) if about["dims"][0] == "n_types"}
    by_type.add("descriptor.type_embedding.layer.weight")  # of the identity
    values = {path: value[::-1] if path in by_type else value for path, value in state(file.model).items()}
    model = Rebuilder(build(settings, seed=None))(values)
    path = tmp_path / "reversed.dp"
    dpmodel.Potential(ModelFile(settings, model, file.extras), potential.engine).save(path)
    assert compare(WATER, other=path).ok


def test_models_that_cannot_be_compared(command: Command) -> None:
    line = command.refuses("compare", WATER, "--with", REFERENCE / "head_polar" / "model.dp")
    assert "an ener model" in line
    assert "a polar model" in line


@pytest.mark.parametrize("name", ["head_polar", "head_dos", "head_property", "fparam_aparam", "default_fparam"])
@pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")
def test_every_kind_of_model(name: str) -> None:
    found = compare(REFERENCE / name / "model.dp", backends=["torch"])
    assert found.ok
    assert len(found.lines[0].gaps) >= 3


@pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")
def test_single_precision() -> None:
    found = compare(REFERENCE / "float32" / "model.dp", backends=["torch"])
    assert found.tolerance == 2e-5
    assert found.ok
    assert compare(WATER, backends=["torch"], precision="float32").tolerance == 2e-5
    assert compare(WATER, backends=["torch"], precision="float32", tolerance=1e-10).ok is False


def unavailable(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """As if the framework of a backend were not installed."""
    right = backends.backend

    def find(name: str) -> Any:
        if name == missing:
            raise BackendError(f"the {name} backend needs the package {name!r}: pip install 'dpmodel[{name}]'")
        return right(name)

    monkeypatch.setattr("dpmodel.cli.compare.find_backend", find)
    monkeypatch.setattr("dpmodel.cli.compare.installed", lambda: ["numpy", missing])


def test_a_backend_that_is_not_installed(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    """Is told if it was not asked for, and is an error if it was."""
    unavailable(monkeypatch, "torch")
    result = command("compare", WATER)
    assert result.code == 0
    assert table(result.out)["torch"] == ["missing"]
    assert "pip install 'dpmodel[torch]'" in result.out
    assert json.loads(command("compare", WATER, "--json").out)["lines"][0]["missing"].endswith("'dpmodel[torch]'")
    assert "pip install 'dpmodel[torch]'" in command.refuses("compare", WATER, "--backends", "numpy,torch")
    assert "there is no backend 'nonsense'" in command.refuses("compare", WATER, "--backends", "nonsense")


def test_numbers_that_are_none_are_named_with_their_backend(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    torch = pytest.importorskip("dpmodel_torch")
    monkeypatch.setattr(torch.Engine, "numpy", lambda self, x: x.detach().numpy() * np.nan)
    refusal = command.refuses("compare", WATER, "--backends", "torch", "--json")
    assert re.match(r"torch: frame 0, atom \d+: the energy is not a finite number", refusal)
