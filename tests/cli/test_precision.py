"""float32 beside float64: errors that are those of two evaluations, a drift that is known, bounds that decide."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.io
import numpy as np
import pytest
from ase.build import molecule

from command_line import Command
from dpmodel import load
from dpmodel.cli.precision import STEP, PrecisionReport, drift
from dpmodel.data.structure import Structure
from dpmodel.prediction import Prediction

WATER = Path(__file__).parents[2] / "examples" / "water" / "water.dp"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(capsys)


def test_errors_are_those_of_two_evaluations(command: Command, tmp_path: Path) -> None:
    atoms = molecule("H2O")
    atoms.rattle(0.05)
    ase.io.write(tmp_path / "w.xyz", atoms)
    result = command("compare", WATER, tmp_path / "w.xyz", "--precision", "--json")
    assert result.code == 0, result.err
    report = json.loads(result.out)
    x = ase.io.read(tmp_path / "w.xyz").positions  # type: ignore[union-attr]
    double, single = (load(WATER, precision=p).evaluate(x, [0, 1, 1]) for p in ("float64", "float32"))
    for name, gap in (
        ("energy", (single.energy - double.energy) / 3),
        ("forces", single.forces - double.forces),
        ("virial", (single.virial - double.virial) / 3),
    ):
        assert report["errors"][name] == pytest.approx(np.abs(gap).max(), rel=1e-9)
        assert 0.0 < report["errors"][name] < 1e-4
    assert "relaxation: float32 will do" in command("compare", WATER, tmp_path / "w.xyz", "--precision").out


class Pulled:
    """A force that is not the slope of the energy: the energy of a trajectory then grows by what it does."""

    def evaluate_many(self, frames: list[Structure]) -> list[Prediction]:
        return [Prediction(energy=np.zeros(1), forces=np.full((1, len(f.types), 3), 1e-3)) for f in frames]


def test_drift_is_the_slope_of_the_total_energy() -> None:
    frame = Structure(np.zeros((2, 3)), np.array([0, 1]), None, np.zeros(3, dtype=bool))
    slow: Any = Pulled()
    gained = drift(slow, frame, np.array([1.0, 1.0]), 50)
    # a constant force: v = v0 + f t / m, the kinetic energy grows as (f t)^2 / 2 m while momenta are opposite
    kinetic, t = 103.6426965, 1e-3 * STEP * np.arange(50)
    expected = np.polyfit(t, 2 * 3 * (1e-3 * (t * 1e3 + STEP)) ** 2 / (2 * kinetic), 1)[0] / 2
    assert gained == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, {"relaxation", "molecular dynamics", "phonons"}),
        ({"errors": {"forces": 1e-4}}, {"relaxation", "molecular dynamics"}),
        ({"errors": {"forces": 1e-2}}, set()),
        ({"drifts": {"float64": 0.0, "float32": 1e-3}}, {"relaxation", "phonons"}),
    ],
)
def test_verdict(changes: dict[str, Any], good: set[str]) -> None:
    fine = PrecisionReport({"forces": 1e-7}, {}, {"float64": 1e-6, "float32": 2e-6}, {}, 100)
    assert {use for use, enough in replace(fine, **changes).verdict.items() if enough} == good
