"""The structures and the model that every benchmark here uses: water, and the medium DPA-2 of deepmd-kit's examples."""

from pathlib import Path
from typing import Any

import numpy as np

DATA = Path(__file__).parents[1] / "examples" / "water" / "data" / "train_16"

MEDIUM: dict[str, Any] = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "dpa2",
        "repinit": {
            "rcut": 6.0, "rcut_smth": 0.5, "nsel": 120, "neuron": [25, 50, 100], "axis_neuron": 12, "tebd_dim": 8,
            "use_three_body": True, "three_body_rcut": 4.0, "three_body_rcut_smth": 3.5, "three_body_sel": 48,
        },
        "repformer": {
            "rcut": 4.0, "rcut_smth": 3.5, "nsel": 48, "nlayers": 6, "g1_dim": 128, "g2_dim": 32, "axis_neuron": 4,
            "attn1_hidden": 128, "attn1_nhead": 4, "attn2_hidden": 32, "attn2_nhead": 4, "attn2_has_gate": True,
            "update_g1_has_attn": False, "update_g2_has_g1g1": False, "update_style": "res_residual",
            "update_residual": 0.01,
        },
        "precision": "float64",
    },
    "fitting_net": {"neuron": [240, 240, 240], "resnet_dt": True, "precision": "float64"},
}  # fmt: skip


def water(n_atoms: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Positions (n, 3), types (n,) and cell (3, 3) of liquid water, a frame of the example data repeated; angstrom."""
    positions = np.load(DATA / "set.000" / "coord.npy", mmap_mode="r")[0].reshape(-1, 3)
    cell = np.load(DATA / "set.000" / "box.npy", mmap_mode="r")[0].reshape(3, 3)
    types = np.loadtxt(DATA / "type.raw", dtype=int)
    copies = n_atoms // len(types)
    if copies * len(types) != n_atoms:
        raise ValueError(f"n_atoms should be a multiple of {len(types)}, got {n_atoms}")
    times = np.ones(3, int)
    for factor in prime_factors(copies):  # the largest ones first, each along the shortest side
        times[np.argmin(times * np.diag(cell))] *= factor
    shifts = np.stack(np.meshgrid(*map(np.arange, times), indexing="ij"), -1).reshape(-1, 3) @ cell
    return (positions + shifts[:, None]).reshape(-1, 3), np.tile(types, copies), cell * times[:, None]


def prime_factors(n: int) -> list[int]:
    """The largest first."""
    found, p = [], 2
    while n > 1:
        while n % p == 0:
            found.append(p)
            n //= p
        p += 1
    return found[::-1]
