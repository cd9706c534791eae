"""``make demo``, the light one: with NumPy alone."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

WATER = Path(__file__).parents[2] / "examples" / "water"

WITHOUT = """
import runpy, sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {"ase", "torch", "jax", "paddle", "scipy", "dpdata", "tensorboard"}:
            raise ModuleNotFoundError(f"{name} is not to be imported here", name=name)

sys.meta_path.insert(0, Refuse)
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", "-c", WITHOUT, str(WATER / "demo.py"), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("frame", [0, 31])
def test_demo_with_numpy_alone(frame: int) -> None:
    result = demo("--backends", "numpy", "--frame", str(frame))
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    files = WATER / "data" / "valid_16" / "set.000"
    names = ("energy", "force", "box", "virial")
    energy, force, box, virial = (np.load(files / f"{name}.npy")[frame] for name in names)
    rows = {line.split("(")[0].strip(): line.split() for line in result.stdout.splitlines() if "(" in line}
    label = {name: float(rows[name][-2]) for name in ("energy per atom", "largest force", "pressure")}
    assert label["energy per atom"] == pytest.approx(energy / 48, abs=1e-4)
    assert label["largest force"] == pytest.approx(np.sqrt((force.reshape(-1, 3) ** 2).sum(axis=1)).max(), abs=1e-4)
    assert label["pressure"] == pytest.approx(virial[[0, 4, 8]].mean() / box[[0, 4, 8]].prod() * 160.21766, abs=2e-4)
    assert "numpy" in result.stdout.split("small structure")[1]


def test_demo_without_the_framework_it_was_asked_for() -> None:
    result = demo("--backends", "torch")
    assert result.returncode == 1
    assert "error: the torch backend needs the package 'torch': pip install 'dpmodel[torch]'" in result.stderr
