"""Compressed models give the same numbers on every backend, derivatives included."""

from functools import cache
from pathlib import Path

import numpy as np

from dpmodel.data.samples import example
from dpmodel.edit.compression import compress
from dpmodel.io.model import read_model
from dpmodel.potential import Potential
from dpmodel_numpy import backend

TRAINED = Path(__file__).parents[1] / "reference" / "trained"


@cache
def models():
    plain = read_model(TRAINED / "strip.dp")
    return plain, compress(plain, min_pair_distance=plain.min_pair_distance or 0.0)


def test_tables_stand_for_networks(engine):
    plain, tabulated = models()
    s = example(plain.settings.type_map)
    want = Potential(plain, backend.engine()).evaluate(s.positions, s.types, s.cell)
    found = Potential(tabulated, engine).evaluate(s.positions, s.types, s.cell)
    np.testing.assert_allclose(found.energy, want.energy, rtol=0, atol=1e-10 * len(s.types))
    np.testing.assert_allclose(found.forces, want.forces, rtol=0, atol=1e-8)
    np.testing.assert_allclose(found.virial, want.virial, rtol=0, atol=1e-8 * len(s.types))
