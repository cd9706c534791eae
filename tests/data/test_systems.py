"""Systems written here and read back; bad ones are refused with file and frame."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from dpmodel.data.systems import System, find_systems
from dpmodel.errors import FileError
from dpmodel.model.settings import ModelSettings

N, NF = 4, 5


def arrays(seed: int, nf: int = NF, n: int = N) -> dict[str, np.ndarray]:
    r = np.random.default_rng(seed)
    return {
        "coord": r.uniform(0, 8, (nf, 3 * n)),
        "box": np.tile(np.diag([8.0, 8.0, 9.0]).ravel(), (nf, 1)) + r.uniform(0, 0.1, (nf, 9)),
        "energy": r.normal(size=nf),
        "force": r.normal(size=(nf, 3 * n)),
        "virial": r.normal(size=(nf, 9)),
        "atom_ener": r.normal(size=(nf, n)),
    }


def write(root: Path, sets: list[dict[str, np.ndarray]], types: str = "0 1\n1 0", names: str | None = "O\nH\n") -> Path:
    root.mkdir(parents=True)
    (root / "type.raw").write_text(types)
    if names is not None:
        (root / "type_map.raw").write_text(names)
    for k, values in enumerate(sets):
        (root / f"set.{k:03d}").mkdir()
        for name, value in values.items():
            np.save(root / f"set.{k:03d}" / f"{name}.npy", value)
    return root


def model(type_map: list[str], **fitting: Any) -> ModelSettings:
    block = {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 10}
    descriptor = {"type": "dpa2", "repinit": block, "repformer": block | {"nsel": 8, "rcut": 3.0}}
    return ModelSettings.read({"type_map": type_map, "descriptor": descriptor, "fitting_net": fitting})


def test_frames_of_all_sets_in_order(tmp_path: Path) -> None:
    sets = [arrays(0), arrays(1, nf=2)]
    system = System(write(tmp_path / "s", sets))
    assert (len(system), system.n_atoms, system.type_map) == (NF + 2, N, ("O", "H"))
    assert system.labels == ("atom_ener", "energy", "force", "virial")
    for i, (k, j) in enumerate([(0, j) for j in range(NF)] + [(1, 0), (1, 1)]):
        frame = system.frame(i)
        np.testing.assert_array_equal(frame.structure.positions, sets[k]["coord"][j].reshape(N, 3))
        np.testing.assert_array_equal(frame.structure.cell, sets[k]["box"][j].reshape(3, 3))
        assert frame.labels["energy"] == sets[k]["energy"][j]
        np.testing.assert_array_equal(frame.labels["force"], sets[k]["force"][j].reshape(N, 3))
        np.testing.assert_array_equal(frame.labels["virial"], sets[k]["virial"][j].reshape(3, 3))
        np.testing.assert_array_equal(frame.structure.types, [0, 1, 1, 0])
        assert frame.structure.pbc.all()


@pytest.mark.parametrize("layout", ["float32", "fortran", "column", "integer"])
def test_any_numeric_array_will_do(tmp_path: Path, layout: str) -> None:
    given = arrays(0)
    changed = {
        "float32": {name: a.astype(np.float32) for name, a in given.items()},
        "fortran": {name: np.asfortranarray(a) for name, a in given.items()},
        "column": given | {"energy": given["energy"][:, None], "force": given["force"].reshape(NF, N, 3)},
        "integer": given | {"energy": np.arange(NF)},
    }[layout]
    frame = System(write(tmp_path / "s", [changed])).frame(3)
    assert frame.labels["energy"] == changed["energy"].reshape(-1)[3]
    np.testing.assert_array_equal(frame.labels["force"], changed["force"][3].reshape(N, 3))
    assert {a.dtype.name for a in frame.labels.values()} == {"float64"}


def test_one_frame_without_an_axis_of_frames(tmp_path: Path) -> None:
    given = {name: a[0] for name, a in arrays(0).items()}
    system = System(write(tmp_path / "s", [given]))
    assert len(system) == 1
    np.testing.assert_array_equal(system.frame(0).structure.positions, given["coord"].reshape(N, 3))
    assert system.frame(0).labels["energy"] == given["energy"]


def test_without_periodicity_the_box_is_ignored(tmp_path: Path) -> None:
    root = write(tmp_path / "s", [arrays(0) | {"box": np.zeros(1)}])
    (root / "nopbc").touch()
    structure = System(root).frame(0).structure
    assert structure.cell is None
    assert not structure.pbc.any()


def test_types_are_those_of_the_model(tmp_path: Path) -> None:
    root = write(tmp_path / "s", [arrays(0)], names="H\nO\n")
    system = System(root, model(["O", "H", "C"]))
    np.testing.assert_array_equal(system.frame(0).structure.types, [1, 0, 0, 1])
    np.testing.assert_array_equal(system.counts(0), [2, 2, 0])
    assert system.type_map == ("O", "H", "C")


def test_mixed_types_with_virtual_atoms(tmp_path: Path) -> None:
    types = np.array([[0, 1, -1, 1], [2, -1, -1, 0], [1, 1, 1, 1], [0, 0, 0, 0], [2, 2, 1, 0]])
    root = write(tmp_path / "s", [arrays(0) | {"real_atom_types": types}], types="0 " * N, names="H C O")
    system = System(root, model(["O", "H", "N", "C"]))
    assert system.mixed
    table = {0: 1, 1: 3, 2: 0, -1: -1}
    for i in range(NF):
        np.testing.assert_array_equal(system.frame(i).structure.types, [table[t] for t in types[i]])
    np.testing.assert_array_equal(system.counts(1), [1, 1, 0, 0])


def test_labels_by_either_name(tmp_path: Path) -> None:
    given = arrays(0)
    given["atomic_dipole"] = np.ones((NF, 3 * N))
    given["hessian"] = np.arange(NF * 9 * N * N, dtype=float).reshape(NF, -1)
    given["drdq"] = np.ones((NF, N * 3 * 2))
    given["my_property"] = np.ones((NF, 7))
    labels = System(write(tmp_path / "s", [given])).frame(1).labels
    assert labels["atom_dipole"].shape == (N, 3)
    assert labels["hessian"].shape == (N, 3, N, 3)
    assert labels["hessian"][0, 0, 0, 1] == given["hessian"][1, 1]
    assert labels["drdq"].shape == (N, 3, 2)
    assert labels["my_property"].shape == (7,)


def test_of_two_names_the_shorter_one_counts(tmp_path: Path) -> None:
    given = arrays(0) | {"atomic_dipole": np.ones((NF, 3 * N)), "atom_dipole": np.zeros((NF, 3 * N))}
    assert not System(write(tmp_path / "s", [given])).frame(0).labels["atom_dipole"].any()


def test_only_the_labels_that_are_asked_for(tmp_path: Path) -> None:
    """What nobody wants may be as it likes."""
    unread = {"virial": np.full((NF, 9), np.nan), "names": np.array(["x"] * NF), "magmom": np.zeros((7, 5))}
    unread |= {"fparam": np.full(NF, np.nan), "hessian": np.zeros(1), "atomic_dipole": np.zeros(3)}
    system = System(write(tmp_path / "s", [arrays(0) | unread]), model(["O", "H"]), ["energy", "atom_dipole2"])
    assert system.labels == ("energy",)
    assert set(system.frame(1).labels) == {"energy"}
    with pytest.raises(FileError, match=r"atomic_dipole.npy: expected 5 frames"):
        System(tmp_path / "s", model(["O", "H"]), ["atom_dipole"])
    with pytest.raises(FileError, match=r"virial.npy: frame 0"):
        System(tmp_path / "s", model(["O", "H"]), ["virial"]).frame(0)


def test_a_label_in_one_set_only(tmp_path: Path) -> None:
    without = {name: a for name, a in arrays(1).items() if name != "energy"}
    system = System(write(tmp_path / "s", [arrays(0), without]))
    assert "energy" in system.frame(0).labels
    assert "energy" not in system.frame(NF).labels
    assert system.gaps == [str(tmp_path / "s" / "set.001" / "energy.npy")]


def test_parameters_go_where_the_model_wants_them(tmp_path: Path) -> None:
    given = arrays(0) | {"fparam": np.arange(NF * 2.0).reshape(NF, 2), "aparam": np.ones((NF, N * 3))}
    root = write(tmp_path / "s", [given])
    frame = System(root, model(["O", "H"], numb_fparam=2, numb_aparam=3)).frame(2)
    np.testing.assert_array_equal(frame.structure.fparam, [4.0, 5.0])
    np.testing.assert_array_equal(frame.structure.aparam, np.ones((N, 3)))
    assert System(root, model(["O", "H"])).frame(2).structure.fparam is None
    with pytest.raises(FileError, match=r"fparam\.npy: the model wants 1 numbers \(fparam\), but it has 2"):
        System(root, model(["O", "H"], numb_fparam=1)).frame(0)


def test_default_frame_parameters(tmp_path: Path) -> None:
    root = write(tmp_path / "s", [arrays(0)])
    frame = System(root, model(["O", "H"], numb_fparam=2, default_fparam=[0.5, 0.25])).frame(0)
    np.testing.assert_array_equal(frame.structure.fparam, [0.5, 0.25])
    with pytest.raises(FileError, match="there is no such file"):
        System(root, model(["O", "H"], numb_fparam=2)).frame(0)


def to_hdf5(folder: Path, file: Path, group: str) -> None:
    with h5py.File(file, "a") as h5:
        top = h5.require_group(group)
        top["type.raw"] = np.array([int(t) for t in (folder / "type.raw").read_text().split()])
        names = (folder / "type_map.raw").read_text().split()
        top.create_dataset("type_map.raw", data=np.array(names, dtype="S2"))
        for path in folder.glob("set.*/*.npy"):
            top[f"{path.parent.name}/{path.name}"] = np.load(path)


def test_hdf5_equals_folders(tmp_path: Path) -> None:
    folders = [write(tmp_path / f"s{k}", [arrays(k), arrays(k + 9, nf=1)]) for k in range(2)]
    file = tmp_path / "every.hdf5"
    for folder in folders:
        to_hdf5(folder, file, f"/water/{folder.name}")
    assert find_systems(str(file)) == [f"{file}#/water/s0", f"{file}#/water/s1"]
    assert find_systems(f"{file}#/water/s1") == [f"{file}#/water/s1"]
    for folder, path in zip(folders, find_systems(str(file)), strict=True):
        ours, theirs = System(path), System(folder)
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(a.structure.positions, b.structure.positions)
            np.testing.assert_array_equal(a.structure.types, b.structure.types)
            for name in b.labels:
                np.testing.assert_array_equal(a.labels[name], b.labels[name])


WRONG_IN_HDF5: dict[str, tuple[str, Callable[[h5py.Group, str], object], str]] = {
    "group as labels": (
        "set.000/energy.npy",
        lambda top, name: top.create_group(name),
        "expected a dataset, found a group",
    ),
    "no shape": (
        "set.000/energy.npy",
        lambda top, name: top.create_dataset(name, dtype="f8"),
        "expected a dataset, found .* empty one",
    ),
    "group as types": ("type.raw", lambda top, name: top.create_group(name), "expected a dataset, found a group"),
}


@pytest.mark.parametrize("kind", WRONG_IN_HDF5)
def test_what_cannot_be_used_in_hdf5(tmp_path: Path, kind: str) -> None:
    name, put, message = WRONG_IN_HDF5[kind]
    file = tmp_path / "one.hdf5"
    to_hdf5(write(tmp_path / "s", [arrays(0)]), file, "/s")
    with h5py.File(file, "a") as h5:
        del h5["s"][name]
        put(h5["s"], name)
    with pytest.raises(FileError, match=rf"one\.hdf5#/s/{name}: {message}"):
        System(f"{file}#/s")


def test_words_as_editors_and_programs_write_them(tmp_path: Path) -> None:
    root, file = write(tmp_path / "s", [arrays(0)]), tmp_path / "one.hdf5"
    expected = System(root).frame(0).structure.types
    to_hdf5(root, file, "/s")
    types = [float(t) for t in (root / "type.raw").read_text().split()]
    names = (root / "type_map.raw").read_text().split()
    with h5py.File(file, "a") as h5:
        del h5["s/type.raw"], h5["s/type_map.raw"]
        h5["s/type.raw"], h5["s/type_map.raw"] = np.array(types), "\n".join(names) + "\n"
    (root / "type.raw").write_text(" ".join(map(str, types)))
    (root / "type_map.raw").write_bytes(b"\xef\xbb\xbf" + "\r\n".join(names).encode())
    for system in (System(root), System(f"{file}#/s")):
        assert list(system.type_map) == names
        np.testing.assert_array_equal(system.frame(0).structure.types, expected)


def test_systems_are_found_in_order(tmp_path: Path) -> None:
    for name in ("b/two", "b/one", "a", "b/deep/er/three"):
        write(tmp_path / name, [arrays(0)])
    (tmp_path / "b" / "loop").symlink_to(tmp_path / "b")
    found = [str(Path(path).relative_to(tmp_path)) for path in find_systems([str(tmp_path / "b"), str(tmp_path / "a")])]
    assert found == ["b/deep/er/three", "b/one", "b/two", "a"]
    by_pattern = find_systems(str(tmp_path), ["**/t*", "a", "t*"])
    assert [str(Path(path).relative_to(tmp_path)) for path in by_pattern] == ["a", "b/deep/er/three", "b/two"]


def test_no_systems(tmp_path: Path) -> None:
    with pytest.raises(FileError, match="found none"):
        find_systems(str(tmp_path))
    with pytest.raises(FileError, match=r"that match x\*, y \(rglob_patterns\), found none"):
        find_systems(str(tmp_path), ["x*", "y"])
    (tmp_path / "text.hdf5").write_text("no")
    for entry, found in {
        "nowhere": r"found nothing \(looked for it from .*\)$",
        "none.hdf5": r"expected a directory or an HDF5 file, found nothing",
        "text.hdf5": r"expected a directory or an HDF5 file, found a file of another kind$",
        "data/a*": r"found nothing .*; patterns go into rglob_patterns",
        "none.hdf5#/group": r"none.hdf5#/group: expected a directory or an HDF5 file, found nothing",
        "text.hdf5#/group": r"text.hdf5: cannot be read as an HDF5 file",
    }.items():
        with pytest.raises(FileError, match=found):
            find_systems(str(tmp_path / entry))
    with pytest.raises(FileError, match=r"no file type\.raw"):
        System(tmp_path)


Change = Callable[[Path], object]


def save(name: str, value: Any) -> Change:
    return lambda root: np.save(root / "set.000" / name, value)


def archive(path: Path) -> Path:
    np.savez(path, np.zeros(NF))
    return path


def second_set(root: Path) -> None:
    shutil.copytree(root / "set.000", root / "set.001")


BAD: dict[str, tuple[Change, str]] = {
    "no sets": (lambda root: shutil.rmtree(root / "set.000"), "expected directories set.000"),
    "no coord": (lambda root: (root / "set.000/coord.npy").unlink(), r"set.000/coord.npy: there is no such file"),
    "no box": (lambda root: (root / "set.000/box.npy").unlink(), r"box.npy: there is no such file.*nopbc"),
    "coord not 3N": (save("coord.npy", np.zeros((NF, 11))), r"coord.npy: 11 numbers a frame do not fit 4 atoms"),
    "box not 9": (save("box.npy", np.ones((NF, 3))), r"box.npy: 3 numbers a frame.*nine numbers"),
    "frames differ": (save("energy.npy", np.zeros(NF + 1)), r"energy.npy: expected 5 frames as in coord.npy"),
    "swapped label": (save("energy.npy", np.zeros((NF, N))), r"energy.npy: 4 numbers a frame do not fit"),
    "no frames": (save("coord.npy", np.zeros((0, 3 * N))), "there are no frames"),
    "pickled": (
        lambda root: np.save(root / "set.000/coord.npy", np.array([{}], dtype=object), allow_pickle=True),
        "cannot be read as an array of numbers",
    ),
    "an archive": (
        lambda root: shutil.move(archive(root / "set.000/some.npz"), root / "set.000/energy.npy"),
        r"energy.npy: expected an array of numbers \(.npy\), found a zip archive",
    ),
    "text array": (save("energy.npy", np.array(["a"] * NF)), "expected real numbers"),
    "cut off": (lambda root: (root / "set.000/force.npy").write_bytes(b"\x93NUMPY\x01"), r"force.npy: cannot be read"),
    "type.raw words": (lambda root: (root / "type.raw").write_text("0 x 1 1"), "type.raw: expected integers"),
    "type.raw fractions": (lambda root: (root / "type.raw").write_text("0 1.5 1 1"), "type.raw: expected integers"),
    "type.raw not finite": (lambda root: (root / "type.raw").write_text("0 inf 1 1"), "type.raw: expected integers"),
    "type.raw empty": (lambda root: (root / "type.raw").write_text(""), "empty file"),
    "type.raw negative": (lambda root: (root / "type.raw").write_text("0 -1 1 1"), "atom 1 has type -1"),
    "type too large": (lambda root: (root / "type.raw").write_text("0 1 2 1"), "atom 2 has type 2, but type_map.raw"),
    "unknown element": (lambda root: (root / "type_map.raw").write_text("O Xx"), "'Xx' not among .* O, H"),
    "some mixed": (
        lambda root: [change(root) for change in (second_set, save("real_atom_types.npy", np.zeros((NF, N))))],
        r"set.001/coord.npy: some sets have real_atom_types.npy",
    ),
    "mixed with types": (save("real_atom_types.npy", np.zeros((NF, N))), r"type.raw: should hold zeros only"),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_systems_are_refused_when_opened(tmp_path: Path, kind: str) -> None:
    root = write(tmp_path / "s", [arrays(0)])
    change, message = BAD[kind]
    change(root)
    with pytest.raises(FileError, match=message) as caught:
        System(root, model(["O", "H"]))
    assert str(root) in str(caught.value)


def spoiled(name: str, place: tuple[int, ...], value: float) -> dict[str, np.ndarray]:
    given = arrays(0)
    given[name][place] = value
    return given


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (spoiled("coord", (3, 4), np.nan), r"coord.npy: frame 3: \[1, 1\] is nan"),
        (spoiled("force", (3, 0), np.inf), r"force.npy: frame 3: \[0, 0\] is inf"),
        (spoiled("energy", (3,), np.nan), r"energy.npy: frame 3: the value is nan"),
        (spoiled("box", (3, slice(0, 3)), 0.0), r"box.npy: frame 3: lattice vector 0 of cell is zero"),  # type: ignore[arg-type]
    ],
)
def test_bad_numbers_are_refused_when_read(tmp_path: Path, given: dict[str, np.ndarray], message: str) -> None:
    system = System(write(tmp_path / "s", [given]))
    system.frame(2)
    with pytest.raises(FileError, match=message):
        system.frame(3)


@pytest.mark.parametrize("index", [2, -2, 0.5])
def test_bad_mixed_types(tmp_path: Path, index: float) -> None:
    types = np.zeros((NF, N))
    types[3, 2] = index  # 2 is the length of type_map.raw, which deepmd-kit takes for a virtual atom
    system = System(write(tmp_path / "s", [arrays(0) | {"real_atom_types": types}], types="0 " * N))
    with pytest.raises(FileError, match=rf"frame 3, atom 2: type {index} is not in"):
        system.frame(3)


def test_mixed_without_names(tmp_path: Path) -> None:
    root = write(tmp_path / "s", [arrays(0) | {"real_atom_types": np.zeros((NF, N))}], types="0 " * N, names=None)
    with pytest.raises(FileError, match=r"type_map.raw: there is no such file"):
        System(root)


def test_types_without_names_are_the_models(tmp_path: Path) -> None:
    root = write(tmp_path / "s", [arrays(0)], names=None)
    with pytest.warns(UserWarning, match=r"without type_map.raw .* are those of the model, 0 for O, 1 for H$"):
        system = System(root, model(["O", "H"]))
    np.testing.assert_array_equal(system.frame(0).structure.types, [0, 1, 1, 0])
    with pytest.raises(FileError, match="atom 1 has type 1, but the model has 1 types"):
        System(root, model(["O"]))
