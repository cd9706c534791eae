"""The example of distillation runs, and a student that learned a little is nearer to its teacher than a constant is."""

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "distillation" / "distill.py"


@pytest.mark.slow
def test_a_student_learns_from_its_teacher(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    line = [sys.executable, str(SCRIPT), "--steps", "60", "--frames", "20", "--folder", str(tmp_path / "run")]
    result = subprocess.run(line, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    rows = {row[:28].strip(): row[28:].split() for row in result.stdout.splitlines() if "labels" in row}
    teacher, student = (float(rows[f"{name}, quantum labels"][1]) for name in ("teacher", "student"))
    assert teacher < student < 0.9  # forces of the data have a root-mean-square of 1.01 eV/angstrom
