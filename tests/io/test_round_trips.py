"""From every form of a model to every other one, and nothing is lost: files of all kinds, arrays of all backends."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import cache, reduce
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dpmodel.edit.compression import compress
from dpmodel.edit.precision import with_precision
from dpmodel.errors import FileError
from dpmodel.evaluator import Evaluator
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model, write_model
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from engines import CHOSEN, engine_of
from random_models import random_model
from reference_cases import EVERY, case
from small_water import MODEL
from trees import TRAINED, differences

Form = Callable[[ModelFile, Path], ModelFile]
SUFFIXES = (".dp", ".yaml", ".dp.json", ".pt")


def through_file(suffix: str) -> Form:
    def form(file: ModelFile, folder: Path) -> ModelFile:
        write_model(folder / f"model{suffix}", file)
        return read_model(folder / f"model{suffix}")

    return form


def through_backend(name: str) -> Form:
    def form(file: ModelFile, folder: Path) -> ModelFile:
        held, engine = Evaluator(file, engine_of(name)).state, engine_of(name)
        return replace(file, model=Rebuilder(file.model)({path: engine.numpy(x) for path, x in held.items()}))

    return form


FORMS = {s: through_file(s) for s in SUFFIXES} | {name: through_backend(name) for name in CHOSEN}


def same(a: ModelFile, b: ModelFile) -> None:
    """Settings, script and shortest distance are equal, arrays are so bit for bit."""
    assert a.settings == b.settings
    assert differences(state(a.model), state(b.model)) == []
    assert a.min_pair_distance == b.min_pair_distance
    assert ModelSettings.read(b.extras.get("model_def_script", b.settings)) == a.settings


PARAMETERS = {"numb_fparam": 2, "numb_aparam": 1, "default_fparam": [0.5, 1.0], "dim_case_embd": 3}
EXCLUDED = {"pair_exclude_types": [[0, 1]], "atom_exclude_types": [1], "descriptor.exclude_types": [[1, 1]]}
SINGLE = {"descriptor.precision": "float32", "fitting_net.precision": "float32"}
STRIP = {"descriptor.repinit.tebd_input_mode": "strip", "descriptor.repformer.update_h2": True}
KINDS: dict[str, dict[str, Any]] = {
    "parameters, vacuum subtracted": {f"fitting_net.{name}": value for name, value in PARAMETERS.items()}
    | {"fitting_net.atom_ener": [None, -0.5], "fitting_net.trainable": [True, False]},
    "excluded types, strip": EXCLUDED | STRIP | {"preset_out_bias": {"energy": [None, -1.5]}},
    "float32, electron configurations": SINGLE | {"descriptor.use_econf_tebd": True, "type_map": ["O", "U"]},
    "dipole": {"fitting_net.type": "dipole", "fitting_net.sel_type": [0]},
    "polar": {"fitting_net.type": "polar", "fitting_net.scale": [0.5, 2.0]},
    "dos": {"fitting_net.type": "dos", "fitting_net.numb_dos": 7},
    "property": {"fitting_net.type": "property", "fitting_net.property_name": "gap", "fitting_net.intensive": True},
}
# known to the script in a file only
LIKE_TRAINING = {"data_stat_nbatch": 3, "model_branch_alias": ["water"], "info": {"author": "nobody"}}
LIKE_TRAINING |= {"descriptor.seed": 5, "fitting_net.seed": [1, 2], "descriptor.repformer.nlayers": 1}


@cache
def model(kind: str) -> ModelFile:
    """Random numbers in every array, but for those of a polarizability that no checkpoint holds."""
    data: Any = deepcopy(MODEL)
    for path, value in (KINDS[kind] | LIKE_TRAINING).items():
        *sections, name = path.split(".")
        reduce(lambda section, key: section[key], sections, data)[name] = value
    settings = ModelSettings.read(data)
    made = random_model(settings, seed=1).model
    if kind == "polar":
        fresh = build(settings).fitting
        made = replace(made, fitting=replace(made.fitting, constant=fresh.constant, scale=fresh.scale))
    return ModelFile(settings, made, min_pair_distance=0.75)


@pytest.mark.parametrize(("first", "second"), [*product(FORMS, FORMS)])
def test_from_every_form_to_every_other(first: str, second: str, tmp_path: Path) -> None:
    for kind in KINDS:
        same(model(kind), FORMS[second](FORMS[first](model(kind), tmp_path), tmp_path))


@pytest.mark.parametrize("name", EVERY)
def test_reference_models_go_round(name: str, tmp_path: Path) -> None:
    file = case(name).file
    if file.model.fitting.constant is not None:  # no checkpoint holds it
        file = replace(file, model=replace(file.model, fitting=replace(file.model.fitting, constant=np.zeros(2))))
    again = file
    for form in FORMS.values():
        again = form(again, tmp_path)
    same(file, again)


@cache
def compressed(precision: str) -> ModelFile:
    plain = with_precision(read_model(TRAINED / "strip.dp"), precision)
    return compress(plain, min_pair_distance=0.9, step=0.05)


@pytest.mark.parametrize("precision", ["float64", "float32"])
@pytest.mark.parametrize("form", [form for form in FORMS if form != ".pt"])
def test_compressed_models(form: str, precision: str, tmp_path: Path) -> None:
    """Both tables of both blocks, at any precision; each form gives what was put in, so any two do."""
    file = compressed(precision)
    assert sum("table" in path for path in state(file.model)) == 4
    same(file, FORMS[form](file, tmp_path))


def test_deepmd_kit_has_no_compressed_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"model\.pt: a checkpoint of deepmd-kit holds no tables: write .* as \.dp"):
        write_model(tmp_path / "model.pt", compressed("float64"))
    assert not list(tmp_path.iterdir())
