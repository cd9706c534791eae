"""Graphs: what reaches a model from structures and from deepmd-kit's neighbor lists."""

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpmodel.data.graph import build_graph, candidates, flat_positions
from dpmodel.data.padding import pad_graph, pad_rows, rounded_up
from dpmodel.data.structure import Structure, structures
from dpmodel.dpa2.lower import graph_of_lists
from dpmodel.errors import InputError, NeighborOverflowWarning
from dpmodel.graph import Block, Selection

CASES = Path(__file__).parents[1] / "reference"
BLOCKS = {"repinit": Block(5.0, 60), "three_body": Block(4.0, 40), "repformer": Block(4.0, 40)}
WIDE = Selection(blocks=BLOCKS, n_types=2)


def two_blocks(repinit: Block, repformer: Block, n_types: int = 2, **options: Any) -> Selection:
    return Selection(blocks={"repinit": repinit, "repformer": repformer}, n_types=n_types, **options)


TIGHT = two_blocks(Block(5.0, 14), Block(4.0, 6))  # of the case sel_overflow
MIXED = ["baseline", "nopbc", "virtual_atom", "three_body", "sel_overflow"]

overflow = pytest.mark.filterwarnings("ignore::dpmodel.errors.NeighborOverflowWarning")


def case(name):
    with np.load(CASES / name / "io.npz", allow_pickle=False) as f:
        return dict(f), TIGHT if name == "sel_overflow" else WIDE


def frames_of(io):
    return structures(io["coord"], io["atype"], io.get("box"), type_map="AB")


def vectors_of(graph, positions):
    return positions[graph.neighbors] - positions[:, None] + graph.shift


def assert_same(a, b):
    assert a.blocks.keys() == b.blocks.keys()
    for name in {*a._fields, *a.blocks} - {"blocks"}:
        x, y = (g.blocks[name] if name in g.blocks else getattr(g, name) for g in (a, b))
        assert (x is None) == (y is None), name
        if x is not None:
            np.testing.assert_allclose(x, y, atol=1e-12, err_msg=name)


def random_frames(rng, sizes, cell=6.0):
    return [
        structures(rng.uniform(0, cell, (n, 3)), rng.integers(0, 2, n), np.eye(3) * cell, type_map="AB")[0]
        for n in sizes
    ]


# ---- against deepmd-kit's lists ----


@overflow
@pytest.mark.parametrize("name", MIXED)
def test_neighbors_are_those_of_the_reference(name):
    """specification/descriptor.md 2: the reference's own lists, and how many of them its repformer sees"""
    io, selection = case(name)
    graph = build_graph(frames_of(io), selection)
    vectors = vectors_of(graph, flat_positions(frames_of(io)))
    nf, nloc, _ = io["nlist"].shape
    for atom, (f, i) in enumerate(np.ndindex(nf, nloc)):
        listed = io["nlist"][f, i][io["nlist"][f, i] >= 0]
        assert graph.blocks["repinit"][atom].sum() == len(listed)
        np.testing.assert_array_equal(graph.neighbors[atom, : len(listed)], io["mapping"][f, listed] + f * nloc)
        expected = io["ext_coord"][f, listed] - io["ext_coord"][f, i]
        np.testing.assert_allclose(vectors[atom, : len(listed)], expected, atol=1e-10)
    np.testing.assert_array_equal(graph.blocks["repformer"].sum(1), (io["sw"] > 0).sum(-1).reshape(-1))


@overflow
@pytest.mark.parametrize("name", MIXED)
def test_lists_make_the_same_graph(name):
    """deepmd-kit's own lists, sorted and cut again, in a narrower graph too"""
    io, selection = case(name)
    for chosen in (selection, two_blocks(Block(3.5, 60), Block(3.0, 40))):
        expected = build_graph(frames_of(io), chosen)
        extended = (io["ext_coord"], io["ext_atype"], io["nlist"], io["mapping"])
        graph, vectors = graph_of_lists(*extended, chosen.blocks, n_types=2, truncate=True)
        for field in ("types", "first_type", "frame", "members"):
            np.testing.assert_array_equal(getattr(graph, field), getattr(expected, field), err_msg=field)
        n = expected.neighbors.shape[1]
        np.testing.assert_array_equal(graph.neighbors[:, :n], expected.neighbors)
        assert (graph.neighbors[:, n:] == np.arange(len(vectors))[:, None]).all()
        assert graph.blocks.keys() == expected.blocks.keys()
        for block, mask in expected.blocks.items():
            np.testing.assert_array_equal(graph.blocks[block][:, : mask.shape[1]], mask, err_msg=block)
            assert not graph.blocks[block][:, mask.shape[1] :].any()
        occupied = expected.neighbors != np.arange(len(vectors))[:, None]
        right = vectors_of(expected, flat_positions(frames_of(io)))
        np.testing.assert_allclose(vectors[:, :n][occupied], right[occupied], atol=1e-10)
        assert (np.linalg.norm(vectors[:, :n][~occupied], axis=-1) > chosen.cutoff).all()


# ---- layout ----


def test_frames_of_different_size_share_an_axis():
    frames = random_frames(np.random.default_rng(0), (5, 1, 9))
    graph = build_graph(frames, WIDE)
    assert graph.frame.tolist() == [0] * 5 + [1] + [2] * 9
    assert graph.members.tolist() == [[0, 1, 2, 3, 4, 15, 15, 15, 15], [5] + [15] * 8, list(range(6, 15))]
    vectors = vectors_of(graph, flat_positions(frames))
    for first, frame in zip((0, 5, 6), frames, strict=True):
        alone = build_graph([frame], WIDE)
        own = vectors_of(alone, frame.positions)
        n, width = alone.neighbors.shape
        rows = slice(first, first + n)
        np.testing.assert_array_equal(graph.neighbors[rows, :width], alone.neighbors + first)
        np.testing.assert_allclose(vectors[rows, :width], own, atol=1e-12)
        for name in ("repinit", "three_body", "repformer"):
            np.testing.assert_array_equal(graph.blocks[name][rows].sum(1), alone.blocks[name].sum(1))
        np.testing.assert_array_equal(graph.first_type[rows], frame.types[0])


def test_widths_are_those_of_real_neighborhoods():
    x = np.array([[0.0, 0, 0], [3, 0, 0], [7.5, 0, 0]])
    graph = build_graph(structures(x, [0, 1, 0], type_map="AB"), WIDE)
    assert graph.neighbors.tolist() == [[1, 0], [0, 2], [1, 2]]
    assert graph.blocks["repinit"].tolist() == [[True, False], [True, True], [True, False]]
    assert graph.blocks["repformer"].tolist() == graph.blocks["three_body"].tolist() == [[True], [True], [False]]
    distance = np.linalg.norm(vectors_of(graph, x), axis=-1)
    np.testing.assert_allclose(distance[graph.blocks["repinit"]], [3, 3, 4.5, 4.5])
    assert (distance[~graph.blocks["repinit"]] > 2 * WIDE.cutoff).all()


def test_a_lone_atom_has_one_empty_slot():
    graph = build_graph(structures([[0, 0, 0]], [1], type_map="AB"), WIDE)
    assert graph.neighbors.tolist() == [[0]]
    assert not graph.blocks["repinit"].any()
    assert graph.blocks["repformer"].shape == graph.blocks["three_body"].shape == (1, 1)
    assert np.linalg.norm(graph.shift) > 2 * WIDE.cutoff


def test_kinds_of_numbers():
    graph = build_graph(random_frames(np.random.default_rng(0), (4,)), WIDE)
    for name in ("types", "neighbors", "first_type", "frame", "members"):
        assert getattr(graph, name).dtype == np.int64
    assert graph.shift.dtype == np.float64
    assert graph.blocks["repinit"].dtype == graph.blocks["three_body"].dtype == graph.blocks["repformer"].dtype == bool
    graph = build_graph(random_frames(np.random.default_rng(0), (4,)), TIGHT)
    assert graph.blocks.keys() == {"repinit", "repformer"}


def test_virtual_atoms():
    rng = np.random.default_rng(2)
    x, cell = rng.uniform(0, 5, (6, 3)), np.eye(3) * 5
    types = np.array([-1, 0, 1, -1, 1, 0])
    graph = build_graph(structures(x, types, cell, type_map="AB"), WIDE)
    assert graph.types.tolist() == [2, 0, 1, 2, 1, 0]
    assert graph.first_type.tolist() == [0] * 6  # a virtual atom 0 counts as type 0
    assert not graph.blocks["repinit"][types < 0].any()
    assert not np.isin(graph.neighbors[graph.blocks["repinit"]], np.flatnonzero(types < 0)).any()
    real = build_graph(structures(x[types >= 0], types[types >= 0], cell, type_map="AB"), WIDE)
    np.testing.assert_array_equal(graph.blocks["repinit"].sum(1)[types >= 0], real.blocks["repinit"].sum(1))
    nobody = build_graph(structures(x, np.full(6, -1), cell, type_map="AB"), WIDE)
    assert not nobody.blocks["repinit"].any()


def test_parameters_lie_on_the_axes_of_frames_and_atoms():
    frames = structures(
        np.random.default_rng(0).uniform(0, 9, (2, 3, 3)),
        [0, 1, 0],
        type_map="AB",
        fparam=[[1, 2], [3, 4]],
        aparam=[[5], [6], [7]],
        n_fparam=2,
        n_aparam=1,
    )
    graph = build_graph(frames, WIDE)
    np.testing.assert_array_equal(graph.fparam, [[1, 2], [3, 4]])
    np.testing.assert_array_equal(graph.aparam, [[5], [6], [7]] * 2)


def test_no_frames():
    with pytest.raises(InputError, match="no frames"):
        build_graph([], WIDE)


# ---- selection ----


LINE = np.array([[0.0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [-4.5, 0, 0]])  # distances 1, 2, 3, 4.5 from atom 0


def seen_by_atom_0(types, **change):
    """Neighbors of atom 0 that (repinit, repformer) look at."""
    selection = two_blocks(Block(5.0, 3), Block(4.0, 2), **change)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeighborOverflowWarning)
        graph = build_graph(structures(LINE, types, type_map="AB"), selection)
    return [graph.neighbors[0, : m.shape[1]][m[0]].tolist() for m in graph.blocks.values()]


def test_the_nearest_are_kept():
    assert seen_by_atom_0([0] * 5) == [[1, 2, 3], [1, 2]]


def test_excluded_pairs_leave_no_hole_and_are_not_replaced():
    """specification/descriptor.md 2.3: excluded after the widest list was truncated, before the others are"""
    assert seen_by_atom_0([0, 1, 0, 0, 0], pair_exclude=((1, 0),)) == [[2, 3], [2, 3]]
    assert seen_by_atom_0([0, 1, 0, 0, 0], pair_exclude=((0, 1),)) == [[2, 3], [2, 3]]
    assert seen_by_atom_0([0, 1, 0, 0, 0], pair_exclude=((1, 1),)) == [[1, 2, 3], [1, 2]]
    assert seen_by_atom_0([0, 0, 1, 1, 1], pair_exclude=((0, 0),)) == [[2, 3], [2, 3]]


def test_everything_within_the_cutoff_without_truncation():
    assert seen_by_atom_0([0] * 5, truncate=False) == [[1, 2, 3, 4], [1, 2, 3]]
    assert seen_by_atom_0([0, 1, 0, 0, 0], truncate=False, pair_exclude=((0, 1),)) == [[2, 3, 4], [2, 3]]


def test_a_three_body_block_wider_than_repinit_leads():
    wide = {"repinit": Block(2.5, 2), "repformer": Block(1.5, 1), "three_body": Block(5.0, 4)}
    graph = build_graph(structures(LINE, [0] * 5, type_map="AB"), Selection(blocks=wide, n_types=2))
    assert {name: m[0].sum() for name, m in graph.blocks.items()} == {"repinit": 2, "repformer": 1, "three_body": 4}


def test_too_many_neighbors_are_reported():
    """Atoms 0 and 2 of each frame have four neighbors, atom 2 one at 4.92 angstrom."""
    frames = structures([LINE + 50, LINE], [0] * 5, type_map="AB")
    selection = two_blocks(Block(5.0, 3), Block(4.0, 3), n_types=1)
    message = (
        r"^repinit keeps the 3 nearest neighbors within 5 Å, but atom 0 of frame 0 has 4 "
        r"\(4 of 10 atoms have too many; nsel = 4 would keep all\)\. .* The farthest are left out\.$"
    )
    with pytest.warns(NeighborOverflowWarning, match=message) as caught:
        build_graph(frames, selection)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    with pytest.raises(InputError, match=r"repinit keeps the 3 nearest .* atom 0 of frame 0 has 4"):
        build_graph(frames, selection, strict=True)
    with pytest.warns(NeighborOverflowWarning, match=r"repinit .* has 4 .*; repformer keeps the 2 .* has 3") as caught:
        build_graph(frames, two_blocks(Block(5.0, 3), Block(4.0, 2), n_types=1))
    assert len(caught) == 1


def test_no_report_where_nothing_is_left_out():
    frames = structures(LINE, [0] * 5, type_map="AB")
    build_graph(frames, two_blocks(Block(5.0, 4), Block(4.0, 3), n_types=1), strict=True)
    few = two_blocks(Block(5.0, 1), Block(4.0, 1), n_types=1, truncate=False)
    build_graph(frames, few, strict=True)


@pytest.mark.parametrize("gap", [0.0, 1e-7])
def test_atoms_at_the_same_place_are_an_error(gap):
    x = np.array([[0, 0, 0], [1, 1, 1], [0.5, 0.5, 5 + gap], [0.5, 0.5, 0]])
    apart = x.copy()
    apart[2, 1] += 2
    frames = structures([apart, x], [0] * 4, np.eye(3) * 5, type_map="AB")
    with pytest.raises(InputError, match="atom 2 of frame 1 and atom 3 of frame 1 are at the same place"):
        build_graph(frames, WIDE)
    virtual = structures(x, [0, 0, -1, 0], np.eye(3) * 5, type_map="AB")
    build_graph(virtual, WIDE)
    excluded = structures(x, [0, 0, 1, 0], np.eye(3) * 5, type_map="AB")
    build_graph(excluded, Selection(blocks=BLOCKS, n_types=2, pair_exclude=((0, 1),)))  # they do not see each other


@overflow
@given(st.integers(0, 2**32))
@settings(max_examples=20, deadline=None)
def test_truncation_of_a_crystal_is_the_same_everywhere(seed):
    """nsel = 10 cuts through the twelve second neighbors: which of them stay is a matter of the crystal alone."""
    rng = np.random.default_rng(seed)
    selection = two_blocks(Block(5.0, 10), Block(4.9, 9), n_types=1)

    def environment(x, cell):
        frames = structures(x, np.zeros(len(x), dtype=int), cell, type_map="A")
        graph = build_graph(frames, selection)
        assert graph.neighbors.shape[1] == 10
        return vectors_of(graph, x)

    cell = np.eye(3) * 3.3
    expected = environment(np.zeros((1, 3)), cell)[0]
    cells = np.array(list(np.ndindex(2, 2, 2)))
    x = (cells + rng.integers(-2, 3, (8, 3)) * 2) @ cell + rng.uniform(-9, 9, 3)
    found = environment(rng.permutation(x), 2 * cell[[1, 0, 2]])
    np.testing.assert_allclose(found, np.broadcast_to(expected, found.shape), atol=1e-9)


def test_pairs_with_a_skin_give_the_same_graph():
    rng = np.random.default_rng(3)
    frames = random_frames(rng, (20, 12))
    pairs = candidates(frames, WIDE.cutoff + 1.0)
    moved = [
        Structure(s.positions + rng.uniform(-0.25, 0.25, s.positions.shape), s.types, s.cell, s.pbc) for s in frames
    ]
    assert_same(build_graph(moved, WIDE, pairs=pairs), build_graph(moved, WIDE))


# ---- buckets ----


def test_the_ladder_of_sizes():
    sizes = sorted({rounded_up(n) for n in range(1, 3000)})
    assert sizes[:18] == [8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88, 96, 104, 112, 120, 128, 144, 160]
    assert all(n <= rounded_up(n) <= max(n + 7, 1.125 * n) for n in range(1, 3000))
    assert all(rounded_up(size) == size for size in sizes)


def test_a_bucket_holds_the_graph_and_nothing_else():
    frames = random_frames(np.random.default_rng(4), (21, 20))
    selection = two_blocks(Block(5.0, 60), Block(4.0, 35))
    small = build_graph(frames, selection)._replace(aparam=np.ones((41, 2)))
    big = pad_graph(small, selection)
    x = pad_rows(flat_positions(frames), small, big)
    (n, width), (n_big, width_big) = small.neighbors.shape, big.neighbors.shape
    assert (n_big, width_big) == (48, rounded_up(width)) == (len(x), min(rounded_up(width), 60))
    assert big.blocks["repformer"].shape[1] in (rounded_up(small.blocks["repformer"].shape[1]), 35)
    vectors = vectors_of(big, x)
    np.testing.assert_allclose(vectors[:n, :width], vectors_of(small, flat_positions(frames)), atol=1e-12)
    assert (np.linalg.norm(vectors[~big.blocks["repinit"]], axis=-1) > 2 * selection.cutoff).all()
    for name in ("repinit", "repformer"):
        mask, grown = small.blocks[name], big.blocks[name]
        np.testing.assert_array_equal(grown[:n, : mask.shape[1]], mask)
        assert grown.sum() == mask.sum()
    assert (big.types[n:] == 2).all()
    assert big.types.shape == big.first_type.shape == big.frame.shape == (48,)
    assert np.asarray(big.aparam).shape == (48, 2)
    assert big.members.shape == (2, 24)
    assert sorted(big.members[big.members < n_big]) == list(range(41))
    assert set(big.members[big.members >= n_big]) == {48}
    assert big.blocks.keys() == small.blocks.keys()


def test_a_bucket_is_no_wider_than_nsel():
    frames = random_frames(np.random.default_rng(5), (20,), cell=8.0)
    wide = build_graph(frames, WIDE)
    n, m = (int(mask.sum(1).max()) for mask in (wide.blocks["repinit"], wide.blocks["repformer"]))
    exact = (Block(5.0, n), Block(4.0, m))
    assert rounded_up(n) > n
    truncated = two_blocks(*exact)
    grown = pad_graph(build_graph(frames, truncated), truncated)
    assert grown.neighbors.shape[1] == grown.blocks["repinit"].shape[1] == n
    assert grown.blocks["repformer"].shape[1] == m
    everything = two_blocks(*exact, truncate=False)
    assert pad_graph(build_graph(frames, everything), everything).neighbors.shape[1] == rounded_up(n)
