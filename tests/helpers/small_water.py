"""A few frames of something like water, and small settings to learn from them."""

from pathlib import Path
from typing import Any

import numpy as np

from dpmodel.backend import backend
from dpmodel.train.prepare import StartFrom, prepare
from dpmodel.train.script import read_script

BLOCK = {"rcut": 4.0, "rcut_smth": 0.5, "nsel": 16, "neuron": [4, 8], "axis_neuron": 2, "tebd_dim": 2}
THREE = {"use_three_body": True, "three_body_neuron": [2, 4], "three_body_rcut": 3.0, "three_body_sel": 12}
REFORM = {"rcut": 3.0, "rcut_smth": 0.5, "nsel": 12, "nlayers": 2, "g1_dim": 6, "g2_dim": 4, "axis_neuron": 2}
REFORM |= {"attn1_hidden": 4, "attn1_nhead": 1, "attn2_hidden": 4, "attn2_nhead": 1}
DESCRIPTOR: dict[str, Any] = {"type": "dpa2", "repinit": BLOCK | THREE, "repformer": REFORM}
MODEL = {"type_map": ["O", "H"], "descriptor": DESCRIPTOR, "fitting_net": {"neuron": [6]}}
TYPES = [0, 1, 1, 0, 1, 1]


def write_system(root: Path, n_frames: int, seed: int = 0, labels: str = "energy force virial") -> Path:
    """Two molecules in a box, with labels from springs between near atoms."""
    random = np.random.default_rng(seed)
    molecule = np.array([[0.0, 0, 0], [0.96, 0, 0], [-0.24, 0.93, 0]])
    start = np.concatenate([molecule, molecule + 2.5])
    x = start + random.normal(0, 0.05, (n_frames, 6, 3))
    pairs = [(0, 1), (0, 2), (3, 4), (3, 5), (0, 3)]
    rest = [np.linalg.norm(start[i] - start[j]) for i, j in pairs]
    energy, force = np.full(n_frames, -20.0), np.zeros_like(x)
    virial = np.zeros((n_frames, 3, 3))
    for (i, j), r0 in zip(pairs, rest, strict=True):
        v = x[:, j] - x[:, i]
        r = np.linalg.norm(v, axis=1)
        energy += 5.0 * (r - r0) ** 2
        pull = (10.0 * (r - r0) / r)[:, None] * v
        force[:, i] += pull
        force[:, j] -= pull
        virial -= pull[:, :, None] * v[:, None, :]
    every = {"energy": energy, "force": force.reshape(n_frames, -1), "virial": virial.reshape(n_frames, 9)}
    folder = root / "set.000"
    folder.mkdir(parents=True)
    (root / "type.raw").write_text(" ".join(map(str, TYPES)))
    (root / "type_map.raw").write_text("O H")
    np.save(folder / "coord.npy", x.reshape(n_frames, -1))
    np.save(folder / "box.npy", np.tile(7.0 * np.eye(3).ravel(), (n_frames, 1)))
    for name in labels.split():
        np.save(folder / f"{name}.npy", every[name])
    return root


def learn(data: dict[str, Any], restart: Path | None = None) -> None:
    """A whole run on NumPy, in the present folder."""
    prepare(read_script(data), backend("numpy").engine(), StartFrom(restart)).run()


def script(systems: Path, **sections: Any) -> dict[str, Any]:
    """An input file for them; ``sections`` add to its sections."""
    data = {
        "model": MODEL,
        "learning_rate": {"start_lr": 0.01, "stop_lr": 1e-4, "decay_steps": 5},
        "loss": {"start_pref_v": 0.1, "limit_pref_v": 0.1},
        "training": {"training_data": {"systems": str(systems), "batch_size": 2}, "numb_steps": 6, "disp_freq": 2}
        | {"save_freq": 3, "seed": 1},
    }
    for name, values in sections.items():
        data[name] = data.get(name, {}) | values
    return data
