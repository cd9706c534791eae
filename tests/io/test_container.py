"""Trees in and out of .dp, .yaml and .dp.json."""

import json
import os
import resource
import stat
import tracemalloc
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings

from dpmodel.errors import FileError
from dpmodel.io.container import FORMATS, read_tree, write_tree
from dpmodel.io.files import replacing
from trees import MODELS, TRAINED, assert_same, trees

SUFFIXES = [".dp", ".yaml", ".yml", ".dp.json"]
every_suffix = pytest.mark.parametrize("suffix", SUFFIXES)
random_trees = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def spec_dp(path: Path) -> Any:
    """What specification/serialization.md 1.2 says a reader does, and no more."""

    def walk(value, flagged):
        if isinstance(value, dict):
            return {key: walk(v, flagged or key == "@variables") for key, v in value.items()}
        if isinstance(value, list):
            return [walk(v, flagged) for v in value]
        return np.asarray(file[value][()]) if flagged and value is not None else value

    with h5py.File(path) as file:
        return walk(json.loads(file.attrs["json"]), False)


def spec_yaml(path: Path) -> Any:
    """The same for 1.3, by PyYAML's own safe loader."""

    def walk(value):
        if isinstance(value, dict):
            if value.get("@is_variable"):
                array = np.asarray(value["value"], dtype=np.dtype(value["dtype"]))
                return array.reshape(value.get("shape", array.shape))  # deepmd-kit has no shape, and no empty arrays
            return {key: walk(v) for key, v in value.items()}
        return [walk(v) for v in value] if isinstance(value, list) else value

    return walk(yaml.safe_load(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODELS, ids=lambda p: f"{p.parent.name}-{p.stem}")
def test_models_of_deepmd_kit_survive(path, tmp_path):
    tree = read_tree(path)
    if path.stem != "bfloat16":
        assert_same(tree, spec_dp(path))
    write_tree(tmp_path / "copy.dp", tree)
    assert_same(read_tree(tmp_path / "copy.dp"), tree)


@every_suffix
def test_a_trained_model_survives(suffix, tmp_path):
    tree = read_tree(TRAINED / "strip.dp")
    write_tree(tmp_path / f"model{suffix}", tree)
    assert_same(read_tree(tmp_path / f"model{suffix}"), tree)


@random_trees
@given(tree=trees())
def test_random_trees_survive_hdf5_bit_for_bit(tree, tmp_path):
    write_tree(tmp_path / "a.dp", tree)
    assert_same(read_tree(tmp_path / "a.dp"), tree)
    assert_same(spec_dp(tmp_path / "a.dp"), tree)


@random_trees
@given(tree=trees())
def test_random_trees_survive_text(tree, tmp_path):
    write_tree(tmp_path / "a.yaml", tree)
    write_tree(tmp_path / "a.dp.json", tree)
    assert_same(read_tree(tmp_path / "a.yaml"), tree, bits=False)
    assert_same(read_tree(tmp_path / "a.dp.json"), tree, bits=False)


@random_trees
@given(tree=trees())
def test_yaml_means_to_others_what_it_means_to_us(tree, tmp_path):
    write_tree(tmp_path / "a.yaml", tree)
    assert_same(spec_yaml(tmp_path / "a.yaml"), tree, bits=False)


def test_layout_of_dp_is_deepmd_kits(tmp_path):
    variables = {"a": np.arange(6.0).reshape(2, 3), "none": None, "list": [np.float32(1.5), 2, True]}
    write_tree(tmp_path / "m.dp", {"model": {"@variables": variables, "plain": [1, None, "text"]}})
    with h5py.File(tmp_path / "m.dp") as file:
        assert h5py.check_string_dtype(file.attrs.get_id("json").dtype) == ("utf-8", None)
        names = {"a": "/variable_0000", "none": None, "list": [f"/variable_000{i}" for i in (1, 2, 3)]}
        expected = {"model": {"@variables": names, "plain": [1, None, "text"]}}
        assert file.attrs["json"] == json.dumps(expected, separators=(",", ":"))
        assert sorted(file) == [f"variable_{i:04d}" for i in range(4)]
        assert [file[f"variable_000{i}"].dtype.name for i in range(4)] == ["float64", "float32", "int64", "bool"]
        assert file["variable_0001"].shape == ()
        assert file["variable_0000"].compression is None
        assert file["variable_0000"].chunks is None


@every_suffix
def test_numbers_below_variables_become_arrays(suffix, tmp_path):
    write_tree(
        tmp_path / f"a{suffix}", {"@variables": {"min_nbor_dist": 0.885, "n": [3, True]}, "min_nbor_dist": 0.885}
    )
    tree = read_tree(tmp_path / f"a{suffix}")
    assert_same(tree["@variables"], {"min_nbor_dist": np.asarray(0.885), "n": [np.asarray(3), np.asarray(True)]})
    assert type(tree["min_nbor_dist"]) is float


def test_hand_written_yaml(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "time: 2026-11-22 06:52:53\n"
        "type_map: &types [O, H]\n"
        "again: *types\n"
        "nested: {array: {'@class': np.ndarray, '@is_variable': true, dtype: float32, value: [1, 2.5]}}\n"
        "'@variables': {a: -0.0, b: .nan, c: ~}\n"
    )
    tree = read_tree(tmp_path / "a.yaml")
    assert tree["time"] == "2026-11-22 06:52:53"
    assert tree["again"] == tree["type_map"] == ["O", "H"]
    assert_same(tree["nested"]["array"], np.asarray([1, 2.5], np.float32))
    assert_same(tree["@variables"], {"a": np.asarray(-0.0), "b": np.asarray(np.nan), "c": None}, bits=False)


def test_bfloat16_becomes_float32_exactly(tmp_path):
    tree = read_tree(TRAINED / "bfloat16.dp")
    matrix = tree["model"]["descriptor"]["g1_shape_tranform"]["@variables"]["w"]
    with h5py.File(TRAINED / "bfloat16.dp") as file:
        bits = {name: data[()].view(np.uint16) for name, data in file.items() if data.dtype == "V2"}
    same_shape = [b for b in bits.values() if b.shape == matrix.shape]
    upcast = [(b.astype(np.uint32) << 16).view(np.float32) for b in same_shape]
    assert matrix.dtype == np.float32
    assert any(np.array_equal(matrix, u) for u in upcast)
    (tmp_path / "b.yaml").write_text(
        "'@variables': {a: {'@class': np.ndarray, '@is_variable': true, dtype: bfloat16, value: [1.5]}}"
    )
    assert_same(read_tree(tmp_path / "b.yaml")["@variables"]["a"], np.asarray([1.5], np.float32))


def test_foreign_byte_order_becomes_native(tmp_path):
    values = np.asarray([1.5, -0.0, np.nan])
    with h5py.File(tmp_path / "a.dp", "w") as file:
        file["variable_0000"] = values.astype(">f8")
        file.attrs["json"] = '{"@variables":{"a":"/variable_0000"}}'
    assert_same(read_tree(tmp_path / "a.dp")["@variables"]["a"], values)
    write_tree(tmp_path / "b.dp", {"@variables": {"a": values.astype(">f8")}})
    assert_same(read_tree(tmp_path / "b.dp")["@variables"]["a"], values)


def test_a_changed_number_is_noticed(tmp_path):
    write_tree(tmp_path / "a.dp", {"@variables": {"a": np.arange(4.0)}})
    with h5py.File(tmp_path / "a.dp", "r+") as file:
        file["variable_0000"][2] = 7
    with pytest.raises(FileError, match="checksum"):
        read_tree(tmp_path / "a.dp")


UNWRITABLE = [
    ({"a": np.zeros(2)}, r"/a: expected text.*found an array of shape \(2,\); arrays belong below a key '@variables'"),
    ({"@variables": {"a": "text"}}, "/@variables/a: expected an array, found 'text'"),
    ({"@variables": {"a": np.zeros(2, complex)}}, "/@variables/a: expected one of the dtypes .*, found complex128"),
    ({"@variables": {"a": np.asarray([None])}}, "found object"),
    ({"@variables": {"a": 2**70}}, "dtypes .*object|64 bits"),
    ({"a": {1: 2}}, "/a: expected text as key, found 1"),
    ({"a": {"b": object()}}, "/a/b: expected text"),
    ({"a": {"b": b"bytes"}}, "/a/b: expected text"),
    ([], "expected a mapping, found a list of 0"),
]


@every_suffix
@pytest.mark.parametrize(("tree", "message"), UNWRITABLE, ids=lambda v: v[:12] if isinstance(v, str) else "")
def test_what_no_file_can_hold_is_refused(tree, message, suffix, tmp_path):
    with pytest.raises(FileError, match=message):
        write_tree(tmp_path / f"a{suffix}", tree)
    assert not list(tmp_path.iterdir())


def test_a_cycle_is_refused(tmp_path):
    tree: dict[str, Any] = {}
    tree["again"] = tree
    with pytest.raises(FileError, match="expected at most 64 levels"):
        write_tree(tmp_path / "a.dp", tree)


@pytest.mark.parametrize("name", ["model", "model.h5", "model.dp.gz", "json"])
def test_unknown_suffix_lists_the_known_ones(name, tmp_path):
    with pytest.raises(FileError, match=r"ending in one of \.dp, \.yaml, \.yml, \.dp\.json"):
        read_tree(tmp_path / name)


def test_a_hint_for_the_suffix_of_paddle(tmp_path):
    with pytest.raises(FileError, match=r"'\.json' belongs to Paddle.*'\.dp\.json'"):
        write_tree(tmp_path / "a.json", {})


def test_suffixes_in_capitals(tmp_path):
    write_tree(tmp_path / "A.DP", {"a": 1})
    assert read_tree(str(tmp_path / "A.DP")) == {"a": 1}
    assert set(FORMATS) == set(SUFFIXES)


# Writing is all or nothing


@every_suffix
def test_failure_leaves_the_old_file(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_tree(path, {"a": 1})
    with pytest.raises(FileError):
        write_tree(path, {"a": object()})
    assert read_tree(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, ZeroDivisionError])
def test_interruption_leaves_nothing_behind(error, tmp_path):
    def interrupted():
        with replacing(tmp_path / "a") as file:
            file.write(b"half")
            raise error

    with pytest.raises(error):
        interrupted()
    assert not list(tmp_path.iterdir())


@every_suffix
def test_full_disk(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_tree(path, {"a": 1})
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))  # a longer file fails like one on a full disk
    try:
        with pytest.raises(FileError, match=r"cannot be written: File too large"):
            write_tree(path, {"@variables": {"a": np.ones(10_000)}})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert read_tree(path) == {"a": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_overwrite_only_when_allowed(tmp_path):
    path = tmp_path / "a.dp"
    write_tree(path, {"a": 1}, overwrite=False)
    with pytest.raises(FileError, match="exists already"):
        write_tree(path, {"a": 2}, overwrite=False)
    assert read_tree(path) == {"a": 1}


def test_mode_and_links_are_kept(tmp_path):
    real, link = tmp_path / "real.dp", tmp_path / "link.dp"
    write_tree(real, {"a": 1})
    umask = os.umask(0)
    os.umask(umask)
    assert stat.S_IMODE(real.stat().st_mode) == 0o666 & ~umask
    real.chmod(0o640)
    link.symlink_to(real)
    write_tree(link, {"a": 2})
    assert link.is_symlink()
    assert read_tree(real) == {"a": 2}
    assert stat.S_IMODE(real.stat().st_mode) == 0o640


def test_places_that_cannot_be_written(tmp_path):
    (tmp_path / "folder.dp").mkdir()
    with pytest.raises(FileError, match="found a directory"):
        write_tree(tmp_path / "folder.dp", {})
    with pytest.raises(FileError, match="cannot be written: No such file or directory"):
        write_tree(tmp_path / "none" / "a.dp", {})


@pytest.mark.parametrize(("suffix", "times"), [(".dp", 1.1), (".dp.json", 4)])
def test_memory_is_in_proportion_to_the_file(suffix, times, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_tree(path, {"@variables": {f"a{i}": np.random.default_rng(i).normal(size=1000) for i in range(200)}})
    tracemalloc.start()
    try:
        read_tree(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < times * path.stat().st_size
