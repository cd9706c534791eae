"""The committed model of water: from the committed input, and as good as its page says."""

import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

import dpmodel
from dpmodel.accuracy import total
from dpmodel.cli.accuracy import evaluate_systems as errors_on
from dpmodel.train.curve import read_curve
from dpmodel.train.script import load_script

WATER = Path(__file__).parents[2] / "examples" / "water"


def test_it_is_what_the_input_describes() -> None:
    wanted = load_script(WATER / "input.json").tasks["Default"].model.model_dump()
    found = dpmodel.load(WATER / "water.dp").settings.model_dump()
    for section in ("repinit", "repformer"):
        for name in ("nsel", "three_body_sel"):
            if name in found["descriptor"][section]:
                assert found["descriptor"][section].pop(name) > 0
                assert wanted["descriptor"][section].pop(name) == "auto"
    assert found == wanted


@pytest.mark.slow
def test_its_errors_are_those_of_its_page() -> None:
    page = (WATER / "README.md").read_text()
    [row] = re.findall(r"\| 48 held-out frames, RMSE \| (.*) \| (.*) \| (.*) \|", page)
    systems = [str(WATER / "data" / name) for name in ("valid_16", "valid_32")]
    found = total(errors_on(dpmodel.load(WATER / "water.dp"), systems, None, None, Console(quiet=True)))
    assert found.n_frames == 48
    rmse = [found.errors[name].rmse * unit for name, unit in (("energy", 1e3), ("force", 1.0), ("virial", 1e3))]
    np.testing.assert_allclose(rmse, [float(text) for text in row], rtol=0.03)


def test_its_learning_curve_ends_there() -> None:
    curve = read_curve(str(WATER / "lcurve.out"))
    assert curve["step"][-1] == 12000
    assert curve["rmse_f_val"][-1] < 0.06 < 1.0 <= curve["rmse_f_val"][0]
