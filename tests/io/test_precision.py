"""Arrays in another precision than the settings beside them say."""

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from dpmodel.errors import FileError
from dpmodel.io.checkpoint import from_checkpoint, to_checkpoint
from dpmodel.io.container import read_tree
from dpmodel.io.deepmd import ModelFile, from_tree
from dpmodel.module import state
from dpmodel.potential import Potential
from engines import CHOSEN, engine_of
from trees import REFERENCE, TRAINED

Cast = Callable[[str, np.ndarray], np.ndarray]
MIXED = {"matrix": "float32", "g2_embd.bias": "float16", "out_bias": "float32", "stddev": "float16"}


def recast(name: str, cast: Cast) -> ModelFile:
    """A reference model whose tensors went through ``cast``."""
    tensors: dict[str, Any] = to_checkpoint(from_tree(read_tree(REFERENCE / name)))
    params = tensors.pop("_extra_state")["model_params"]
    return from_checkpoint({key: cast(key, x) for key, x in tensors.items()}, params)


def mixed(key: str, x: np.ndarray) -> np.ndarray:
    return x.astype(next((dtype for end, dtype in MIXED.items() if key.endswith(end)), x.dtype))


def halved(key: str, x: np.ndarray) -> np.ndarray:
    return x.astype("float16")


@pytest.mark.parametrize(("cast", "backend"), [(halved, "numpy"), *[(mixed, name) for name in CHOSEN]])
def test_narrow_numbers_are_widened(cast: Cast, backend: str) -> None:
    """The model computes in the precision that it says, with the numbers that the file has."""
    found = recast("trained/single.dp", cast)
    right = recast("trained/single.dp", lambda key, x: cast(key, x).astype(x.dtype))
    assert {x.dtype for x in state(found.model).values()} == {np.dtype("float64")}
    with np.load(TRAINED / "single.pth.ref.npz") as known:
        frame = known["coord"][0], known["atype"], known["box"][0].reshape(3, 3)
    one, two = (Potential(file, engine_of(backend)).evaluate(*frame) for file in (found, right))
    np.testing.assert_array_equal(one.atom_energy, two.atom_energy)
    np.testing.assert_array_equal(one.forces, two.forces)


def test_wide_numbers_are_not_rounded() -> None:
    with pytest.raises(
        FileError, match=r"atomic_model\.descriptor\.\S+: expected float32 \(from the precision .*, found float64"
    ):
        recast("float32/model.dp", lambda _, x: x.astype("float64"))


def test_what_stands_behind_the_network_is_float64() -> None:
    """As in deepmd-kit, whatever the precision; files in single precision throughout are widened."""
    for cast in (lambda _, x: x, lambda _, x: x.astype("float32")):
        file = recast("float32/model.dp", cast)
        wide = {path for path, x in state(file.model).items() if x.dtype == np.float64}
        assert wide == {"out_bias", "out_std", "fitting.bias"}


def test_bfloat16_is_held_as_float32() -> None:
    pytest.importorskip("ml_dtypes")
    tree = read_tree(TRAINED / "bfloat16.dp")
    network = {x.dtype.name for path, x in state(from_tree(tree).model).items() if "network" in path}
    assert network == {"float32"}
    tree = copy.deepcopy(tree)
    layer = tree["model"]["fitting"]["nets"]["networks"][0]["layers"][0]["@variables"]
    layer["w"] = layer["w"].astype(np.float64)
    with pytest.raises(FileError, match=r"layers/0/@variables/w: expected float32 .*, found float64"):
        from_tree(tree)
