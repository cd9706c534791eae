"""No model is written that does not give, read back, the numbers that it should."""

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.data.samples import mixture
from dpmodel.edit import verified_save as guard
from dpmodel.edit.precision import with_precision
from dpmodel.edit.verified_save import write_checked
from dpmodel.errors import FileError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model, write_model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.potential import Potential
from random_models import random_model
from reference_cases import HEADS, case
from small_water import MODEL
from trees import differences


def model(**changes: Any) -> ModelFile:
    return random_model(ModelSettings.read(MODEL | changes))


def with_array(file: ModelFile, path: str, change: Callable[[np.ndarray], np.ndarray]) -> ModelFile:
    arrays = state(file.model)
    return replace(file, model=Rebuilder(file.model)(arrays | {path: change(arrays[path])}))


def refused(path: Path, file: ModelFile, original: ModelFile, message: str) -> None:
    """Nothing is written, and the message names the file that was asked for."""
    before = {p: p.read_bytes() for p in path.parent.iterdir()}
    with pytest.raises(FileError, match=message) as caught:
        write_checked(path, file, original, overwrite=True)
    assert str(caught.value).startswith(f"{path}: ")
    assert {p: p.read_bytes() for p in path.parent.iterdir()} == before


@pytest.mark.parametrize("name", ["baseline", "float32", "fparam_aparam", "atom_exclude_types", *HEADS])
@pytest.mark.parametrize("suffix", [".dp", ".yaml"])
def test_a_model_is_written_if_it_is_right(name: str, suffix: str, tmp_path: Path) -> None:
    file = case(name).file
    assert write_checked(tmp_path / f"a{suffix}", file, file) < guard.tolerance_of(file.settings)
    assert read_model(tmp_path / f"a{suffix}").settings == file.settings
    assert os.listdir(tmp_path) == [f"a{suffix}"]


def test_all_types_are_tried(tmp_path: Path) -> None:
    """Also where there are more of them than atoms in the usual structure: the last one's bias is wrong."""
    names = [f"T{i}" for i in range(30)]
    file = model(type_map=names)
    assert set(mixture(30).types) == set(range(30))
    wrong = with_array(file, "descriptor.repinit.near.mean", lambda a: a + 1e-6 * (np.arange(30) == 29)[:, None])
    refused(tmp_path / "a.dp", wrong, file, "differ by")


WEIGHT, BIAS = "descriptor.repformer.layers.1.linear1.weight", "fitting.network.layers.0.bias"
PARTS = [WEIGHT, BIAS, "descriptor.repinit.near.stddev"]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("kind", ["ener", "dipole", "dos"])
def test_numbers_that_are_not_the_originals(kind: str, part: str, tmp_path: Path) -> None:
    file = model(fitting_net={"type": kind, "neuron": [4]})
    (tmp_path / "a.dp").write_text("kept")
    wrong = with_array(file, part, lambda a: 1.001 * a)
    refused(tmp_path / "a.dp", wrong, file, "not written: read back, .* differ by")


def test_the_output_bias_may_change_and_nothing_else(tmp_path: Path) -> None:
    file = model(atom_exclude_types=[0])
    changed = with_array(file, "out_bias", lambda a: a - 300.0)
    write_checked(tmp_path / "a.dp", changed, file)
    np.testing.assert_array_equal(read_model(tmp_path / "a.dp").model.out_bias, file.model.out_bias - 300.0)
    refused(tmp_path / "b.dp", with_array(changed, WEIGHT, lambda a: a * 1.001), file, "differ by")


def test_what_is_lost_on_the_way_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer that rounds."""

    def rounding(path: Path, file: ModelFile) -> None:
        write_model(path, with_array(file, WEIGHT, lambda a: a.astype(np.float32).astype(np.float64)))

    monkeypatch.setattr(guard, "write_model", rounding)
    refused(tmp_path / "a.dp", model(), model(), f"read back, arrays are not what they were: {WEIGHT}")


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.7e308])
def test_models_that_give_no_numbers(value: float, tmp_path: Path) -> None:
    """NaN is found on reading, numbers that are too large when they are used."""
    file = with_array(model(), BIAS, lambda a: np.full_like(a, value))
    other = with_array(file, "fitting.network.layers.1.weight", lambda a: np.full_like(a, value))
    refused(tmp_path / "a.dp", other, other, "finite number")


def test_models_that_no_structure_suits(tmp_path: Path) -> None:
    wide: Any = MODEL["descriptor"]
    file = model(descriptor=wide | {"repinit": wide["repinit"] | {"rcut": 50.0}})
    refused(tmp_path / "a.dp", file, file, r"not written: frame 0: .* neighbors within 50 Å")


def test_saving_from_python_is_guarded_too(tmp_path: Path) -> None:
    potential = Potential(model(), backend("numpy").engine())
    potential.save(tmp_path / "a.dp")
    with pytest.raises(FileError, match=r"a\.dp: exists already; .*overwrite=True"):
        potential.save(tmp_path / "a.dp")
    potential.save(tmp_path / "a.dp", overwrite=True)
    huge = with_array(model(), "fitting.network.layers.1.weight", lambda a: np.full_like(a, 1.7e308))
    broken = Potential(huge, potential.engine)
    with pytest.raises(FileError, match="not written"):
        broken.save(tmp_path / "a.dp", overwrite=True)
    assert differences(state(read_model(tmp_path / "a.dp").model), state(potential.file.model)) == []
    assert os.listdir(tmp_path) == ["a.dp"]


def test_too_large_for_single_precision(tmp_path: Path) -> None:
    file = with_array(model(), BIAS, lambda a: a + 1e39)
    refused(tmp_path / "a.dp", with_precision(file, "float32"), file, "finite numbers")


def test_single_precision_is_allowed_its_rounding_and_no_more(tmp_path: Path) -> None:
    file = model()
    single = with_precision(file, "float32")
    assert 1e-10 < write_checked(tmp_path / "a.dp", single, file) < 2e-5
    refused(tmp_path / "b.dp", with_array(single, WEIGHT, lambda a: a * np.float32(1.01)), file, "differ by")
