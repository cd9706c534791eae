"""Other lists of types: those that stay keep their numbers, whatever the model makes of types."""

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import dpmodel
from dpmodel.backend import backend
from dpmodel.data.samples import asked, mixture
from dpmodel.edit.compression import compress
from dpmodel.edit.type_map import change_type_map
from dpmodel.errors import FileError, InputError, SettingError
from dpmodel.io.deepmd import ModelFile, from_tree, to_tree
from dpmodel.io.model import read_model
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state
from dpmodel.potential import Potential
from random_models import random_model
from small_water import MODEL
from statistics_cases import case_frames, case_settings
from trees import TRAINED

NUMPY = backend("numpy").engine()
OLD = ["O", "H", "C"]
STATISTICS = np.load(Path(__file__).parents[1] / "statistics" / "statistics.npz")


def settings(**changes: Any) -> ModelSettings:
    """A model of three types; ``descriptor`` and the like add to its sections."""
    data: dict[str, Any] = MODEL | {"type_map": OLD}
    for name, value in changes.items():
        data = data | {name: data[name] | value if isinstance(value, dict) and name in data else value}
    return ModelSettings.read(data)


def descriptor(**changes: Any) -> dict[str, Any]:
    """The section ``descriptor`` with changes to its blocks and itself."""
    mine: Any = MODEL["descriptor"]
    blocks = {name: mine[name] | changes.pop(name, {}) for name in ("repinit", "repformer")}
    return {"descriptor": blocks | changes}


# the type embedding has a shortcut where its width is once or twice the number of types: 3 and 6 of three types
WIDTH = {f"width {n}": descriptor(repinit={"tebd_dim": n}) for n in (2, 3, 4, 6)}
KINDS: dict[str, dict[str, Any]] = WIDTH | {
    "bias of the embedding": descriptor(use_tebd_bias=True),
    "electron configurations": descriptor(use_econf_tebd=True),
    "strip": descriptor(repinit={"tebd_input_mode": "strip"}),
    "one-sided strip": descriptor(repinit={"tebd_input_mode": "strip", "type_one_side": True}),
    "means": descriptor(repinit={"set_davg_zero": False}, repformer={"set_davg_zero": False}),
    "pairs excluded": {"pair_exclude_types": [[0, 1], [2, 2]]},
    "pairs excluded in the descriptor": descriptor(exclude_types=[[1, 1], [0, 2]]),
    "atoms excluded": {"atom_exclude_types": [1]},
    "vacuum subtracted": {"fitting_net": {"atom_ener": [None, None, 0.25]}},
    "dipole": {"fitting_net": {"type": "dipole", "sel_type": [0, 1]}},
    "polar": {"fitting_net": {"type": "polar", "scale": [0.5, 2.0, 3.0]}},
    "dos": {"fitting_net": {"type": "dos", "numb_dos": 5}},
    "property": {"fitting_net": {"type": "property", "property_name": "gap"}},
    "property of all types alike": {
        "fitting_net": {"type": "property", "property_name": "gap", "distinguish_types": False}
    },
}
NEW = {
    "reordered": ["C", "H", "O"],
    "dropped": ["H", "O"],
    "one left": ["H"],
    "added": ["N", "O", "H", "C", "F", "S"],
    "all of it": ["F", "C", "N", "O"],
}


@cache
def original(kind: str) -> ModelFile:
    return random_model(settings(**KINDS[kind]))


def numbers(file: ModelFile, names: list[str]) -> dict[str, np.ndarray]:
    """All that a model says of a structure of the types ``names``."""
    frame = asked(mixture(len(names), seed=1), names, file.settings)
    p = Potential(file, NUMPY).evaluate_many([frame])[0]
    values = {"energy": p.energy, "atom_energy": p.atom_energy, "forces": p.forces, "virial": p.virial, **p.outputs}
    return {name: value for name, value in values.items() if value is not None}


@pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")
@pytest.mark.parametrize("new", NEW)
@pytest.mark.parametrize("kind", KINDS)
def test_types_that_stay_keep_their_numbers(kind: str, new: str) -> None:
    changed = change_type_map(original(kind), NEW[new])
    assert list(changed.settings.type_map) == NEW[new]
    assert changed.extras["model_def_script"]["type_map"] == NEW[new]
    same = [name for name in OLD if name in NEW[new]]
    right, found = numbers(original(kind), same), numbers(changed, same)
    for name, value in right.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-12, atol=1e-12 * np.abs(value).max(), err_msg=name)


@pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_new_types_give_finite_numbers(kind: str) -> None:
    found = numbers(change_type_map(original(kind), NEW["added"]), NEW["added"])
    assert all(np.all(np.isfinite(value)) for value in found.values())


def test_a_compressed_model() -> None:
    """Its table of types is made anew, that of distances serves new types too."""
    plain = read_model(TRAINED / "strip.dp")
    file = compress(plain, min_pair_distance=0.9, step=0.05)
    changed = change_type_map(file, ["C", "H", "O"])
    right, found = numbers(file, ["O", "H"]), numbers(changed, ["O", "H"])
    np.testing.assert_allclose(found["atom_energy"], right["atom_energy"], rtol=1e-12)
    np.testing.assert_allclose(found["forces"], right["forces"], atol=1e-12 * np.abs(right["forces"]).max())
    assert from_tree(to_tree(changed)).settings == changed.settings


def test_lists_of_types_are_renumbered() -> None:
    file = random_model(
        settings(
            pair_exclude_types=[[0, 1], [1, 2]],
            atom_exclude_types=[2, 0],
            preset_out_bias={"energy": [None, -1.0, -2.0]},
            **descriptor(exclude_types=[[2, 2], [0, 0]]),
        )
    )
    changed = change_type_map(file, ["N", "C", "H"]).settings
    assert changed.pair_exclude_types == ((2, 1),)
    assert changed.atom_exclude_types == (1,)
    assert changed.descriptor.exclude_types == ((1, 1),)
    assert changed.preset_out_bias == {"energy": (None, -2.0, -1.0)}


def test_arrays_of_new_types() -> None:
    """Statistics that change nothing, no output bias, and an embedding that belongs to the name."""
    file = random_model(settings())
    a, b = (change_type_map(file, names).model for names in (["N", "O"], ["O", "F", "N"]))
    for model, new in ((a, 0), (b, 2)):
        near = model.descriptor.repinit.near
        np.testing.assert_array_equal([near.mean[new], near.stddev[new]], [[0.0] * 4, [1.0] * 4])
        assert model.out_bias[new] == 0.0
    np.testing.assert_allclose(a.descriptor.type_embedding()[0], b.descriptor.type_embedding()[2], rtol=1e-12)
    assert not np.array_equal(b.descriptor.type_embedding()[1], b.descriptor.type_embedding()[2])


@pytest.mark.parametrize(
    ("names", "error", "message"),
    [
        (["Xx"], InputError, "expected at least one of the model's types O, H, C, got Xx"),
        (["O", "O"], SettingError, "should name each type once, got 'O'"),
        ([], InputError, "expected at least one"),
    ],
)
def test_impossible_types(names: list[str], error: type[Exception], message: str) -> None:
    potential = dpmodel.Potential(original("width 2"), NUMPY)
    with pytest.raises(error, match=message):
        dpmodel.change_type_map(potential, names)


def test_statistics_of_new_types_come_from_data(tmp_path: Path) -> None:
    """They are deepmd-kit's of the same frames; the type that stays keeps its own, and no bias is fitted."""
    s = case_settings("baseline")
    frames = [frame.structure for frame in case_frames("baseline", s)]
    for i, frame in enumerate(frames):
        assert frame.cell is not None
        folder = tmp_path / str(i) / "set.000"
        folder.mkdir(parents=True)
        (folder.parent / "type_map.raw").write_text(" ".join(s.type_map))
        np.savetxt(folder.parent / "type.raw", frame.types, fmt="%d")
        np.save(folder / "coord.npy", frame.positions.reshape(1, -1))
        np.save(folder / "box.npy", frame.cell.reshape(1, 9))
    fewer = dpmodel.change_type_map(Potential(ModelFile(s, build(s)), NUMPY), s.type_map[:1])
    found = state(dpmodel.change_type_map(fewer, s.type_map, systems=[tmp_path]).file.model)
    for block, place in (("repinit", "descriptor.repinit.near"), ("repformer", "descriptor.repformer")):
        right = STATISTICS[f"baseline/{block}.stddev"]
        np.testing.assert_allclose(found[f"{place}.stddev"][1:], right[1:], rtol=1e-9)
        assert (found[f"{place}.stddev"][0] == 1).all()
    assert not found["out_bias"].any()
    assert (found["out_std"] == 1).all()
    with pytest.raises(FileError, match="nowhere"):
        dpmodel.change_type_map(fewer, s.type_map, systems=["nowhere"])


def test_unknown_elements_have_no_electron_configuration() -> None:
    with pytest.raises(SettingError, match=r"should hold element symbols with use_econf_tebd, got 'Xx'"):
        change_type_map(original("electron configurations"), ["O", "Xx"])


@pytest.mark.deepmd
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", [kind for kind in KINDS if not kind.startswith("property of all")])
def test_as_deepmd_kit_does_it(kind: str) -> None:
    """Every array, where no type is new: its embeddings of new ones are random each time."""
    base = pytest.importorskip("deepmd.dpmodel.model.base_model")
    theirs = base.BaseModel.deserialize(to_tree(original(kind))["model"])
    theirs.change_type_map(["C", "O"])
    ours, theirs = to_tree(change_type_map(original(kind), ["C", "O"]))["model"], theirs.serialize()
    found, right = dict(arrays_in(ours)), dict(arrays_in(theirs))
    assert found.keys() == right.keys()
    for place, value in right.items():
        np.testing.assert_allclose(found[place], value, rtol=1e-14, err_msg=place)
    for section, name in (("", "pair_exclude_types"), ("", "atom_exclude_types"), ("descriptor", "exclude_types")):
        mine, other = ((tree[section] if section else tree)[name] for tree in (ours, theirs))
        assert sorted(map(str, mine)) == sorted(str(x if isinstance(x, int) else list(x)) for x in other)


def arrays_in(tree: Any, place: str = "") -> Iterator[tuple[str, np.ndarray]]:
    if isinstance(tree, np.ndarray):
        yield place, tree
    members = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in members:
        yield from arrays_in(value, f"{place}/{key}")
