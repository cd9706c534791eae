"""What README and documentation show runs as it stands."""

import re
import runpy
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from command_line import Command
from dpmodel.data.samples import example
from dpmodel.io.metadata import RIGIDITY
from dpmodel.io.model import read_model, write_model
from dpmodel.statistics.rigidity import Rigidity

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
