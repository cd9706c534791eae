"""What the energy of matter does not depend on, and how forces, virials and tensors turn with it."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from random_models import evaluate, examples, random_frames, random_potential, structures_of
from sample_settings import model
from strategies import dpmodel_settings

MODELS = dpmodel_settings(heads=("ener",), precisions=("float64",))
SEEDS = st.integers(0, 99)
Frames = dict[str, Any]


def rotation(seed: int, *, mirrored: bool = False) -> np.ndarray:
    """A random rotation, or one with a reflection."""
    q, r = np.linalg.qr(np.random.default_rng(seed).standard_normal((3, 3)))
    q = q * np.sign(np.diag(r))
    return q * (np.linalg.det(q) * (-1.0 if mirrored else 1.0))


def leaks(settings: ModelSettings) -> bool:
    """Whether empty slots contribute by the type of a frame's first atom (specification/descriptor.md 5.4)."""
    return settings.descriptor.padding_leak and not settings.descriptor.repinit.set_davg_zero


def close(found: Any, expected: Any, tolerance: float = 1e-9) -> None:
    size = np.abs(np.asarray(expected)).max(initial=1.0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * size)


def turned(frames: Frames, q: np.ndarray) -> Frames:
    return frames | {key: frames[key] @ q.T for key in ("positions", "cell") if key in frames}


def check_turned(after: Any, before: Any, q: np.ndarray) -> None:
    close(after.energy, before.energy)
    close(after.atom_energy, before.atom_energy)
    close(after.forces, before.forces @ q.T)
    close(after.virial, q @ before.virial @ q.T)


@examples(12)
@given(MODELS, SEEDS, st.booleans(), st.booleans())
def test_rotation_and_reflection(settings: ModelSettings, seed: int, mirrored: bool, periodic: bool) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, periodic=periodic)
    q = rotation(seed, mirrored=mirrored)
    assert np.linalg.det(q) == pytest.approx(-1.0 if mirrored else 1.0)
    check_turned(evaluate(potential, turned(frames, q)), evaluate(potential, frames), q)


@examples(12)
@given(MODELS, SEEDS, st.booleans())
def test_translation(settings: ModelSettings, seed: int, periodic: bool) -> None:
    """Also far beyond the cell: nothing is ever wrapped by hand."""
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, periodic=periodic)
    moved = frames | {"positions": frames["positions"] + [11.3, -25.1, 4.7]}
    check_turned(evaluate(potential, moved), evaluate(potential, frames), np.eye(3))


@examples(8)
@given(MODELS, SEEDS)
def test_any_image_of_an_atom_will_do(settings: ModelSettings, seed: int) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed)
    n = frames["positions"].shape[1]
    images = np.random.default_rng(seed).integers(-2, 3, (1, n, 3))
    moved = frames | {"positions": frames["positions"] + images @ frames["cell"]}
    check_turned(evaluate(potential, moved), evaluate(potential, frames), np.eye(3))


# columns are lattice vectors in terms of the old: the same crystal, some of other handedness
LATTICES = [
    [[1, 1, 0], [0, 1, 0], [0, 0, 1]],
    [[1, 0, -2], [0, 1, 1], [0, 0, 1]],
    [[0, 1, 0], [1, 0, 0], [0, 0, 1]],
    [[-1, 0, 0], [0, -1, 0], [1, 2, -1]],
]


@pytest.mark.parametrize("change", LATTICES)
@examples(3)
@given(MODELS, SEEDS)
def test_the_choice_of_the_cell(change: list[list[int]], settings: ModelSettings, seed: int) -> None:
    assert abs(round(np.linalg.det(change))) == 1
    potential, frames = random_potential(settings, seed), random_frames(settings, seed)
    other = frames | {"cell": np.array(change) @ frames["cell"]}
    check_turned(evaluate(potential, other), evaluate(potential, frames), np.eye(3))


@examples(12)
@given(MODELS, SEEDS, st.booleans())
def test_permutation(settings: ModelSettings, seed: int, periodic: bool) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, periodic=periodic)
    order = np.random.default_rng(seed).permutation(frames["positions"].shape[1])
    assume(not leaks(settings) or frames["types"][0, order[0]] == frames["types"][0, 0])
    names = [key for key in ("positions", "types", "aparam") if key in frames]
    before = evaluate(potential, frames)
    after = evaluate(potential, frames | {key: frames[key][:, order] for key in names})
    close(after.energy, before.energy)
    close(after.atom_energy, before.atom_energy[:, order])
    close(after.forces, before.forces[:, order])
    close(after.virial, before.virial)


@pytest.mark.parametrize("leak", [True, False])
def test_permutation_where_empty_slots_leak(leak: bool) -> None:
    """deepmd-kit's dense layout takes the type of empty slots from the first atom; ``padding_leak`` is the way out."""
    section = model({"repinit.set_davg_zero": False, "repinit.neuron": [3, 6], "repinit.axis_neuron": 2})
    section["descriptor"]["padding_leak"] = leak
    settings = ModelSettings.read(section)
    potential, frames = random_potential(settings), random_frames(settings)
    first = int(np.argmax(frames["types"][0] != frames["types"][0, 0]))
    order = np.roll(np.arange(5), -first)
    swapped = frames | {key: frames[key][:, order] for key in ("positions", "types")}
    change = float(np.abs(evaluate(potential, swapped).energy - evaluate(potential, frames).energy)[0])
    assert change > 1e-4 if leak else change < 1e-12


@examples(8)
@given(MODELS, SEEDS, st.sampled_from([(2, 1, 1), (1, 1, 3), (2, 1, 2)]))
def test_a_supercell_has_the_energy_of_its_cells(
    settings: ModelSettings, seed: int, times: tuple[int, int, int]
) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, n=3)
    cells = np.stack(np.meshgrid(*[np.arange(n) for n in times], indexing="ij"), axis=-1).reshape(-1, 3)
    count = len(cells)
    shift = (cells @ frames["cell"][0])[:, None, :]
    larger = frames | {
        "positions": (frames["positions"][0] + shift).reshape(1, -1, 3),
        "types": np.tile(frames["types"], count),
        "cell": np.array(times)[:, None] * frames["cell"],
    }
    if "aparam" in frames:
        larger["aparam"] = np.tile(frames["aparam"], (1, count, 1))
    one, many = evaluate(potential, frames), evaluate(potential, larger)
    close(many.energy, count * one.energy)
    close(many.forces, np.tile(one.forces, (1, count, 1)))
    close(many.virial, count * one.virial)


@examples(8)
@given(MODELS, SEEDS)
def test_distant_clusters_do_not_see_each_other(settings: ModelSettings, seed: int) -> None:
    potential = random_potential(settings, seed)
    a, b = (random_frames(settings, s, n=4, periodic=False) for s in (seed, seed + 1))
    b |= {key: a[key] for key in ("fparam",) if key in a}
    assume(not leaks(settings) or a["types"][0, 0] == b["types"][0, 0])
    reach = settings.cutoff + settings.descriptor.repformer.nlayers * settings.descriptor.repformer.rcut
    b["positions"] = b["positions"] + [0.0, 0.0, np.ptp(a["positions"]) + np.ptp(b["positions"]) + reach]
    both = a | {key: np.concatenate([a[key], b[key]], axis=1) for key in ("positions", "types", "aparam") if key in a}
    found = evaluate(potential, both)
    parts = [evaluate(potential, frames) for frames in (a, b)]
    close(found.energy, parts[0].energy + parts[1].energy)
    close(found.forces, np.concatenate([part.forces for part in parts], axis=1))


@examples(8)
@given(MODELS, SEEDS, st.booleans())
def test_virtual_atoms_change_nothing(settings: ModelSettings, seed: int, periodic: bool) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, periodic=periodic)
    place = 2  # not the first: its type matters to leaking models
    with_one = dict(frames)
    with_one["positions"] = np.insert(frames["positions"], place, frames["positions"][:, 0] + 0.3, axis=1)
    with_one["types"] = np.insert(frames["types"], place, -1, axis=1)
    if "aparam" in frames:
        with_one["aparam"] = np.insert(frames["aparam"], place, 7.0, axis=1)
    before, after = evaluate(potential, frames), evaluate(potential, with_one)
    close(after.energy, before.energy)
    close(after.forces, np.insert(before.forces, place, 0.0, axis=1))
    close(after.virial, before.virial)


@examples(8)
@given(MODELS, SEEDS)
def test_frames_of_a_batch_do_not_see_each_other(settings: ModelSettings, seed: int) -> None:
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, nf=3)
    together = evaluate(potential, frames)
    for f in range(3):
        alone = evaluate(potential, {key: value[f : f + 1] for key, value in frames.items()})
        for name in ("energy", "atom_energy", "forces", "virial"):
            close(getattr(together, name)[f : f + 1], getattr(alone, name), 1e-12)


@examples(8)
@given(MODELS, SEEDS)
def test_frames_of_any_size_share_a_batch(settings: ModelSettings, seed: int) -> None:
    """Also free ones with periodic ones, and one that is a single atom."""
    potential = random_potential(settings, seed)
    frames = [random_frames(settings, seed + n, n=n, periodic=n % 2 == 0) for n in (4, 1, 3, 2)]
    found = potential.evaluate_many([structures_of(settings, **each)[0] for each in frames])
    for together, each in zip(found, frames, strict=True):
        alone = evaluate(potential, each)
        for name in ("energy", "atom_energy", "forces", "virial"):
            close(getattr(together, name), getattr(alone, name), 1e-12)


@examples(8)
@given(MODELS, SEEDS, st.booleans())
def test_an_isolated_atom_feels_nothing(settings: ModelSettings, seed: int, periodic: bool) -> None:
    """Alone, or in a cell so large that it does not see itself."""
    potential = random_potential(settings, seed)
    frames = random_frames(settings, seed, n=1, periodic=False)
    cell = 2.1 * settings.cutoff * np.eye(3) if periodic else None
    found = evaluate(potential, frames | {"cell": cell})
    elsewhere = evaluate(potential, frames | {"positions": frames["positions"] + 1.7})
    close(found.energy, elsewhere.energy, 1e-14)
    assert not found.forces.any()
    assert not found.virial.any()


# --- other heads ---


def outputs(potential: Potential, frames: Frames, name: str) -> tuple[np.ndarray, np.ndarray]:
    found = evaluate(potential, frames).outputs
    return found[name], found[f"atom_{name}"]


@examples(6)
@given(dpmodel_settings(heads=("dipole",), precisions=("float64",)), SEEDS, st.booleans())
def test_dipoles_turn_as_vectors(settings: ModelSettings, seed: int, mirrored: bool) -> None:
    potential, frames, q = (
        random_potential(settings, seed),
        random_frames(settings, seed),
        rotation(seed, mirrored=mirrored),
    )
    before, after = (outputs(potential, f, "dipole") for f in (frames, turned(frames, q)))
    close(after[0], before[0] @ q.T)
    close(after[1], before[1] @ q.T)


@examples(6)
@given(dpmodel_settings(heads=("polar",), precisions=("float64",)), SEEDS, st.booleans())
def test_polarizabilities_turn_as_symmetric_tensors(settings: ModelSettings, seed: int, mirrored: bool) -> None:
    potential, frames, q = (
        random_potential(settings, seed),
        random_frames(settings, seed),
        rotation(seed, mirrored=mirrored),
    )
    before, after = (outputs(potential, f, "polarizability") for f in (frames, turned(frames, q)))
    close(after[0], q @ before[0] @ q.T)
    close(after[1], q @ before[1] @ q.T)
    close(before[1], np.swapaxes(before[1], -1, -2), 1e-13)


@examples(6)
@given(dpmodel_settings(heads=("dos", "property"), precisions=("float64",)), SEEDS)
def test_scalar_properties_do_not_turn_and_add_up_or_not(settings: ModelSettings, seed: int) -> None:
    fitting = settings.fitting_net
    name = getattr(fitting, "property_name", "dos")
    potential, frames = random_potential(settings, seed), random_frames(settings, seed, n=3)
    before, after = (outputs(potential, f, name) for f in (frames, turned(frames, rotation(seed))))
    close(after[0], before[0])
    close(after[1], before[1])
    doubled = frames | {
        "positions": np.concatenate([frames["positions"], frames["positions"] + frames["cell"][:, 1:2]], axis=1),
        "types": np.tile(frames["types"], 2),
        "cell": frames["cell"] * [[1.0], [2.0], [1.0]],
    }
    if "aparam" in frames:
        doubled["aparam"] = np.tile(frames["aparam"], (1, 2, 1))
    close(outputs(potential, doubled, name)[0], before[0] if getattr(fitting, "intensive", False) else 2 * before[0])
