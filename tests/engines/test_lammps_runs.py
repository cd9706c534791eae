"""Scripts of LAMMPS as users run them: ``dpmodel lammps -in in.file``, on one process or more."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from dpmodel.engines.deviation import force_deviation
from dpmodel.potential import load
from lammps_runs import BIN, BOX, WIDE, energies, lammps_command, make_folder, mpirun, write_script
from lammps_systems import expected, lammps_with
from trees import TRAINED

ENERGY = 'print "energy $(pe:%.15g)"'
PARTITIONED = "variable k world 0 1\nvariable model world model0.dp model1.dp"
RIGHT = [expected(BOX, seed=seed).energy[0] for seed in (0, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("lammps"))


def script(folder: Path, *lines: str, style: str = "", data: str = "box.data", setup: str = "") -> Path:
    """What is common to scripts, and ``lines`` after it."""
    style = style or "pair_style dpmodel model0.dp"
    start = ["units metal", setup, f"read_data {data}", style, "pair_coeff * * O H"]
    return write_script(folder / "in.test", [*start, *lines])


def dumped(path: Path) -> np.ndarray:
    """The numbers of the last frame of a dump, ordered by atom."""
    frame = path.read_text().split("ITEM: ATOMS")[-1].splitlines()[1:]
    rows = np.array([line.split() for line in frame], dtype=float)
    return rows[rows[:, 0].argsort(), 1:]


@pytest.mark.slow
def test_processes_do_not_change_a_trajectory(folder: Path) -> None:
    """Atoms cross from process to process on the way; what differs after 200 steps grew from rounding."""
    lines = ["velocity all create 3000 1 loop all", "timestep 0.001", "fix 1 all nve", "run 200"]
    dump = "write_dump all custom end id xu yu zu modify format float %.15g"
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
    tiled = ["comm_style tiled", "balance 1.0 rcb", "run 0", ENERGY]
    result = lammps_command(3, script(folder, *tiled, setup="newton off", data="wide.data"))
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(energies(result.stdout), expected(WIDE).energy, rtol=1e-12)


def test_hybrid_from_a_script(folder: Path) -> None:
    path = write_script(
        folder / "in.hybrid",
        """
        units metal
        read_data box.data
        pair_style hybrid/overlay zbl 1.0 2.0 dpmodel model0.dp backend numpy
        pair_coeff 1 2 zbl 8 1
        pair_coeff 2 2 zbl 1 1
        pair_coeff * * dpmodel O H
        pair_coeff 1 1 zbl 8 8
        run 0
        print "energy $(pe:%.15g)"
        """,
    )
    result = lammps_command(1, path)
    assert result.returncode == 0, result.stderr
    zbl = lammps_with(BOX)
    zbl.commands_string("pair_style zbl 1.0 2.0\npair_coeff 1 1 8 8\npair_coeff 1 2 8 1\npair_coeff 2 2 1 1\nrun 0")
    np.testing.assert_allclose(energies(result.stdout), [zbl.get_thermo("pe") + RIGHT[0]], rtol=1e-12)


def test_model_deviation(folder: Path) -> None:
    """On two processes, in a script; the columns are deepmd-kit's."""
    style = "pair_style dpmodel model0.dp model1.dp out_freq 2 out_file devi.out atomic"
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
    lines = [factors, "bond_style zero", "bond_coeff *", "run 0", ENERGY]
    path = script(folder, *lines, data="bonds.data", setup="atom_style bond")
    result = lammps_command(1, path)
    if factors:
        assert result.returncode == 0, result.stderr
        np.testing.assert_allclose(energies(result.stdout), RIGHT[:1], rtol=1e-12)
    else:
        assert result.returncode != 0
        assert "'special_bonds lj/coul 1 1 1'" in result.stderr


@pytest.mark.parametrize(
    ("style", "coefficients", "message"),
    [
        ("pair_style dpmodel nothing.dp", "O H", "nothing.dp: there is no such file"),
        ("pair_style dpmodel model0.dp backnd torch", "O H", "'backnd' is no option; did you mean 'backend'?"),
        ("pair_style dpmodel model0.dp backend abacus", "O H", "there is no backend 'abacus'"),
        ("pair_style dpmodel model0.dp", "O C", "'C' is an element which the model does not know: it knows O, H"),
        (
            "pair_style dpmodel model0.dp",
            "O",
            "pair_coeff should name an element for each of the 2 atom types, got 1: O",
        ),
        ("pair_style dpmodel model0.dp", "O NULL", "NULL would leave atoms without any force"),
        ("pair_style hybrid/overlay dpmodel model0.dp dpmodel model1.dp", "dpmodel 1 O H", "dpmodel can be there once"),
    ],
)
def test_a_script_that_cannot_be_used(folder: Path, style: str, coefficients: str, message: str) -> None:
    """One line, once, and the same exit code as for all commands."""
    setup = "units metal\nread_data box.data\n"
    path = write_script(folder / "in.bad", f"{setup}{style}\npair_coeff * * {coefficients}\nrun 1\n")
    result = lammps_command(2 if "nothing" in style else 1, path)
    assert result.returncode == 2, result.stderr
    assert "Loop time" not in result.stdout
    (line,) = [line for line in result.stderr.splitlines() if line.strip()]
    assert line.startswith("error: ")
    assert message in line


@pytest.mark.parametrize(
    ("style", "message"),
    [
        ("", "Unrecognized fix style 'nveeee'"),
        ("pair_style deepmd graph.pb", "Write 'pair_style dpmodel model.dp' in place of 'pair_style deepmd model.pb'"),
        ("include nothing.mod", "Cannot open input script nothing.mod: No such file or directory"),
    ],
)
def test_errors_of_lammps_end_the_program(folder: Path, style: str, message: str) -> None:
    result = lammps_command(2, script(folder, "fix 1 all nveeee", "run 1", style=style))
    assert result.returncode == 1
    assert (result.stdout + result.stderr).count(message) == 1
    assert "Traceback" not in result.stderr
    assert "Loop time" not in result.stdout


@pytest.mark.parametrize(
    ("switches", "message"),
    [
        (["-in", "nowhere"], "Cannot open input script nowhere"),
        (["-in", "in.test", "-bogus"], "Invalid command-line argument: -bogus"),
        ([], "there is no script: dpmodel lammps -in in.file"),
    ],
)
def test_switches_that_lammps_does_not_know(folder: Path, switches: list[str], message: str) -> None:
    script(folder, "run 0")
    result = mpirun(2, BIN / "dpmodel", "lammps", "-log", "none", *switches, cwd=folder)
    assert result.returncode in (1, 2)
    assert len([line for line in result.stderr.splitlines() if line.startswith("error: ") and message in line]) == 1
    assert "Traceback" not in result.stderr


def test_an_error_of_lammps_is_there_once_on_a_terminal(folder: Path) -> None:
    """LAMMPS has said it where ours would be; what to do about it comes after that."""
    path = script(folder, "compute c all group/group all", "run 1")
    result = subprocess.run(
        [BIN / "dpmodel", "lammps", "-in", path.name, "-log", "none"],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 1
    assert result.stdout.count("Pair style does not support compute group/group") == 1
    assert result.stdout.count("are no sums over pairs: use compute pe/atom") == 1


def test_a_file_with_several_heads(folder: Path) -> None:
    """The line that is missing in the script."""
    file = TRAINED / "mt.ckpt-20.pt"
    result = lammps_command(2, script(folder, "run 0", style=f"pair_style dpmodel {file}"))
    assert result.returncode == 2
    line = f"pair_style dpmodel {file} head A"
    assert result.stderr == f"error: {file} has the heads A, B: choose one, '{line}'\n"
    result = lammps_command(1, script(folder, "run 0", ENERGY, style=line))
    right = load(file, head="A").evaluate(BOX.x, BOX.types, BOX.cell).energy
    np.testing.assert_allclose(energies(result.stdout), right, rtol=1e-12)


# --- scripts of any form ---


@pytest.mark.parametrize("processes", [1, 2])
def test_a_script_from_standard_input(folder: Path, processes: int) -> None:
    path = script(folder, "variable k loop 2", "label again", "run 0", ENERGY, "next k", "jump SELF again")
    command = [str(BIN / name) for name in ("mpirun", "dpmodel")]
    result = subprocess.run(
        [command[0], "-np", str(processes), command[1], "lammps", "-log", "none"],
        cwd=folder, input=path.read_text(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(energies(result.stdout), RIGHT[:1] * 2, rtol=1e-12)


def test_lines_within_other_commands(folder: Path) -> None:
    style = "partition yes 1 pair_style dpmodel model0.dp"
    result = lammps_command(2, script(folder, "run 1 every 1 'print \"energy $(pe:%.15g)\"'", style=style))
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(energies(result.stdout), RIGHT[:1], rtol=1e-12)


@pytest.mark.parametrize("processes", [1, 3])
def test_loops_and_variables_of_lammps(folder: Path, processes: int) -> None:
    """Jumps, and variables from the command line; also in dpmodel's own lines."""
    lines = ["fix 1 all nve", "variable k loop 3", "label again", "run ${steps}", "next k", "jump SELF again"]
    style = "pair_style ${style} &\n ${model} &\n backend numpy  # and no more"
    path = script(folder, *lines, 'print "at step $(step)"', style=style)
    switches = ["-var", "steps", 2, "-var", "model", "model0.dp", "-var", "style", "dpmodel"]
    result = lammps_command(processes, path, *switches)
    assert result.returncode == 0, result.stderr
    assert "at step 6" in result.stdout


@pytest.mark.parametrize("jump", ["SELF", "in.loop"])
@pytest.mark.parametrize("clear", ["clear\nunits metal\nread_data box.data", ""])
def test_a_loop_over_models(folder: Path, jump: str, clear: str) -> None:
    start = "units metal\nread_data box.data" if not clear else ""
    loop = ["variable k loop 0 1", "label again", clear, "pair_style dpmodel model$k.dp", "pair_coeff * * O H"]
    path = write_script(folder / "in.loop", [start, *loop, "run 0", ENERGY, "next k", f"jump {jump} again"])
    result = lammps_command(2, path)
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(energies(result.stdout), RIGHT, rtol=1e-12)


def test_included_files(folder: Path) -> None:
    """The potential in a file of its own, as most people keep it, and one that includes another."""
    (folder / "parts").mkdir()
    write_script(folder / "parts" / "water.mod", ["pair_style dpmodel model1.dp", "pair_coeff * * O H"])
    write_script(folder / "parts" / "all.mod", ["include parts/water.mod  # both lines", "run 0", ENERGY])
    start = ["units metal", "read_data box.data", "variable file string parts/all.mod"]
    end = ["pair_style dpmodel model0.dp", "pair_coeff * * O H", "run 0", ENERGY]
    result = lammps_command(2, write_script(folder / "in.parts", [*start, "include ${file}", *end]))
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(energies(result.stdout), RIGHT[::-1], rtol=1e-12)


def test_lines_that_if_chooses_and_scripts_that_are_jumped_to(folder: Path) -> None:
    start = ["units metal", "read_data box.data", "variable k loop 0 3", "label again"]
    choose = """if "$k == 0" then &
        "pair_style dpmodel model0.dp" 'pair_coeff * * O H' &
        elif "$k == 1" "include chosen.mod" elif "$k == 2" "jump SELF next" else "jump in.last go\""""
    end = ["run 0", ENERGY, "label next", "next k", "jump SELF again"]
    write_script(folder / "chosen.mod", ["pair_style dpmodel model1.dp", "pair_coeff * * O H"])
    last = ['print "not here"', "label go", "pair_style dpmodel model0.dp", "pair_coeff * * O H", "run 0", ENERGY]
    write_script(folder / "in.last", last)
    result = lammps_command(2, write_script(folder / "in.choose", [*start, choose, *end]))
    assert result.returncode == 0, result.stderr
    assert "not here" not in result.stdout
    np.testing.assert_allclose(energies(result.stdout), [*RIGHT, RIGHT[0]], rtol=1e-12)


def test_boxes_that_are_copied_and_written(folder: Path) -> None:
    """What LAMMPS writes can be read before there is a pair style."""
    dp = ["pair_style dpmodel model0.dp", "pair_coeff * * O H", "run 0", ENERGY]
    lines = ["fix 1 all nve", "replicate 2 1 1", "run 0", ENERGY, "write_data twice.data", "clear", "units metal"]
    result = lammps_command(2, script(folder, *lines, "read_data twice.data", *dp))
    assert result.returncode == 0, result.stderr
    np.testing.assert_allclose(energies(result.stdout), [2 * RIGHT[0]] * 2, rtol=1e-12)


def test_other_pair_styles_before_and_after(folder: Path) -> None:
    """dpmodel lets go of the atoms when another pair style comes, and takes them again; the last pair_coeff counts."""
    lj = ["pair_style lj/cut 3.0", "pair_coeff * * 0.1 1.0", "run 0", ENERGY]
    dp = ["pair_style dpmodel model0.dp", "pair_coeff * * O O", "pair_coeff * * O H", "run 0", ENERGY]
    path = write_script(folder / "in.many", ["units metal", "read_data box.data", *lj, *dp, *lj, *dp])
    result = lammps_command(1, path)
    assert result.returncode == 0, result.stderr
    alone = lammps_with(BOX)
    alone.commands_string("pair_style lj/cut 3.0\npair_coeff * * 0.1 1.0\nrun 0")
    np.testing.assert_allclose(energies(result.stdout), [alone.get_thermo("pe"), RIGHT[0]] * 2, rtol=1e-12)


def test_text_is_not_taken_for_commands(folder: Path) -> None:
    """Quotations over several lines, and letters that are not UTF-8."""
    path = folder / "in.text"
    text = ["units metal", "read_data box.data", 'print """', "pair_style dpmodel nothing.dp", '"""', "# caf\xe9"]
    lines = [*text, 'pair_style dpmodel "model0.dp" # \xe9', "pair_coeff * * O H", "run 0", ENERGY]
    path.write_bytes("\r\n".join(lines).encode("latin-1"))
    result = lammps_command(1, path)
    assert result.returncode == 0, result.stderr
    assert "\npair_style dpmodel nothing.dp" in result.stdout
    np.testing.assert_allclose(energies(result.stdout), RIGHT[:1], rtol=1e-12)


def test_partitions(folder: Path) -> None:
    """Several simulations in one run of MPI, each with its own model and its own deviations."""
    style = "pair_style dpmodel ${model} model0.dp out_freq 1 out_file own.out"
    path = script(folder, "run 0", ENERGY + " file energy.${k}", style=style, setup=PARTITIONED)
    result = lammps_command(3, path, "-partition", "2", "1", "-screen", "none")
    assert result.returncode == 0, result.stderr
    for k in (0, 1):
        np.testing.assert_allclose(energies((folder / f"energy.{k}").read_text()), RIGHT[k : k + 1], rtol=1e-12)
        assert (np.loadtxt(folder / f"own.out.{k}")[6] > 0) == bool(k)


def test_an_error_in_one_partition_ends_all(folder: Path) -> None:
    setup = PARTITIONED.replace("model1", "nothing")
    path = script(folder, "run 0", style="pair_style dpmodel ${model}", setup=setup)
    result = lammps_command(3, path, "-partition", "2", "1", "-screen", "none")
    assert result.returncode == 2
    assert [line for line in result.stderr.splitlines() if "error" in line] == [
        "error: nothing.dp: there is no such file"
    ]
