"""LAMMPS beside the library: forces on any number of processes, its commands, its units, and what it must refuse."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from dpmodel.data.systems import System as WaterData
from dpmodel.errors import DpmodelError, FileError, InputError, NeighborOverflowWarning
from dpmodel.evaluator import Evaluator
from dpmodel.interfaces.deviation import force_deviation
from dpmodel.interfaces.lammps import Pair, attach
from dpmodel.interfaces.lammps.library import UNITS
from dpmodel.io.model import write_model
from dpmodel.model.predict import EnergyForces
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential, load
from engines import CHOSEN, engine_of
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

TESTS = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
BOX = System.random(8, np.diag([4.2, 4.5, 4.9]))
TILTED = System.random(8, [[4.2, 0, 0], [1.8, 4.2, 0], [-1.6, 1.2, 4.2]], seed=1)
WIDE = System.random(30, np.diag([7.0, 7.5, 9.0]), seed=2)
EXACT = 1e-10  # relative to the largest force


def environment() -> dict[str, str]:
    return os.environ | {"OMP_NUM_THREADS": "1", "NPROC": "1", "PYTHONPATH": str(TESTS)}


def mpirun(processes: int, *command: object) -> "subprocess.CompletedProcess[str]":
    line = [BIN / "mpirun", "-np", processes, *command]
    return subprocess.run(
        list(map(str, line)), env=environment(), capture_output=True, text=True, check=False, timeout=300
    )


def lammps_command(processes: int, script: Path, *switches: object) -> "subprocess.CompletedProcess[str]":
    return mpirun(processes, BIN / "dpmodel", "lammps", "-in", script, "-log", "none", *switches)


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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with models and data files for scripts."""
    path = tmp_path_factory.mktemp("lammps")
    for seed in (0, 1):
        write_model(path / f"model{seed}.dp", model_file(seed))
    for name, system in {"box": BOX, "wide": WIDE}.items():
        lmp = lammps_with(system)
        lmp.commands_string(f"pair_style zero 4.0\npair_coeff * *\nwrite_data {path}/{name}.data nocoeff")
    return path


def script(folder: Path, *lines: str, style: str = "", data: str = "box.data", setup: str = "") -> Path:
    path = folder / "in.test"
    style = style or f"pair_style dpmodel {folder}/model0.dp"
    text = ["units metal", setup, f"read_data {folder}/{data}", style, "pair_coeff * * O H", *lines]
    path.write_text("\n".join(text))
    return path


def dumped(path: Path) -> np.ndarray:
    """The numbers of the last frame of a dump, ordered by atom."""
    frame = path.read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
    rows = np.array([line.split() for line in frame], dtype=float)
    return rows[rows[:, 0].argsort(), 1:]


@pytest.mark.slow
def test_processes_do_not_change_a_trajectory(folder: Path) -> None:
    """Atoms cross from process to process on the way; what differs after 200 steps grew from rounding."""
    lines = ["velocity all create 3000 1 loop all", "timestep 0.001", "fix 1 all nve", "run 200"]
    dump = f"write_dump all custom {folder}/end id xu yu zu modify format float %.15g"
    ends = []
    for processes in (1, 2, 3, 4):
        result = lammps_command(processes, script(folder, *lines, dump))
        assert result.returncode == 0, result.stderr
        assert f"on {processes} procs for 200 steps" in result.stdout
        ends.append(dumped(folder / "end"))
    for end in ends[1:]:
        np.testing.assert_allclose(end, ends[0], rtol=0, atol=1e-10)
    assert np.abs(ends[0] - BOX.x).max() > 1.0


def test_domains_of_any_size(folder: Path) -> None:
    """Balanced domains, and LAMMPS without Newton's law: the same energy."""
    tiled = ["comm_style tiled", "balance 1.0 rcb", "run 0", 'print "energy $(pe:%.15g)"']
    result = lammps_command(3, script(folder, *tiled, setup="newton off", data="wide.data"))
    assert result.returncode == 0, result.stderr
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("energy")]
    np.testing.assert_allclose(float(line.split()[1]), expected(WIDE).energy[0], rtol=1e-12)


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
    frame = WaterData(TESTS.parent / "examples" / "water" / "data" / "valid_16").frame(0).structure
    assert frame.cell is not None
    x = frame.positions @ np.linalg.inv(frame.cell) % 1.0 @ frame.cell
    lmp = lammps_with(System(x, frame.types, frame.cell))
    attach(lmp, [load(TESTS.parent / "examples" / "water" / "water.dp", "torch")], ["O", "H"])
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


def test_a_restart_goes_on_as_if_nothing_had_happened(folder: Path) -> None:
    head = "timestep 0.001\nfix 1 all nve"
    whole = lammps_with(BOX)
    attach(whole, [potential()], ["O", "H"])
    whole.commands_string(f"velocity all create 1000 1\n{head}\nrun 10\nwrite_restart {folder}/restart\nrun 10")
    again = type(whole)(cmdargs=["-log", "none", "-screen", "none"])
    again.command(f"read_restart {folder}/restart")
    attach(again, [potential()], ["O", "H"])
    again.commands_string(f"{head}\nrun 10")
    assert again.extract_global("ntimestep") == 20
    between = ordered(again, "x") - ordered(whole, "x")
    lengths = np.diag(BOX.cell)  # atoms are put back into the box at different steps
    np.testing.assert_allclose(between - lengths * np.round(between / lengths), 0.0, atol=1e-12)


def test_rerun_reads_every_frame_anew(folder: Path) -> None:
    """LAMMPS counts no rebuilt neighbor lists in a rerun: whoever relied on the count would keep the first."""
    lmp = lammps_with(BOX)
    attach(lmp, [potential()], ["O", "H"])
    lmp.commands_string("velocity all create 9000 1\ntimestep 0.002\nfix 1 all nve\nthermo 10")
    lmp.commands_string(f"dump d all custom 20 {folder}/dump id type x y z\ndump_modify d sort id format float %.15g")
    lmp.command("run 40")
    energy = lmp.get_thermo("pe")
    lmp.commands_string(f"undump d\nrerun {folder}/dump dump x y z")
    np.testing.assert_allclose(lmp.get_thermo("pe"), energy, rtol=1e-11)


def test_hybrid_with_atoms_that_the_model_does_not_know(folder: Path) -> None:
    """zbl acts on all; dpmodel on the first type only, and the sum on an atom is that of both."""
    both, alone = (lammps_with(BOX) for _ in range(2))
    zbl = "pair_coeff 1 1 zbl 8 8\npair_coeff 1 2 zbl 8 1\npair_coeff 2 2 zbl 1 1"
    both.commands_string(f"pair_style hybrid/overlay zbl 1.0 2.0 zero 4.0 full\n{zbl}\npair_coeff 1 1 zero")
    Pair(both, [potential()], ["O", None])
    alone.commands_string(
        "pair_style zbl 1.0 2.0\npair_coeff 1 1 8 8\npair_coeff 1 2 8 1\npair_coeff 2 2 1 1\nfix 1 all nve"
    )
    for lmp in (both, alone):
        lmp.command("run 0")
    oxygen = BOX.types == 0
    p = expected(BOX._replace(x=BOX.x[oxygen], types=BOX.types[oxygen]))
    right = ordered(alone, "f")
    right[oxygen] += p.forces[0]
    np.testing.assert_allclose(ordered(both, "f"), right, rtol=0, atol=EXACT * np.abs(p.forces).max())
    np.testing.assert_allclose(both.get_thermo("pe"), alone.get_thermo("pe") + p.energy[0], rtol=1e-12)


def test_hybrid_from_a_script(folder: Path) -> None:
    path = folder / "in.hybrid"
    path.write_text(
        f"""
        units metal
        read_data {folder}/box.data
        pair_style hybrid/overlay zbl 1.0 2.0 dpmodel {folder}/model0.dp backend numpy
        pair_coeff 1 2 zbl 8 1
        pair_coeff 2 2 zbl 1 1
        pair_coeff * * dpmodel O H
        pair_coeff 1 1 zbl 8 8
        run 0
        print "energy $(pe:%.15g)"
        """
    )
    result = lammps_command(1, path)
    assert result.returncode == 0, result.stderr
    zbl = lammps_with(BOX)
    zbl.commands_string("pair_style zbl 1.0 2.0\npair_coeff 1 1 8 8\npair_coeff 1 2 8 1\npair_coeff 2 2 1 1\nrun 0")
    (line,) = [line for line in result.stdout.splitlines() if line.startswith("energy")]
    np.testing.assert_allclose(float(line.split()[1]), zbl.get_thermo("pe") + expected(BOX).energy[0], rtol=1e-12)


def test_several_types_of_one_element() -> None:
    lmp = lammps_with(BOX)
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


# --- model deviation ---


def test_model_deviation(folder: Path) -> None:
    """On two processes, in a script; the columns are deepmd-kit's."""
    options = f"out_freq 2 out_file {folder}/devi.out atomic"
    style = f"pair_style dpmodel {folder}/model0.dp {folder}/model1.dp {options}"
    lines = ["velocity all create 3000 1 loop all", "fix 1 all nve", "run 5", "run 1"]
    result = lammps_command(2, script(folder, *lines, style=style))
    assert result.returncode == 0, result.stderr
    head, *_ = (folder / "devi.out").read_text().splitlines()
    assert head.split() == "# step max_devi_v min_devi_v avg_devi_v max_devi_f min_devi_f avg_devi_f".split()
    rows = np.loadtxt(folder / "devi.out")
    np.testing.assert_array_equal(rows[:, 0], [0, 2, 4, 6])
    both = [expected(BOX, seed=seed) for seed in (0, 1)]
    per_atom = force_deviation(np.stack([p.forces[0] for p in both]))
    half = 0.5 * np.linalg.norm(both[0].forces[0] - both[1].forces[0], axis=1)  # of two models, each from the mean
    np.testing.assert_allclose(per_atom, half, rtol=1e-12)
    np.testing.assert_allclose(rows[0, 7:], half, rtol=1e-6)
    np.testing.assert_allclose(rows[0, 4:7], [half.max(), half.min(), half.mean()], rtol=1e-6)
    v = 0.5 * np.abs(both[0].virial[0] - both[1].virial[0]) / 8
    np.testing.assert_allclose(rows[0, 1:4], [v.max(), v.min(), np.sqrt((v**2).mean())], rtol=1e-6)


def test_the_first_model_drives_and_deviations_can_be_relative(tmp_path: Path) -> None:
    from dpmodel.interfaces.lammps.deviation import DeviationFile

    lmp = lammps_with(BOX)
    lmp.commands_string("pair_style zero 4.0 full\npair_coeff * *")
    file = DeviationFile(tmp_path / "devi.out", every=1, relative=0.5, relative_v=0.25)
    Pair(lmp, [potential(), potential(seed=1)], ["O", "H"], deviation=file)
    lmp.command("run 0")
    check(lmp, BOX)
    f, g = (expected(BOX, seed=seed).forces[0] for seed in (0, 1))
    relative = 0.5 * np.linalg.norm(f - g, axis=1) / (np.linalg.norm(0.5 * (f + g), axis=1) + 0.5)
    v, w = (expected(BOX, seed=seed).virial[0] / 8 for seed in (0, 1))
    relative_v = 0.5 * np.abs(v - w) / (np.abs(0.5 * (v + w)) + 0.25)
    row = np.loadtxt(tmp_path / "devi.out")
    np.testing.assert_allclose(row[[1, 4]], [relative_v.max(), relative.max()], rtol=1e-6)
    file.close()


# --- errors ---


def test_an_exception_in_the_model_comes_out_of_the_command_that_runs() -> None:
    lmp = lammps_with(BOX)
    pair = attach(lmp, [potential()], ["O", "H"])
    evaluate = pair._evaluate

    def fail(*given: Any) -> Any:
        if pair._last_step == 3:
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
        patch.object(Evaluator, "share", return_value=nothing),
        pytest.raises(DpmodelError, match="energy or the virial is not a finite number"),
    ):
        lmp.command("run 0")


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
    with pytest.raises(InputError, match=r"neighbor list has \d+ of the \d+ pairs within 4 angstrom.*special_bonds"):
        lmp.command("run 0")
    assert pair.comm.size == 1


@pytest.mark.parametrize("factors", ["", "special_bonds lj/coul 1 1 1"])
def test_a_script_with_bonds(folder: Path, factors: str) -> None:
    bonded = lammps_with(BOX, setup="atom_style bond")
    bonded.commands_string("pair_style zero 4.0 full\npair_coeff * *")
    data = folder / "bonds.data"
    text = (folder / "box.data").read_text().replace("2 atom types", "2 atom types\n1 bonds\n1 bond types")
    atoms = text[text.index("Atoms") :].splitlines()
    rows = [line.split() for line in atoms[2:10]]
    bond = [f"{row[0]} 1 {' '.join(row[1:])}" for row in rows]
    data.write_text(text[: text.index("Atoms")] + "Atoms # bond\n\n" + "\n".join(bond) + "\n\nBonds\n\n1 1 1 2\n")
    lines = [factors, "bond_style zero", "bond_coeff *", "run 0", 'print "energy $(pe:%.15g)"']
    path = script(folder, *lines, data="bonds.data", setup="atom_style bond")
    result = lammps_command(1, path)
    if factors:
        assert result.returncode == 0, result.stderr
        (line,) = [line for line in result.stdout.splitlines() if line.startswith("energy")]
        np.testing.assert_allclose(float(line.split()[1]), expected(BOX).energy[0], rtol=1e-12)
    else:
        assert result.returncode != 0
        assert "'special_bonds lj/coul 1 1 1'" in result.stderr


def test_what_cannot_be_used_is_refused() -> None:
    lmp = lammps_with(BOX, units="lj")
    with pytest.raises(InputError, match=r"units lj have no electronvolt.*use one of metal, real"):
        attach(lmp, [potential()], ["O", "H"])
    lmp = lammps_with(BOX)
    with pytest.raises(InputError, match="there is no model"):
        attach(lmp, [], ["O", "H"])
    with pytest.raises(InputError, match="an element for each of the 2 atom types, got 1: O"):
        attach(lmp, [potential()], ["O"])
    with pytest.raises(
        InputError, match=r"'o' is an element which the model does not know: it knows O, H; did you mean 'O'"
    ):
        attach(lmp, [potential()], ["o", "H"])
    nameless = type(lmp)(cmdargs=["-log", "none", "-screen", "none"])
    nameless.commands_string("units metal\natom_modify id no\nregion b block 0 9 0 9 0 9\ncreate_box 2 b")
    nameless.command("create_atoms 1 single 1 1 1")
    nameless.command("mass * 1")
    attach(nameless, [potential()], ["O", "H"])
    with pytest.raises(InputError, match="leave out 'atom_modify id no'"):
        nameless.command("run 0")
    lmp.command("fix push all setforce 0 0 0")
    with pytest.raises(InputError, match=r"fix push is there before dpmodel.*Put fixes after pair_coeff"):
        attach(lmp, [potential()], ["O", "H"])


def test_a_deviation_that_cannot_be_written(tmp_path: Path) -> None:
    lmp = lammps_with(BOX)
    attach(lmp, [potential(), potential(seed=1)], ["O", "H"], out_file=tmp_path / "nowhere" / "devi.out")
    with pytest.raises(FileError, match=r"devi.out: cannot write the model deviation \(No such file or directory\)"):
        lmp.command("run 0")


def test_another_pair_style_is_noticed() -> None:
    lmp = lammps_with(BOX)
    attach(lmp, [potential()], ["O", "H"])
    lmp.commands_string("pair_style lj/cut 3.0\npair_coeff * * 1 1")
    with pytest.raises(InputError, match="neighbor list is gone: was pair_style changed"):
        lmp.command("run 0")


@pytest.mark.parametrize(
    ("style", "coefficients", "message"),
    [
        ("pair_style dpmodel nothing.dp", "O H", "nothing.dp: there is no such file"),
        ("pair_style dpmodel {model} backnd torch", "O H", "'backnd' is no option; did you mean 'backend'?"),
        ("pair_style dpmodel {model} backend abacus", "O H", "there is no backend 'abacus'"),
        ("pair_style dpmodel {model}", "O C", "'C' is an element which the model does not know: it knows O, H"),
        ("pair_style dpmodel {model}", "O", "pair_coeff should name an element for each of the 2 atom types, got 1: O"),
        ("pair_style dpmodel {model}", "O NULL", "NULL would leave atoms without any force"),
    ],
)
def test_a_script_that_cannot_be_used(folder: Path, style: str, coefficients: str, message: str) -> None:
    """One line, once, and the same exit code as for all commands."""
    path = folder / "in.bad"
    style = style.format(model=folder / "model0.dp")
    path.write_text(f"units metal\nread_data {folder}/box.data\n{style}\npair_coeff * * {coefficients}\nrun 1\n")
    result = lammps_command(2 if "nothing" in style else 1, path)
    assert result.returncode == 2, result.stderr
    assert "Loop time" not in result.stdout
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert message in line


def test_errors_of_lammps_end_the_program(folder: Path) -> None:
    result = lammps_command(2, script(folder, "fix 1 all nveeee", "run 1"))
    assert result.returncode == 1
    assert "nveeee" in result.stderr
    assert "Loop time" not in result.stdout


def test_loops_and_variables_of_lammps(folder: Path) -> None:
    """What follows the two lines is LAMMPS' own: jumps, and variables from the command line."""
    lines = ["fix 1 all nve", "variable k loop 3", "label again", "run ${steps}", "next k", "jump SELF again"]
    style = "pair_style dpmodel &\n ${model} &\n backend numpy  # and no more"
    path = script(folder, *lines, 'print "at step $(step)"', style=style)
    result = lammps_command(1, path, "-var", "steps", 2, "-var", "model", folder / "model0.dp")
    assert result.returncode == 0, result.stderr
    assert "at step 6" in result.stdout
