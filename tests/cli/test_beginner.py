"""Ten mistakes of a first hour: each is answered by one line that leads to the mend."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmodel
from command_line import Command
from dpmodel.errors import InputError

EXAMPLE = Path(__file__).parents[2] / "dpmodel" / "examples" / "water"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(EXAMPLE, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_wrong_path(command: Command) -> None:
    assert "watr.dp" in command.refuses("eval", "watr.dp", "water.xyz")


def test_wrong_key(command: Command, folder: Path) -> None:
    script: dict[str, Any] = json.loads((folder / "input.json").read_text())
    script["model"]["descriptor"]["repinit"]["rcutt"] = 6.0
    (folder / "input.json").write_text(json.dumps(script))
    message = command.refuses("train", "input.json", "--check", "--backend", "numpy")
    assert "model.descriptor.repinit.rcutt" in message
    assert "did you mean 'rcut'" in message


def test_wrong_unit(command: Command, folder: Path) -> None:
    energies = folder / "data" / "train_16" / "set.000" / "energy.npy"
    np.save(energies, np.load(energies) * 23.06)
    result = command("data", "check", "data/train_16")
    assert "kcal/mol" in result.err


def test_wrong_shape(folder: Path) -> None:
    flat = np.load(folder / "data" / "valid_16" / "set.000" / "coord.npy")
    with pytest.raises(InputError, match=r"use positions\.reshape\(nf, -1, 3\)"):
        dpmodel.load("water.dp").evaluate(flat, [0, 1, 1] * 16)


def test_wrong_type_map(command: Command, folder: Path) -> None:
    (folder / "data" / "valid_16" / "type_map.raw").write_text("O\nHe\n")
    message = command.refuses("test", "water.dp", "-s", "data/valid_16")
    assert "'He'" in message
    assert "O, H" in message


@pytest.mark.filterwarnings("always:training.training_data")
def test_missing_label(command: Command, folder: Path) -> None:
    pytest.importorskip("torch")  # what trains if nobody says otherwise
    (folder / "data" / "train_16" / "set.000" / "force.npy").unlink()
    (folder / "data" / "train_32" / "set.000" / "force.npy").unlink()
    [line] = [x for x in command("train", "input.json", "--check").err.splitlines() if "warning" in x]
    assert "no system has the labels" in line
    assert "f (force)" in line


def test_wrong_cell() -> None:
    with pytest.raises(InputError, match=r"np\.diag\(lengths\)"):
        dpmodel.load("water.dp").evaluate(np.eye(3), [0, 1, 1], [5.0, 5.0, 5.0])


def test_periodic_without_a_cell() -> None:
    with pytest.raises(InputError, match=r"give cell \(3, 3\), or pbc=False"):
        dpmodel.load("water.dp").evaluate(np.eye(3), [0, 1, 1], pbc=True)


def test_wrong_backend(command: Command) -> None:
    message = command.refuses("eval", "water.dp", "water.xyz", "--backend", "pytorch")
    assert "there is no backend 'pytorch'" in message
    assert "torch" in message.split("known are")[1]


def test_missing_extra(command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpmodel.cli.frames.find_spec", lambda name: None)
    (folder / "a.cif").write_text("data_a")
    assert "pip install 'dpmodel[ase]'" in command.refuses("eval", "water.dp", "a.cif")


def test_fine_tuning_without_a_descriptor(command: Command, folder: Path) -> None:
    """Beyond the ten: the option that was meant is named."""
    script: dict[str, Any] = json.loads((folder / "input.json").read_text())
    script["model"]["descriptor"] = {}
    (folder / "input.json").write_text(json.dumps(script))
    result = command("train", "input.json", "--finetune", "water.dp", "--check", "--backend", "numpy")
    assert result.code == 2
    assert "--use-pretrain-script takes descriptor and fitting net from the file" in result.err
