"""The loaders of examples/export run exported files where there is no dpmodel."""

import subprocess
import sys
from pathlib import Path
from shutil import which
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.export.forms import FORMS, Options, exporter_of
from dpmodel.export.write import export
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from exporting import triclinic, water_box
from random_models import random_model
from small_water import BLOCK, DESCRIPTOR, MODEL, REFORM

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
ONE_LAYER = {"nlayers": 1, "update_g1_has_attn": False, "update_g2_has_attn": False}
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


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Inductor's own, and neighbors beyond nsel
@pytest.mark.skipif(not (which("cmake") and which("c++")), reason="there is no compiler")
def test_a_compiled_program_runs_in_cpp(tmp_path):
    torch = pytest.importorskip("torch")
    descriptor = DESCRIPTOR | {"repinit": BLOCK, "repformer": REFORM | ONE_LAYER}
    settings: dict[str, Any] = MODEL | {"descriptor": descriptor}
    file = random_model(ModelSettings.read(settings, "model"), 3)
    exporter_of("torch").write(tmp_path / "model.pt2", file, Options(ahead=True))
    where = f"-DCMAKE_PREFIX_PATH={torch.utils.cmake_prefix_path}"
    for command in (["-S", str(EXAMPLES), "-B", str(tmp_path), where], ["--build", str(tmp_path)]):
        subprocess.run(["cmake", *command], check=True, capture_output=True)
    water, blocks = water_box(40, triclinic(8.5), 3), file.settings.selection.blocks.values()
    rows: list[Any] = [[len(blocks)], *[[b.cutoff, b.nsel] for b in blocks], *np.asarray(water.cell), [40]]
    rows += [[t, *x] for t, x in zip(water.types, water.positions, strict=True)]
    text = "\n".join(" ".join(str(x) for x in row) for row in rows)
    command = [str(tmp_path / "run_pt2"), str(tmp_path / "model.pt2")]
    found = subprocess.run(command, input=text, check=True, capture_output=True, text=True).stdout.split()
    right: Any = Potential(file, backend("numpy").engine()).evaluate(water.positions, water.types, water.cell)
    np.testing.assert_allclose(np.array(found, float), [*right.energy, *right.forces.ravel()], rtol=0, atol=1e-10)
