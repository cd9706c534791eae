"""Statistics kept in files: deepmd-kit's own (make_statistics.py), ours, those of other data, damaged ones."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.data.systems import Frame, System
from dpmodel.errors import FileError
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state
from dpmodel.statistics.cache import kept_statistics
from dpmodel.statistics.environment import statistics, with_statistics
from dpmodel.train.prepare import prepare
from dpmodel.train.script import read_script
from small_water import MODEL, script, write_system
from statistics_cases import case_frames, case_settings

HERE = Path(__file__).parent
THEIRS = ["fparam_aparam", "three_body"]
PLACES = ["stat.hdf5", "stat.h5", "below/stat.hdf5", "stat", "below/stat"]
SETTINGS = ModelSettings.read(MODEL | {"fitting_net": {"neuron": [4], "numb_fparam": 2}})


def entries(path: Path) -> dict[str, np.ndarray]:
    """All arrays of an HDF5 file or a folder, by their paths in it."""
    found = {}
    if path.is_dir():
        files = [file for file in path.rglob("*") if file.is_file() and file.name != "dpmodel"]
        return {str(file.relative_to(path)): np.load(file) for file in files}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return found


def water(root: Path, seed: int = 0) -> list[Frame]:
    write_system(root, 4, seed=seed)
    np.save(root / "set.000" / "fparam.npy", np.random.default_rng(seed).normal(3.0, 2.0, (4, 2)))
    return list(System(root, SETTINGS))


def kept(path: Path, frames: list[Frame], settings: ModelSettings = SETTINGS, **options: bool) -> dict[str, np.ndarray]:
    """The arrays of a model with the statistics that are found or made."""
    found = kept_statistics(str(path), lambda: frames, settings, **({"read_only": False, "write": True} | options))
    return state(with_statistics(build(settings), settings, found))


def direct(frames: list[Frame], settings: ModelSettings = SETTINGS) -> dict[str, np.ndarray]:
    return state(with_statistics(build(settings), settings, statistics(frames, settings)))


def same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> bool:
    return all(np.array_equal(value, b[path]) for path, value in a.items())


@pytest.mark.parametrize("name", THEIRS)
def test_entries_are_those_of_deepmd_kit(tmp_path: Path, name: str) -> None:
    settings = case_settings(name)
    kept(tmp_path / "stat.hdf5", case_frames(name, settings), settings)
    ours, theirs = entries(tmp_path / "stat.hdf5"), entries(HERE / f"stat_file_{name}.hdf5")
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        assert ours[key].shape == value.shape, key
        if key.endswith("observed_type"):
            assert ours[key].tolist() == value.tolist()
        else:
            np.testing.assert_allclose(ours[key], value, rtol=1e-9, atol=1e-11, err_msg=key)


@pytest.mark.parametrize("name", THEIRS)
@pytest.mark.parametrize("read_only", [False, True])
def test_files_of_deepmd_kit_are_used(tmp_path: Path, name: str, read_only: bool) -> None:
    settings = case_settings(name)
    frames = case_frames(name, settings)
    shutil.copy(HERE / f"stat_file_{name}.hdf5", tmp_path / "stat.hdf5")
    with h5py.File(tmp_path / "stat.hdf5", "r+") as file:
        file["O H/bias_atom_energy"][...] = [[3.0], [4.0]]
    with pytest.warns(UserWarning, match=r"stat.hdf5: statistics of unknown data are used"):
        found = kept(tmp_path / "stat.hdf5", frames, settings, read_only=read_only)
    expected = direct(frames, settings)
    assert found["out_bias"].tolist() == [[3.0], [4.0]]
    for path in expected.keys() - {"out_bias", "out_std"}:
        np.testing.assert_allclose(found[path], expected[path], rtol=1e-9, atol=1e-11, err_msg=path)


@pytest.mark.parametrize("place", PLACES)
def test_they_are_read_again(tmp_path: Path, place: str) -> None:
    frames, path = water(tmp_path / "a"), tmp_path / place
    first = kept(path, frames)
    assert same(first, direct(frames))
    before = entries(path)
    assert same(kept(path, frames), first)
    assert same(kept(path, frames, read_only=True), first)
    after = entries(path)
    assert all(np.array_equal(value, after[key]) for key, value in before.items())


def test_nothing_is_computed_where_all_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    frames = water(tmp_path / "a")
    kept(tmp_path / "stat", frames)
    monkeypatch.setattr("dpmodel.statistics.cache.statistics", None)
    kept(tmp_path / "stat", frames)


@pytest.mark.parametrize("place", ["stat.hdf5", "stat"])
def test_others_are_noticed(tmp_path: Path, place: str) -> None:
    """Data that changed in their place, and settings that the names of the entries do not show."""
    frames, path = water(tmp_path / "a"), tmp_path / place
    kept(path, frames)
    new = water(tmp_path / "b", seed=1)
    with pytest.warns(UserWarning, match=r"stat.*: statistics of other frames are used"):
        old = kept(path, new, read_only=True)
    assert same(old, direct(frames))
    with pytest.warns(UserWarning, match=r"stat.*: statistics of other frames are computed again"):
        assert same(kept(path, new), direct(new))
    assert same(kept(path, new), direct(new))
    excluded = SETTINGS.model_dump()
    excluded["descriptor"] |= {"exclude_types": [[0, 1]], "env_protection": 0.1}
    settings = ModelSettings.read(excluded)
    with pytest.warns(UserWarning, match=r"of other exclude_types, env_protection are computed again"):
        assert same(kept(path, new, settings), direct(new, settings))


@pytest.mark.parametrize("place", ["stat.hdf5", "stat"])
def test_what_else_is_there_stays(tmp_path: Path, place: str) -> None:
    frames, path = water(tmp_path / "a"), tmp_path / place
    kept(path, frames)
    wide = SETTINGS.model_dump()
    wide["descriptor"]["repinit"]["rcut"] = 3.9
    kept(path, frames, ModelSettings.read(wide))
    swapped = ModelSettings.read(SETTINGS.model_dump() | {"type_map": ["H", "O"]})
    kept(path, list(System(tmp_path / "a", swapped)), swapped)
    assert same(kept(path, frames), direct(frames))
    assert {key.partition("/")[0] for key in entries(path)} == {"O H", "H O"}


@pytest.mark.parametrize("place", ["stat.hdf5", "stat"])
def test_only_read(tmp_path: Path, place: str) -> None:
    frames, path = water(tmp_path / "a"), tmp_path / place
    with pytest.raises(FileError, match=rf"{place}: expected O H/[0-9a-f]{{40}}/r_0, found none"):
        kept(path, frames, read_only=True)
    assert not path.exists()
    kept(path, frames, write=False)
    assert not path.exists()
    kept(path, frames)
    if path.is_dir():
        (path / "O H" / "std_atom_energy").unlink()
    else:
        with h5py.File(path, "r+") as file:
            del file["O H/std_atom_energy"]
    with pytest.raises(FileError, match="expected O H/std_atom_energy, found none"):
        kept(path, frames, read_only=True)
    assert same(kept(path, frames), direct(frames))


DAMAGE = {
    "shape": np.zeros(3),
    "not finite": np.full((2, 1), np.nan),
    "words": np.array([[b"a"], [b"b"]]),
    "complex": np.zeros((2, 1), dtype=complex),
}


@pytest.mark.parametrize("place", ["stat.hdf5", "stat"])
@pytest.mark.parametrize("kind", DAMAGE)
def test_entries_that_cannot_be_right(tmp_path: Path, place: str, kind: str) -> None:
    frames, path = water(tmp_path / "a"), tmp_path / place
    kept(path, frames)
    if path.is_dir():
        with (path / "O H" / "bias_atom_energy").open("wb") as file:
            np.save(file, DAMAGE[kind])
    else:
        with h5py.File(path, "r+") as h5:
            del h5["O H/bias_atom_energy"]
            h5["O H/bias_atom_energy"] = DAMAGE[kind]
    with pytest.raises(FileError, match=r"O H/bias_atom_energy: expected finite numbers of shape \(2, 1\), found"):
        kept(path, frames)


def hurt_files(root: Path) -> Iterator[tuple[Path, str]]:
    """Copies of good files, each damaged in its own way, and what is said of it."""
    good = (root / "stat.hdf5").read_bytes()
    for n in (0, 7, 100, len(good) // 2, len(good) - 1):
        (root / f"cut{n}.hdf5").write_bytes(good[:n])
        yield root / f"cut{n}.hdf5", "cannot be read as an HDF5 file"
    shutil.copytree(root / "stat", root / "pickled")
    np.save((root / "pickled/O H/fparam").open("wb"), np.array([{}]), allow_pickle=True)
    yield root / "pickled", "fparam: cannot be read as an array of numbers"
    shutil.copytree(root / "stat", root / "note")
    (root / "note/O H/dpmodel").write_text("{")
    yield root / "note", "cannot be read as a folder of statistics"
    shutil.copy(root / "stat.hdf5", root / "folder.hdf5")
    with h5py.File(root / "folder.hdf5", "r+") as file:
        del file["O H/fparam"]
        file.create_group("O H/fparam")
    yield root / "folder.hdf5", "O H/fparam: expected a dataset, found a group"
    (root / "file").write_text("x")
    yield root / "file", "file/O H: expected a folder, or a place where one can be made"


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_damaged_files(tmp_path: Path) -> None:
    frames = water(tmp_path / "a")
    for place in ("stat", "stat.hdf5"):
        kept(tmp_path / place, frames)
    for path, message in hurt_files(tmp_path):
        with pytest.raises(FileError, match=message):
            kept(path, frames)
    (tmp_path / "stat/O H/dpmodel").write_text("[]")
    with pytest.warns(UserWarning, match="statistics of other frames, .* are computed again"):
        kept(tmp_path / "stat", frames)


def test_training_keeps_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_system(tmp_path / "data", 4)
    data: dict[str, Any] = script(Path("data"), training={"stat_file": "stat.hdf5"})
    plain = script(Path("data"))
    engine = backend("numpy").engine()
    prepare(read_script(data), engine, keep=False)
    assert not (tmp_path / "stat.hdf5").exists()
    first = prepare(read_script(data), engine).models()["Default"].model
    assert (tmp_path / "stat.hdf5").exists()
    again = prepare(read_script(json.loads(json.dumps(data))), engine).models()["Default"].model
    without = prepare(read_script(plain), engine).models()["Default"].model
    assert same(state(first), state(again))
    assert same(state(first), state(without))
    data["training"] |= {"stat_file": "none.hdf5", "stat_file_mode": "read"}
    with pytest.raises(FileError, match=r"none.hdf5: expected O H/.*, found none \(stat_file_mode 'read'"):
        prepare(read_script(data), engine)
