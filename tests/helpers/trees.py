"""Trees of model files for tests: random ones, and what it means that two are the same."""

from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

REFERENCE = Path(__file__).parents[1] / "reference"
TRAINED = REFERENCE / "trained"
MODELS = sorted(REFERENCE.glob("*/model.dp")) + sorted(TRAINED.glob("*.dp"))


def assert_same(a: Any, b: Any, place: str = "", *, bits: bool = True) -> None:
    """Same types, keys in the same order, same arrays; without ``bits`` any NaN is as good as another."""
    assert type(a) is type(b), f"{place}: {a!r} and {b!r}"
    if isinstance(a, dict):
        assert list(a) == list(b), place
        for key in a:
            assert_same(a[key], b[key], f"{place}/{key}", bits=bits)
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), place
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_same(x, y, f"{place}/{i}", bits=bits)
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape) == (b.dtype, b.shape), place
        if not bits and a.dtype.kind == "f":
            a, b = (np.where(np.isnan(x), x.dtype.type("nan"), x) for x in (a, b))
        assert a.tobytes() == b.tobytes(), place
    else:
        assert a == b or (a != a and b != b), place
        assert str(a) == str(b), place  # -0.0 is not 0.0


def differences(a: Any, b: Any, place: str = "") -> list[str]:
    """Places where two trees differ, the order of keys aside."""
    if isinstance(a, dict) and isinstance(b, dict):
        found = [f"{place}/{key}" for key in a.keys() ^ b.keys()]
        return found + [d for key in a.keys() & b.keys() for d in differences(a[key], b[key], f"{place}/{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{place}/{i}")]
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        same = (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        return [] if same else [place]
    return [] if type(a) is type(b) and a == b else [place]


NAMES = "bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64".split()


def arrays() -> st.SearchStrategy[np.ndarray]:
    """Arrays of every dtype a model file may hold, of zero to three axes, empty ones among them."""
    shapes = npst.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4)
    return st.sampled_from(NAMES).flatmap(lambda name: npst.arrays(name, shapes))


def trees() -> st.SearchStrategy[dict[str, Any]]:
    """Dictionaries as deepmd-kit writes them: plain values, and arrays below ``@variables``."""
    keys = st.text(max_size=5)
    plain = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
    values = st.recursive(plain, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=3), max_leaves=6)
    variable = st.none() | arrays()
    flagged = st.recursive(
        variable, lambda v: st.lists(v, max_size=3) | st.dictionaries(keys, v, max_size=3), max_leaves=4
    )
    variables = st.dictionaries(keys, flagged, max_size=3)
    return st.dictionaries(keys, values, max_size=3).flatmap(
        lambda tree: variables.map(lambda v: tree | {"@variables": v, "inner": {"list": [{"@variables": v}]}})
    )
