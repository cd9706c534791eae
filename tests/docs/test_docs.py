"""What README and documentation show runs as it stands."""

import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import dpmodel
from command_line import Command
from dpmodel.cli.app import app
from dpmodel.cli.commands import imported
from dpmodel.data.samples import example
from dpmodel.io.metadata import RIGIDITY
from dpmodel.io.model import read_model, write_model
from dpmodel.statistics.rigidity import Rigidity
from dpmodel.train.script import load_script

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def examples(page: Path) -> list[str]:
    return re.findall(r"```python\n(.*?)```", page.read_text(), flags=re.DOTALL)


@pytest.mark.parametrize("page", [page for page in PAGES if examples(page)], ids=lambda page: page.name)
def test_examples_run(page, tmp_path, monkeypatch):
    """All Python blocks of a page, one after the other, in the example's folder; known.dp has any uncertainty."""
    shutil.copytree(ROOT / "dpmodel" / "examples" / "water", tmp_path, dirs_exist_ok=True)
    file = read_model(tmp_path / "water.dp")
    rigidity = Rigidity(np.eye(file.model.fitting.network.layers[-1].n_in), 1.0, 1.0)
    write_model(tmp_path / "known.dp", replace(file, extras=file.extras | {RIGIDITY: rigidity.entry()}))
    s = example(["O", "H"])
    monkeypatch.chdir(tmp_path)
    names = {"positions": s.positions, "types": s.types, "cell": s.cell}
    for code in examples(page):
        exec(compile(code, str(page), "exec"), names)  # noqa: S102  our own pages


def test_commands_of_the_readme(command, tmp_path, monkeypatch):
    """The block that begins with the example runs as it stands."""
    monkeypatch.chdir(tmp_path)
    [block] = re.findall(r"```sh\n(dpmodel example.*?)```", (ROOT / "README.md").read_text(), flags=re.DOTALL)
    lines = [line.partition("#")[0].split() for line in block.splitlines()]
    assert len(lines) == 6
    for program, *arguments in lines:
        if program == "cd":
            monkeypatch.chdir(arguments[0])
        else:
            assert command(*arguments).code == 0, arguments


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
