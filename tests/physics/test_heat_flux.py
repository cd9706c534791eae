"""The heat flux against the definition: atomic energies in a cluster of images, moved by finite steps."""

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.units import fs
from hypothesis import given
from hypothesis import strategies as st

from dpmodel import load
from dpmodel.backend import Engine
from dpmodel.engines.ase import DPCalculator
from dpmodel.errors import InputError
from dpmodel.evaluator import KINETIC
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from engines import potential_of
from random_models import examples, random_frames, random_potential
from sample_settings import model

WATER = Path(__file__).parents[2] / "examples" / "water"
SHORT = {
    "repinit.rcut": 3.0,
    "repinit.rcut_smth": 0.5,
    "repinit.nsel": 80,
    "repinit.neuron": [3, 6],
    "repinit.axis_neuron": 2,
    "repformer.rcut": 2.0,
    "repformer.rcut_smth": 0.5,
    "repformer.nsel": 40,
    "repformer.nlayers": 2,
    "repformer.g1_dim": 6,
    "repformer.g2_dim": 4,
    "repformer.axis_neuron": 2,
    "repformer.attn2_hidden": 4,
    "repformer.attn1_hidden": 4,
    "fitting.neuron": [5],
}
KINDS: list[dict[str, Any]] = [
    {},
    {"repinit.use_three_body": True, "repinit.three_body_rcut": 2.0, "repinit.three_body_sel": 40},
    {"repformer.update_g1_has_attn": True, "repformer.update_h2": True, "repformer.update_style": "res_residual"},
    {"repformer.nlayers": 1, "descriptor.smooth": False},
    {"repformer.direct_dist": True, "repformer.use_sqrt_nnei": True, "repformer.nlayers": 3},
]
STEPS = ((-2, 1 / 12), (-1, -8 / 12), (1, 8 / 12), (2, -1 / 12))  # of a fourth-order central difference


def potential(kind: dict[str, Any], seed: int = 0) -> Potential:
    return random_potential(ModelSettings.read(model(SHORT | kind)), seed)


BULK, SLAB, WIRE = (True, True, True), (True, True, False), (False, True, False)


def system(settings: ModelSettings, seed: int, n: int = 4, pbc: Any = BULK) -> dict[str, Any]:
    """Atoms in a skewed cell, some of them far outside of it where it repeats, with velocities."""
    rng, frame = np.random.default_rng(seed), random_frames(settings, seed, n=n)
    images = np.where(pbc, rng.integers(-1, 2, (1, n, 3)), 0) @ frame["cell"]
    return frame | {"positions": frame["positions"] + images, "velocities": rng.normal(size=(n, 3)), "pbc": pbc}


def reach(settings: ModelSettings) -> float:
    """How far away an atom may be whose motion an atomic energy feels, angstrom."""
    first, layers = settings.descriptor.repinit, settings.descriptor.repformer
    return float(first.rcut + layers.nlayers * layers.rcut)


def by_definition(potential: Potential, frame: dict[str, Any], step: float = 1e-4) -> np.ndarray:
    """The double sum from energies of a cluster: all images within reach of the atoms, without a cell."""
    x, cell, v, types = frame["positions"][0], frame["cell"][0], frame["velocities"], frame["types"][0]
    n, far = len(x), reach(potential.settings)
    size = far + np.ptp(x, axis=0).max() * 2
    copies = np.ceil(size * np.linalg.norm(np.linalg.inv(cell), axis=0)).astype(int) * frame.get("pbc", BULK)
    shifts = np.array(list(product(*(range(-c, c + 1) for c in copies)))) @ cell
    images = (x + shifts[:, None]).reshape(-1, 3)
    near = np.linalg.norm(images[:, None] - x, axis=-1).min(axis=1) <= far
    home = np.repeat(np.all(shifts == 0.0, axis=1), n)
    order = np.concatenate([np.flatnonzero(home), np.flatnonzero(near & ~home)])
    images, kinds, speeds = images[order], np.tile(types, len(shifts))[order], np.tile(v, (len(shifts), 1))[order]

    def slope(motion: np.ndarray) -> np.ndarray:
        """Of the energies of the atoms in the cell."""
        moved = [images + k * step * motion for k, _ in STEPS]
        energies = [potential.evaluate(y, kinds, forces=False).atom_energy[0, :n] for y in moved]
        return sum(w * e for (_, w), e in zip(STEPS, energies, strict=True)) / step

    first = x.T @ slope(speeds)
    return first - np.array([slope(images[:, k : k + 1] * speeds).sum() for k in range(3)])


@examples(12)
@given(st.sampled_from(KINDS), st.integers(0, 2**16), st.sampled_from([BULK, BULK, SLAB, WIRE]))
def test_heat_flux_is_the_sum_over_all_images(kind: dict[str, Any], seed: int, pbc: Any) -> None:
    chosen = potential(kind, seed)
    frame = system(chosen.settings, seed, pbc=pbc)
    expected = by_definition(chosen, frame)
    flux = chosen.heat_flux(**frame, masses=[16.0, 1.0])
    np.testing.assert_allclose(flux.virial[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@examples(8)
@given(st.sampled_from(KINDS), st.integers(0, 2**16))
def test_heat_flux_does_not_know_where_the_cell_is(kind: dict[str, Any], seed: int) -> None:
    """All atoms shifted, then each put into another cell."""
    chosen, rng = potential(kind, seed), np.random.default_rng(seed)
    frame = system(chosen.settings, seed, n=5)
    images = rng.integers(-2, 3, (1, 5, 3)) @ frame["cell"]
    flux = chosen.heat_flux(**frame, masses=[16.0, 1.0])
    moved = chosen.heat_flux(
        **frame | {"positions": frame["positions"] + [3.1, -0.7, 11.0] + images}, masses=[16.0, 1.0]
    )
    np.testing.assert_allclose(moved.total, flux.total, rtol=0, atol=1e-10 * np.abs(flux.total).max())


def test_two_cells_carry_twice_as_much() -> None:
    chosen = potential({})
    frame = system(chosen.settings, 3)
    double = {
        "positions": np.concatenate([frame["positions"], frame["positions"] + frame["cell"][:, 1:2]], axis=1),
        "types": np.tile(frame["types"], 2),
        "cell": frame["cell"] * [[1.0], [2.0], [1.0]],
        "velocities": np.tile(frame["velocities"], (2, 1)),
    }
    flux = chosen.heat_flux(**frame, masses=[16.0, 1.0]).virial
    np.testing.assert_allclose(chosen.heat_flux(**double, masses=[16.0, 1.0]).virial, 2 * flux, rtol=1e-10)


def test_a_molecule_has_the_flux_of_the_dense_split() -> None:
    """Without images the virial's split by origin is right: J = -sum_m W_m v_m (specification/model.md 4.4)."""
    chosen = potential(KINDS[2])
    frame = random_frames(chosen.settings, 5, n=6, periodic=False)
    v = np.random.default_rng(5).normal(size=(6, 3))
    split = chosen.evaluate(**frame, atom_virial="dense").atom_virial[0]  # w_m = -sum_i (de_i/dx_m) (x_m - x_i)
    expected = np.einsum("mab,ma->b", split, v)
    flux = chosen.heat_flux(**frame, cell=None, velocities=v, masses=[16.0, 1.0]).virial[0]
    np.testing.assert_allclose(flux, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_flux_is_how_energy_moves() -> None:
    """d/dt sum_i r_i e_i = J along a trajectory of an isolated cluster, energies kinetic and potential."""
    chosen, mass = potential({}), np.array([16.0, 1.0])
    frame = random_frames(chosen.settings, 7, n=6, periodic=False)
    x, types = frame["positions"][0], frame["types"][0]
    m, v, dt = mass[types][:, None], 0.02 * np.random.default_rng(7).normal(size=(6, 3)), 0.05

    def barycenter(x: np.ndarray, v: np.ndarray) -> np.ndarray:
        energy = chosen.evaluate(x, types, forces=False).atom_energy[0] + 0.5 * KINETIC * (m * v**2).sum(axis=1)
        return x.T @ energy

    def force(x: np.ndarray) -> np.ndarray:
        return chosen.evaluate(x, types).forces[0]

    start, fluxes = barycenter(x, v), [chosen.heat_flux(x, types, None, v, masses=mass).total[0]]
    f = force(x)
    for _ in range(40):
        v = v + 0.5 * dt * f / (KINETIC * m)
        x = x + dt * v
        f = force(x)
        v = v + 0.5 * dt * f / (KINETIC * m)
        fluxes.append(chosen.heat_flux(x, types, None, v, masses=mass).total[0])
    transported = dt * (np.sum(fluxes, axis=0) - 0.5 * (fluxes[0] + fluxes[-1]))
    np.testing.assert_allclose(barycenter(x, v) - start, transported, rtol=0, atol=1e-4 * np.abs(transported).max())


def test_every_backend(engine: Engine) -> None:
    """Two frames at once, against NumPy's, which the other tests compare with the definition."""
    reference, other = potential_of(engine_of_numpy(), "three_body"), potential_of(engine, "three_body")
    frames = random_frames(reference.settings, 1, n=4, nf=2)
    v = np.random.default_rng(1).normal(size=(2, 4, 3))
    expected = reference.heat_flux(**frames, velocities=v, masses=np.ones(len(reference.type_map))).total
    flux = other.heat_flux(**frames, velocities=v, masses=np.ones(len(reference.type_map))).total
    np.testing.assert_allclose(flux, expected, rtol=0, atol=1e-10 * np.abs(expected).max())


def engine_of_numpy() -> Engine:
    from engines import engine_of

    return engine_of("numpy")


@pytest.mark.parametrize("strain", [np.eye(3), [[1.0, 0.12, -0.05], [0.0, 1.0, 0.08], [0.0, 0.0, 1.0]]])
def test_water(strain: Any) -> None:
    """The shipped model, 48 atoms, beside finite differences in a cluster of some 3,000 images."""
    chosen = load(WATER / "water.dp")
    data = WATER / "data" / "valid_16"
    x = np.load(data / "set.000" / "coord.npy")[5].astype(float).reshape(1, -1, 3) @ strain
    cell = np.load(data / "set.000" / "box.npy")[5].astype(float).reshape(1, 3, 3) @ strain
    types = np.loadtxt(data / "type.raw", dtype=int)[None]
    v = np.random.default_rng(11).normal(size=x.shape[1:])
    frame = {"positions": x, "types": types, "cell": cell, "velocities": v}
    expected = by_definition(chosen, frame)
    flux = chosen.heat_flux(**frame)
    np.testing.assert_allclose(flux.virial[0], expected, rtol=0, atol=1e-5 * np.abs(expected).max())


def test_types_that_are_no_elements_need_masses() -> None:
    with pytest.raises(InputError, match=r"type .Xx. is no chemical element.*give masses"):
        potential({"type_map": ["O", "Xx"]}).heat_flux(np.zeros((1, 3)), [0], None, np.zeros((1, 3)))


@pytest.mark.parametrize("velocities", [np.zeros((3, 2)), np.full((2, 3), np.nan), None])
def test_velocities_are_checked(velocities: Any) -> None:
    with pytest.raises(InputError, match="velocities"):
        potential({}).heat_flux(np.eye(3)[:2], [0, 1], None, velocities, masses=[1.0, 1.0])


def test_ase_has_other_units_and_its_own_masses() -> None:
    atoms = Atoms("OH2", 1.1 * np.eye(3), cell=3.3 * np.eye(3) + 0.2, pbc=True)
    atoms.set_masses([16.0, 1.0, 2.0])  # one hydrogen is a deuterium
    atoms.set_velocities(np.random.default_rng(1).normal(size=(3, 3)))
    calculator = DPCalculator(potential({}))
    momenta, energy = atoms.get_momenta(), calculator.potentials[0].evaluate(atoms.positions, [0, 1, 1], atoms.cell[:])
    each = energy.atom_energy[0] + 0.5 * (momenta**2).sum(axis=1) / atoms.get_masses()
    flux = calculator.heat_flux(atoms)
    np.testing.assert_allclose(flux.convective[0], each @ atoms.get_velocities() * fs, rtol=1e-7)
    plain = calculator.potentials[0].heat_flux(atoms.positions, [0, 1, 1], atoms.cell[:], atoms.get_velocities() * fs)
    np.testing.assert_allclose(flux.virial, plain.virial, rtol=1e-12)
