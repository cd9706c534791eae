"""Exported programs, compared with what NumPy computes."""

import warnings
from pathlib import Path

import numpy as np

from dpmodel.data.structure import Structure
from dpmodel.edit.verified_save import tolerance_of
from dpmodel.errors import NeighborOverflowWarning
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.export.forms import FORMS, Options, exporter_of
from dpmodel.export.read import ProgramEvaluator
from dpmodel.export.record import Record
from dpmodel.io.deepmd import ModelFile
from dpmodel.prediction import Prediction
from engines import engine_of

PERIODIC = np.ones(3, dtype=bool)


def water_box(n: int, cell: np.ndarray, seed: int = 0) -> Structure:
    """``n`` atoms on a grid with gaps in a cell, moved at random."""
    random = np.random.default_rng(seed)
    sites = int(np.ceil(n ** (1 / 3) - 1e-9))
    places = np.stack(np.meshgrid(*[np.arange(sites)] * 3), axis=-1).reshape(-1, 3)
    positions = (random.permutation(places)[:n] + random.uniform(-0.2, 0.2, (n, 3))) / sites @ cell
    return Structure(positions, random.integers(0, 2, n), cell, PERIODIC)


def triclinic(edge: float) -> np.ndarray:
    return edge * np.array([[1.0, 0.0, 0.0], [0.3, 0.95, 0.0], [-0.2, 0.25, 0.9]])


def program(form: str, file: ModelFile, folder: Path, options: Options | None = None) -> ProgramEvaluator:
    """``file``, written in ``form`` and read back, without the trial in another process."""
    path = folder / f"model{FORMS[form].suffix}"
    exporter = exporter_of(form)
    exporter.write(path, file, options or Options())
    empty = Structure(np.zeros((0, 3)), np.zeros(0, int), None, np.zeros(3, bool))
    record = Record(form, file.settings, {}, empty, {}, tolerance_of(file.settings))
    return ProgramEvaluator(record, exporter.read(path, record, None))


def assert_agrees(found: ProgramEvaluator, file: ModelFile, structure: Structure, tolerance: float = 1e-10) -> None:
    """Everything a program says of a structure is what NumPy says, within ``tolerance`` of the largest number."""
    wants = Wants(atom_virial="edges" if file.settings.fitting_net.type == "ener" else None)
    right = Evaluator(file, engine_of("numpy"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeighborOverflowWarning)
        [[a]], [[b]] = (e.evaluate([structure], wants, strict=False) for e in (found, right))
    compared = _numbers(b)
    assert compared
    for name, value in compared.items():
        scale = max(1.0, np.abs(value).max())
        np.testing.assert_allclose(_numbers(a)[name], value, rtol=0, atol=tolerance * scale, err_msg=name)


def _numbers(prediction: Prediction) -> dict[str, np.ndarray]:
    names = ("energy", "atom_energy", "forces", "virial", "atom_virial")
    energies = {name: getattr(prediction, name) for name in names if getattr(prediction, name) is not None}
    return energies | prediction.outputs
