"""From model file to model file: convert, change-type-map, change-bias, diff, show."""

import json
import os
import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import dpmodel
from command_line import Command
from dpmodel.cli.convert import convert_file
from dpmodel.cli.diff import diff, diff_files
from dpmodel.errors import FileError
from dpmodel.io.container import read_tree, write_tree
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model, write_model
from dpmodel.io.torchfile import read_torchfile, write_checkpoint
from dpmodel.module import Rebuilder, state
from small_water import write_system
from trees import TRAINED, differences

SINGLE, HEADS, STRIP = TRAINED / "single.dp", TRAINED / "mt.ckpt-20.pt", TRAINED / "strip.dp"
SOURCES = {
    "single.dp": [],
    "single.pth": [],
    "mt.ckpt-20.pt": ["--head", "B"],
    "strip_c.pth": [],
    "bfloat16.dp": [],
}
SUFFIXES = [".dp", ".yaml", ".dp.json", ".pt"]
PAIRS = [pair for pair in product(SOURCES, SUFFIXES) if pair != ("strip_c.pth", ".yaml")]  # long, and nothing new


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def arrays(path: Path, head: str | None = None) -> dict[str, np.ndarray]:
    return state(read_model(path, head).model)


# --- convert ---


@pytest.mark.parametrize(("name", "suffix"), PAIRS)
def test_every_kind_to_every_kind(command: Command, name: str, suffix: str, tmp_path: Path) -> None:
    target, options = tmp_path / f"a{suffix}", SOURCES[name]
    if (name, suffix) == ("strip_c.pth", ".pt"):
        assert "holds no tables: write the compressed model as .dp" in command.refuses(
            "convert", TRAINED / name, target
        )
        assert os.listdir(tmp_path) == []
        return
    result = command("convert", TRAINED / name, target, *options)
    assert result.code == 0, result.err
    assert (result.out, os.listdir(tmp_path)) == ("", [target.name])
    assert differences(arrays(target), arrays(TRAINED / name, *options[1:])) == []
    same = command("diff", target, TRAINED / name, *(["--head-b", "B"] if options else []))
    assert (same.code, same.out) == (0, "the models are equal: every setting, and every array bit for bit\n")


def test_precision(command: Command, tmp_path: Path) -> None:
    single, double = tmp_path / "single.dp", tmp_path / "double.dp"
    assert command("convert", SINGLE, single, "--precision", "float32").code == 0
    assert command("convert", single, double, "--precision", "float64").code == 0
    kept = {"out_bias", "out_std", "fitting.bias"}
    for path, value in arrays(SINGLE).items():
        rounded = value if path in kept else value.astype(np.float32)
        np.testing.assert_array_equal(arrays(single)[path], rounded, err_msg=path)
        np.testing.assert_array_equal(arrays(double)[path], rounded.astype(np.float64), err_msg=path)
    assert read_model(double).extras["model_def_script"]["descriptor"]["precision"] == "float64"


def test_nothing_is_overwritten_unasked(command: Command, tmp_path: Path) -> None:
    source, link, other = tmp_path / "a.dp", tmp_path / "link.dp", tmp_path / "b.yaml"
    source.write_bytes(SINGLE.read_bytes())
    link.symlink_to(source)
    other.write_text("precious")
    for target in (source, link, other):
        assert f"{target}: exists already" in command.refuses("convert", source, target)
    assert source.read_bytes() == SINGLE.read_bytes()
    assert other.read_text() == "precious"
    assert command("convert", source, link, "--force").code == 0  # through the link, onto itself
    assert link.is_symlink()
    assert differences(arrays(source), arrays(SINGLE)) == []
    assert sorted(os.listdir(tmp_path)) == ["a.dp", "b.yaml", "link.dp"]


def test_a_link_to_a_file_that_is_not_there_yet(command: Command, tmp_path: Path) -> None:
    (tmp_path / "link.dp").symlink_to("later.dp")
    assert command("convert", SINGLE, tmp_path / "link.dp").code == 0
    assert (tmp_path / "later.dp").is_file()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.json", "expected a name ending in one of .dp, .yaml, .yml, .dp.json, .pt; '.json' belongs to Paddle's"),
        ("a", "expected a name ending in one of"),
        ("a.pth", ".pth holds programs and is only read"),
        ("none/a.dp", "cannot be written: No such file or directory"),
        ("folder.dp", "expected a file or a new name, found a directory"),
    ],
)
def test_targets_that_cannot_be(command: Command, name: str, message: str, tmp_path: Path) -> None:
    """Said before any work is done: the source is not even looked at."""
    (tmp_path / "folder.dp").mkdir()
    target = tmp_path / name
    for job in (("convert",), ("change-type-map", "O"), ("change-bias", "-v", "O=1"), ("compress",)):
        line = command.refuses(job[0], tmp_path / "no source", target, *job[1:])
        assert line.startswith(f"{target}: ")
        assert message in line
    assert os.listdir(tmp_path) == ["folder.dp"]


def test_a_directory_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # as for anybody but root
    with pytest.raises(FileError, match=r"a\.dp: cannot be written: no permission to write in"):
        convert_file(SINGLE, tmp_path / "a.dp", None, None, False, Console())
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("source", "head", "message"),
    [
        (HEADS, None, "expected one of the heads 'A', 'B', which was not chosen: give --head NAME"),
        (HEADS, "b1", "expected one of the heads 'A', 'B', not 'b1'; did you mean 'B'?"),
        (TRAINED / "model.ckpt-300.pt", "defaults", "heads 'Default', not 'defaults'; did you mean 'Default'?"),
        (SINGLE, "A", "expected a multi-task checkpoint (.pt) to choose head 'A' from"),
    ],
)
def test_heads_that_are_not_there(
    command: Command, source: Path, head: str | None, message: str, tmp_path: Path
) -> None:
    options = ["--head", head] if head else []
    assert message in command.refuses("convert", source, tmp_path / "a.dp", *options)
    assert os.listdir(tmp_path) == []


def test_a_model_that_gives_no_numbers(command: Command, tmp_path: Path) -> None:
    file = read_model(SINGLE)
    last = "fitting.network.layers.3.weight"
    values = state(file.model) | {last: np.full_like(state(file.model)[last], 1e308)}
    write_model(tmp_path / "huge.dp", ModelFile(file.settings, Rebuilder(file.model)(values)))
    assert "is not a finite number" in command.refuses("convert", tmp_path / "huge.dp", tmp_path / "a.yaml")
    assert "finite numbers" in command.refuses(
        "convert", tmp_path / "huge.dp", tmp_path / "a.yaml", "--precision", "float32"
    )
    assert os.listdir(tmp_path) == ["huge.dp"]


# --- surgery ---


def test_change_type_map(command: Command, tmp_path: Path) -> None:
    result = command("change-type-map", HEADS, tmp_path / "a.dp", "H", "C", "O", "--head", "A")
    assert result.code == 0, result.err
    assert "new types, which have to be trained: C" in result.err
    potential = dpmodel.load(tmp_path / "a.dp")
    assert potential.type_map == ("H", "C", "O")
    with np.load(TRAINED / "mtA.pth.ref.npz") as known:
        types = np.where(known["atype"] == 0, 2, 0)  # O, H
        found = potential.evaluate(known["coord"][:1], types, known["box"][:1])
        np.testing.assert_allclose(found.energy, known["energy"][:1, 0], rtol=1e-11)
        np.testing.assert_allclose(found.forces, known["force"][:1], atol=1e-10)
    data = write_system(tmp_path / "data", 2)
    assert (
        command("change-type-map", tmp_path / "a.dp", tmp_path / "c.dp", "O", "C", "-s", data).code != 0
    )  # H is there
    assert command("change-type-map", SINGLE, tmp_path / "o.dp", "O").code == 0
    assert command("change-type-map", tmp_path / "o.dp", tmp_path / "d.dp", "O", "H", "-s", data).code == 0
    assert (arrays(tmp_path / "d.dp")["descriptor.repinit.near.stddev"][1] < 1).all()
    assert "expected at least one of the model's types" in command.refuses(
        "change-type-map", SINGLE, tmp_path / "b.dp", "Xx"
    )


def test_change_bias(command: Command, tmp_path: Path) -> None:
    result = command("change-bias", SINGLE, tmp_path / "a.dp", "-v", "O=-400", "--value", "H=-16.5")
    assert result.code == 0, result.err
    assert arrays(tmp_path / "a.dp")["out_bias"].tolist() == [[-400.0], [-16.5]]
    write_system(tmp_path / "data", 3)
    assert command("change-bias", SINGLE, tmp_path / "b.dp", "-s", tmp_path / "data").code == 0
    changed = [d.path for d in diff_files(SINGLE, tmp_path / "b.dp").arrays]
    assert changed == ["out_bias"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "expected either energies of types (--value), or systems to fit them to (--system)"),
        (["-v", "O"], "--value: expected NAME=ENERGY, as O=-432.1, got 'O'"),
        (["-v", "O=x"], "got 'O=x'"),
        (["-v", "O=1", "-v", "O=2"], "--value: expected each type once, got O, O"),
        (["-v", "C=1"], "expected a finite energy for one of O, H, got C=1.0"),
        (["-s", "nowhere"], "nowhere"),
    ],
)
def test_biases_that_cannot_be(command: Command, options: list[str], message: str, tmp_path: Path) -> None:
    assert message in command.refuses("change-bias", SINGLE, tmp_path / "a.dp", *options)
    assert os.listdir(tmp_path) == []


def test_tables_have_no_place_in_a_checkpoint(command: Command, tmp_path: Path) -> None:
    """Said before they are made."""
    assert "a.pt: a checkpoint of deepmd-kit holds no tables" in command.refuses("compress", "none", tmp_path / "a.pt")


def test_compress_overwrites_nothing(command: Command, tmp_path: Path) -> None:
    (tmp_path / "a.dp").write_text("precious")
    assert "exists already" in command.refuses("compress", STRIP, tmp_path / "a.dp")
    result = command("compress", STRIP, tmp_path / "a.dp", "--force", "--step", "0.05")
    assert result.code == 0, result.err
    assert (
        "compressed: tables in the place of the embedding of repinit, three_body"
        in command("show", tmp_path / "a.dp").out
    )


# --- show and diff ---


def test_names_that_say_nothing(command: Command) -> None:
    line = command.refuses("show", "model.ckpt")
    assert line == "model.ckpt: expected a name ending in one of .dp, .yaml, .yml, .dp.json, .pt, .pth"
    assert command("show", SINGLE, "--head", "Default").code == 0  # what deepmd-kit calls it


def test_names_that_look_like_markup(command: Command, tmp_path: Path) -> None:
    (tmp_path / "[a").mkdir()
    target = tmp_path / "[a" / "b].dp"
    tree = read_tree(SINGLE) | {"software": "[/x]\x1b[2J"}
    write_tree(tmp_path / "a.dp", tree)
    result = command("change-type-map", tmp_path / "a.dp", target, "[/O]", "H")
    assert (result.code, "[a/b].dp: read back" in result.err, "trained: [/O]" in result.err) == (0, True, True)
    shown = command("show", target)
    assert (shown.code, "[/O] 0.0000" in shown.out, r"software: [/x]\x1b[2J" in shown.out) == (0, True, True)
    assert "[/O]: 0.000000 -> 1.000000 eV" in command("change-bias", target, tmp_path / "b.dp", "-v", "[/O]=1").err


def test_show_tells_of_averaged_parameters(command: Command, tmp_path: Path) -> None:
    words = "averaged parameters (ema) are in it, too"
    saved = read_torchfile(TRAINED / "model.ckpt-300.pt")
    for beside in ({"ema": saved["model"]}, {"dpmodel": {"ema": {"a": np.ones(1)}}}):
        write_checkpoint(tmp_path / "a.pt", saved | beside)
        assert words in command("show", tmp_path / "a.pt").out
    write_checkpoint(tmp_path / "a.pt", saved | {"dpmodel": {"ema": {}}})
    assert words not in command("show", tmp_path / "a.pt").out


def test_show_lists_the_heads(command: Command) -> None:
    result = command("show", HEADS)
    assert result.code == 0, result.err
    assert "2 models of O, H" in result.out
    for name in "AB":
        assert re.search(rf"^  {name} +ener ", result.out, flags=re.MULTILINE)
        assert command("show", HEADS, "--head", name).code == 0
        assert command("show", HEADS, "--head", name.lower()).code == 0
    assert "did you mean 'A'?" in command.refuses("show", HEADS, "--head", "a1")


def test_diff(command: Command) -> None:
    result = command("diff", HEADS, HEADS, "--head-a", "A", "--head-b", "B")
    assert result.code == 1
    assert "  fitting_net.neuron: [48, 48, 48] | [24, 24]\n" in result.out
    assert "  fitting.network.layers.0.weight: float64 (40, 48) | float64 (40, 24)\n" in result.out
    assert "  fitting.network.layers.3.bias: float64 (1,) | -\n" in result.out
    assert "descriptor" not in result.out  # they share it


def test_diff_knows_the_sign_of_zero(tmp_path: Path) -> None:
    file = read_model(SINGLE)
    zeros = [np.asarray([[zero], [1.0]]) for zero in (0.0, -0.0)]
    a, b = (replace(file, model=replace(file.model, out_bias=bias)) for bias in zeros)
    assert str(diff(a, b)) == "arrays\n  out_bias: float64 (2, 1): 1 differ, by 0.0e+00 (relative: 0.0e+00)"


def test_diff_for_programs(command: Command, tmp_path: Path) -> None:
    command("change-bias", SINGLE, tmp_path / "a.dp", "-v", "O=-100")
    command("convert", SINGLE, tmp_path / "b.dp", "--precision", "float32")
    bias = json.loads(command("diff", SINGLE, tmp_path / "a.dp", "--json").out)
    old = float(arrays(SINGLE)["out_bias"][0, 0])
    largest = float(np.abs(arrays(SINGLE)["out_bias"]).max())
    shape = "float64 (2, 1)"
    numbers = {"largest": abs(old + 100), "relative": abs(old + 100) / largest, "number": 1}
    assert bias == {"equal": False, "settings": [], "arrays": [{"path": "out_bias", "a": shape, "b": shape} | numbers]}
    precision = json.loads(command("diff", SINGLE, tmp_path / "b.dp", "--json").out)
    assert {s["path"] for s in precision["settings"]} == {"descriptor.precision", "fitting_net.precision"}
    forms = {(a["a"].split()[0], a["b"].split()[0]) for a in precision["arrays"]}
    assert forms == {("float64", "float32")}
    assert all(a["relative"] < 1e-7 for a in precision["arrays"])
    same = command("diff", SINGLE, SINGLE, "--json")
    assert (same.code, json.loads(same.out)) == (0, {"equal": True, "settings": [], "arrays": []})
