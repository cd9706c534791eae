"""``dpmodel data check``: what it says of good and of bad data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from dpmodel.cli.app import app
from dpmodel.data.check import check_system
from dpmodel.errors import FileError

POSITIONS = np.array([[0.0, 0, 0], [0.97, 0, 0], [-0.24, 0.94, 0]])


def write(root: Path, nf: int = 3) -> Path:
    (root / "set.000").mkdir(parents=True)
    (root / "type.raw").write_text("0 1 1")
    (root / "type_map.raw").write_text("O H")
    np.save(root / "set.000/coord.npy", np.tile(POSITIONS.ravel(), (nf, 1)))
    np.save(root / "set.000/box.npy", np.tile(np.diag([9.0, 9.0, 9.0]).ravel(), (nf, 1)))
    np.save(root / "set.000/energy.npy", np.zeros(nf))
    np.save(root / "set.000/force.npy", np.full((nf, 9), 2.0))
    return root


def change(root: Path, name: str, frame: int, value: np.ndarray | float, folder: str = "set.000") -> None:
    array = np.load(root / folder / name)
    array[frame] = value
    np.save(root / folder / name, array)


def test_for_programs(tmp_path: Path) -> None:
    """What the command tells people, as JSON; null where nothing was measured."""
    result = CliRunner().invoke(app, ["data", "check", str(write(tmp_path / "s")), "--json"])
    assert result.exit_code == 0, result.output
    checked = json.loads(result.stdout)
    (system,) = checked["systems"]
    assert checked["ok"]
    assert system["elements"] == {"O": 3, "H": 6}
    assert system["labels"] == ["energy", "force"]
    assert system["shortest"] == pytest.approx(0.97)


def test_good_data(tmp_path: Path) -> None:
    report = check_system(str(write(tmp_path / "s")))
    assert (report.n_frames, report.n_atoms, report.labels) == (3, 3, ("energy", "force"))
    assert report.elements == {"O": 3, "H": 6}
    assert report.shortest == pytest.approx(0.97)
    assert report.largest_force == pytest.approx(2.0 * 3**0.5)
    assert report.problems == []


def test_shortest_pair_across_the_boundary(tmp_path: Path) -> None:
    root = write(tmp_path / "s")
    change(root, "coord.npy", 1, np.array([0.0, 0, 0, 8.1, 0, 0, 4, 4, 4]))
    assert check_system(str(root)).shortest == pytest.approx(0.9)


def test_every_problem_has_its_frame(tmp_path: Path) -> None:
    root = write(tmp_path / "s", nf=5)
    change(root, "coord.npy", 1, np.nan)
    change(root, "coord.npy", 2, np.array([0.0, 0, 0, 0.2, 0, 0, 4, 4, 4]))
    change(root, "force.npy", 4, 1e5)
    problems = check_system(str(root)).problems
    assert len(problems) == 3
    for problem, words in zip(
        problems, ("coord.npy: frame 1", "frame 2: atoms 0 and 1", "frame 4: the force"), strict=True
    ):
        assert words in problem.replace("atoms 1 and 0", "atoms 0 and 1")


def second_set(root: Path) -> Path:
    shutil.copytree(root / "set.000", root / "set.001")
    return root / "set.001"


def test_frames_are_those_of_their_file(tmp_path: Path) -> None:
    root = write(tmp_path / "s")
    second_set(root)
    change(root, "coord.npy", 2, np.zeros(9), "set.001")
    change(root, "force.npy", 0, 1e5, "set.001")
    force, coord = check_system(str(root)).problems
    assert force.startswith(f"{root}/set.001/force.npy: frame 0: the force on atom 0 is 1.73e+05")
    assert coord.startswith(f"{root}/set.001/coord.npy: frame 2: atoms ")


def test_every_bad_file(tmp_path: Path) -> None:
    root = write(tmp_path / "s")
    np.save(root / "set.000/virial.npy", np.zeros((3, 9)))
    np.save(root / "set.000/atom_ener.npy", np.zeros((3, 3)))
    second = second_set(root)
    (second / "virial.npy").unlink()
    np.save(second / "atom_ener.npy", np.zeros((3, 4)))
    np.save(second / "energy.npy", np.array(["a"] * 3))
    change(root, "force.npy", 1, np.nan)
    change(root, "energy.npy", 1, np.nan)
    change(root, "coord.npy", 1, np.nan)
    report = check_system(str(root))
    assert report.elements == {"O": 6, "H": 12}
    assert [problem.removeprefix(f"{root}/").partition(" ")[0] for problem in report.problems] == [
        "set.001/atom_ener.npy:",
        "set.001/energy.npy:",
        "set.001/virial.npy:",
        "set.000/energy.npy:",
        "set.000/force.npy:",
        "set.000/coord.npy:",
    ]
    assert "there is no such file, but other sets" in report.problems[2]


def test_sets_that_cannot_be_used(tmp_path: Path) -> None:
    root = write(tmp_path / "s")
    second = second_set(root)
    for name in ("coord.npy", "force.npy"):
        np.save(second / name, np.zeros((3, 5)))
    report = check_system(str(root))
    assert report.n_frames == 3
    assert [problem.partition(": ")[0] for problem in report.problems] == [
        f"{root}/set.001/{name}.npy" for name in ("coord", "force")
    ]


def test_elements_are_those_of_the_frames_that_can_be_read(tmp_path: Path) -> None:
    root = write(tmp_path / "s", nf=4)
    (root / "type.raw").write_text("0 0 0")
    np.save(root / "set.000/real_atom_types.npy", [[0, 1, 1], [0, 1, 1], [5, 1, 1], [0, 1, 1]])
    change(root, "energy.npy", 0, np.nan)
    result = CliRunner().invoke(app, ["data", "check", str(root)], env={"COLUMNS": "200"})
    assert "H2 O1" in result.output


def test_the_command(tmp_path: Path) -> None:
    write(tmp_path / "good")
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert "O1 H2" in result.output or "H2 O1" in result.output
    bad = write(tmp_path / "worse")
    change(bad, "energy.npy", 2, np.inf)
    result = CliRunner().invoke(app, ["data", "check", str(tmp_path)], env={"COLUMNS": "200"})
    assert isinstance(result.exception, FileError)
    assert "1 of 2 systems" in str(result.exception)
    assert "energy.npy: frame 2" in result.output


@pytest.mark.parametrize(("names", "shown"), [("O H", "H2 O1"), (None, "type 0×1 type 1×2")])
def test_elements_are_shown_by_their_names(names: str | None, shown: str, tmp_path: Path) -> None:
    root = write(tmp_path / "s")
    if names is None:
        (root / "type_map.raw").unlink()
    result = CliRunner().invoke(app, ["data", "check", str(root)], env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    assert shown in result.output
    assert ("there is no type_map.raw" in result.output) == (names is None)
