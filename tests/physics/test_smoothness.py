"""Energy, forces and second derivatives have no jumps, wherever an atom comes or goes."""

import copy
from typing import Any

import numpy as np
import pytest

from dpmodel.backend import backend
from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.structure import structures
from dpmodel.model.model import Model
from dpmodel.model.predict import hessian_product, predict
from dpmodel.model.settings import ModelSettings
from random_models import random_model

ENGINE = backend("numpy").engine()

# everything that can be on, and a different distance for every cutoff
SECTION: dict[str, Any] = {
    "type_map": ["O", "H"],
    "descriptor": {
        "repinit": {
            "rcut": 4.4, "rcut_smth": 3.1, "nsel": 30, "neuron": [3, 6], "axis_neuron": 2, "tebd_dim": 3,
            "use_three_body": True, "three_body_rcut": 4.1, "three_body_rcut_smth": 2.9, "three_body_sel": 28,
            "attn_layer": 1, "attn": 4,
        },
        "repformer": {
            "rcut": 3.8, "rcut_smth": 2.6, "nsel": 25, "nlayers": 3, "g1_dim": 6, "g2_dim": 4, "axis_neuron": 2,
            "attn1_hidden": 3, "attn1_nhead": 2, "attn2_hidden": 3, "attn2_nhead": 2, "attn2_has_gate": True,
            "update_h2": True,
        },
    },
    "fitting_net": {"neuron": [6, 6]},
}  # fmt: skip
DISTANCES = {"repinit": 4.4, "three-body": 4.1, "repformer": 3.8, "repinit smth": 3.1, "three-body smth": 2.9,
             "repformer smth": 2.6}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "concat": {},
    "strip": {"repinit.tebd_input_mode": "strip"},
    "direct distance": {"repformer.direct_dist": True},
    "no truncation": {"truncate": False},
    # an arriving atom takes the place of an empty slot, which it is like
    "mean": {"repinit.tebd_input_mode": "strip", "repinit.set_davg_zero": False},
}


def settings(changes: dict[str, Any]) -> ModelSettings:
    section = copy.deepcopy(SECTION)
    for path, value in changes.items():
        *block, key = path.split(".")
        home = section["descriptor"][block[0]] if block else section["descriptor"]
        home[key] = value
    return ModelSettings.read(section)


class Journey:
    """A cluster, and one more atom that goes away from the first atom along a line."""

    def __init__(self, changes: dict[str, Any], cluster: np.ndarray, types: list[int], seed: int = 3) -> None:
        self.settings = settings(changes)
        self.model: Model = random_model(self.settings, seed).model
        self.cluster, self.types = cluster, np.array([*types, 1])
        self.away = np.array([0.6, -0.48, 0.64])

    def at(self, distance: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Energy (), its slope with all positions (n, 3), and how that changes along the journey (n, 3)."""
        x = np.concatenate([self.cluster, [self.cluster[0] + distance * self.away]])
        frames = structures(x, self.types, type_map=self.settings.type_map)
        graph, x = build_graph(frames, self.settings.selection), flat_positions(frames)
        direction = np.concatenate([0.0 * self.cluster, [self.away]])
        found = predict(self.model, graph, x, ENGINE.grad_and_aux)
        return found.energy[0], -found.forces, hessian_product(self.model, graph, x, direction, ENGINE.grad_and_aux)

    def check(self, distance: float) -> None:
        """Across ``distance`` the three change as their slopes on both sides say, and no more."""
        step, far = 1e-7, 1e-3
        (e0, f0, h0), (e1, f1, h1) = self.at(distance - step), self.at(distance + step)
        third = max(np.abs(self.at(distance - far)[2] - h0).max(), np.abs(self.at(distance + far)[2] - h1).max()) / far
        assert abs(e1 - e0 - step * (f0 + f1)[-1] @ self.away) < 1e-14 * (1.0 + abs(e0))
        assert np.abs(f1 - f0 - step * (h0 + h1)).max() < 1e-13 * (1.0 + np.abs(f0).max())
        assert np.abs(h1 - h0).max() < 4.0 * step * third + 1e-12 * (1.0 + np.abs(h0).max())
        assert third > 1e-6, "nothing happens here"


CLUSTER = np.array([[0.0, 0.0, 0.0], [-1.1, 0.3, 0.2], [0.2, 1.2, -0.5], [-0.4, -0.6, -1.3]])


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("place", DISTANCES)
def test_an_atom_crosses_a_cutoff(variant: str, place: str) -> None:
    journey = Journey(VARIANTS[variant], CLUSTER, [0, 1, 1, 0])
    journey.check(DISTANCES[place])


MEAN = {"repinit.set_davg_zero": False}
JUMPS: dict[str, dict[str, Any]] = {
    "an empty slot counts as an atom of the first type, and another one arrives": MEAN,
    "the same, where types do not fade": MEAN | {"repinit.tebd_input_mode": "strip", "smooth": False},
    "there are no empty slots": MEAN | {"repinit.tebd_input_mode": "strip", "padding_leak": False},
    "there is no smoothing": {"smooth": False},
}


@pytest.mark.parametrize("reason", JUMPS)
def test_models_that_jump_at_the_cutoff_of_repinit(reason: str) -> None:
    """Known, and why ``set_davg_zero`` and ``smooth`` are on by default: a row of -mean/deviation is not small."""
    journey, rcut, step = Journey(JUMPS[reason], CLUSTER, [0, 1, 1, 0]), DISTANCES["repinit"], 1e-7
    assert abs(journey.at(rcut + step)[0] - journey.at(rcut - step)[0]) > 1e-6


@pytest.mark.parametrize("nsel", [2, 3])
@pytest.mark.parametrize("place", ["repinit", "three-body", "repformer"])
def test_one_more_neighbor_than_there_are_slots(nsel: int, place: str) -> None:
    """Without truncation: each atom of the cluster has three neighbors, and the fourth arrives."""
    slots = {"repformer.nsel": nsel, "repinit.three_body_sel": 3, "repinit.nsel": nsel + 1, "truncate": False}
    Journey(slots, CLUSTER, [0, 1, 1, 0], seed=5).check(DISTANCES[place])


def test_more_empty_slots_than_there_are() -> None:
    """With a mean, an arriving atom replaces an empty slot even where none is left: their number goes below zero."""
    slots = {"repformer.nsel": 2, "repinit.three_body_sel": 3, "repinit.nsel": 3, "truncate": False}
    Journey(VARIANTS["mean"] | slots, CLUSTER, [0, 1, 1, 0]).check(DISTANCES["repinit"])
