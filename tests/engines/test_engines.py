"""i-PI, OpenMM and TorchSim: each engine's numbers, in its own units, beside the library's."""

import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import ase.units
import numpy as np
import openmm
import pytest
from ase import Atoms
from ipi.pes import load_pes
from ipi.utils.units import unit_to_user
from openmm import unit
from typer.testing import CliRunner

import dpmodel
from dpmodel.cli.app import app
from dpmodel.data.systems import System
from dpmodel.engines import ipi as ipi_driver
from dpmodel.engines.ase import DPCalculator
from dpmodel.engines.openmm import python_force
from dpmodel.errors import InputError
from dpmodel.io.model import read_model, write_model
from dpmodel.module import Rebuilder, state

ROOT = Path(__file__).parents[2]
WATER = ROOT / "tests" / "reference" / "trained" / "single.dp"
BIN = Path(sys.executable).parent
ANGSTROM, EV = unit_to_user("length", "angstrom", 1.0), unit_to_user("energy", "electronvolt", 1.0)  # in i-PI
KJ_MOL = 1.036426965687e-2  # eV: 1000 J / (Avogadro's number times the elementary charge)
NM = 10.0


@pytest.fixture(scope="module")
def frame() -> Any:
    """Liquid water that the model has not been trained on."""
    return System(ROOT / "examples" / "water" / "data" / "valid_16").frame(0).structure


@pytest.fixture(scope="module")
def expected(frame: Any) -> Any:
    return dpmodel.load(WATER).evaluate(frame.positions, frame.types, frame.cell)


def symbols(frame: Any) -> list[str]:
    return ["OH"[t] for t in frame.types]


# --- numbers that are none ---


@pytest.fixture(scope="module")
def overflowing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model file whose last weight makes sums that are no numbers."""
    file, path = read_model(WATER), tmp_path_factory.mktemp("model") / "overflow.dp"
    arrays = dict(state(file.model))
    last = [name for name in arrays if name.startswith("fitting.") and name.endswith("weight")][-1]
    arrays[last] = np.full_like(arrays[last], 1.7e308)
    write_model(path, replace(file, model=Rebuilder(file.model)(arrays)))
    return path


DOORS = ["ASE", "i-PI", "OpenMM", "TorchSim", "eval", "test", "relax", "label"]


@pytest.mark.parametrize("door", DOORS)
def test_numbers_that_are_not_finite_are_one_error(
    door: str, frame: Any, template: Path, overflowing: Path, tmp_path: Path
) -> None:
    """It names frame and atom, and nothing is written."""
    if door == "TorchSim" and sys.version_info < (3, 12):
        pytest.skip("TorchSim needs Python 3.12")
    atoms = Atoms(symbols(frame), frame.positions, cell=frame.cell, pbc=True)
    ase.io.write(tmp_path / "in.xyz", atoms)
    out, data = tmp_path / "out.xyz", ROOT / "examples" / "water" / "data" / "valid_16"
    commands = {
        "eval": [overflowing, tmp_path / "in.xyz", "-o", out],
        "test": [overflowing, "-s", data, "-n", "1"],
        "relax": [overflowing, tmp_path / "in.xyz", "-o", out],
        "label": [overflowing, tmp_path / "in.xyz", "--to", out],
    }

    def use() -> Any:
        if door in commands:
            return CliRunner().invoke(app, [door, *map(str, commands[door])], catch_exceptions=False)
        if door == "ASE":
            atoms.calc = DPCalculator(overflowing)
            return atoms.get_forces()
        if door == "i-PI":
            return driver(template, model=str(overflowing))(frame.cell.T / ANGSTROM, frame.positions / ANGSTROM)
        if door == "OpenMM":
            return context(frame, python_force(overflowing, symbols(frame))).getState(getForces=True)
        import torch
        import torch_sim

        from dpmodel_torch.torchsim import TorchSimModel

        model = TorchSimModel(dpmodel.load(overflowing, backend="torch"))
        return model(torch_sim.io.atoms_to_state([atoms], torch.device("cpu"), torch.float64))

    with pytest.raises(Exception, match=r"frame 0, atom \d+: the energy is not a finite number, its nearest") as error:
        use()
    assert door == "OpenMM" or error.type is InputError
    assert not list(out.rglob("*.npy"))
    assert not out.is_file()


# --- i-PI ---


@pytest.fixture
def template(frame: Any, tmp_path: Path) -> Path:
    path = tmp_path / "water.xyz"
    ase.io.write(path, Atoms(symbols(frame), frame.positions), format="xyz")
    return path


def driver(template: Path, **options: Any) -> Any:
    """As i-PI makes one, from the path of the file."""
    return load_pes("custom", ipi_driver.__file__)(template=str(template), **options)


def test_ipi(frame: Any, expected: Any, template: Path) -> None:
    """In i-PI's units; its cells have their vectors as columns."""
    energy, forces, virial, extras = driver(template, model=str(WATER))(
        frame.cell.T / ANGSTROM, frame.positions / ANGSTROM
    )
    np.testing.assert_allclose(energy * EV, expected.energy[0], rtol=1e-10)
    np.testing.assert_allclose(forces * EV / ANGSTROM, expected.forces[0], rtol=0, atol=1e-9)
    np.testing.assert_allclose(virial * EV, expected.virial[0], rtol=0, atol=1e-8)
    assert extras == ""


def test_units_of_ipi() -> None:
    """They are the atomic ones, with digits of an older adjustment."""
    np.testing.assert_allclose([EV, ANGSTROM], [27.211386245988, 0.529177210903], rtol=2e-7)


def test_ipi_single_molecule_and_deviation(frame: Any, template: Path) -> None:
    alone = driver(template, model=f"{WATER}; {WATER}", pbc=False)
    energy, _, virial, extras = alone(frame.cell.T / ANGSTROM, frame.positions / ANGSTROM)
    free: Any = dpmodel.load(WATER).evaluate(frame.positions, frame.types)
    np.testing.assert_allclose(energy * EV, free.energy[0], rtol=1e-10)
    np.testing.assert_allclose(virial * EV, free.virial[0], rtol=0, atol=1e-8)
    assert '"max_devi_f": 0.0' in extras


def test_ipi_is_told_what_is_wrong(frame: Any, template: Path) -> None:
    with pytest.raises(InputError, match=r"water\.xyz has 48 atoms, but i-PI simulates 47"):
        driver(template, model=str(WATER))(frame.cell.T / ANGSTROM, frame.positions[1:] / ANGSTROM)
    with pytest.raises(InputError, match=r"'bakend' is none of model, .*did you mean 'backend'"):
        driver(template, model=str(WATER), bakend="torch")


def test_ipi_example(tmp_path: Path) -> None:
    """The input file of the examples runs, and conserves what its thermostat should conserve."""
    folder = tmp_path / "examples" / "ipi"
    shutil.copytree(ROOT / "examples" / "ipi", folder)
    text = (folder / "input.xml").read_text().replace("../water/water.dp", str(WATER)).replace("> 20 <", "> 4 <")
    text = text.replace("../../dpmodel", str(ROOT / "dpmodel"))
    (folder / "input.xml").write_text(text)
    result = subprocess.run([BIN / "i-pi", "input.xml"], cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = np.loadtxt(folder / "water.out")
    assert len(rows) == 5
    conserved, potential = rows[:, 2], rows[:, 4]
    assert np.ptp(conserved) < 0.02 * np.ptp(potential)


# --- OpenMM ---


def context(frame: Any, force: Any, step: float = 0.5) -> Any:
    """``step``: of Newton's equations of motion, fs."""
    system = openmm.System()
    for name in symbols(frame):
        system.addParticle({"O": 15.999, "H": 1.008}[name])
    system.setDefaultPeriodicBoxVectors(*(openmm.Vec3(*row) for row in frame.cell / NM))
    system.addForce(force)
    integrator = openmm.VerletIntegrator(step * unit.femtosecond)
    made = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    made.setPositions(frame.positions / NM)
    return made


def test_openmm(frame: Any, expected: Any) -> None:
    """kJ/mol and nm."""
    state = context(frame, python_force(WATER, symbols(frame))).getState(getEnergy=True, getForces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole)
    forces = state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer)
    np.testing.assert_allclose(energy * KJ_MOL, expected.energy[0], rtol=1e-10)
    np.testing.assert_allclose(forces * KJ_MOL / NM, expected.forces[0], rtol=0, atol=1e-9)


def test_openmm_on_some_particles_without_a_box(frame: Any) -> None:
    """The model acts on two molecules; the others do not exist for it, and feel nothing."""
    force = python_force(WATER, symbols(frame)[3:9], periodic=False, particles=range(3, 9))
    forces = context(frame, force).getState(getForces=True).getForces(asNumpy=True)
    found = forces.value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * KJ_MOL / NM
    p: Any = dpmodel.load(WATER).evaluate(frame.positions[3:9], frame.types[3:9])
    np.testing.assert_allclose(found[3:9], p.forces[0], rtol=0, atol=1e-9)
    assert not found[:3].any()
    assert not found[9:].any()


def test_openmm_conserves_energy(frame: Any) -> None:
    simulated = context(frame, python_force(WATER, symbols(frame)), step=0.25)
    totals, kinetic = [], []
    for _ in range(10):
        simulated.getIntegrator().step(2)
        state = simulated.getState(getEnergy=True)
        kinetic.append(state.getKineticEnergy().value_in_unit(unit.kilojoule_per_mole))
        totals.append(kinetic[-1] + state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole))
    assert np.ptp(totals) < 0.05 * np.ptp(kinetic)


def test_openmm_with_an_unknown_element(frame: Any) -> None:
    with pytest.raises(InputError, match="particle 1 is 'Na', which the model does not know: it knows O, H"):
        python_force(WATER, ["O", "Na"])


def test_openmm_with_too_few_symbols(frame: Any) -> None:
    force = python_force(WATER, symbols(frame)[1:])
    with pytest.raises(Exception, match="the force has symbols for 47 particles, but acts on 48"):
        context(frame, force).getState(getEnergy=True)


def test_openmm_example() -> None:
    program = ROOT / "examples" / "openmm" / "water.py"
    result = subprocess.run(
        [sys.executable, program, "--steps", "3", "--model", WATER], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == 4  # names of the columns, and a line a step


# --- TorchSim ---


@pytest.mark.skipif(sys.version_info < (3, 12), reason="TorchSim needs Python 3.12")
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # of TorchSim
def test_torchsim(frame: Any, expected: Any) -> None:
    """TorchSim's own check, and its units: those of the library, the stress positive under tension."""
    import torch
    import torch_sim
    from torch_sim.models.interface import validate_model_outputs

    from dpmodel_torch.torchsim import TorchSimModel
    from small_water import BLOCK, REFORM

    blocks = {"type": "dpa2", "repinit": BLOCK | {"nsel": 60}, "repformer": REFORM | {"nsel": 30}}
    settings = {"type_map": ["Si", "Mg", "Fe", "C", "H"], "descriptor": blocks, "fitting_net": {"neuron": [6]}}
    every = dpmodel.create(settings, backend="torch")
    validate_model_outputs(TorchSimModel(every), torch.device("cpu"), torch.float64)
    atoms = Atoms(symbols(frame), frame.positions, cell=frame.cell, pbc=True)
    state = torch_sim.io.atoms_to_state([atoms, atoms[:3]], torch.device("cpu"), torch.float64)
    model = TorchSimModel(dpmodel.load(WATER, backend="torch"))
    found = model(state)
    np.testing.assert_allclose(found["energy"][0], expected.energy[0], rtol=1e-12)
    np.testing.assert_allclose(found["forces"][:48], expected.forces[0], rtol=0, atol=1e-10)
    stress = -expected.virial[0] / atoms.get_volume()
    np.testing.assert_allclose(found["stress"][0], stress, rtol=0, atol=1e-10)
    with pytest.raises(InputError, match="system 0: atom 0 is 'C', which the model does not know: it knows O, H"):
        model(torch_sim.io.atoms_to_state([Atoms("C")], torch.device("cpu"), torch.float64))
