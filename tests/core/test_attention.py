"""Attention among neighbors: against deepmd-kit's DPA-1, and against softmaxes that visit every slot."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dense
from dpmodel.execution import Execution
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.build import build
from dpmodel.model.predict import describe
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.ops.attention import SHIFT, neighbor_weights
from random_models import examples, graph_of
from reference_cases import HERE

with np.load(HERE / "dpa1_attention.npz") as stored:
    DPA1 = dict(stored)
NAMES = sorted(key.removesuffix("/settings") for key in DPA1 if key.endswith("/settings"))


# --- DPA-1 (specification/descriptor.md 6) ---


def dpa1(name: str) -> ModelFile:
    """A DPA-2 model whose repinit holds the arrays of a DPA-1 model."""
    section = json.loads(str(DPA1[f"{name}/settings"]))
    shared = {key: section.pop(key) for key in ("smooth", "exclude_types") if key in section}
    descriptor = shared | {"repinit": section, "repformer": {"rcut": 3.0, "rcut_smth": 1.0, "nsel": 6, "nlayers": 1}}
    settings = ModelSettings.read({"type_map": ["O", "H"], "descriptor": descriptor, "fitting_net": {}})
    blank = build(settings)
    arrays = {f"descriptor.{key.removeprefix(f'{name}/')}": v for key, v in DPA1.items() if key.startswith(f"{name}/")}
    del arrays["descriptor.settings"], arrays["descriptor.descriptor"]
    ours = ("descriptor.repinit", "descriptor.type_embedding")
    assert arrays.keys() == {path for path in state(blank) if path.startswith(ours)}
    return ModelFile(settings, Rebuilder(blank)(state(blank) | arrays))


@pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")  # "crowded" is meant to
@pytest.mark.parametrize("name", NAMES)
def test_repinit_is_deepmd_kits_dpa1(name: str) -> None:
    file, seen = dpa1(name), dict[str, np.ndarray]()
    graph = graph_of(file.settings, positions=DPA1["coord"], types=DPA1["atype"], cell=DPA1["box"])
    describe(file.model, *graph, Execution(observe=seen.__setitem__))
    expected = DPA1[f"{name}/descriptor"]
    np.testing.assert_allclose(seen["repinit"].reshape(expected.shape), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", NAMES)
def test_the_dense_evaluation_is_deepmd_kits_dpa1(name: str) -> None:
    """The oracle of test_dense.py, which then says what no file of deepmd-kit can: attention inside DPA-2."""
    file = dpa1(name)
    block, m = dense.blocks(file)[0], file.model.descriptor
    table = dense.type_table(m.type_embedding)
    for f, (positions, types, cell) in enumerate(zip(DPA1["coord"], DPA1["atype"], DPA1["box"], strict=True)):
        for i in range(len(positions)):
            near = dense.neighbors(positions, types, cell, i, block.rcut)
            found = dense.repinit(m.repinit, dense.slots(near, types, i, block), types[i], block, table)
            np.testing.assert_allclose(found, DPA1[f"{name}/descriptor"][f, i], rtol=1e-12, atol=1e-12)


# --- the softmax itself (specification/descriptor.md 9.3) ---


def padded(logits: np.ndarray, key: np.ndarray, n_slots: int) -> np.ndarray:
    """Smooth weights of one query, with every empty slot written out."""
    empty = n_slots - len(key)
    shifted = np.append((logits + SHIFT) * key - SHIFT, np.full(empty, -SHIFT))
    e = np.exp(shifted - shifted.max())
    return (e / e.sum())[: len(key)] * key


slots = st.lists(st.tuples(st.floats(-60, 60), st.sampled_from([0.0, 1e-9, 0.3, 1.0])), min_size=1, max_size=8)


@examples(200)
@given(slots, st.integers(0, 9))
def test_empty_slots_are_counted_not_visited(occupied: list[tuple[float, float]], empty: int) -> None:
    x, key = np.array(occupied).T
    found = neighbor_weights(x, key, None, n_slots=len(x) + empty, smooth=True)
    np.testing.assert_allclose(found, padded(x, key, len(x) + empty), rtol=1e-12, atol=1e-300)


def test_one_slot_may_stand_for_others_that_are_full() -> None:
    """repinit visits all empty slots as one more; where none is empty, that one is counted -1 times."""
    x, key = np.array([0.3, -2.0, 1.0]), np.array([1.0, 0.4, 0.9])
    extra = neighbor_weights(np.append(x, 7.0), np.append(key, 0.0), None, n_slots=3, smooth=True)
    np.testing.assert_allclose(extra, np.append(padded(x, key, 3), 0.0), rtol=1e-14)


def test_only_neighbors_count_where_it_is_not_smooth() -> None:
    x, key = np.array([[0.3, 500.0, 1.0]]), np.array([[1.0, 0.0, 1.0]])
    e = np.exp([0.3, 1.0])
    found = neighbor_weights(x, key, None, n_slots=99, smooth=False)
    np.testing.assert_allclose(found, [[e[0] / e.sum(), 0.0, e[1] / e.sum()]], rtol=1e-15)


@pytest.mark.parametrize("smooth", [True, False])
@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("logit", [-1e4, 0.0, 1e4])
def test_without_neighbors_there_is_no_weight(smooth: bool, truncate: bool, logit: float) -> None:
    options: dict[str, Any] = {"n_slots": 4, "smooth": smooth, "truncate": truncate}
    assert not neighbor_weights(np.full(3, logit), np.zeros(3), None, **options).any()


@pytest.mark.parametrize("truncate", [True, False])
@pytest.mark.parametrize("smooth", [True, False])
def test_huge_logits_do_not_overflow(smooth: bool, truncate: bool) -> None:
    x = np.array([1e4, -1e4, 0.0])
    found = neighbor_weights(x, np.ones(3), None, n_slots=2, smooth=smooth, truncate=truncate)
    np.testing.assert_allclose(found, [1.0, 0.0, 0.0], atol=1e-15)
