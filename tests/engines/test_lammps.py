"""LAMMPS that Python drives: forces on any number of processes, its commands and units, and what it must refuse."""

import gc
import json
import sys
import time
import weakref
from pathlib import Path
from types import FunctionType
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from dpmodel.data.systems import System as WaterData
from dpmodel.engines.lammps import attach, install
from dpmodel.engines.lammps.library import UNITS
from dpmodel.errors import DpmodelError, FileError, InputError, NeighborOverflowWarning
from dpmodel.evaluator import Evaluator
from dpmodel.io.model import write_model
from dpmodel.model.predict import EnergyForces
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential, load
from engines import CHOSEN, engine_of
from lammps_runs import BOX, TESTS, mpirun
from lammps_systems import (
    MODEL,
    System,
    expected,
    lammps_with,
    model_file,
    ordered,
    potential,
    pressure,
    stress_of,
)
from random_models import random_model
from small_water import REFORM

TILTED = System.random(8, [[4.2, 0, 0], [1.8, 4.2, 0], [-1.6, 1.2, 4.2]], seed=1)
EXACT = 1e-10  # relative to the largest force


def check(lmp: Any, system: System, energy: float = 1.0, length: float = 1.0) -> None:
    """Energy, forces and pressure against the library; ``energy`` and ``length``: an eV and an angstrom in LAMMPS."""
    p = expected(system)
    tolerance = {"rtol": 0, "atol": EXACT * np.abs(p.forces).max() * energy / length}
    np.testing.assert_allclose(ordered(lmp, "f"), p.forces[0] * energy / length, **tolerance)
    np.testing.assert_allclose(lmp.get_thermo("pe"), p.energy[0] * energy, rtol=1e-12)
    volume = abs(np.linalg.det(system.cell)) * length**3
    right = stress_of(p.virial[0] * energy, volume, lmp)
    np.testing.assert_allclose(pressure(lmp), right, rtol=0, atol=1e-9 * np.abs(right).max())


# --- any number of processes ---


@pytest.mark.parametrize("backend", CHOSEN)
@pytest.mark.slow
def test_1_to_4_processes(backend: str) -> None:
    """Orthogonal and triclinic boxes, smaller than the cutoff, and so long that processes have nothing to do."""
    result = mpirun(4, sys.executable, TESTS / "lammps_ranks.py", backend)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert len(found) == (24 if backend == "numpy" else 16)
    for where, differs in found.items():
        assert differs["force"] < EXACT * differs["size"], where
        assert max(differs["energy"], differs["atomic energy"]) < 1e-12, where
        assert max(differs["pressure"], differs["atomic stress"]) < 1e-9, where
    idle = found["processes without atoms, 4"]
    assert (idle["processes without atoms"], idle["processes that see none"]) == (3, 2)


# --- LAMMPS' commands ---


@pytest.mark.parametrize("name", UNITS)
def test_every_system_of_units(name: str) -> None:
    energy, length = (1.0 / unit for unit in UNITS[name])
    lmp = lammps_with(TILTED, units=name, length=length)
    attach(lmp, [potential()], ["O", "H"])
    lmp.command("run 0")
    check(lmp, TILTED, energy, length)


def test_units_are_those_of_the_world() -> None:
    """The table against constants of nature, in J and m."""
    for name, energy, length in (
        ("metal", 1.602176634e-19, 1e-10),
        ("real", 4184 / 6.02214076e23, 1e-10),
        ("electron", 4.3597447222060e-18, 5.29177210903e-11),
        ("si", 1.0, 1.0),
        ("cgs", 1e-7, 1e-2),
        ("micro", 1e-15, 1e-6),
        ("nano", 1e-21, 1e-9),
    ):
        np.testing.assert_allclose(np.array(UNITS[name]) * [1.602176634e-19, 1e-10], [energy, length], rtol=1e-10)


def test_neighbors_that_come_and_go_leave_no_step_in_the_energy() -> None:
    """Energy along a fast trajectory: its error falls with the square of the time step, as it does for true forces.

    Of a model without means: with them, an empty slot is not quite like a neighbor at the cutoff.
    """
    smooth = MODEL["descriptor"] | {"repinit": MODEL["descriptor"]["repinit"] | {"set_davg_zero": True}}
    file = random_model(ModelSettings.read(MODEL | {"descriptor": smooth}, "model"))
    spread = []
    for steps in (60, 240):
        lmp = lammps_with(BOX)
        attach(lmp, [Potential(file, engine_of("numpy"))], ["O", "H"])
        lmp.commands_string(f"velocity all create 9000 1\nfix 1 all nve\ntimestep {0.06 / steps}")
        energies = []
        for _ in range(20):
            lmp.command(f"run {steps // 20} post no")
            energies.append(lmp.get_thermo("etotal"))
        spread.append(np.ptp(energies))
    assert 10.0 < spread[0] / spread[1] < 25.0  # 16, and what is left of the fourth order


def test_water_conserves_energy() -> None:
    """The model of the examples, 0.05 ps of 0.5 fs: what is lost is nothing beside what goes back and forth."""
    frame = WaterData(TESTS.parents[1] / "examples" / "water" / "data" / "valid_16").frame(0).structure
    assert frame.cell is not None
    x = frame.positions @ np.linalg.inv(frame.cell) % 1.0 @ frame.cell
    lmp = lammps_with(System(x, frame.types, frame.cell))
    attach(lmp, [load(TESTS.parents[1] / "examples" / "water" / "water.dp", "torch")], ["O", "H"])
    lmp.commands_string("velocity all create 300 1\nfix 1 all nve\ntimestep 0.0005")
    total, potential_energy = [], []
    for _ in range(20):
        lmp.command("run 5 post no")
        total.append(lmp.get_thermo("etotal"))
        potential_energy.append(lmp.get_thermo("pe"))
    assert np.ptp(total) < 0.03 * np.ptp(potential_energy)


def test_minimize() -> None:
    lmp = lammps_with(TILTED)
    attach(lmp, [potential()], ["O", "H"])
    lmp.commands_string("run 0")
    start = lmp.get_thermo("pe")
    lmp.command("minimize 0 1e-6 30 60")
    assert lmp.get_thermo("pe") < start - 1e-3
    moved = TILTED._replace(x=ordered(lmp, "x"))
    np.testing.assert_allclose(lmp.get_thermo("pe"), expected(moved).energy[0], rtol=1e-12)


def test_constant_pressure() -> None:
    """After steps in which all of the box changed, energy and pressure still are those of the atoms in it."""
    lmp = lammps_with(TILTED)
    attach(lmp, [potential()], ["O", "H"])
    lmp.commands_string(
        "velocity all create 500 1\ntimestep 0.0005\nfix 1 all npt temp 500 500 0.05 tri 0 0 0.5\nrun 30"
    )
    low, high, xy, yz, xz, *_ = lmp.extract_box()
    lx, ly, lz = np.array(high) - low
    cell = np.array([[lx, 0, 0], [xy, ly, 0], [xz, yz, lz]])
    now = TILTED._replace(x=ordered(lmp, "x"), cell=cell)
    assert np.abs(cell - TILTED.cell).max() > 1e-3
    p = expected(now)
    np.testing.assert_allclose(ordered(lmp, "f"), p.forces[0], rtol=0, atol=EXACT * np.abs(p.forces).max())
    lmp.commands_string("velocity all set 0 0 0\nrun 0")
    right = stress_of(p.virial[0], np.linalg.det(cell), lmp)
    np.testing.assert_allclose(pressure(lmp), right, rtol=0, atol=1e-8 * np.abs(right).max())


def test_a_restart_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    head = "timestep 0.001\nfix 1 all nve"
    whole = lammps_with(BOX)
    attach(whole, [potential()], ["O", "H"])
    whole.commands_string(f"velocity all create 1000 1\n{head}\nrun 10\nwrite_restart {tmp_path}/restart\nrun 10")
    again = type(whole)(cmdargs=["-log", "none", "-screen", "none"])
    again.command(f"read_restart {tmp_path}/restart")
    attach(again, [potential()], ["O", "H"])
    again.commands_string(f"{head}\nrun 10")
    assert again.extract_global("ntimestep") == 20
    between = ordered(again, "x") - ordered(whole, "x")
    lengths = np.diag(BOX.cell)  # atoms are put back into the box at different steps
    np.testing.assert_allclose(between - lengths * np.round(between / lengths), 0.0, atol=1e-12)


def test_rerun_reads_every_frame_anew(tmp_path: Path) -> None:
    """LAMMPS counts no rebuilt neighbor lists in a rerun: whoever relied on the count would keep the first."""
    lmp = lammps_with(BOX)
    attach(lmp, [potential()], ["O", "H"])
    lmp.commands_string("velocity all create 9000 1\ntimestep 0.002\nfix 1 all nve\nthermo 10")
    lmp.commands_string(f"dump d all custom 20 {tmp_path}/dump id type x y z\ndump_modify d sort id format float %.15g")
    lmp.command("run 40")
    energy = lmp.get_thermo("pe")
    lmp.commands_string(f"undump d\nrerun {tmp_path}/dump dump x y z")
    np.testing.assert_allclose(lmp.get_thermo("pe"), energy, rtol=1e-11)


ZBL = "pair_coeff 1 1 zbl 8 8\npair_coeff 1 2 zbl 8 1\npair_coeff 2 2 zbl 1 1"


def zbl_alone() -> Any:
    lmp = lammps_with(BOX)
    lmp.commands_string(f"pair_style zbl 1.0 2.0\n{ZBL.replace(' zbl', '')}\nfix 1 all nve\nrun 0")
    return lmp


def test_hybrid_with_atoms_that_the_model_does_not_know(tmp_path: Path) -> None:
    """zbl acts on all; dpmodel on the first type only, and the sum on an atom is that of both."""
    write_model(tmp_path / "model.dp", model_file())
    both, alone = lammps_with(BOX), zbl_alone()
    install(both)
    both.commands_string(f"pair_style hybrid/overlay zbl 1.0 2.0 dpmodel {tmp_path}/model.dp\n{ZBL}")
    both.commands_string("pair_coeff * * dpmodel O NULL\nrun 0")
    oxygen = BOX.types == 0
    p = expected(BOX._replace(x=BOX.x[oxygen], types=BOX.types[oxygen]))
    right = ordered(alone, "f")
    right[oxygen] += p.forces[0]
    np.testing.assert_allclose(ordered(both, "f"), right, rtol=0, atol=EXACT * np.abs(p.forces).max())
    np.testing.assert_allclose(both.get_thermo("pe"), alone.get_thermo("pe") + p.energy[0], rtol=1e-12)


def test_hybrid_that_scales(tmp_path: Path) -> None:
    """Energies, forces and pressures of both potentials, in parts."""
    write_model(tmp_path / "model.dp", model_file())
    both, alone = lammps_with(BOX), zbl_alone()
    install(both)
    both.commands_string(f"pair_style hybrid/scaled 0.25 zbl 1.0 2.0 0.75 dpmodel {tmp_path}/model.dp\n{ZBL}")
    both.commands_string("pair_coeff * * dpmodel O H\nrun 0")
    p = expected(BOX)
    np.testing.assert_allclose(both.get_thermo("pe"), 0.25 * alone.get_thermo("pe") + 0.75 * p.energy[0], rtol=1e-12)
    right = 0.25 * ordered(alone, "f") + 0.75 * p.forces[0]
    np.testing.assert_allclose(ordered(both, "f"), right, rtol=0, atol=EXACT * np.abs(right).max())
    stress = 0.25 * pressure(alone) + 0.75 * stress_of(p.virial[0], np.linalg.det(BOX.cell), both)
    np.testing.assert_allclose(pressure(both), stress, rtol=0, atol=1e-9 * np.abs(stress).max())


def test_several_types_of_one_element() -> None:
    lmp = lammps_with(BOX)
    lmp.command("mass * 1.008")
    attach(lmp, [potential()], ["H", "H"])
    lmp.command("run 0")
    check(lmp, BOX._replace(types=np.ones(8, dtype=int)))


def test_frame_parameters() -> None:
    wants = MODEL | {"fitting_net": {"neuron": [6], "numb_fparam": 2}}
    asked = Potential(random_model(ModelSettings.read(wants, "model")), engine_of("numpy"))
    lmp = lammps_with(BOX)
    with pytest.raises(InputError, match=r"takes 2 frame parameters \(fparam\), got 0"):
        attach(lmp, [asked], ["O", "H"])
    attach(lmp, [asked], ["O", "H"], fparam=[0.3, -0.7])
    lmp.command("run 0")
    p = asked.evaluate(BOX.x, BOX.types, BOX.cell, fparam=[0.3, -0.7])
    np.testing.assert_allclose(lmp.get_thermo("pe"), p.energy[0], rtol=1e-12)


def test_jax_compiles_a_trajectory_few_times() -> None:
    """Numbers of neighbors change at every step; the sizes of the arrays, once they have grown, do not."""
    lmp = lammps_with(BOX)
    attach(lmp, [potential("jax")], ["O", "H"])
    engine: Any = engine_of("jax")
    start = engine.compilations
    lmp.commands_string("velocity all create 9000 1\ntimestep 0.002\nfix 1 all nve\nrun 5")
    first = engine.compilations
    lmp.command("run 60")
    assert 1 <= first - start <= 2
    assert engine.compilations - first <= 1


@pytest.mark.parametrize("backend", CHOSEN)
def test_steps_leave_nothing_in_memory(backend: str) -> None:
    """No functions or classes; Paddle leaves a list for every array that it is given, whoever gives it."""
    lmp = lammps_with(System.random(3, np.diag([3.3, 3.4, 3.5]), seed=2))
    attach(lmp, [potential(backend)], ["O", "H"])
    lmp.commands_string("velocity all create 300 1\ntimestep 0.0001\nfix 1 all nve\nthermo 1000\nrun 20")
    counts = []
    for _ in range(2):
        gc.collect()
        counts.append(sum(issubclass(type(left), type | FunctionType) for left in gc.get_objects()))
        lmp.command("run 60")
    assert counts[1] - counts[0] < 60


def test_a_model_goes_with_its_lammps(tmp_path: Path) -> None:
    write_model(tmp_path / "model.dp", model_file())
    lmp = lammps_with(BOX)
    pair = attach(lmp, tmp_path / "model.dp", ["O", "H"])
    lmp.command("run 0")
    evaluator = weakref.ref(pair.potentials[0].evaluator)
    lmp.close()
    del lmp, pair
    gc.collect()
    assert evaluator() is None


def test_second_derivatives_by_lammps(tmp_path: Path) -> None:
    """The command moves atoms outside of any run."""
    lmp = lammps_with(BOX, setup="atom_modify map yes")
    attach(lmp, potential(), ["O", "H"])
    lmp.command(f"dynamical_matrix all regular 1e-4 file {tmp_path}/matrix")
    hessian = expected(BOX, hessian=True).hessian[0].reshape(24, 24)
    root = np.sqrt(np.repeat(np.array([15.999, 1.008])[BOX.types], 3))
    right = hessian / np.outer(root, root)
    found = np.loadtxt(tmp_path / "matrix").reshape(24, 24)
    np.testing.assert_allclose(found, right, rtol=0, atol=1e-5 * np.abs(right).max())


# --- model deviation ---


def test_the_first_model_drives_and_deviations_can_be_relative(tmp_path: Path) -> None:
    for seed in (0, 1):
        write_model(tmp_path / f"model{seed}.dp", model_file(seed))
    lmp = lammps_with(BOX)
    install(lmp)
    options = f"relative 0.5 relative_v 0.25 out_freq 1 out_file {tmp_path}/devi.out"
    lmp.command(f"pair_style dpmodel {tmp_path}/model0.dp {tmp_path}/model1.dp {options}")
    lmp.commands_string("pair_coeff * * O H\nrun 0")
    check(lmp, BOX)
    f, g = (expected(BOX, seed=seed).forces[0] for seed in (0, 1))
    relative = 0.5 * np.linalg.norm(f - g, axis=1) / (np.linalg.norm(0.5 * (f + g), axis=1) + 0.5)
    v, w = (expected(BOX, seed=seed).virial[0] / 8 for seed in (0, 1))
    relative_v = 0.5 * np.abs(v - w) / (np.abs(0.5 * (v + w)) + 0.25)
    row = np.loadtxt(tmp_path / "devi.out")
    np.testing.assert_allclose(row[[1, 4]], [relative_v.max(), relative.max()], rtol=1e-6)


# --- errors ---


def test_an_exception_in_the_model_comes_out_of_the_command_that_runs() -> None:
    lmp = lammps_with(BOX)
    pair = attach(lmp, [potential()], ["O", "H"])
    evaluate = pair._evaluate

    def fail(*given: Any) -> Any:
        if lmp.extract_global("ntimestep") == 3:
            raise FloatingPointError("out of memory")
        return evaluate(*given)

    lmp.command("fix 1 all nve")
    with patch.object(pair, "_evaluate", fail), pytest.raises(FloatingPointError, match="out of memory"):
        lmp.commands_string("run 10")
    assert lmp.extract_global("ntimestep") == 3
    lmp.command("run 10")
    assert lmp.extract_global("ntimestep") == 13


@pytest.mark.parametrize("how", ["exception", "kill"])
def test_what_happens_to_one_process_happens_to_all(how: str, tmp_path: Path) -> None:
    """No process is left waiting for the one that failed, and no step is taken without it."""
    started = time.monotonic()
    result = mpirun(3, sys.executable, TESTS / "lammps_failure.py", how, tmp_path)
    assert time.monotonic() - started < 60
    assert result.returncode != 0
    if how == "exception":
        assert "error: step 3: no memory left on process 1" in result.stderr
    assert not (tmp_path / "went_on").exists()
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        assert time.monotonic() - started < 60
        time.sleep(0.1)


def test_after_an_error_a_script_takes_no_further_step() -> None:
    lmp = lammps_with(BOX)
    pair = attach(lmp, [potential()], ["O", "H"])
    with patch.object(pair, "_evaluate", side_effect=OSError("first")), pytest.raises(OSError, match="first"):
        lmp.commands_string("fix 1 all nve\nrun 5\nrun 5")
    assert lmp.extract_global("ntimestep") == 0


def test_numbers_that_are_none_stop_the_run() -> None:
    lmp = lammps_with(BOX)
    attach(lmp, [potential()], ["O", "H"])
    nothing = EnergyForces(*(np.full(shape, np.nan) for shape in ((1,), (8,), (8, 3), (1, 3, 3), (8, 3, 3))))
    with (
        patch.object(Evaluator, "evaluate_domain", return_value=nothing),
        pytest.raises(DpmodelError, match="atom ID 1: the energy is not a finite number"),
    ):
        lmp.command("run 0")


def test_runs_without_preparation() -> None:
    """They go on as before; after other commands have changed the atoms LAMMPS' neighbor list is not theirs."""
    lmp = lammps_with(BOX)
    attach(lmp, potential(), ["O", "H"])
    lmp.commands_string("fix 1 all nve\nrun 1\nrun 1 pre no post no\nrun 0 pre no")
    np.testing.assert_allclose(lmp.get_thermo("pe"), expected(BOX._replace(x=ordered(lmp, "x"))).energy[0], rtol=1e-12)
    lmp.command("displace_atoms all random 0.05 0.05 0.05 3")
    with pytest.raises(InputError, match="leave out 'pre no' after that"):
        lmp.command("run 1 pre no")
    lmp.command("run 0")
    np.testing.assert_allclose(lmp.get_thermo("pe"), expected(BOX._replace(x=ordered(lmp, "x"))).energy[0], rtol=1e-12)


def test_atoms_are_named_by_their_ids() -> None:
    """One atom too many for the model, which says so by the name that LAMMPS gave it; strictly, it stops."""
    few = MODEL["descriptor"]["repformer"] | {"nsel": 2}
    settings = ModelSettings.read(MODEL | {"descriptor": MODEL["descriptor"] | {"repformer": few}}, "model")
    crowded = random_model(settings)
    alone = BOX._replace(x=BOX.x + 20.0, cell=np.diag([40.0, 40.0, 40.0]))  # no images
    distance = np.linalg.norm(BOX.x[:, None] - BOX.x, axis=-1)
    count = (distance <= REFORM["rcut"]).sum(axis=1) - 1
    names = "|".join(str(i + 1) for i in np.flatnonzero(count == count.max()))
    for strict, kind in ((False, NeighborOverflowWarning), (True, InputError)):
        lmp = lammps_with(alone)
        attach(lmp, [Potential(crowded, engine_of("numpy"), strict=strict)], ["O", "H"])
        with pytest.raises(kind, match=f"repformer keeps the 2 nearest.*but atom ({names}) has {count.max()} "):
            lmp.command("run 0")


def test_bonds_and_exclusions_are_noticed() -> None:
    lmp = lammps_with(BOX)
    pair = attach(lmp, [potential()], ["O", "H"])
    lmp.command("neigh_modify exclude type 1 2")
    with pytest.raises(InputError, match=r"neighbor list has \d+ of the \d+ pairs within 4 Å.*special_bonds"):
        lmp.command("run 0")
    assert pair.comm.size == 1


def test_what_cannot_be_used_is_refused() -> None:
    lmp = lammps_with(BOX, units="lj")
    with pytest.raises(InputError, match=r"units lj have no electronvolt.*use one of metal, real"):
        attach(lmp, [potential()], ["O", "H"])
    lmp = lammps_with(BOX)
    with pytest.raises(InputError, match="there is no model"):
        attach(lmp, [], ["O", "H"])
    for few in (["O"], "O"):
        with pytest.raises(InputError, match="an element for each of the 2 atom types, got 1: O"):
            attach(lmp, [potential()], few)
    with pytest.raises(InputError, match="out_freq should be a positive number of steps, got 0"):
        attach(lmp, [potential()] * 2, "O H", out_freq=0)
    with pytest.raises(
        InputError, match=r"'o' is an element which the model does not know: it knows O, H; did you mean 'O'"
    ):
        attach(lmp, [potential()], ["o", "H"])
    nameless = type(lmp)(cmdargs=["-log", "none", "-screen", "none"])
    nameless.commands_string("units metal\natom_modify id no\nregion b block 0 9 0 9 0 9\ncreate_box 2 b")
    nameless.command("create_atoms 1 single 1 1 1")
    nameless.commands_string("mass 1 16\nmass 2 1")
    attach(nameless, [potential()], ["O", "H"])
    with pytest.raises(InputError, match="leave out 'atom_modify id no'"):
        nameless.command("run 0")
    with pytest.raises(InputError, match="NULL would leave atoms without any force"):
        attach(lmp, [potential()], ["O", None])


def test_fixes_may_come_first() -> None:
    """Those that change forces or look at energies, too, wherever they are."""
    now, later = (lammps_with(BOX) for _ in range(2))
    fixes = "fix 1 all nve\nfix hold all setforce 0 NULL NULL\nfix mean all ave/time 1 1 1 c_thermo_pe"
    now.command("velocity all create 2000 1")
    later.command("velocity all create 2000 1")
    now.commands_string(fixes)
    attach(now, potential(), ["O", "H"])
    attach(later, potential(), ["O", "H"])
    later.commands_string(fixes)
    for lmp in (now, later):
        lmp.command("run 10")
    assert np.abs(ordered(now, "x") - BOX.x).max() > 0.01
    assert not ordered(now, "f")[:, 0].any()
    np.testing.assert_allclose(ordered(now, "x"), ordered(later, "x"), rtol=0, atol=1e-12)
    np.testing.assert_allclose(now.extract_fix("mean", 0, 0), now.get_thermo("pe"), rtol=1e-12)


def test_another_model_takes_over() -> None:
    """Fixes that came after the first model come after the second, too."""
    lmp = lammps_with(BOX)
    attach(lmp, potential(), ["O", "H"])
    lmp.command("fix hold all setforce 0 NULL NULL")
    attach(lmp, potential(seed=1), ["O", "H"])
    lmp.command("run 0")
    p = expected(BOX, seed=1)
    np.testing.assert_allclose(lmp.get_thermo("pe"), p.energy[0], rtol=1e-12)
    right = p.forces[0] * [0, 1, 1]
    np.testing.assert_allclose(ordered(lmp, "f"), right, rtol=0, atol=EXACT * np.abs(right).max())


def test_a_deviation_that_cannot_be_written(tmp_path: Path) -> None:
    lmp = lammps_with(BOX)
    attach(lmp, [potential(), potential(seed=1)], ["O", "H"], out_file=tmp_path / "nowhere" / "devi.out")
    with pytest.raises(FileError, match=r"devi.out: cannot write the model deviation \(No such file or directory\)"):
        lmp.command("run 0")


def test_another_pair_style_takes_over() -> None:
    lmp = lammps_with(BOX)
    attach(lmp, [potential()], ["O", "H"])
    lmp.commands_string("run 0\npair_style zbl 1.0 2.0\n" + ZBL.replace(" zbl", "") + "\nrun 0")
    alone = zbl_alone()
    np.testing.assert_allclose(ordered(lmp, "f"), ordered(alone, "f"), rtol=0, atol=1e-12)
    np.testing.assert_allclose(lmp.get_thermo("pe"), alone.get_thermo("pe"), rtol=1e-12)
