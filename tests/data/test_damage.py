"""Damaged, foreign and hostile data: one clear error that names the file, in little time and memory."""

import os
import random
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

import fuzz
from dpmodel.cli.frames import read_structures
from dpmodel.data.check import check_system
from dpmodel.data.systems import System, find_systems
from dpmodel.errors import FileError
from dpmodel.io import stored

SEEDS = [*(f"6-{Path(name).name}" for name in fuzz.FILES), "7-plain", "7-chunks"]


@pytest.mark.parametrize("seed", SEEDS)
def test_bytes_changed_anywhere(seed: str, tmp_path: Path) -> None:
    """A FileError that names the file, or finite numbers of the right shapes; headers are hit as often as the rest."""
    fuzz.seeds(tmp_path)
    data, dice, first = (tmp_path / seed).read_bytes(), random.Random(4), 2 if seed[0] == "6" else 1
    assert fuzz.attempt(fuzz.use, data, tmp_path)
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(dice.choice([1, 1, 3])):
            head = len(damaged) if dice.random() < 0.5 else min(len(damaged), 140)
            a, b, n = (
                dice.randrange(first, len(data)),
                dice.randrange(first, max(head, first + 1)),
                dice.randrange(1, 9),
            )
            word = (1 << dice.randrange(63)).to_bytes(8, "little")
            change = dice.choice([bytes(n), b"\xff" * n, data[a : a + n], b"", word, bytes([dice.randrange(32, 127)])])
            damaged[b : b + dice.choice([n, len(change)])] = change
        fuzz.attempt(fuzz.use, bytes(damaged), tmp_path)


HEADER = b"{'descr': '<f8', 'fortran_order': False, 'shape': (%b,), }"
HEADERS = {
    "not closed": b"{'descr': '<f8', 'fortran_order': False, 'shape': (3,)",
    "negative": HEADER % b"-3",
    "longer than the file": HEADER % b"4",
    "longer than any memory": HEADER % str(10**30).encode(),
    "nested": b"(" * 5000,
    "minus": b"-" * 9000 + b"1",
    "not a mapping": b"3",
    "no dtype": HEADER.replace(b"<f8", b"<z8") % b"3",
    "objects": HEADER.replace(b"<f8", b"|O") % b"3",
}


@pytest.mark.parametrize("header", HEADERS)
def test_headers_of_arrays(header: str, tmp_path: Path) -> None:
    fuzz.write_system(tmp_path, mixed=False)
    text = HEADERS[header] + b"\n"
    array = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + np.zeros(3).tobytes()
    (tmp_path / "set.000/energy.npy").write_bytes(array)
    with pytest.raises(FileError, match=r"set.000/energy.npy: cannot be read as an array of numbers"):
        System(tmp_path)
    (problem,) = check_system(str(tmp_path)).problems
    assert problem.startswith(f"{tmp_path}/set.000/energy.npy: ")


@pytest.mark.parametrize("name", ["type.raw", "type_map.raw", "set.000/energy.npy"])
def test_pipes_and_devices(name: str, tmp_path: Path) -> None:
    """Reading one would wait for somebody to write into it, or never end."""
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        fuzz.write_system(tmp_path, mixed=False)
        (tmp_path / name).unlink()
        make(tmp_path / name)
        with pytest.raises(FileError, match=rf"{name}: expected a file, found a device or a pipe"):
            System(tmp_path)
        (tmp_path / name).unlink()


def test_pipes_of_structures(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.xyz")
    with pytest.raises(FileError, match=r"a.xyz: expected a file of structures, found a device or a pipe"):
        read_structures(tmp_path / "a.xyz")


def test_a_text_as_long_as_no_memory(tmp_path: Path) -> None:
    """A sparse file takes no space on the disk."""
    fuzz.write_system(tmp_path, mixed=False)
    os.truncate(tmp_path / "type.raw", 2**40)
    with pytest.raises(FileError, match=r"type.raw: expected a text, found 1099511627776 bytes"):
        System(tmp_path)


def test_an_array_in_columns_as_long_as_no_memory(tmp_path: Path) -> None:
    """It would have to be turned around as a whole; sparse, as the text above."""
    fuzz.write_system(tmp_path, mixed=False)
    path = tmp_path / "set.000/energy.npy"
    np.lib.format.open_memmap(path, "w+", np.dtype("f8"), (3, 2**30), fortran_order=True)
    with pytest.raises(FileError, match=r"set.000/energy.npy: 25769803776 bytes in Fortran's order"):
        System(tmp_path)


Put = Callable[[h5py.Group, str], object]


def external(group: h5py.Group, name: str) -> None:
    group.create_dataset(name, (3,), "f8", external=[("/etc/passwd", 0, 24)])


def virtual(group: h5py.Group, name: str) -> None:
    layout = h5py.VirtualLayout((3,), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "x", (3,))
    group.create_virtual_dataset(name, layout)


def outside(group: h5py.Group, name: str) -> None:
    group["way"], group[name] = h5py.ExternalLink("other.h5", "/"), h5py.SoftLink("way/x")


def bomb(group: h5py.Group, name: str) -> None:
    """Two gigabytes of zeros in two megabytes."""
    data = group.create_dataset(name, (2**28,), "f8", chunks=(2**24,), compression="gzip")
    one = zlib.compress(bytes(2**27), 1)
    for k in range(16):
        data.id.write_direct_chunk((k * 2**24,), one)


HOSTILE: dict[str, tuple[Put, str]] = {
    "external bytes": (external, "found a chunked, compressed, virtual or external one"),
    "virtual": (virtual, "found a chunked, compressed, virtual or external one"),
    "link to a file": (lambda g, n: g.__setitem__(n, h5py.ExternalLink("other.h5", "/x")), "found none here"),
    "link through a link": (outside, "found none here"),
    "link to nothing": (lambda g, n: g.__setitem__(n, h5py.SoftLink("/nothing")), "found none here"),
    "link to itself": (
        lambda g, n: g.__setitem__(n, h5py.SoftLink(f"/s/{n}")),
        "cannot be read as an HDF5 file: .*recursion",
    ),
    "a group": (lambda g, n: g.create_group(n), "found a group"),
    "never written": (lambda g, n: g.create_dataset(n, (10**9,), "f8"), "needs 8000000000 bytes"),
    "chunks never written": (lambda g, n: g.create_dataset(n, (10**9,), "f8", chunks=(10**6,)), "does not have them"),
    "a bomb of chunks": (bomb, "2147483648 bytes in chunks are more than are read at once"),
    "no such number": (lambda g, n: g.create_dataset(n, (2**32, 2**32), "f8"), "does not have them"),
}


@pytest.mark.parametrize("kind", HOSTILE)
@pytest.mark.parametrize("name", ["set.000/coord.npy", "set.000/energy.npy"])
def test_hostile_datasets(kind: str, name: str, tmp_path: Path) -> None:
    put, message = HOSTILE[kind]
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["x"] = np.zeros(3)
    (tmp_path / "a.h5").write_bytes(fuzz.hdf5_system())
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        del file["s"][name]
        put(file["s"], name)
    with pytest.raises(FileError, match=rf"a\.h5.*{message}"):
        System(f"{tmp_path}/a.h5#/s")


def test_links_inside_a_file_are_followed(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_bytes(fuzz.hdf5_system())
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["other"] = h5py.SoftLink("/s")
        file.move("s/set.000/energy.npy", "energies")
        file["s/set.000/energy.npy"] = h5py.SoftLink("/energies")
    a, b = System(f"{tmp_path}/a.h5#/s"), System(f"{tmp_path}/a.h5#other")
    assert a.frame(1).labels["energy"] == b.frame(1).labels["energy"] != 0


@pytest.mark.parametrize("how", [{}, {"chunks": True}, {"chunks": True, "compression": "gzip", "shuffle": True}])
def test_every_way_to_store_the_same(how: dict[str, object], tmp_path: Path) -> None:
    fuzz.write_system(tmp_path / "s", mixed=True)
    (tmp_path / "a.h5").write_bytes(fuzz.hdf5_system(**how))
    (path,) = find_systems(str(tmp_path / "a.h5"))
    for ours, theirs in zip(System(path), System(tmp_path / "s"), strict=True):
        np.testing.assert_array_equal(ours.structure.positions, theirs.structure.positions)
        np.testing.assert_array_equal(ours.structure.types, theirs.structure.types)
        assert ours.labels["energy"] == theirs.labels["energy"]


@pytest.mark.parametrize("memory", [2**30, 0])
@pytest.mark.parametrize("change", ["shorter", "other", "gone"])
def test_files_that_change_while_they_are_used(
    memory: int, change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What fits into memory was read, and stays; of the rest the change is noticed, and nothing becomes zero."""
    monkeypatch.setattr(stored, "IN_MEMORY", memory)
    fuzz.write_system(tmp_path / "s", mixed=False)
    (tmp_path / "a.h5").write_bytes(fuzz.hdf5_system())
    for path, file in ((tmp_path / "s", tmp_path / "s/set.000/energy.npy"), (f"{tmp_path}/a.h5#/s", tmp_path / "a.h5")):
        system, late = System(path), System(path)
        before = system.frame(2).labels["energy"]
        data = file.read_bytes()
        if change == "gone":
            file.unlink()
        else:
            file.write_bytes(data[:-9] if change == "shorter" else data)
            os.utime(file, (1, 1))
        with pytest.raises(FileError, match="has changed since it was opened"):
            late.frame(2)
        if memory:
            assert system.frame(2).labels["energy"] == before
        else:
            with pytest.raises(FileError, match="has changed since it was opened"):
                system.label(2, "energy")
