"""The examples on the pages on physics run as they stand, in short."""

import re
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
SHORT = {
    "heat_flux/conductivity": "--trajectories 2 --equilibration 2 --steps 20 --lag 5",
    "crystal/equation_of_state": "--points 5 --range 0.02 --fmax 0.05",
    "crystal/elastic": "--fmax 0.005",
    "crystal/phonons": "--supercell 1 --mesh 2",
}


@pytest.fixture
def printed(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> str:
    """What the example says; its picture is there."""
    pytest.importorskip("torch")
    picture = tmp_path / "picture.png"
    monkeypatch.setattr(sys, "argv", ["example", *SHORT[request.param].split(), "--output", str(picture)])
    runpy.run_path(str(EXAMPLES / f"{request.param}.py"), run_name="__main__")
    assert picture.stat().st_size > 5000
    return capsys.readouterr().out


def number(pattern: str, text: str) -> float:
    match = re.search(pattern, text)
    assert match is not None, text
    return float(match[1])


@pytest.mark.parametrize("printed", ["heat_flux/conductivity"], indirect=True)
def test_conductivity(printed: str) -> None:
    assert len(re.findall(r"trajectory \d: \d+ K", printed)) == 2
    assert np.isfinite(number(r"\n(-?[\d.]+) \+- [\d.]+ W/\(m K\)", printed))


@pytest.mark.parametrize("printed", ["crystal/equation_of_state"], indirect=True)
def test_equation_of_state(printed: str) -> None:
    assert 240 < number(r"at ([\d.]+) angstrom\^3", printed) < 250
    assert 10 < number(r"bulk modulus ([\d.]+) GPa", printed) < 25


@pytest.mark.parametrize("printed", ["crystal/elastic"], indirect=True)
def test_elastic_constants_have_the_symmetry_of_the_crystal(printed: str) -> None:
    """Tetragonal about x; a bulk modulus as the equation of state has it, as far as so short a relaxation goes."""
    rows = printed.split("yz, xz, xy\n")[1].splitlines()[:6]
    c = np.array([row.split() for row in rows], dtype=float)
    np.testing.assert_allclose(c[[1, 0, 4], [1, 1, 4]], c[[2, 0, 5], [2, 2, 5]], atol=0.05)
    assert np.abs(c[:3, 3:]).max() < 0.05
    assert 10 < number(r"bulk modulus of a powder: ([\d.]+)", printed) < 25


@pytest.mark.parametrize("printed", ["crystal/phonons"], indirect=True)
def test_phonons(printed: str) -> None:
    acoustic = re.search(r"acoustic \[(.*?)\]", printed)
    assert acoustic is not None
    assert np.abs(np.array(acoustic[1].split(), dtype=float)).max() < 0.05
    assert 90 < number(r"highest ([\d.]+) THz", printed) < 115
