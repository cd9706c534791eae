"""The core visits real neighbors only; here its numbers meet those of the dense evaluation (tests/helpers/dense.py)."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import dense
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.predict import describe
from dpmodel.model.settings import ModelSettings
from random_models import examples, graph_of, random_frames, random_model
from reference_cases import case
from strategies import dpmodel_settings

pytestmark = pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")


def compare(file: ModelFile, frames: dict[str, Any], tolerance: float = 1e-11) -> None:
    found = describe(file.model, *graph_of(file.settings, **frames))
    cell = frames["cell"][0] if "cell" in frames else None
    expected = dense.descriptor(file, frames["positions"][0], frames["types"][0], cell)
    for ours, theirs in zip((found.descriptor, found.rot_mat), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * max(1.0, np.abs(theirs).max()))


@pytest.mark.parametrize("name", ["all_updates", "davg_nonzero", "exclude_types", "not_smooth", "strip_three_body"])
def test_the_dense_evaluation_is_deepmd_kits(name: str) -> None:
    c = case(name)
    frames = zip(c.io["coord"], c.io["atype"], c.io["box"], strict=True)
    described, rot_mat = zip(*[dense.descriptor(c.file, *frame) for frame in frames], strict=True)
    c.check(described, "descriptor")
    c.check(rot_mat, "rot_mat")


@examples(60)
@given(
    model=dpmodel_settings(precisions=("float64",)),
    seed=st.integers(0, 99),
    filling=st.sampled_from([0.2, 0.5, 2.0]),
    periodic=st.booleans(),
    isotropic=st.booleans(),
)
def test_any_settings(model: ModelSettings, seed: int, filling: float, periodic: bool, isotropic: bool) -> None:
    assume(model.descriptor.truncate or not model.descriptor.padding_leak)  # together a dense layout has no word for it
    frames = random_frames(model, seed, n=4, filling=filling, periodic=periodic)
    compare(random_model(model, seed, isotropic=isotropic), frames)
