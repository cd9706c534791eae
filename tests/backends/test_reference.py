"""deepmd-kit's numbers on every backend."""

import numpy as np
import pytest

from dpmodel.backend import Engine
from dpmodel.edit.precision import with_precision
from dpmodel.potential import Potential
from engines import engine_of, potential_of
from reference_cases import ENERGY, HEADS, case

pytestmark = pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")  # sel_overflow is meant to


SINGLE = pytest.param("float32", marks=pytest.mark.needs("float32"))


@pytest.mark.needs("energy")
@pytest.mark.needs("forces")
@pytest.mark.needs("virial")
@pytest.mark.parametrize("name", [SINGLE if name == "float32" else name for name in ENERGY])
def test_energies_forces_virials(engine: Engine, name: str) -> None:
    c = case(name)
    found = potential_of(engine, name).evaluate(**c.frames, atom_virial=True)
    c.check(found.energy, "energy")
    c.check(found.atom_energy, "atom_energy")
    c.check(found.forces, "force")
    c.check(found.virial, "virial")
    # deepmd-kit shares the virial among atoms in another way; NumPy is the reference for ours
    ours = potential_of(engine_of("numpy"), name).evaluate(**c.frames, atom_virial=True).atom_virial
    np.testing.assert_allclose(found.atom_virial, ours, rtol=0, atol=c.tolerance * np.abs(ours).max())
    np.testing.assert_allclose(found.atom_virial.sum(axis=1), found.virial, rtol=0, atol=1e-12 * np.abs(ours).max())


@pytest.mark.needs("heads")
@pytest.mark.parametrize("name", HEADS)
def test_other_heads(engine: Engine, name: str) -> None:
    c = case(name)
    found = potential_of(engine, name).evaluate(**c.frames).outputs
    assert len(found) == 2, found.keys()
    for key, value in found.items():
        c.check(value, f"numpy_{key}")


@pytest.mark.needs("bfloat16")
def test_bfloat16_is_roughly_right(engine: Engine) -> None:
    c = case("strip_three_body")
    found = Potential(with_precision(c.file, "bfloat16"), engine).evaluate(**c.frames)
    for ours, key in ((found.energy, "energy"), (found.forces, "force"), (found.virial, "virial")):
        assert ours is not None
        assert ours.dtype == np.float64
        np.testing.assert_allclose(ours, c.io[key], rtol=0, atol=0.03 * np.abs(c.io[key]).max(), err_msg=key)
