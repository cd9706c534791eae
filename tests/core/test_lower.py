"""deepmd-kit's own interface, ``DPA2.call``: lists of other widths, and derivatives (numbers: test_reference.py)."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpmodel.backend import backend
from dpmodel.errors import InputError
from dpmodel.model.predict import describe
from dpmodel.model.settings import ModelSettings
from dpmodel.xp import Array
from random_models import examples, graph_of, random_frames, random_model
from reference_cases import Case, case
from strategies import dpmodel_settings

ENGINE = backend("numpy").engine()
NAMES = ["baseline", "three_body", "davg_nonzero", "exclude_types", "not_smooth", "nopbc"]


def call(c: Case, nlist: np.ndarray) -> list[np.ndarray]:
    return list(c.file.model.descriptor.call(c.io["ext_coord"], c.io["ext_atype"], nlist, c.io["mapping"]))


@pytest.mark.parametrize("name", NAMES)
def test_the_width_of_the_list_does_not_matter(name: str) -> None:
    """Narrower than nsel: as if padded.  Wider, in any order, with atoms beyond the cutoff: as if sorted and cut."""
    c = case(name)
    nlist = c.io["nlist"]
    expected = call(c, nlist)
    narrow = nlist[:, :, : np.max(np.sum(nlist >= 0, axis=-1))]
    assert narrow.shape[-1] < nlist.shape[-1]
    rng = np.random.default_rng(0)
    far = np.argmax(np.linalg.norm(c.io["ext_coord"] - c.io["ext_coord"][:, :1], axis=-1), axis=1)
    beyond = np.broadcast_to(far[:, None, None], (*nlist.shape[:2], 1)) if name != "nopbc" else nlist[:, :, -1:]
    wide = rng.permuted(np.concatenate([nlist, beyond, np.full_like(nlist, -1)], axis=-1), axis=-1)
    for other in (narrow, wide):
        for a, b in zip(call(c, other), expected, strict=True):
            np.testing.assert_allclose(a, b, rtol=0, atol=1e-13 * np.abs(b).max())


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_pass_through(name: str) -> None:
    """The slope with extended coordinates, folded onto the local atoms, is that of the periodic structure."""
    c = case(name)
    model = c.file.model
    weight = np.random.default_rng(1).standard_normal(c.io["descriptor"].shape)

    def of_lists(x: Array) -> tuple[Array, None]:
        found = model.descriptor.call(x, c.io["ext_atype"], c.io["nlist"], c.io["mapping"])
        return (found.descriptor * weight).sum(), None

    graph, positions = graph_of(c.file.settings, **c.frames)

    def of_structures(x: Array) -> tuple[Array, None]:
        return (describe(model, graph, x).descriptor * weight.reshape(len(positions), -1)).sum(), None

    (slope,), _ = ENGINE.grad_and_aux(of_lists, c.io["ext_coord"])
    nf, n = c.io["atype"].shape
    folded = np.zeros((nf, n, 3))
    for f in range(nf):
        np.add.at(folded[f], c.io["mapping"][f], slope[f])
    (expected,), _ = ENGINE.grad_and_aux(of_structures, positions)
    np.testing.assert_allclose(folded.reshape(-1, 3), expected, rtol=0, atol=1e-11 * np.abs(expected).max())


@pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")
@examples(6)
@given(dpmodel_settings(precisions=("float64",)), st.integers(0, 99))
def test_more_neighbors_than_slots(settings: ModelSettings, seed: int) -> None:
    """A list of all others, which is cut, or not, as the model says."""
    module = random_model(settings, seed).model
    frames = random_frames(settings, seed, n=70, periodic=False, filling=3.0)
    others = np.array([[[j for j in range(70) if j != i] for i in range(70)]])
    assume(not settings.pair_exclude_types)  # by whoever makes the list, after cutting it
    found = module.descriptor.call(frames["positions"], frames["types"], others)
    expected = describe(module, *graph_of(settings, **frames))
    size = np.abs(expected.descriptor).max()
    np.testing.assert_allclose(found.descriptor[0], expected.descriptor, rtol=0, atol=1e-11 * size)


def test_without_ghosts_no_mapping_is_needed() -> None:
    c = case("nopbc")
    given = c.io["ext_coord"], c.io["ext_atype"], c.io["nlist"]
    for a, b in zip(c.file.model.descriptor.call(*given), call(c, c.io["nlist"]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_does_not_fit_is_refused() -> None:
    c = case("baseline")
    x, types, nlist, mapping = (c.io[key] for key in ("ext_coord", "ext_atype", "nlist", "mapping"))
    descriptor = c.file.model.descriptor
    with pytest.raises(InputError, match=r"mapping .* is needed"):
        descriptor.call(x, types, nlist)
    with pytest.raises(InputError, match="coord_ext should be"):
        descriptor.call(x[:, 1:], types, nlist, mapping)
    with pytest.raises(InputError, match="mapping should be"):
        descriptor.call(x, types, nlist, mapping[:, 1:])
    with pytest.raises(InputError, match="nlist"):
        descriptor.call(x, types, nlist[0], mapping)
