"""The notebooks of the examples run from end to end, in short, and each draws its picture."""

import contextlib
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

from command_line import Command

NOTEBOOKS = Path(__file__).parents[2] / "examples" / "notebooks"
NEEDS = {"own_jax": ["jax", "matplotlib"], "own_torch": ["torch", "matplotlib"]}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:pretrained.pt does not know Ag:UserWarning")
@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.py")), ids=lambda path: path.stem)
def test_notebook(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its commands run in this process, which has imported the frameworks already."""
    for name in NEEDS.get(path.stem, ["torch", "ase", "dpdata", "matplotlib"]):
        pytest.importorskip(name)
    command = Command(capsys)

    really = subprocess.run

    def run(line: Any, **settings: Any) -> Any:
        if "dpmodel" not in line:
            return really(line, **settings)
        assert settings["check"]
        with contextlib.chdir(settings["cwd"]):
            result = command(*line[line.index("dpmodel") + 1 :])
        assert result.code == 0, result.err
        return None

    monkeypatch.setenv("STEPS", "4")
    monkeypatch.setenv("FORMS", "pth")
    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = runpy.run_path(str(path), run_name="__main__")
    assert (tmp_path / f"{path.stem}.png").stat().st_size > 10_000
    for axes in names["figure"].axes:
        assert axes.get_ylabel(), "an axis without its name and unit"
        assert axes.get_xlabel() or axes.get_xticklabels(), "an axis without its name and unit"
