"""deepmd-kit's LMDB files: frames of any number of atoms become systems of mixed types."""

import random
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lmdb
import msgpack
import numpy as np
import pytest

from dpmodel.cli.frames import read_frames
from dpmodel.data.check import check_system
from dpmodel.data.systems import System, find_systems
from dpmodel.errors import FileError

Frame = dict[str, Any]


def frame(n: int, seed: int, **more: Any) -> Frame:
    r = np.random.default_rng(seed)
    arrays = {"coords": r.uniform(0, 8, (n, 3)), "cells": 9 * np.eye(3), "forces": r.normal(size=(n, 3))}
    return arrays | {"atom_types": r.integers(0, 2, n), "energies": float(r.normal()), "virials": np.eye(3)} | more


def packed(value: Any) -> Any:
    """A value as deepmd-kit stores it."""
    if not isinstance(value, np.ndarray):
        return value
    return {"type": value.dtype.str, "shape": list(value.shape), "data": value.tobytes()}


def write(path: Path, frames: Sequence[Frame], type_map: Sequence[str] | None = ("O", "H"), **meta: Any) -> Path:
    head = {"nframes": len(frames), "frame_idx_fmt": "012d", "system_info": {}} | meta
    with lmdb.open(str(path), map_size=2**24) as file, file.begin(write=True) as transaction:
        transaction.put(b"__metadata__", msgpack.packb(head | ({"type_map": type_map} if type_map else {})))
        for i, arrays in enumerate(frames):
            record = {name: packed(value) for name, value in arrays.items()} | {"atom_names": ["O", "H"]}
            transaction.put(format(i, "012d").encode(), msgpack.packb(record))
    return path


def test_frames_arrive_as_they_were(tmp_path: Path) -> None:
    frames = [frame(n, i) for i, n in enumerate((3, 5, 3, 3))] + [
        {k: v for k, v in frame(5, 9).items() if k != "cells"}
    ]
    systems = [System(path) for path in find_systems(str(write(tmp_path / "x.lmdb", frames)))]
    assert [(len(s), s.n_atoms, s.periodic, s.mixed) for s in systems] == [
        (3, 3, True, True),
        (1, 5, True, True),
        (1, 5, False, True),
    ]
    assert systems[0].labels == ("energy", "force", "virial")
    for system, indices in zip(systems, ([0, 2, 3], [1], [4]), strict=True):
        for ours, theirs in zip(system, (frames[i] for i in indices), strict=True):
            np.testing.assert_array_equal(ours.structure.positions, theirs["coords"])
            np.testing.assert_array_equal(ours.structure.types, theirs["atom_types"])
            np.testing.assert_array_equal(ours.labels["force"], theirs["forces"])
            assert ours.labels["energy"] == theirs["energies"]
    assert not [problem for system in systems for problem in check_system(system.path).problems]


def test_labels_that_are_marked_as_missing(tmp_path: Path) -> None:
    frames = [frame(3, 0, find_energies=1.0), frame(3, 1, find_energies=0.0)]
    systems = [System(path) for path in find_systems(str(write(tmp_path / "x.lmdb", frames)))]
    assert ["energy" in system.labels for system in systems] == [True, False]


def test_names_of_atomic_labels(tmp_path: Path) -> None:
    (path,) = find_systems(str(write(tmp_path / "x.lmdb", [frame(3, 0, atomic_dipole=np.ones((3, 3)))])))
    assert System(path).frame(0).labels["atom_dipole"].shape == (3, 3)


def test_a_single_file(tmp_path: Path) -> None:
    write(tmp_path / "x", [frame(3, 0)])
    shutil.copy(tmp_path / "x" / "data.mdb", tmp_path / "one.lmdb")
    assert find_systems(str(tmp_path / "one.lmdb")) == [f"{tmp_path}/one.lmdb#0"]
    (frames,) = read_frames([tmp_path / "one.lmdb"])
    np.testing.assert_array_equal(frames.structures[0].positions, frame(3, 0)["coords"])


@pytest.mark.parametrize(
    ("frames", "meta", "message"),
    [
        (None, {}, "expected a record __metadata__ as deepmd-kit writes it, found none at all"),
        ([frame(3, 0)], {"nframes": 2}, "expected 2 frames, found 1"),
        ([frame(3, 0)], {"nframes": 10**15, "frame_idx_fmt": "0999999999d"}, "expected 10{15} frames, found 1"),
        ([frame(3, 0)], {"nframes": "many"}, "cannot be read as an LMDB file of deepmd-kit"),
        ([{"coords": np.ones(9)}], {}, "record 000000000000: expected atom_types, found none"),
    ],
)
def test_what_is_no_data(frames: list[Frame] | None, meta: dict[str, Any], message: str, tmp_path: Path) -> None:
    if frames is None:
        lmdb.open(str(tmp_path / "x.lmdb")).close()
    else:
        write(tmp_path / "x.lmdb", frames, **meta)
    with pytest.raises(FileError, match=rf"x\.lmdb: {message}"):
        find_systems(str(tmp_path / "x.lmdb"))


def test_without_names(tmp_path: Path) -> None:
    (path,) = find_systems(str(write(tmp_path / "x.lmdb", [frame(3, 0)], type_map=None)))
    with pytest.raises(FileError, match=r"x\.lmdb#0/type_map.raw: there is no such file"):
        System(path)
    with pytest.raises(FileError, match=r"x\.lmdb#7: expected the number of one of 1 systems after #, found '7'"):
        System(path.replace("#0", "#7"))


def many(folder: Path) -> Path:
    """Some hundred pages: values of their own pages, and a tree of two levels."""
    return write(folder / "x.lmdb", [frame(3 + i % 2 * 40, i) for i in range(150)])


def test_bytes_that_are_no_database(tmp_path: Path) -> None:
    (tmp_path / "x.lmdb").write_bytes(bytes(8192))
    with pytest.raises(FileError, match=r"x\.lmdb: expected an LMDB file \(version 1\), found something else"):
        find_systems(str(tmp_path / "x.lmdb"))


@pytest.mark.parametrize("part", [0.0, 0.001, 0.01, 0.1, 0.5, 0.9])
def test_files_that_were_cut(part: float, tmp_path: Path) -> None:
    """LMDB's own library would end the process."""
    data = (many(tmp_path) / "data.mdb").read_bytes()
    (tmp_path / "cut.lmdb").write_bytes(data[: int(part * len(data)) // 4096 * 4096])
    with pytest.raises(FileError, match=r"cut\.lmdb: .*it was cut"):
        find_systems(str(tmp_path / "cut.lmdb"))


def test_bytes_changed_anywhere(tmp_path: Path) -> None:
    """A FileError that names the file, or frames that can be read."""
    data, dice, failures = (many(tmp_path) / "data.mdb").read_bytes(), random.Random(1), list[bool]()
    for k in range(60):
        damaged = bytearray(data)
        page = 4096 * dice.randrange(len(data) // 4096)
        for _ in range(4):
            at = page + dice.randrange(dice.choice([24, 200, 4096]))
            damaged[at : at + 4] = dice.choice([bytes(4), b"\xff" * 4, dice.randbytes(4)])
        path = tmp_path / f"{k}.lmdb"
        path.write_bytes(damaged)
        try:
            for name in find_systems(str(path)):
                assert all(np.isfinite(one.structure.positions).all() for one in System(name))
        except FileError as error:
            failures.append(str(error).startswith(str(path)))
    assert 5 < len(failures) < 60
    assert all(failures)


def test_a_file_that_is_cut_while_it_is_used(tmp_path: Path) -> None:
    path = many(tmp_path) / "data.mdb"
    system = System(find_systems(str(path.parent))[0])
    path.write_bytes(path.read_bytes()[:9000])
    with pytest.raises(FileError, match="has changed since it was opened"):
        system.frame(70)
