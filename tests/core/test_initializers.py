"""Initial values belong to a name, not to an order."""

import numpy as np
import pytest

from dpmodel.initializers import Initializer
from dpmodel.model.build import build
from dpmodel.model.settings import ModelSettings
from dpmodel.module import expected_shapes, state
from sample_settings import model


def drawn(changes: dict, seed: int | None = 0) -> dict[str, np.ndarray]:
    return state(build(ModelSettings.read(model({"repinit.neuron": [3, 6], "repinit.axis_neuron": 2} | changes)), seed))


@pytest.mark.parametrize(
    "changes",
    [
        {"repformer.nlayers": 5},
        {"repinit.use_three_body": True, "repinit.three_body_sel": 60},
        {"repinit.attn_layer": 2},
        {"repformer.update_h2": True, "repformer.update_style": "res_residual"},
        {"fitting_net": {"neuron": [24, 24, 24]}},
    ],
)
def test_a_new_part_leaves_the_others_as_they_were(changes: dict) -> None:
    """All arrays of the smaller model are in the larger one, except those that had to change their shape or place."""
    before, after = drawn({}), drawn(changes)
    assert len(after) > len(before)
    moved = {"fitting.network.layers.2.weight", "fitting.network.layers.2.bias"} if "fitting_net" in changes else set()
    for path, value in before.items():
        if after[path].shape == value.shape and path not in moved:
            np.testing.assert_array_equal(after[path], value, err_msg=path)
    kept = [path for path, value in before.items() if np.array_equal(after[path], value)]
    assert len(kept) >= len(before) - 4


def test_seeds() -> None:
    first, again, other = drawn({}), drawn({}), drawn({}, seed=1)
    for path, value in first.items():
        np.testing.assert_array_equal(again[path], value)
        if value.std() > 0:
            assert not np.array_equal(other[path], value), path


def test_no_two_arrays_are_alike() -> None:
    seen = [value.ravel()[:3].tolist() for value in drawn({"repformer.nlayers": 6}).values() if value.std() > 0]
    assert len({tuple(values) for values in seen}) == len(seen)


def test_paths_and_precision() -> None:
    draw = Initializer(4)
    inner = draw("a")("b")
    assert inner.path == "a.b"
    values = inner.normal((5,), 2.0)
    np.testing.assert_array_equal(values, Initializer(4)("a.b").normal((5,), 2.0))
    single = inner.cast("float32").normal((5,), 2.0)
    assert single.dtype == np.float32
    np.testing.assert_array_equal(single, values.astype(np.float32))
    uniform = draw("c").uniform((1000,), -1.0, 3.0)
    assert -1.0 <= uniform.min() < -0.9
    assert 2.9 < uniform.max() < 3.0


def test_a_blank_has_the_shapes_and_draws_nothing() -> None:
    blank = build(ModelSettings.read(model({"repinit.attn_layer": 1})), seed=None)
    for path, value, want, _ in expected_shapes(blank):
        assert value.shape == want, path
    assert {path: value.shape for path, value in state(blank).items()} == {
        path: value.shape for path, value in state(build(ModelSettings.read(model({"repinit.attn_layer": 1})))).items()
    }
