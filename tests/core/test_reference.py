"""Every number that deepmd-kit gave for the reference cases (forces: see tests/backends/test_reference.py)."""

import numpy as np
import pytest

import dpmodel
from dpmodel.data.graph import build_graph, flat_positions
from dpmodel.data.structure import structures
from dpmodel.dpa2.descriptor import Description
from dpmodel.model.predict import describe
from reference_cases import ENERGY, EVERY, HEADS, Case, case

pytestmark = pytest.mark.filterwarnings("ignore::dpmodel.NeighborOverflowWarning")  # sel_overflow is meant to


@pytest.mark.parametrize("name", ENERGY)
def test_energies_without_derivatives(name: str) -> None:
    c = case(name)
    found = dpmodel.load(c.path).evaluate(**c.frames, forces=False)
    for source in ("", "numpy_"):  # deepmd-kit on PyTorch and on NumPy
        c.check(found.energy, f"{source}energy")
        c.check(found.atom_energy, f"{source}atom_energy")


@pytest.mark.parametrize("name", ENERGY)
def test_atomic_virials_in_deepmd_kits_gauge(name: str) -> None:
    c = case(name)
    found = dpmodel.load(c.path).evaluate(**c.frames, forces=False, atom_virial="dense")
    c.check(found.atom_virial, "atom_virial")


@pytest.mark.parametrize("name", HEADS)
def test_other_heads(name: str) -> None:
    c = case(name)
    found = dpmodel.load(c.path).evaluate(**c.frames).outputs
    assert len(found) == 2, found.keys()
    for key, value in found.items():
        c.check(value, f"numpy_{key}")


@pytest.mark.parametrize("name", EVERY)
def test_descriptor_of_structures(name: str) -> None:
    """Through our own search for neighbors."""
    c, model = case(name), case(name).file
    frames = structures(c.io["coord"], c.io["atype"], c.io.get("box"), type_map=model.settings.type_map)
    graph = build_graph(frames, model.settings.selection)
    found = describe(model.model, graph, flat_positions(frames))
    check_description(c, found, graph.blocks["repformer"])


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("order", ["as given", "shuffled"])
def test_lower_interface(name: str, order: str) -> None:
    """Through the descriptor's own ``call``, which is deepmd-kit's interface; the order of the list is of no matter."""
    c, model = case(name), case(name).file
    nlist = c.io["nlist"] if order == "as given" else shuffled(c.io["nlist"])
    found = model.model.descriptor.call(c.io["ext_coord"], c.io["ext_atype"], nlist, c.io["mapping"])
    occupied = c.io["sw"] > 0.0
    c.check(found.descriptor, "descriptor")
    c.check(found.rot_mat, "rot_mat")
    c.check(found.switch, "sw")
    c.check(found.g2, "g2", occupied)
    c.check(found.h2, "h2", occupied)


def shuffled(nlist: np.ndarray) -> np.ndarray:
    return np.random.default_rng(0).permuted(nlist, axis=-1)


def check_description(c: Case, found: Description, occupied: np.ndarray) -> None:
    """Compare a flat description: atoms of all frames on one axis, slots as wide as the widest neighborhood."""
    nf, n, n_slots = c.io["sw"].shape
    real = c.io["atype"] >= 0  # what a virtual atom is like does not matter
    c.check(found.descriptor.reshape(nf, n, -1), "descriptor", real)
    c.check(found.rot_mat.reshape(nf, n, -1, 3), "rot_mat", real)
    assert occupied.shape[1] <= n_slots
    # slots are sorted by distance in both
    wide = np.zeros((nf, n, n_slots), dtype=bool)
    wide[:, :, : occupied.shape[1]] = occupied.reshape(nf, n, -1)
    for key, value in (("g2", found.g2), ("h2", found.h2), ("sw", found.switch)):
        padded = np.zeros(c.io[key].shape)
        padded[:, :, : occupied.shape[1]] = value.reshape(nf, n, *value.shape[1:])
        c.check(padded, key, wide)
    assert not c.io["sw"][~wide].any()
