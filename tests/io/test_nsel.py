"""The two meanings of ``nsel``: checkpoints of deepmd-kit's exportable backend give that backend's numbers."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmodel
from command_line import Command
from dpmodel.errors import NeighborOverflowWarning
from dpmodel.io.checkpoint import takes_all_neighbors
from dpmodel.io.model import read_model
from dpmodel.model.settings import ModelSettings
from dpmodel.prediction import Prediction

FOLDER = Path(__file__).parents[1] / "reference" / "exportable"
TRAINED = Path(__file__).parents[1] / "reference" / "trained"

pytestmark = pytest.mark.filterwarnings(f"ignore::{NeighborOverflowWarning.__module__}.NeighborOverflowWarning")


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def frame(name: str) -> tuple[Any, Any, Any]:
    data = np.load(FOLDER / f"{name}.npz")
    return data["coord"].reshape(1, -1, 3), data["types"], data["box"].reshape(1, 3, 3)


def check(p: Prediction, name: str) -> None:
    data = np.load(FOLDER / f"{name}.npz")
    np.testing.assert_allclose(p.energy, data["energy"][:, 0], rtol=1e-14)
    np.testing.assert_allclose(p.forces, data["force"], rtol=0, atol=2e-14)
    np.testing.assert_allclose(p.virial, data["virial"].reshape(1, 3, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("name", "truncate"), [("all", False), ("three_body", True)])
def test_numbers_of_the_exportable_backend(name: str, truncate: bool) -> None:
    """Its own checkpoints, on a frame with up to 50 neighbors for an nsel of 14."""
    potential = dpmodel.load(FOLDER / f"{name}.pt")
    assert potential.settings.descriptor.truncate is truncate
    check(potential.evaluate(*frame(name)), name)


def settings(**repinit: Any) -> ModelSettings:
    data = read_model(TRAINED / "single.dp").settings.model_dump()
    data["descriptor"]["repinit"] |= {"use_three_body": False, "set_davg_zero": True} | repinit
    data["descriptor"]["repformer"]["set_davg_zero"] = True
    return ModelSettings.read(data)


EXPORTABLE = {"atomic_model.fitting_net.nets._module_networks.0.layers.0.w": np.zeros(1)}


def test_the_conditions() -> None:
    assert takes_all_neighbors(settings(), EXPORTABLE)
    assert not takes_all_neighbors(settings(use_three_body=True), EXPORTABLE)
    assert not takes_all_neighbors(settings(set_davg_zero=False), EXPORTABLE)
    usual = {"atomic_model.fitting_net.filter_layers.networks.0.layers.0.matrix": np.zeros(1)}
    assert not takes_all_neighbors(settings(), usual)
    disabled = EXPORTABLE | {"atomic_model.descriptor.graph_lower_disabled": np.array(True)}
    assert not takes_all_neighbors(settings(), disabled)
    tables = EXPORTABLE | {"atomic_model.descriptor.repinit.type_embd_data": np.ones((9, 4))}
    assert not takes_all_neighbors(settings(), tables)


def test_commands_tell_the_meaning(command: Command, tmp_path: Path) -> None:
    everything, nearest = "neighbors: all within the cutoffs (nsel only normalizes)", "neighbors: the nsel nearest"
    source = FOLDER / "all.pt"
    assert everything in command("show", source).out
    assert nearest in command("show", FOLDER / "three_body.pt").out
    assert everything in command("convert", source, tmp_path / "a.dp").err
    result = command("convert", source, tmp_path / "b.dp", "--truncate")
    assert nearest in result.err
    result = command("diff", tmp_path / "a.dp", tmp_path / "b.dp")
    assert result.code == 1
    assert "neighbors: all within the cutoffs (nsel only normalizes) | the nsel nearest" in result.out
    assert "arrays" not in result.out


@pytest.mark.parametrize("suffix", [".dp", ".yaml", ".pt"])
def test_the_meaning_survives_and_can_be_changed(command: Command, tmp_path: Path, suffix: str) -> None:
    first, second, third = (tmp_path / f"{name}{suffix}" for name in "abc")
    assert command("convert", FOLDER / "all.pt", first).code == 0
    check(dpmodel.load(first).evaluate(*frame("all")), "all")
    assert command("convert", first, second, "--truncate").code == 0
    energy = dpmodel.load(second).evaluate(*frame("all")).energy
    assert energy is not None
    assert abs(energy[0] - np.load(FOLDER / "all.npz")["energy"][0, 0]) > 1.0
    assert command("convert", second, third, "--no-truncate").code == 0
    check(dpmodel.load(third).evaluate(*frame("all")), "all")


def jumps(path: Path, n: int = 60, length: float = 0.15) -> float:
    """How far energies along the path of an atom are from the work of its forces, at most."""
    x, types, cell = frame("all")
    positions = np.repeat(x, n + 1, axis=0)
    positions[:, 1, 0] += np.linspace(0, length, n + 1)
    p = dpmodel.load(path).evaluate(positions, types, cell[0])
    assert p.energy is not None
    assert p.forces is not None
    force = p.forces[:, 1, 0]
    work = -0.5 * (force[1:] + force[:-1]) * length / n
    return float(np.abs(np.diff(p.energy) - work).max())


def test_all_neighbors_are_smooth_and_the_nearest_jump(command: Command, tmp_path: Path) -> None:
    command("convert", FOLDER / "all.pt", tmp_path / "a.dp", "--truncate")
    assert jumps(FOLDER / "all.pt") < 1e-7
    assert jumps(tmp_path / "a.dp") > 1e-4
