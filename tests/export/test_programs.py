"""Programs give the numbers of the model they were made from, on structures of sizes that they were not made with."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from zipfile import ZipFile

import numpy as np
import pytest

from dpmodel.data.structure import Structure
from dpmodel.export.forms import Options
from dpmodel.export.read import ProgramEvaluator
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.settings import ModelSettings
from dpmodel.testing.cases import Case
from dpmodel.testing.options import Space
from exporting import PERIODIC, assert_agrees, program, triclinic, water_box
from random_models import random_model
from small_water import MODEL

OPEN = np.zeros(3, dtype=bool)
FORMS = ("deepmd-kit", "metatomic", "torch", "stablehlo", "paddle")
every_form = pytest.mark.parametrize("form", FORMS)


STRUCTURES = {
    "one atom": Structure(np.array([[1.0, 2.0, 3.0]]), np.array([1]), None, OPEN),
    "one atom and its images": Structure(np.array([[1.0, 2.0, 3.0]]), np.array([0]), triclinic(2.6), PERIODIC),
    "isolated atoms": Structure(30.0 * np.arange(15.0).reshape(5, 3), np.array([0, 1, 1, 0, 1]), None, OPEN),
    "two atoms": Structure(np.array([[0.0, 0, 0], [0.9, 0.3, 0]]), np.array([0, 1]), None, OPEN),
    "more neighbors than slots": water_box(27, 5.0 * np.eye(3)),
    "triclinic": water_box(60, triclinic(9.5), 1),
    "left-handed": water_box(40, triclinic(9.0)[[1, 0, 2]], 2),
    "slab": replace(water_box(30, triclinic(7.5), 3), pbc=np.array([True, True, False])),
    "a lattice with the shift of empty slots": replace(
        water_box(30, 9.0 * np.eye(3), 3), pbc=np.array([True, True, False])
    ),
    "hundreds of atoms": water_box(300, 16.0 * np.eye(3), 4),
}


@cache
def of_water(form: str) -> tuple[ProgramEvaluator, ModelFile]:
    file = random_model(ModelSettings.read(MODEL, "model"), 5)
    return program(form, file, Path(mkdtemp())), file


@every_form
@pytest.mark.parametrize("name", STRUCTURES)
def test_sizes_never_seen_before(form, name):
    found, file = of_water(form)
    assert_agrees(found, file, STRUCTURES[name])


@every_form
@pytest.mark.slow
def test_two_thousand_atoms(form):
    found, file = of_water(form)
    assert_agrees(found, file, water_box(2000, triclinic(32.0), 6))


ENERGIES: dict[str, list] = {"fitting_net.type": ["ener"]}
# metatomic knows elements, and no parameters
METATOMIC: dict[str, list] = {
    "type_map": [("O", "H"), ("H",), ("H", "C", "N", "Cu")],
    "fitting_net.numb_fparam": [0],
    "fitting_net.numb_aparam": [0],
}
COMPILERS = [pytest.param(form, marks=pytest.mark.slow) for form in ("torch", "stablehlo", "paddle")]


def check_case(form, seed, only, row, folder):
    case = Case(Space(only).values(row), seed)
    found = program(form, case.model, folder)
    for structure in case.structures:
        assert_agrees(found, case.model, structure, 2e-5 if case.is_single else 1e-10)


@pytest.mark.parametrize("form", ["deepmd-kit", "metatomic", *COMPILERS])
@pytest.mark.parametrize("seed", range(8))
def test_settings_drawn_at_random(form, seed, tmp_path):
    only = ENERGIES | METATOMIC if form == "metatomic" else ENERGIES
    check_case(form, seed, only, Space(only).draw(8, seed=11)[seed], tmp_path)


@pytest.mark.parametrize("form", COMPILERS)
@pytest.mark.parametrize("head", ["dipole", "polar", "dos", "property"])
def test_other_heads(form, head, tmp_path):
    only = {"fitting_net.type": [head]}
    check_case(form, 1, only, Space(only).draw(2, seed=3)[1], tmp_path)


@pytest.mark.slow
def test_one_file_for_several_platforms(tmp_path):
    file = random_model(ModelSettings.read(MODEL, "model"), 5)
    found = program("stablehlo", file, tmp_path, Options(platforms=("cpu", "cuda", "tpu")))
    jax_export, path = pytest.importorskip("jax.export"), tmp_path / "model.stablehlo"
    exported = jax_export.deserialize(bytearray(ZipFile(path).read("model.stablehlo")))
    assert exported.platforms == ("cpu", "cuda", "tpu")
    assert_agrees(found, file, STRUCTURES["triclinic"])
