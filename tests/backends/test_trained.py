"""Trained models of deepmd-kit, in every kind of file, give its numbers on every backend."""

from functools import cache

import numpy as np
import pytest

import dpmodel
from dpmodel.backend import Engine
from trees import TRAINED

FILES = {
    "single.dp": "single",
    "single.pth": "single",
    "model.ckpt-300.pt": "single",
    "mt.ckpt-20.pt": "mtA",
    "strip.dp": "strip",
    "strip.pth": "strip",
    "strip_c.pth": "strip_c",
}
HEAD = {"mt.ckpt-20.pt": "A"}


@cache
def known(name: str) -> dict[str, np.ndarray]:
    with np.load(TRAINED / f"{name}.pth.ref.npz") as io:
        return dict(io)


@pytest.mark.needs("forces")
@pytest.mark.parametrize("name", FILES)
def test_energies_forces_virials(engine: Engine, name: str) -> None:
    right = known(FILES[name])
    potential = dpmodel.load(TRAINED / name, engine.name, head=HEAD.get(name), device="cpu")
    found = potential.evaluate(right["coord"][:1], right["atype"], right["box"][:1])
    pairs = (
        (found.energy, right["energy"][:1, 0]),
        (found.atom_energy, right["atom_energy"][:1, :, 0]),
        (found.forces, right["force"][:1]),
        (found.virial, right["virial"][:1]),
    )
    for ours, theirs in pairs:
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())
