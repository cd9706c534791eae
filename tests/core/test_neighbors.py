"""Neighbor lists against a search through all images and against ASE; order and limits."""

from collections.abc import Iterable
from itertools import product

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import neighbor_list as ase_neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from dpmodel.data.neighbors import ROUNDING, Edges, by_distance, find_pairs, measure
from dpmodel.errors import InputError

PERIODIC = np.array([True, True, True])
OPEN = np.array([False, False, False])


def neighbor_list(x, cell, pbc, cutoff, real=None, where="structure"):
    """All edges no longer than ``cutoff``, in the order of a graph."""
    edges = measure(find_pairs(x, cell, pbc, cutoff, real, where), x, cell, cutoff)
    order = by_distance(edges.center, edges.distance, edges.vector)
    return Edges(*(values[order] for values in edges))


def every_image(x, cell, pbc, cutoff):
    """(i, j, vector) of all edges: wrap, then try every image that can be near enough."""
    pbc = np.asarray(pbc)
    images: Iterable[tuple[int, ...]] = [(0, 0, 0)]
    if pbc.any():
        cell = cell.copy()
        cell[~pbc] = np.linalg.svd(cell[pbc])[2][pbc.sum() :]  # normal to the periodic ones
        inverse = np.linalg.inv(cell)
        x = x - np.floor(x @ inverse) * pbc @ cell
        height = 1 / np.linalg.norm(inverse, axis=0)
        images = product(
            *(range(-int(cutoff / h) - 2, int(cutoff / h) + 3) if p else (0,) for h, p in zip(height, pbc, strict=True))
        )
    found = []
    for s in images:
        d = x[None] - x[:, None] + (np.array(s) @ cell if pbc.any() else 0.0)
        near = np.linalg.norm(d, axis=-1) <= cutoff + ROUNDING
        if s == (0, 0, 0):
            np.fill_diagonal(near, False)
        found += [(i, j, d[i, j]) for i, j in np.argwhere(near)]
    return found


def table(i, j, vector):
    """Rows (i, j, vector) in an order that any two lists of the same edges share."""
    rows = np.column_stack([i, j, vector]).reshape(-1, 5)
    return rows[np.lexsort((rows[:, 2:] @ [0.3, 0.5, 0.8124], rows[:, 1], rows[:, 0]))]


def assert_same_edges(edges, expected):
    rows = np.array([(i, j, *vector) for i, j, vector in expected]).reshape(-1, 5)
    expected = table(rows[:, 0], rows[:, 1], rows[:, 2:])
    np.testing.assert_allclose(table(edges.center, edges.neighbor, edges.vector), expected, atol=1e-9)


def assert_consistent(edges, x, cell):
    np.testing.assert_allclose(x[edges.neighbor] + edges.shift - x[edges.center], edges.vector, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(edges.vector, axis=1), edges.distance, atol=1e-12)
    step = np.diff(edges.center * 1e3 + edges.distance)
    assert (step > -ROUNDING).all()  # sorted by center, then distance
    if cell is None:
        assert not edges.shift.any()


@st.composite
def systems(draw):
    """Skewed cells of either handedness, some much smaller than the cutoff, atoms anywhere."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    size = draw(st.sampled_from([0.8, 2.0, 5.0]))
    cell = np.diag(size * rng.uniform(0.7, 1.5, 3)) + draw(st.sampled_from([0.0, 0.3, 1.5])) * size * np.triu(
        rng.normal(size=(3, 3)), 1
    )
    cell = cell[list(draw(st.permutations(range(3))))] * draw(st.sampled_from([1.0, -1.0]))
    cell = cell @ np.linalg.qr(rng.normal(size=(3, 3)))[0]
    n = draw(st.integers(1, 6))
    x = rng.uniform(-2, 3, (n, 3)) @ cell + draw(st.sampled_from([0.0, 50.0]))
    pbc = np.array(draw(st.tuples(*[st.booleans()] * 3)))
    return x, cell, pbc, draw(st.sampled_from([1.1, 2.3, 3.7]))


@given(systems())
@settings(max_examples=150, deadline=None)
def test_every_edge_is_found(system):
    x, cell, pbc, cutoff = system
    edges = neighbor_list(x, cell, pbc, cutoff)
    assert_consistent(edges, x, cell)
    assert_same_edges(edges, every_image(x, cell, pbc, cutoff))


@pytest.mark.parametrize("seed", range(6))
def test_the_same_edges_as_ase(seed):
    rng = np.random.default_rng(seed)
    cell = np.diag([5.0, 6.0, 7.0]) + rng.normal(size=(3, 3))
    if seed % 2:
        cell = cell[[1, 0, 2]]
    pbc = np.array([[1, 1, 1], [1, 1, 0], [0, 1, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]][seed], dtype=bool)
    x = rng.uniform(-1, 2, (40, 3)) @ cell
    i, j, vector = ase_neighbor_list("ijD", Atoms("H40", x, cell=cell, pbc=pbc), 4.321)
    edges = neighbor_list(x, cell, pbc, 4.321)
    assert_consistent(edges, x, cell)
    assert_same_edges(edges, list(zip(i, j, vector, strict=True)))


def test_no_cell():
    x = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2.5, 0], [90, 0, 0]])
    edges = neighbor_list(x, None, OPEN, 2.6)
    assert edges.center.tolist() == [0, 0, 1, 2]
    assert edges.neighbor.tolist() == [1, 2, 0, 0]
    assert_consistent(edges, x, None)


def test_directions_that_do_not_repeat_need_no_vector():
    x = np.array([[0.1, 0, 0], [0.2, 1.0, 40.0], [0.3, 1.0, 41.0]])
    pbc = np.array([True, True, False])
    full = np.array([[3.0, 0, 0], [1, 4, 0], [2, 2, 9]])
    flat = full * [[1], [1], [0]]
    for other in (flat, full[[0, 1, 0]]):
        a, b = neighbor_list(x, full, pbc, 3.5), neighbor_list(x, other, pbc, 3.5)
        np.testing.assert_array_equal(a.neighbor, b.neighbor)
        np.testing.assert_allclose(a.vector, b.vector, atol=1e-12)
    assert_same_edges(a, every_image(x, full, pbc, 3.5))


@pytest.mark.parametrize("offset", [0.0, 0.1, 1 / 3, 12.345])
def test_an_edge_as_long_as_the_cutoff_is_kept(offset):
    """specification/descriptor.md 14.15, wherever rounding puts the last digit"""
    x = np.full((1, 3), offset)
    assert len(neighbor_list(x, np.eye(3) * 0.7, PERIODIC, 0.7).center) == 6
    x = np.array([[0, 0, 0], [0.6, 0, 0.8]]) * 3.1 + offset
    assert len(neighbor_list(x, None, OPEN, 3.1).center) == 2
    assert len(neighbor_list(x, None, OPEN, 3.1 - 1e-8).center) == 0


def test_virtual_atoms_neither_have_nor_are_neighbors():
    x = np.array([[0.0, 0, 0], [1, 0, 0], [1, 0, 0], [0, 1.5, 0]])
    real = np.array([True, False, True, True])
    cell = np.eye(3) * 4
    edges = neighbor_list(x, cell, PERIODIC, 4.2, real)
    without = neighbor_list(x[real], cell, PERIODIC, 4.2)
    name = np.flatnonzero(real)
    np.testing.assert_array_equal(edges.center, name[without.center])
    np.testing.assert_array_equal(edges.neighbor, name[without.neighbor])
    assert len(neighbor_list(x, cell, PERIODIC, 4.2, np.zeros(4, dtype=bool)).center) == 0


FCC = np.array([[0.0, 0, 0], [0, 0.5, 0.5], [0.5, 0, 0.5], [0.5, 0.5, 0]])


def neighborhoods(x, cell, n_atoms):
    """Vectors to the neighbors of the first atoms, in order."""
    edges = neighbor_list(x, cell, PERIODIC, 4.0)
    return np.array([edges.vector[edges.center == i] for i in range(n_atoms)])


@given(st.integers(0, 2**32), st.sampled_from([2.5, 2.8, np.pi]))
@settings(max_examples=30, deadline=None)
def test_equal_distances_have_one_order(seed, a):
    """However a crystal is moved, wrapped, numbered and described, its neighbors come in the same order."""
    rng = np.random.default_rng(seed)
    cell, x = np.eye(3) * a, FCC * a
    expected = neighborhoods(x, cell, 4)
    moved = x + rng.uniform(-20, 20, 3)
    np.testing.assert_allclose(neighborhoods(moved, cell, 4), expected, atol=1e-9)
    wrapped = moved + rng.integers(-3, 4, (4, 3)) @ cell
    np.testing.assert_allclose(neighborhoods(wrapped, cell, 4), expected, atol=1e-9)
    order = rng.permutation(4)
    np.testing.assert_allclose(neighborhoods(wrapped[order], cell, 4), expected[order], atol=1e-9)
    other = np.array([[1, 0, 0], [2, 0, 1], [1, 1, 0]]) @ cell  # the same lattice, left-handed
    np.testing.assert_allclose(neighborhoods(wrapped, other, 4), expected, atol=1e-9)
    twice = np.concatenate([wrapped, wrapped + cell[1]])
    np.testing.assert_allclose(neighborhoods(twice, cell * [[1], [2], [1]], 4), expected, atol=1e-9)


def test_a_skin_serves_until_atoms_have_moved_by_half_of_it():
    rng = np.random.default_rng(1)
    cell, cutoff, skin = np.diag([6.0, 7.0, 8.0]), 4.0, 0.8
    x = rng.uniform(0, 1, (30, 3)) @ cell
    pairs = find_pairs(x, cell, PERIODIC, cutoff + skin)
    step = rng.normal(size=x.shape)
    moved = x + step / np.linalg.norm(step, axis=1, keepdims=True) * skin / 2
    edges, fresh = measure(pairs, moved, cell, cutoff), neighbor_list(moved, cell, PERIODIC, cutoff)
    assert len(fresh.center) != len(neighbor_list(x, cell, PERIODIC, cutoff).center)
    np.testing.assert_allclose(
        table(edges.center, edges.neighbor, edges.vector), table(fresh.center, fresh.neighbor, fresh.vector), atol=1e-12
    )


@pytest.mark.parametrize("pbc", [PERIODIC, OPEN, np.array([True, False, True])])
@pytest.mark.parametrize("far", [3e5, 1e9, 1e20])
def test_atoms_that_flew_away_are_an_error(pbc, far):
    x = np.array([[0.0, 0, 0], [far, far, 1.0]])
    with pytest.raises(InputError, match=r"frame 3: coordinates and cell should lie within 6e\+04 .* blown up"):
        neighbor_list(x, np.eye(3) * 9, pbc, 6.0, where="frame 3")


def test_another_unit_of_length_is_an_error():
    x = np.random.default_rng(0).uniform(0, 1.9, (192, 3))
    with pytest.raises(InputError, match=r"192 atoms in 6\.86 Å³ .* 6 Å.* unit"):
        neighbor_list(x, np.eye(3) * 1.9, PERIODIC, 6.0)
