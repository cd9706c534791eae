"""What LAMMPS asks of its pair style: the model's numbers, or one line that says what to write instead."""

from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.engines.lammps import attach
from dpmodel.engines.lammps.masses import MASSES
from dpmodel.engines.lammps.styles import ROWS, advice
from dpmodel.errors import InputError
from lammps_asks import asking_styles
from lammps_runs import BOX
from lammps_systems import System, expected, lammps_with, local, ordered, potential, stress_of

LISTED = Path(__file__).with_name("lammps_styles.txt")
CATEGORIES = {"integrate": "run_style", "minimize": "min_style"}  # names of lists, and the commands for them
ATOMIC = "atom_modify map yes"
VOLUME = float(np.linalg.det(BOX.cell))


def attached(setup: str = "", system: Any = BOX) -> Any:
    lmp = lammps_with(system, setup=setup)
    attach(lmp, potential(), ["O", "H"])
    return lmp


def rows(outcome: str) -> list[tuple[str, str]]:
    return [(row.category, style) for row in ROWS if row.outcome == outcome for style in row.styles]


# --- every style ---


def neutral_styles() -> dict[str, set[str]]:
    """By category, the styles that do not touch the pair style."""
    sections = [part.partition("]") for part in LISTED.read_text().split("\n[")[1:]]
    return {name: set(words.split()) for name, _, words in sections}


@pytest.mark.parametrize("category", ["command", "integrate", "minimize", "fix", "compute"])
def test_every_style_of_lammps_is_in_one_of_the_tables(category: str) -> None:
    """A style that a new LAMMPS brings has to be put into ``ROWS`` or into the list, as ``lammps_asks`` finds it."""
    styles = set(attached().available_styles(category))
    table = {style for row in ROWS if row.category == CATEGORIES.get(category, category) for style in row.styles}
    neutral = neutral_styles()[category]
    assert not table & neutral
    assert styles <= table | neutral
    table -= {"pair_write"}  # LAMMPS does not list commands that are not classes
    assert table <= styles


@pytest.mark.slow
def test_the_list_of_styles_that_do_not_ask_is_that_of_the_library() -> None:
    """Read from the machine code of the installed LAMMPS."""
    asking = asking_styles()
    if asking is None:
        pytest.skip("no objdump, or another machine than x86-64")
    in_table = {style for row in ROWS for style in row.styles}
    assert len(asking) > 100
    assert asking <= in_table
    assert not asking & set(chain.from_iterable(neutral_styles().values()))


# --- the model's numbers ---


def test_pair_means_the_model() -> None:
    """In the computes that have this word, in thermodynamic output, and for every atom."""
    lmp = attached()
    lmp.commands_string(
        """
        compute e all pe pair
        compute p all pressure NULL pair
        compute ea all pe/atom pair
        compute sa all stress/atom NULL pair
        compute mine all pair dpmodel
        thermo_style custom step pe evdwl epair c_e c_p c_mine
        run 0
        """
    )
    p = expected(BOX, atom_virial=True)
    for name in ("pe", "evdwl", "epair"):
        np.testing.assert_allclose(lmp.get_thermo(name), p.energy[0], rtol=1e-12)
    for name in ("e", "mine"):
        np.testing.assert_allclose(lmp.extract_compute(name, 0, 0), p.energy[0], rtol=1e-12)
    stress = stress_of(p.virial[0], VOLUME, lmp)
    np.testing.assert_allclose(np.array(lmp.extract_compute("p", 0, 1)[:6]), stress, atol=1e-9 * np.abs(stress).max())
    np.testing.assert_allclose(local(lmp, "ea", "vector"), p.atom_energy[0], rtol=1e-11)
    split = np.array([stress_of(0.5 * (v + v.T), -1.0, lmp) for v in p.atom_virial[0]])
    np.testing.assert_allclose(local(lmp, "sa", "array"), split, rtol=0, atol=1e-9 * np.abs(split).max())


@pytest.mark.parametrize("line", ["run_style respa 2 2", "run_style respa 2 3 pair 1", "run_style respa 1"])
def test_respa_is_a_trajectory_of_the_model(line: str) -> None:
    """At the outermost level the steps are those of Verlet, at the inner one those of shorter Verlet steps."""
    plain, split = attached(), attached()
    inner = 3 if "pair 1" in line else 1
    common = "velocity all create 300 1\nfix 1 all nve\n"
    plain.commands_string(f"{common}timestep {0.0006 / inner}\nrun {6 * inner}")
    split.commands_string(f"{common}timestep 0.0006\n{line}\nrun 6")
    assert np.abs(ordered(plain, "x") - BOX.x).max() > 1e-3
    np.testing.assert_allclose(ordered(split, "x"), ordered(plain, "x"), rtol=0, atol=1e-11)
    np.testing.assert_allclose(split.get_thermo("pe"), plain.get_thermo("pe"), rtol=1e-11)


def test_differences_of_energies_are_forces() -> None:
    """fix numdiff and numdiff/virial move atoms by themselves."""
    lmp = attached(ATOMIC)
    lmp.commands_string("fix f all numdiff 1 1e-4\nfix v all numdiff/virial 1 1e-4\nrun 0")
    p = expected(BOX)
    forces = np.array(lmp.numpy.extract_fix("f", 1, 2))[: len(BOX.x)][np.argsort(local(lmp, "id"))]
    np.testing.assert_allclose(forces, p.forces[0], rtol=0, atol=1e-5 * np.abs(p.forces).max())
    stress = stress_of(p.virial[0], VOLUME, lmp)[[0, 1, 2, 5, 4, 3]]  # Voigt's order there
    virial = [lmp.extract_fix("v", 0, 1, k) for k in range(6)]
    np.testing.assert_allclose(virial, stress, rtol=0, atol=1e-4 * np.abs(stress).max())


def test_elastic_constants() -> None:
    """compute born/matrix numdiff against second differences of the library's energies.

    It is the derivative by Lagrange's strain; one by a stretch along x has the virial in it.
    """
    lmp = attached(ATOMIC)
    lmp.commands_string("compute v all pressure NULL virial\ncompute b all born/matrix numdiff 1e-5 v")
    lmp.commands_string("thermo_style custom step pe c_v[1] c_b[1] c_b[2]\nrun 0")
    matrix = lmp.extract_compute("b", 0, 1)

    def energy(*stretch: float) -> float:
        strain = np.diag([1 + stretch[0], 1 + stretch[1], 1.0])
        return float(expected(BOX._replace(x=BOX.x @ strain, cell=BOX.cell @ strain)).energy[0])

    h = 2e-4
    for k in (0, 1):
        step = [h * (k == i) for i in (0, 1)]
        second = (energy(*step) - 2 * energy(0, 0) + energy(*(-s for s in step))) / h**2
        np.testing.assert_allclose(matrix[k], second + expected(BOX).virial[0][k, k], rtol=1e-4)


def test_third_derivatives(tmp_path: Path) -> None:
    """Two differences of forces are a difference of Hessians: here for the first atom's x."""
    lmp = attached(ATOMIC)
    lmp.command(f"third_order all regular 1e-3 file {tmp_path}/third")
    h = 1e-3
    moved = [BOX.x + np.eye(len(BOX.x))[0][:, None] * [sign * h, 0, 0] for sign in (1, -1)]
    plus, minus = (expected(BOX._replace(x=x), hessian=True).hessian[0] for x in moved)
    right = -(plus - minus)[0, 0] / (2 * h)  # (n, 3): of the first atom's x, twice, and all
    table = np.loadtxt(tmp_path / "third", ndmin=2)
    mine = table[(table[:, 0] == 1) & (table[:, 1] == 1) & (table[:, 3] == 1)] if table.shape[1] > 5 else None
    assert mine is not None
    shown = np.zeros_like(right)
    for row in table:
        i, a, j, b, k = (int(v) for v in row[:5])
        if (i, a, j, b) == (1, 1, 1, 1):
            shown[k - 1] = row[5:8]
    np.testing.assert_allclose(np.abs(shown), np.abs(right), rtol=0, atol=1e-3 * np.abs(right).max())


@pytest.mark.parametrize(
    ("fix", "column"),
    [
        ("gcmc 1 20 0 2 29494 300.0 -1.0 0.1", 3),
        ("gcmc 1 0 20 2 29494 300.0 -1.0 0.3", 1),
        ("widom 1 5 2 123 300", 1),
    ],
)
def test_monte_carlo_without_full_energy(fix: str, column: int) -> None:
    """LAMMPS sees that the pair style has no energies of single atoms, and takes energies of all: the library's."""
    ends = []
    for words in ("", " full_energy"):
        lmp = attached(ATOMIC)
        lmp.commands_string(f"fix g all {fix}{words}\nrun 3")
        ends.append([lmp.get_thermo("pe"), lmp.get_thermo("atoms"), lmp.extract_fix("g", 0, 1, column - 1)])
        now = BOX._replace(x=ordered(lmp, "x"), types=ordered(lmp, "type") - 1)
        np.testing.assert_allclose(ends[-1][0], expected(now).energy[0], rtol=1e-12)
    np.testing.assert_allclose(ends[0], ends[1], rtol=1e-12)
    assert ends[0][2] not in (0.0, 1.0)


GAS = System.random(100, np.diag([18.0, 18.0, 18.0]), seed=3)  # sgcmc wants a box of four cutoffs


@pytest.mark.parametrize(
    ("system", "fix"),
    [(BOX, "atom/swap 1 20 29494 1 ke no types 1 2"), (GAS, "sgcmc 1 0.1 1 0.0")],
)
def test_swaps_go_by_the_energies_of_the_model(system: System, fix: str) -> None:
    """At 1 K all of them lower the energy; types change whether or not LAMMPS makes its lists anew."""
    lmp = attached(ATOMIC, system)
    lmp.commands_string(f"fix s all {fix}\nrun 2\nunfix s\nrun 0")
    types = ordered(lmp, "type") - 1
    assert (types != system.types).any()
    before, now = expected(system), expected(system._replace(types=types, x=ordered(lmp, "x")))
    assert now.energy[0] < before.energy[0]
    np.testing.assert_allclose(ordered(lmp, "f"), now.forces[0], rtol=0, atol=1e-10 * np.abs(now.forces).max())
    np.testing.assert_allclose(lmp.get_thermo("pe"), now.energy[0], rtol=1e-12)


def test_area_that_is_stretched() -> None:
    """compute fep/ta: the energy after a change of the box against the library's."""
    lmp = attached()
    lmp.commands_string("compute a all fep/ta 300 xy 1.01\nthermo_style custom step pe c_a[1]\nrun 0")
    scale = np.sqrt(1.01)
    strain = np.diag([scale, scale, 1 / 1.01])
    p, q = expected(BOX), expected(BOX._replace(x=BOX.x @ strain, cell=BOX.cell @ strain))
    np.testing.assert_allclose(lmp.extract_compute("a", 0, 1)[0], q.energy[0] - p.energy[0], rtol=1e-8)


def test_hybrid_monte_carlo_conserves_what_it_should() -> None:
    lmp = attached(ATOMIC)
    lmp.commands_string("timestep 0.0002\nfix 1 all nve\nfix h all hmc 10 123 300\nrun 30")
    p = expected(BOX._replace(x=ordered(lmp, "x")))
    np.testing.assert_allclose(lmp.get_thermo("pe"), p.energy[0], rtol=1e-10)
    assert np.abs(ordered(lmp, "x") - BOX.x).max() > 1e-3


# --- one line ---

LINES = {  # what follows the name of a style, where that is not ``all``
    "centroid/stress/atom": "NULL virial",
    "heat/flux/virial/tally": "other",
    "heat/flux/tally": "other",
    "force/tally": "other",
    "pe/tally": "other",
    "stress/tally": "other",
    "pe/mol/tally": "other",
    "heat/flux": "ke pe s",
}
BEFORE = "compute ke all ke/atom\ncompute pe all pe/atom\ncompute s all stress/atom NULL virial\ngroup other type 2"


@pytest.mark.parametrize(("category", "style"), rows("refused"))
def test_what_a_model_does_not_have_is_refused_before_the_run(category: str, style: str) -> None:
    lmp = attached("atom_style full")
    row = next(row for row in ROWS if row.outcome == "refused" and style in row.styles)
    lmp.commands_string(f"{BEFORE}\n{category} c all {style} {LINES[style]}\nfix 1 all nve")
    with pytest.raises(InputError) as error:
        lmp.command("run 3")
    assert str(error.value) == f"{category} c ({style}) cannot be had with pair_style dpmodel: {row.words}"
    assert lmp.extract_global("ntimestep") == 0
    lmp.commands_string(f"un{category} c\nrun 1")
    assert lmp.extract_global("ntimestep") == 1


@pytest.mark.parametrize(
    "lines",
    [
        "pair_write 1 1 100 r 1 3 {} O-O",
        "compute c all group/group all",
        "compute c all pair/local eng\ndump d all local 1 {} c_c",
        "compute c all stress/cartesian x 1 NULL 0",
        "compute c all stress/spherical 0 0 0 1 3",
        "compute c all stress/mop x 2 pair",
        "compute c all stress/mop/profile x lower 0.5 pair",
        "variable x equal 1\nfix c all adapt 1 pair dpmodel epsilon 1 1 v_x",
        "compute c all born/matrix",
        "run_style respa 2 2 inner 1 2.0 3.0 outer 2",
    ],
)
def test_what_lammps_refuses_by_itself(lines: str, tmp_path: Path) -> None:
    """As for its own many-body potentials; nothing is computed."""
    lmp = attached(ATOMIC)
    with pytest.raises(Exception, match="not support"):
        lmp.commands_string(lines.format(tmp_path / "file") + "\nrun 1")
    assert lmp.extract_global("ntimestep") == 0


def test_advice_after_lammps_own_words() -> None:
    assert "use compute pe/atom" in advice("Pair style does not support compute group/group (src/compute.cpp:116)")
    assert "use compute pe/atom" in advice("Pair style does not support compute pair/local (src/compute.cpp:116)")
    assert "dpmodel eval" in advice("Pair style dpmodel does not support pair_write (src/src/pair.cpp:1811)")
    assert "chunk/atom" in advice("Pair style dpmodel does not support compute stress/mop/profile (src/x.cpp:1)")
    assert "no parameters to change" in advice("Fix adapt pair style dpmodel param epsilon not supported (src/x.cpp:1)")
    assert not advice("Pair style does not support compute stressed/mop")
    assert not advice("Lost atoms: original 3 current 2")


# --- masses ---


def test_masses_of_other_elements_are_questioned() -> None:
    lmp = lammps_with(BOX)
    lmp.commands_string("mass 1 1.008\nmass 2 15.999")
    attach(lmp, potential(), ["O", "H"])
    with pytest.warns(UserWarning, match="pair_coeff") as met:
        lmp.command("run 0")
    (warning,) = met
    assert str(warning.message) == (
        "pair_coeff names O for atom type 1 of mass 1.008, that of H; H for atom type 2 of mass 15.999, that of O"
    )


@pytest.mark.parametrize("mass", [1.008, 2.014, 3.016049, 1.1, 0.5])
def test_isotopes_and_shifted_masses_are_not(mass: float) -> None:
    """Deuterium, tritium, and what people choose for longer time steps."""
    lmp = lammps_with(BOX)
    lmp.commands_string(f"mass 2 {mass}")
    attach(lmp, potential(), ["O", "H"])
    lmp.command("run 0")


def test_masses_are_those_of_ase() -> None:
    data = pytest.importorskip("ase.data")
    for symbol, mass in MASSES.items():
        np.testing.assert_allclose(mass, data.atomic_masses[data.atomic_numbers[symbol]], rtol=1e-4)
