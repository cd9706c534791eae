"""What users hand over: everything sensible is taken, everything else is one clear error."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from dpmodel.data.graph import build_graph
from dpmodel.data.structure import from_ase, structures
from dpmodel.errors import InputError
from dpmodel.graph import Block, Selection

X = np.array([[0.0, 0, 0], [1, 0, 0], [0, 1.5, 0]])
TYPES = np.array([0, 1, 1])
CELL = np.diag([4.0, 5.0, 6.0])
MAP = ["O", "H"]


def one(positions=X, types=TYPES, cell=None, pbc=None, **parameters):
    return structures(positions, types, cell, pbc, type_map=MAP, **parameters)


def test_one_frame():
    (s,) = one(cell=CELL)
    np.testing.assert_array_equal(s.positions, X)
    np.testing.assert_array_equal(s.types, TYPES)
    np.testing.assert_array_equal(s.cell, CELL)
    assert s.pbc.tolist() == [True, True, True]
    assert s.fparam is s.aparam is None


def test_many_frames():
    positions = np.stack([X, X + 1])
    for s in one(positions, cell=CELL):
        np.testing.assert_array_equal(s.cell, CELL)
    frames = one(positions, [TYPES, [1, 0, 1]], np.stack([CELL, 2 * CELL]), [[1, 1, 1], [0, 1, 0]])
    assert [s.types.tolist() for s in frames] == [[0, 1, 1], [1, 0, 1]]
    assert [s.cell[0, 0] for s in frames] == [4, 8]
    assert [s.pbc.tolist() for s in frames] == [[True] * 3, [False, True, False]]


def test_directions_that_repeat():
    assert one()[0].cell is None
    assert one()[0].pbc.tolist() == one(cell=CELL, pbc=False)[0].pbc.tolist() == [False] * 3
    assert one(cell=CELL, pbc=[True, False, True])[0].pbc.tolist() == [True, False, True]


@pytest.mark.parametrize("kind", [np.float32, np.float16, np.int32, np.int64, list])
def test_any_kind_of_numbers(kind):
    x = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0]])
    if kind is list:
        (s,) = one(x.tolist(), TYPES.tolist(), CELL.tolist())
    else:
        (s,) = one(x.astype(kind), TYPES.astype(np.uint8), CELL.astype(kind))
    assert s.positions.dtype == s.cell.dtype == np.float64
    assert s.types.dtype == np.int64
    assert s.pbc.dtype == bool
    np.testing.assert_array_equal(s.positions, x)


def test_float32_coordinates_give_the_graph_of_their_values():
    x = np.random.default_rng(0).uniform(0, 4, (3, 3)).astype(np.float32)
    selection = Selection(blocks={"repinit": Block(3.0, 50), "repformer": Block(2.0, 40)}, n_types=2)
    a, b = (build_graph(one(v, cell=CELL), selection) for v in (x, x.astype(np.float64)))
    np.testing.assert_array_equal(a.neighbors, b.neighbors)
    np.testing.assert_array_equal(a.shift, b.shift)


def test_whole_numbers_written_as_floats_are_types():
    assert one(types=[0.0, 1.0, -1.0])[0].types.tolist() == [0, 1, -1]


def test_what_was_given_is_neither_changed_nor_kept():
    given = [np.stack([X, X]), np.stack([TYPES, TYPES]), CELL.copy(), np.ones(2), np.ones((3, 1))]
    for a in given:
        a.flags.writeable = False
    frames = one(*given[:3], fparam=given[3], aparam=given[4], n_fparam=2, n_aparam=1)
    selection = Selection(blocks={"repinit": Block(3.0, 50), "repformer": Block(2.0, 40)}, n_types=2)
    build_graph(frames, selection)
    for s in frames:
        for mine, theirs in zip((s.positions, s.types, s.cell, s.fparam, s.aparam), given, strict=True):
            assert not np.shares_memory(mine, theirs)


def test_parameters():
    positions = np.stack([X, X])
    frames = one(positions, fparam=[1, 2], aparam=np.ones((2, 3, 1)), n_fparam=2, n_aparam=1)
    assert [s.fparam.tolist() for s in frames] == [[1, 2], [1, 2]]
    assert frames[1].aparam.tolist() == [[1], [1], [1]]
    frames = one(positions, fparam=[[1], [2]], n_fparam=1, default_fparam=[9])
    assert [s.fparam.tolist() for s in frames] == [[1], [2]]
    assert one(n_fparam=1, default_fparam=[9])[0].fparam.tolist() == [9]


def changed(a, place, value):
    a = np.array(a, dtype=float)
    a[place] = value
    return a


TWO = np.stack([X, X])
BAD = {
    "nan": ({"positions": changed(TWO, (1, 2, 0), np.nan)}, r"frame 1, atom 2: positions\[1, 2, 0\] is nan"),
    "infinity": ({"positions": changed(X, (1, 1), np.inf)}, r"frame 0, atom 1: positions\[0, 1, 1\] is inf"),
    "flat frame": (
        {"positions": X.ravel()},
        r"shape \(n, 3\) or \(nf, n, 3\), got \(9,\); use positions\.reshape\(nf, -1, 3\)",
    ),
    "flat frames": ({"positions": TWO.reshape(2, 9)}, r"got \(2, 9\); use positions\.reshape\(nf, -1, 3\)"),
    "two components": ({"positions": X[:, :2]}, r"positions should have shape .*, got \(3, 2\)$"),
    "no atoms": ({"positions": np.zeros((0, 3)), "types": []}, r"no atoms: positions has shape \(1, 0, 3\)"),
    "no frames": ({"positions": np.zeros((0, 3, 3))}, r"no frames: positions has shape \(0, 3, 3\)"),
    "words": ({"positions": [["a", "b", "c"]]}, "positions should be real numbers"),
    "complex": ({"positions": X * 1j}, "positions should be real numbers, got complex128"),
    "ragged": ({"positions": [X.tolist(), X[:2].tolist()]}, "positions is not an array .*different sizes are separate"),
    "fraction": ({"types": [0, 0.7, 1]}, r"frame 0, atom 1: type 0\.7 is none of 0 O, 1 H \(and -1"),
    "type nan": ({"types": [0, np.nan, 1]}, "frame 0, atom 1: type nan"),
    "type below": ({"types": [0, 1, -5]}, "frame 0, atom 2: type -5 is none of 0 O, 1 H"),
    "type above": ({"positions": TWO, "types": [TYPES, [0, 2, 1]]}, "frame 1, atom 1: type 2 is none of 0 O, 1 H"),
    "symbols": ({"types": ["O", "H", "H"]}, "types should be integers, indices into O, H, got strings"),
    "types missing": ({"types": [0, 1]}, r"types should have shape \(3,\) or \(1, 3\), got \(2,\); one for each atom"),
    "cell nan": ({"cell": changed(CELL, (2, 2), np.nan)}, r"frame 0: cell\[0, 2, 2\] is nan"),
    "nine numbers": ({"cell": CELL.ravel()}, r"cell .* got \(9,\); .* cell\.reshape\(-1, 3, 3\)"),
    "three lengths": ({"cell": [4, 5, 6]}, r"cell .* got \(3,\); .* np\.diag\(lengths\)"),
    "cells of other frames": (
        {"cell": np.stack([CELL] * 2)},
        r"cell should have shape \(3, 3\) or \(1, 3, 3\), got \(2, 3",
    ),
    "zero cell": ({"cell": np.zeros((3, 3))}, "frame 0: lattice vector 0 of cell is zero, but direction 0 is periodic"),
    "zero vector": ({"cell": np.diag([4, 5, 0])}, "lattice vector 2 of cell is zero, but direction 2 is periodic"),
    "singular": ({"cell": [[1, 0, 0], [0, 1, 0], [1, 1, 1e-9]]}, "frame 0: the cell is singular"),
    "parallel": ({"cell": [[1, 0, 0], [2, 0, 0], [0, 0, 1]], "pbc": [1, 1, 0]}, "frame 0: the cell is singular"),
    "no cell": ({"pbc": True}, "pbc asks for periodic directions, but there is no cell"),
    "pbc of two": ({"cell": CELL, "pbc": [True, False]}, r"pbc should have shape \(3,\) or \(1, 3\), got \(2,\)"),
    "pbc in words": ({"cell": CELL, "pbc": "ppp"}, "pbc should be True or False, or three of them, got 'ppp'"),
    "pbc numbers": ({"cell": CELL, "pbc": [4, 5, 6]}, "pbc should be True or False"),
    "fparam missing": (
        {"n_fparam": 2},
        r"the model needs fparam, 2 numbers: give shape \(k,\) or \(nf, k\) with k = 2",
    ),
    "aparam missing": ({"n_aparam": 1}, r"the model needs aparam, 1 numbers: give shape \(n, k\) or"),
    "fparam shape": ({"fparam": [1, 2, 3], "n_fparam": 2}, r"fparam should have shape \(2,\) or \(1, 2\), got \(3,\)"),
    "aparam shape": (
        {"aparam": [1, 2], "n_aparam": 1},
        r"aparam should have shape \(3, 1\) or \(1, 3, 1\), got \(2,\)",
    ),
    "fparam unwanted": ({"fparam": [1]}, "the model takes no fparam"),
    "fparam nan": ({"fparam": [np.nan], "n_fparam": 1}, r"frame 0: fparam\[0, 0\] is nan"),
    "aparam nan": ({"aparam": [[0], [np.nan], [0]], "n_aparam": 1}, r"frame 0, atom 1: aparam\[0, 1, 0\] is nan"),
}


@pytest.mark.parametrize(("change", "message"), BAD.values(), ids=BAD)
def test_bad_input_is_one_clear_error(change, message):
    with pytest.raises(InputError, match=message):
        one(**change)


def test_vectors_of_directions_that_do_not_repeat_may_be_anything():
    one(cell=np.diag([4.0, 5.0, 0.0]), pbc=[True, True, False])
    one(cell=[[4, 0, 0], [4, 0, 0], [0, 0, 5]], pbc=[False, True, True])
    one(cell=np.zeros((3, 3)), pbc=False)
    one(cell=[[0, 4, 0], [4, 0, 0], [0, 0, 4]])  # left-handed


# ---- ASE ----


def test_atoms_of_ase():
    s = from_ase(molecule("H2O"), MAP)
    assert s.types.tolist() == [0, 1, 1]
    assert s.cell is None
    assert s.pbc.tolist() == [False] * 3
    np.testing.assert_array_equal(s.positions, molecule("H2O").positions)
    crystal = bulk("Cu")
    s = from_ase(crystal, ["Cu"])
    np.testing.assert_array_equal(s.cell, crystal.cell.array)
    assert s.pbc.all()


def test_slabs_of_ase():
    atoms = Atoms("O2", [[0, 0, 0], [0, 0, 1.2]], cell=[3, 3, 0], pbc=[True, True, False])
    s = from_ase(atoms, MAP)
    assert s.pbc.tolist() == [True, True, False]
    selection = Selection(blocks={"repinit": Block(3.1, 50), "repformer": Block(2.0, 40)}, n_types=2)
    assert build_graph([s], selection).blocks["repinit"].sum(1).tolist() == [5, 5]


def test_parameters_of_ase():
    atoms = molecule("H2O")
    atoms.info["fparam"] = [300.0]
    atoms.set_array("aparam", np.arange(3.0)[:, None])
    s = from_ase(atoms, MAP, n_fparam=1, n_aparam=1)
    np.testing.assert_array_equal(s.fparam, [300])
    np.testing.assert_array_equal(s.aparam, [[0], [1], [2]])
    assert from_ase(atoms, MAP).fparam is None  # a model that takes none


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["O", "H"], "atom 2 is 'C', which the model does not know: it knows O, H$"),
        (["O", "H", "c"], "it knows O, H, c; did you mean 'c'"),
        (["O", "H", "Cl"], "it knows O, H, Cl$"),  # carbon is no typo for chlorine
    ],
)
def test_unknown_elements_of_ase(names, message):
    with pytest.raises(InputError, match=message):
        from_ase(Atoms("OHC", np.eye(3)), names)


def test_bad_atoms_of_ase():
    with pytest.raises(InputError, match="frame 0, atom 1: positions"):
        from_ase(Atoms("OH", [[0, 0, 0], [0, np.nan, 0]]), MAP)
    with pytest.raises(InputError, match="lattice vector 2 of cell is zero"):
        from_ase(Atoms("O", cell=[3, 3, 0], pbc=True), MAP)


def test_the_axis_of_one_parameter_may_be_missing():
    """As in files, where an array of one number an atom is (n,)."""
    positions, temperatures = np.random.default_rng(0).normal(size=(2, 3, 3)), np.arange(6.0).reshape(2, 3)
    for given in (temperatures, temperatures[..., None]):
        frames = one(positions, fparam=[5.0, 6.0], aparam=given, n_fparam=1, n_aparam=1)
        np.testing.assert_array_equal([s.aparam for s in frames], temperatures[..., None])
        np.testing.assert_array_equal([s.fparam for s in frames], [[5.0], [6.0]])
    frames = one(positions, fparam=300.0, aparam=temperatures[0], n_fparam=1, n_aparam=1)
    np.testing.assert_array_equal([s.aparam for s in frames], [temperatures[0][:, None]] * 2)
    np.testing.assert_array_equal([s.fparam for s in frames], [[300.0]] * 2)
    with pytest.raises(InputError, match="the model takes k = 2 numbers"):
        one(positions, aparam=temperatures, n_aparam=2)


@pytest.mark.parametrize("scale", [1e-200, 1e-160, 1e-3, 0.05])
def test_cells_shorter_than_atoms(scale):
    with pytest.raises(InputError, match=f"frame 0: a periodic lattice vector of cell is {scale:.3g} Å long"):
        one(np.zeros((1, 3)), types=[0], cell=scale * np.eye(3))
    with pytest.raises(InputError, match="frame 0: a periodic lattice vector"):
        one(np.zeros((1, 3)), types=[0], cell=np.diag([4.0, scale, 4.0]), pbc=[True, True, False])
    one(np.zeros((1, 3)), types=[0], cell=np.diag([4.0, 4.0, scale]), pbc=[True, True, False])  # does not repeat


def test_cells_whose_volume_is_no_number():
    one(np.zeros((1, 3)), types=[0], cell=1e200 * np.eye(3))
    with pytest.raises(InputError, match="singular"):
        one(np.zeros((1, 3)), types=[0], cell=1e200 * np.ones((3, 3)))
