"""The committed water data: well-formed, and water."""

from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parents[2] / "examples" / "water" / "data"
FRAMES = {"train_16": 180, "valid_16": 32, "train_32": 16, "valid_32": 16}
DENSITIES = {"train_16": [0.9, 1.0, 1.1], "valid_16": [0.9, 1.0], "train_32": [1.0], "valid_32": [1.0]}
GRAMS_PER_CM3 = 1.66053907  # of 1 u per cubic angstrom


def load(system: str) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, allow_pickle=False) for path in (DATA / system / "set.000").glob("*.npy")}


def types_of(system: str) -> np.ndarray:
    return np.loadtxt(DATA / system / "type.raw", dtype=int)


def test_no_other_system():
    assert {path.name for path in DATA.iterdir()} == set(FRAMES)


@pytest.mark.parametrize("system", FRAMES)
def test_layout(system):
    n_frames, n_molecules = FRAMES[system], int(system[-2:])
    assert (DATA / system / "type_map.raw").read_text().split() == ["O", "H"]
    assert types_of(system).tolist() == [0, 1, 1] * n_molecules
    assert {path.name for path in (DATA / system).iterdir()} == {"set.000", "type.raw", "type_map.raw"}
    n = 9 * n_molecules
    shapes = {"coord": (n,), "box": (9,), "energy": (), "force": (n,), "virial": (9,)}
    assert {name: (a.shape, a.dtype.str) for name, a in load(system).items()} == {
        name: ((n_frames, *shape), "<f8") for name, shape in shapes.items()
    }


@pytest.mark.parametrize("system", FRAMES)
def test_labels_obey_the_symmetries_of_the_energy(system):
    data = load(system)
    assert all(np.isfinite(a).all() for a in data.values())
    virial = data["virial"].reshape(-1, 3, 3)
    np.testing.assert_allclose(virial, virial.swapaxes(1, 2), atol=1e-8)
    np.testing.assert_allclose(data["force"].reshape(len(virial), -1, 3).sum(1), 0, atol=1e-8)


@pytest.mark.parametrize("system", FRAMES)
def test_boxes_are_cubes_of_the_stated_densities(system):
    box = load(system)["box"].reshape(-1, 3, 3)
    lengths = box[:, 0, 0]
    np.testing.assert_array_equal(box, lengths[:, None, None] * np.eye(3))
    densities = int(system[-2:]) * 18.015 * GRAMS_PER_CM3 / lengths**3
    np.testing.assert_allclose(densities, np.repeat(DENSITIES[system], len(box) // len(DENSITIES[system])), rtol=1e-4)


@pytest.mark.parametrize("system", FRAMES)
def test_molecules_are_whole_and_apart(system):
    data = load(system)
    coord, lengths = data["coord"].reshape(len(data["box"]), -1, 3), data["box"][:, 0]
    step = coord[:, :, None] - coord[:, None]
    step -= np.round(step / lengths[:, None, None, None]) * lengths[:, None, None, None]
    distance = np.linalg.norm(step, axis=-1)
    molecule, oxygen = np.arange(coord.shape[1]) // 3, types_of(system) == 0
    same = molecule[:, None] == molecule
    bonds = distance[:, same & (oxygen[:, None] ^ oxygen)]
    assert bonds.min() > 0.8
    assert bonds.max() < 1.25
    assert distance[:, ~same].min() > 1.2
    assert distance[:, ~same & oxygen[:, None] & oxygen].min() > 2.1


@pytest.mark.parametrize("size", [16, 32])
def test_held_out_frames_are_not_in_training(size):
    train, valid = load(f"train_{size}"), load(f"valid_{size}")
    assert not np.isin(valid["energy"], train["energy"]).any()
    assert len(np.unique(train["energy"])) == len(train["energy"])
