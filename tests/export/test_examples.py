"""The loaders of examples/export run exported files where there is no dpmodel."""

import subprocess
import sys
from pathlib import Path

import pytest

from dpmodel.export.forms import FORMS
from dpmodel.export.write import export
from dpmodel.model.settings import ModelSettings
from random_models import random_model
from small_water import MODEL

EXAMPLES = Path(__file__).parents[2] / "examples" / "export"
WITHOUT = """
import runpy, sys

class Refuse:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name.startswith("dpmodel"):
            raise ModuleNotFoundError(f"{name} is not to be imported here", name=name)

sys.meta_path.insert(0, Refuse)
sys.argv = sys.argv[1:]
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
LOADERS = {"deepmd-kit": "run_torchscript.py", "torch": "run_torch.py", "stablehlo": "run_jax.py"}


@pytest.mark.slow
@pytest.mark.parametrize("form", LOADERS)
def test_loaders_run_without_dpmodel(form, tmp_path):
    path = tmp_path / f"model{FORMS[form].suffix}"
    export(path, random_model(ModelSettings.read(MODEL, "model"), 3), form)
    command = [sys.executable, "-c", WITHOUT, str(EXAMPLES / LOADERS[form]), str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "forces as the file says to" in done.stdout
