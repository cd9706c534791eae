"""``dpmodel train INPUT --from DATA``: an input for the data there are, which trains."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml

from command_line import Command
from dpmodel.train.script import load_script
from small_water import write_system

WATER = Path(__file__).parents[2] / "examples" / "water" / "data"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


@pytest.mark.parametrize(("size", "layers"), [("small", 3), ("medium", 6), ("large", 12)])
def test_the_water_data(command: Command, tmp_path: Path, size: str, layers: int) -> None:
    """Elements, held-out systems, and numbers of neighbors: 114 and 38 of them, times 1.1, up to fours."""
    shutil.copytree(WATER / "train_32", tmp_path / "data/train_32")
    shutil.copytree(WATER / "valid_32", tmp_path / "data/valid_32")
    result = command("train", tmp_path / "input.yaml", "--from", tmp_path / "data", "--size", size)
    assert result.code == 0, result.err
    (task,) = load_script(tmp_path / "input.yaml").tasks.values()
    assert task.model.type_map == ("O", "H")
    d = task.model.descriptor
    assert d.repformer.nlayers == layers
    most = command("neighbor-stat", "-s", tmp_path / "data/train_32", "-r", "6", "-r", "4", "--json")
    wide, narrow = (entry["auto"] for entry in yaml.safe_load(most.out)["cutoffs"])
    assert (d.repinit.nsel, d.repinit.three_body_sel, d.repformer.nsel) == (wide, narrow, narrow)
    assert [Path(path).name for path in task.data.training_data.systems] == ["train_32"]
    assert task.data.validation_data is not None
    assert [Path(path).name for path in task.data.validation_data.systems] == ["valid_32"]
    text = (tmp_path / "input.yaml").read_text()
    assert text.count("#") >= 10
    for word in ("16 frames", "O, H", f"size: {size}", f"nsel: {wide} within 6 Å", "now: dpmodel train"):
        assert word in result.err


def test_it_trains(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was written runs as it stands, but for the number of steps."""
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    write_system(tmp_path / "data/a", 3, labels="energy force")
    assert command("train", "input.yaml", "--from", "data", "--size", "small").code == 0
    text = Path("input.yaml").read_text()
    assert "start_pref_v: 0\n" in text  # there are no virials
    assert "validation_data" not in text
    Path("input.yaml").write_text(text.replace("numb_steps: 100000", "numb_steps: 2"))
    result = command("train", "input.yaml")
    assert result.code == 0, result.err
    assert Path("model.ckpt-2.pt").is_file()


def test_what_it_cannot_write(command: Command, tmp_path: Path) -> None:
    write_system(tmp_path / "data", 2, labels="force")
    assert "expected energies" in command.refuses("train", tmp_path / "a.yaml", "--from", tmp_path / "data")
    assert "comments need YAML" in command.refuses("train", tmp_path / "a.json", "--from", tmp_path / "data")
    assert "found nothing" in command.refuses("train", tmp_path / "a.yaml", "--from", tmp_path / "none")
    (tmp_path / "b.yaml").write_text("precious")
    assert "exists" in command.refuses("train", tmp_path / "b.yaml", "--from", tmp_path / "data")
    assert (tmp_path / "b.yaml").read_text() == "precious"
    assert not (tmp_path / "a.yaml").exists()


def test_names_that_yaml_would_change(command: Command, tmp_path: Path) -> None:
    """The type NO is no refusal."""
    write_system(tmp_path / "data", 2)
    (tmp_path / "data/type_map.raw").write_text('NO "Y')
    assert command("train", tmp_path / "a.yaml", "--from", tmp_path / "data").code == 0
    (task,) = load_script(tmp_path / "a.yaml").tasks.values()
    assert task.model.type_map == ("NO", '"Y')
    assert np.isfinite(task.model.descriptor.cutoff)
