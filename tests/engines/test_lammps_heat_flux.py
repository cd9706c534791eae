"""Heat flux and uncertainty in LAMMPS are the library's, on any number of processes, where its own tools read them."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dpmodel.data.xyz import read_xyz
from dpmodel.engines.lammps import attach, install
from dpmodel.engines.lammps.library import UNITS
from dpmodel.errors import DpmodelError, InputError
from dpmodel.potential import Potential
from lammps_heat_flux import MASSES
from lammps_runs import BOX, TESTS, lammps_command, make_folder, mpirun, write_script
from lammps_systems import lammps_with, local, ordered, potential


@pytest.mark.parametrize("backend", ["numpy", "torch", "paddle"])
def test_processes_share_the_sum_over_all_images(backend: str) -> None:
    """Two processes and one; orthogonal, triclinic, smaller than the cutoff, and a process without atoms."""
    result = mpirun(2, sys.executable, TESTS / "lammps_heat_flux.py", backend)
    assert result.returncode == 0, result.stderr
    differences = json.loads(result.stdout)
    assert len(differences) == 24
    for where, (difference, size) in differences.items():
        assert difference < (1e-6 if where.startswith("file") else 1e-10) * size, where


def test_jax_has_it_on_one_process_and_refuses_on_two(tmp_path: Path) -> None:
    make_folder(tmp_path)
    lines = """
        units metal
        read_data box.data
        pair_style dpmodel model0.dp backend jax uncertainty u.out
        pair_coeff * * O H
        velocity all create 600 1 loop all
        compute flux all dpmodel/heat/flux
        thermo_style custom step c_flux[1]
        run 0
        print "flux $(c_flux[1]:%.15g) $(c_flux[4]:%.15g)"
        """
    script = write_script(tmp_path / "in.flux", lines)
    alone = lammps_command(1, script)
    assert alone.returncode == 0, alone.stderr
    uncertainties = [uncertainty_of(tmp_path)]
    two = lammps_command(2, script)
    uncertainties.append(uncertainty_of(tmp_path))
    assert two.returncode == 2
    errors = [line for line in two.stderr.splitlines() if line.startswith("error")]
    assert errors
    assert all("compute dpmodel/heat/flux: programs that jax compiles" in line for line in errors)
    write_script(script, lines.replace("jax", "torch"))
    torch = lammps_command(2, script)
    flux = [[float(x) for x in o.split("\nflux ")[1].splitlines()[0].split()] for o in (alone.stdout, torch.stdout)]
    np.testing.assert_allclose(flux[0], flux[1], rtol=1e-9)
    of_torch = uncertainty_of(tmp_path)
    assert len(uncertainties) == 2
    for each in uncertainties:
        np.testing.assert_allclose(each, of_torch, rtol=1e-5)


def uncertainty_of(folder: Path) -> np.ndarray:
    """The numbers of the one line of ``u.out``, which is then no more."""
    [row] = np.atleast_2d(np.loadtxt(folder / "u.out"))
    (folder / "u.out").unlink()
    return row[1:]


@pytest.mark.parametrize("name", UNITS)
def test_units_are_energy_times_velocity(name: str) -> None:
    energy, length = (1.0 / unit for unit in UNITS[name])
    lmp = lammps_with(BOX, units=name, length=length)
    attach(lmp, potential(), ["O", "H"])
    v = np.random.default_rng(0).normal(size=(len(BOX.x), 3))
    lmp.numpy.extract_atom("v")[: len(v)] = v[local(lmp, "id").astype(int) - 1] * length  # angstrom per unit of time
    lmp.commands_string("compute flux all dpmodel/heat/flux\nthermo_style custom step c_flux[1]\nrun 0")
    flux = np.array(lmp.extract_compute("flux", 0, 1)[:6])
    p = potential()
    interactions = p.heat_flux(BOX.x, BOX.types, BOX.cell, v, masses=[0.0, 0.0])
    kinetic = 0.5 * MASSES[BOX.types] * lmp.extract_global("mvv2e") * length**2 * (v**2).sum(axis=1) @ v * length
    convective = interactions.convective[0] * energy * length + kinetic
    virial = interactions.virial[0] * energy * length
    np.testing.assert_allclose(flux[3:], convective, rtol=1e-10)
    np.testing.assert_allclose(flux[:3], virial + convective, rtol=0, atol=1e-10 * np.abs(flux).max())


def test_correlations_read_it_at_the_end_of_the_step(tmp_path: Path) -> None:
    """With the velocities of that step, not those half a step before."""
    lmp = lammps_with(BOX)
    attach(lmp, potential(), ["O", "H"])
    lmp.commands_string(
        f"""
        velocity all create 600 1
        timestep 0.0005
        fix 1 all nve
        compute flux all dpmodel/heat/flux
        fix c all ave/correlate 2 1 2 c_flux[1] c_flux[2] c_flux[3] type auto ave running file {tmp_path}/correlation
        run 2
        """
    )
    lmp.command("run 0 post no")
    flux = np.array(lmp.extract_compute("flux", 0, 1)[:3])
    x, v = ordered(lmp, "x"), ordered(lmp, "v") / 1000.0
    right = 1000.0 * potential().heat_flux(x, BOX.types, BOX.cell, v, masses=MASSES).total[0]
    np.testing.assert_allclose(flux, right, rtol=1e-7)
    rows = [line.split() for line in (tmp_path / "correlation").read_text().splitlines()]
    first, both = (np.array(rows[k][3:], dtype=float) for k in (-3, -1))  # mean squares of step 0, of steps 0 and 2
    np.testing.assert_allclose(2 * both - first, flux**2, rtol=1e-4)


def test_what_has_no_heat_flux() -> None:
    lmp = lammps_with(BOX)
    attach(lmp, potential(), ["O", "H"])
    lmp.command("group O type 1")
    with pytest.raises(InputError, match="should be 'compute f all dpmodel/heat/flux'"):
        lmp.command("compute f O dpmodel/heat/flux")
    other = lammps_with(BOX)
    install(other)
    other.commands_string("pair_style zero 4.0\npair_coeff * *\ncompute f all dpmodel/heat/flux")
    other.command("thermo_style custom step c_f[1]")
    with pytest.raises(InputError, match="it needs 'pair_style dpmodel'"):
        other.command("run 0")


LIMITED = """
units metal
read_data box.data
pair_style dpmodel model0.dp max_uncertainty LIMIT out_freq 1
pair_coeff * * O H
velocity all create 600 1 loop all
fix 1 all nve
run 2
print "went on"
"""


def test_a_limit_stops_the_run_and_writes_the_structure(tmp_path: Path) -> None:
    make_folder(tmp_path)
    start = potential().evaluate(BOX.x, BOX.types, BOX.cell, uncertainty=True).atom_uncertainty[0]
    script = write_script(tmp_path / "in.limited", LIMITED.replace("LIMIT", f"{0.9 * start.max()}"))
    result = lammps_command(2, script)
    assert result.returncode == 2
    [error] = [line for line in result.stderr.splitlines() if line.startswith("error")]
    assert f"step 0: the energy of atom {start.argmax() + 1} is uncertain by {start.max():.3g} eV, more than" in error
    assert "went on" not in result.stdout
    [atoms] = read_xyz(tmp_path / "uncertainty.out.xyz")
    types = ["OH".index(symbol) for symbol in atoms.symbols]
    again = potential().evaluate(atoms.positions, types, atoms.cell, pbc=atoms.pbc, uncertainty=True)
    np.testing.assert_allclose(atoms.arrays["atom_uncertainty"], again.atom_uncertainty[0], rtol=1e-5)
    np.testing.assert_allclose(again.atom_uncertainty[0], start, rtol=1e-5)
    write_script(script, LIMITED.replace("LIMIT", f"{10 * start.max()}"))
    result = lammps_command(1, script)
    assert result.returncode == 0, result.stderr
    assert "went on" in result.stdout
    assert len((tmp_path / "uncertainty.out").read_text().splitlines()) == 4


def test_a_program_that_drives_lammps_gets_the_error_and_may_go_on(tmp_path: Path) -> None:
    lmp = lammps_with(BOX)
    path = tmp_path / "u.out"
    attach(lmp, potential(), ["O", "H"], uncertainty=path, max_uncertainty=1e-9, out_freq=3)
    lmp.commands_string("fix 1 all nve")
    with pytest.raises(DpmodelError, match=r"step 0: the energy of atom \d is uncertain by .*; the structure is in"):
        lmp.command("run 1")
    assert path.with_name("u.out.xyz").exists()
    lmp.commands_string("pair_style zero 4.0\npair_coeff * *\nrun 1")


def test_what_has_no_uncertainty(tmp_path: Path) -> None:
    unknown = Potential(replace(potential().file, extras={}), potential().engine)
    lmp = lammps_with(BOX)
    with pytest.raises(InputError, match="does not know its uncertainty: let 'dpmodel calibrate'"):
        attach(lmp, unknown, ["O", "H"], uncertainty=tmp_path / "u.out")
    attach(lmp, unknown, ["O", "H"])
    lmp.commands_string("compute u all dpmodel/uncertainty\ncompute m all reduce max c_u\nthermo_style custom c_m")
    with pytest.raises(InputError, match="does not know its uncertainty"):
        lmp.command("run 0")
