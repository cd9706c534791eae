"""What frames with different labels become in one batch."""

import numpy as np
import pytest

from dpmodel.data.structure import Structure
from dpmodel.data.systems import Frame
from dpmodel.model.settings import ModelSettings
from dpmodel.train.collate import collate
from small_water import MODEL

SETTINGS = ModelSettings.read(MODEL)


def frame(n: int, **labels: np.ndarray) -> Frame:
    x = np.random.default_rng(n).uniform(0, 6, (n, 3))
    return Frame(Structure(x, np.zeros(n, dtype=int), None, np.zeros(3, dtype=bool)), labels)


@pytest.mark.parametrize("name", ["atom_pref", "atom_ener_coeff"])
def test_weights_are_one_where_a_frame_has_none(name: str) -> None:
    given = [frame(2, **{name: np.array([3.0, 4.0])}), frame(3)]
    for part in (slice(None), slice(0, 1), slice(1, 2)):  # one process, and each of two
        found = collate(given, SETTINGS.selection, part=part).labels.values[name]
        expected = [[3.0, 4.0], [1.0, 1.0, 1.0]][part]
        np.testing.assert_array_equal(found, np.concatenate(expected))
    assert name not in collate([frame(2), frame(3)], SETTINGS.selection).labels.values


@pytest.mark.parametrize("name", ["force", "atom_ener"])
def test_other_labels_count_if_every_frame_has_them(name: str) -> None:
    shape = {"force": (2, 3), "atom_ener": (2,)}[name]
    full, empty = frame(2, **{name: np.ones(shape)}), frame(2)
    assert name in collate([full, full], SETTINGS.selection).labels.values
    assert name not in collate([full, empty], SETTINGS.selection).labels.values
