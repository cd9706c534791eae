"""Trained models of deepmd-kit, in every kind of file, give its numbers on every backend."""

import numpy as np
import pytest

import dpmodel
from dpmodel.backend import Engine
from dpmodel.potential import Potential
from trees import TRAINED, differences

REFERENCES = {
    "single": ["single.dp", "single.pth", "model.ckpt-300.pt"],
    "mtA": ["mt.ckpt-20.pt"],
    "strip": ["strip.dp", "strip.pth"],
    "strip_c": ["strip_c.pth"],
}
HEAD = {"mt.ckpt-20.pt": "A"}


def load(engine: Engine, name: str) -> Potential:
    return dpmodel.load(TRAINED / name, engine.name, head=HEAD.get(name), device="cpu")


@pytest.mark.needs("forces")
@pytest.mark.parametrize("reference", REFERENCES)
def test_energies_forces_virials(engine: Engine, reference: str) -> None:
    first, *others = (load(engine, name) for name in REFERENCES[reference])
    with np.load(TRAINED / f"{reference}.pth.ref.npz") as right:
        found = first.evaluate(right["coord"][:1], right["atype"], right["box"][:1])
        pairs = (
            (found.energy, right["energy"][:1, 0]),
            (found.atom_energy, right["atom_energy"][:1, :, 0]),
            (found.forces, right["force"][:1]),
            (found.virial, right["virial"][:1]),
        )
        for ours, theirs in pairs:
            np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-9 * np.abs(theirs).max())
    for other in others:  # the same function of the same arrays, so the same numbers, without compiling once more
        assert other.evaluator.rebuild == first.evaluator.rebuild
        held = (other.evaluator.state, first.evaluator.state)
        a, b = ({path: engine.numpy(x) for path, x in state.items()} for state in held)
        assert differences(a, b) == []
