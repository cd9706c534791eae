"""The output bias: fitted as NumPy's least squares do it, or given."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmodel
from dpmodel.backend import Engine, backend
from dpmodel.data.samples import mixture
from dpmodel.data.structure import Structure
from dpmodel.data.systems import Frame
from dpmodel.edit.bias import with_fitted_bias
from dpmodel.errors import FileError, InputError
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from random_models import random_model
from small_water import MODEL, write_system

NUMPY = backend("numpy").engine()
pytestmark = pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")


def model(**changes: Any) -> ModelFile:
    return random_model(ModelSettings.read(MODEL | changes))


def frames(n: int, n_types: int = 2) -> list[Frame]:
    """Mixtures in random proportions, some atoms virtual, with random energies; every third without."""
    random, found = np.random.default_rng(0), []
    for i in range(n):
        s = mixture(n_types, seed=i)
        types = random.choice([-1, *range(n_types)], len(s.types))
        labels = {} if i % 3 == 2 else {"energy": np.asarray(random.normal(-100.0, 30.0))}
        found.append(Frame(Structure(s.positions, types, s.cell, s.pbc), labels))
    return found


def least_squares(file: ModelFile, given: list[Frame]) -> np.ndarray:
    """What the labels lack, shared among the types that count, with NumPy alone."""
    labeled = [f for f in given if "energy" in f.labels]
    predicted = [p.energy[0] for p in Potential(file, NUMPY).evaluate_many([f.structure for f in labeled])]
    counted = [t for t in range(len(file.settings.type_map)) if t not in file.settings.atom_exclude_types]
    counts = np.array([[np.sum(f.structure.types == t) for t in counted] for f in labeled])
    missing = np.array([f.labels["energy"] for f in labeled]) - predicted
    bias = np.zeros(len(file.settings.type_map))
    bias[counted] = np.linalg.lstsq(counts, missing, rcond=None)[0]
    return bias


def check_least_squares(file: ModelFile, engine: Engine) -> None:
    given = frames(9)
    changed = with_fitted_bias(file, given, engine)
    found = (changed.model.out_bias - file.model.out_bias)[:, 0]
    np.testing.assert_allclose(found, least_squares(file, given), rtol=1e-9, atol=1e-9)
    assert changed.settings == file.settings


def test_least_squares(engine: Engine) -> None:
    check_least_squares(model(), engine)


@pytest.mark.parametrize("changes", [{"atom_exclude_types": [1]}, {"type_map": ["O", "H", "C"]}], ids=str)
def test_types_that_do_not_count_or_that_no_frame_has_keep_their_bias(changes: dict[str, Any]) -> None:
    check_least_squares(model(**changes), NUMPY)


PRESETS = [[-432.1, None, None], [[-432.1], -13.7, None], [None, None, 0.3]]


@pytest.mark.parametrize("preset", PRESETS, ids=str)
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_fixed_biases_are_kept(preset: list[Any], shift: float) -> None:
    """The others are the best that there are beside them, wherever the model was before."""
    fixed = {t: np.ravel(value)[0] for t, value in enumerate(preset) if value is not None}
    file = model(type_map=["O", "H", "C"], preset_out_bias={"energy": preset})
    start = file.model.out_bias + shift
    start[list(fixed), 0] = np.array(list(fixed.values())) + shift
    file = replace(file, model=replace(file.model, out_bias=start))
    given = frames(9, n_types=3)
    changed = with_fitted_bias(file, given, NUMPY)
    found = changed.model.out_bias[:, 0]
    assert {t: found[t] for t in fixed} == fixed
    labeled = [f for f in given if "energy" in f.labels]
    predicted = [p.energy[0] for p in Potential(changed, NUMPY).evaluate_many([f.structure for f in labeled])]
    left = np.array([f.labels["energy"] for f in labeled]) - predicted
    free = [t for t in range(3) if t not in fixed]
    counts = np.array([[np.sum(f.structure.types == t) for t in free] for f in labeled])
    np.testing.assert_allclose(counts.T @ left, 0.0, atol=1e-7)  # the normal equations


def test_no_energies_no_change() -> None:
    file = model()
    assert with_fitted_bias(file, [replace(frame, labels={}) for frame in frames(3)], NUMPY) is file


def test_from_data_on_the_disk(tmp_path: Path) -> None:
    """All frames have the same composition: afterwards the model is right on average."""
    write_system(tmp_path / "data", 5)
    potential = Potential(model(), NUMPY)
    changed = dpmodel.change_bias(potential, systems=[tmp_path / "data"])
    x = np.load(tmp_path / "data" / "set.000" / "coord.npy").reshape(5, 6, 3)
    labels = np.load(tmp_path / "data" / "set.000" / "energy.npy")
    before, after = (p.evaluate(x, [0, 1, 1, 0, 1, 1], 7.0 * np.eye(3)) for p in (potential, changed))
    assert before.energy is not None
    np.testing.assert_allclose(np.mean(after.energy - labels), 0.0, atol=1e-10)
    np.testing.assert_array_equal(after.forces, before.forces)
    np.testing.assert_allclose(np.ptp(after.energy - before.energy), 0.0, atol=1e-11)


def test_given_energies() -> None:
    potential = Potential(model(), NUMPY)
    changed = dpmodel.change_bias(potential, {"H": -13.6})
    old, new = potential.file.model.out_bias, changed.file.model.out_bias
    assert new[:, 0].tolist() == [old[0, 0], -13.6]
    s = mixture(2)
    a, b = (p.evaluate(s.positions, s.types, s.cell) for p in (potential, changed))
    expected = a.atom_energy + np.where(s.types == 1, -13.6 - old[1, 0], 0.0)
    np.testing.assert_allclose(b.atom_energy, expected, rtol=1e-12)
    np.testing.assert_array_equal(b.forces, a.forces)


def test_what_cannot_be_changed(tmp_path: Path) -> None:
    write_system(tmp_path / "silent", 1, labels="force")
    potential = Potential(model(), NUMPY)
    with pytest.raises(InputError, match=r"expected a finite energy for one of O, H, got C=1\.0"):
        dpmodel.change_bias(potential, {"C": 1.0})
    with pytest.raises(InputError, match=r"got O=nan"):
        dpmodel.change_bias(potential, {"O": float("nan")})
    with pytest.raises(InputError, match="expected either energies of types"):
        dpmodel.change_bias(potential)
    with pytest.raises(FileError, match=r"silent: expected frames with energies .* found none"):
        dpmodel.change_bias(potential, systems=[tmp_path / "silent"])
    dipole = Potential(model(fitting_net={"type": "dipole", "neuron": [4]}), NUMPY)
    with pytest.raises(InputError, match="expected an energy model, got a dipole model"):
        dpmodel.change_bias(dipole, {"O": 1.0})
