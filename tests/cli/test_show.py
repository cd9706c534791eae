"""``dpmodel show`` of files like the published multi-task models: 118 elements, many heads, aliases."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmodel
from command_line import Command
from dpmodel.dpa2.econf import SYMBOLS
from dpmodel.errors import FileError
from dpmodel.io.checkpoint import to_checkpoint
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.torchfile import write_checkpoint
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from small_water import DESCRIPTOR, MODEL

HEADS: dict[str, dict[str, Any]] = {
    "Domains_Alloy": {"model_branch_alias": ["Default", "Materials"], "info": {"observed_type": ["Al", "Cu", "Mg"]}},
    "H2O_PBE": {"model_branch_alias": ["Water"], "info": {"observed_type": ["H", "O"]}},
    "Omat24": {"info": {"observed_type": list(SYMBOLS[:89])}},
}


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.setenv("COLUMNS", "80")
    return Command(capsys)


@pytest.fixture
def big(tmp_path: Path) -> Path:
    return write(tmp_path / "big.pt", HEADS)


def write(path: Path, heads: dict[str, dict[str, Any]]) -> Path:
    """A checkpoint with a model of all elements for each head."""
    state: dict[str, Any] = {}
    params = {}
    for seed, (name, more) in enumerate(heads.items()):
        settings = ModelSettings.read(MODEL | {"type_map": list(SYMBOLS)} | more)
        tensors = to_checkpoint(ModelFile(settings, build(settings, seed)))
        params[name] = tensors.pop("_extra_state")["model_params"]
        state |= {key.replace("model.Default.", f"model.{name}."): value for key, value in tensors.items()}
    extra = {"model_params": {"model_dict": params}, "train_infos": {"lr": 0.0, "step": 0}}
    write_checkpoint(path, {"model": state | {"_extra_state": extra}})
    return path


def energy(path: Path, head: str | None) -> float:
    p = dpmodel.load(path, head=head).evaluate([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]], [7, 0, 0])
    assert p.energy is not None
    return float(p.energy[0])


def test_all_heads_in_a_table(command: Command, big: Path) -> None:
    text = command("show", big).out
    assert max(map(len, text.splitlines()[1:])) <= 80  # the first line is the path
    assert text.count("118 elements, H to Og") == 1
    assert "3 models of 118 elements, H to Og" in text
    for name in HEADS:
        line = next(line for line in text.splitlines() if line.startswith(f"  {name} "))
        assert "ener" in line
    assert "Default, Materials" in text
    assert "Al, Cu, Mg" in text
    assert "89 elements, H to Ac" in text
    assert "without it, Domains_Alloy is taken" in text


def test_one_head(command: Command, big: Path) -> None:
    text = command("show", big, "--head", "water").out
    assert "ener model of 118 elements, H to Og (also called Water)" in text
    assert "in the training data: H, O" in text
    assert "type_map = 118 elements, H to Og" in text
    assert "Og 0.0000" not in text


def test_for_programs(command: Command, big: Path) -> None:
    found = json.loads(command("show", big, "--json").out)
    assert found["heads"].keys() == HEADS.keys()
    assert found["heads"]["H2O_PBE"]["observed_type"] == ["H", "O"]
    one = json.loads(command("show", big, "--head", "H2O_PBE", "--json").out)
    assert one["type_map"] == list(SYMBOLS)
    assert one["settings"]["descriptor"]["repinit"]["rcut"] == DESCRIPTOR["repinit"]["rcut"]
    assert one["n_parameters"] == sum(one["parameters"].values()) > 0
    assert np.shape(one["out_bias"]) == (118, 1)


def test_the_default_head_and_names_regardless_of_case(big: Path) -> None:
    assert energy(big, None) == energy(big, "Domains_Alloy") != energy(big, "H2O_PBE")
    for head in ("h2o_pbe", "water", "WATER"):
        assert energy(big, head) == energy(big, "H2O_PBE")


def test_names_that_say_too_little(tmp_path: Path) -> None:
    """Names that differ in case alone are told apart; a third spelling is neither; nothing is a default by chance."""
    path = write(tmp_path / "two.pt", {"water": {}, "Water": {}})
    assert energy(path, "water") != energy(path, "Water")
    with pytest.raises(FileError, match="expected one of the heads 'water', 'Water', not 'WATER'"):
        dpmodel.load(path, head="WATER")
    with pytest.raises(FileError, match="which was not chosen"):
        dpmodel.load(path)
