"""The learning curve of a run that goes on has every step once."""

from pathlib import Path

import pytest

from dpmodel.train.curve import Curve, read_curve


def curve(path: Path, done: int | None) -> Curve:
    return Curve(str(path), {"a": ["rmse_e"]}, {"a": False}, multi=False, done=done)


@pytest.mark.parametrize("cut", [0, 1, 20])
def test_rows_after_the_checkpoint_are_written_again(cut: int, tmp_path: Path) -> None:
    """The run was killed after step 7, perhaps within a row, and goes on at step 4."""
    path = tmp_path / "lcurve.out"
    first = curve(path, None)
    for step in range(1, 8):
        first.row(step, {"a": {"rmse_e": float(step)}}, {}, 1e-3)
    path.write_bytes(path.read_bytes()[: len(path.read_bytes()) - cut])
    second = curve(path, 4)
    for step in range(5, 10):
        second.row(step, {"a": {"rmse_e": 10.0 * step}}, {}, 1e-3)
    steps = [int(line.split()[0]) for line in path.read_text().splitlines() if not line.startswith("#")]
    assert steps == list(range(1, 10))
    assert read_curve(str(path))["rmse_e_trn"] == [1, 2, 3, 4, 50, 60, 70, 80, 90]


def test_a_new_run_forgets_the_old_one(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        curve(tmp_path / "lcurve.out", None).row(1, {"a": {"rmse_e": value}}, {}, 1e-3)
    assert read_curve(str(tmp_path / "lcurve.out"))["rmse_e_trn"] == [2.0]
