"""The folders ``training_*``: other heads than energy, trained for 20 steps by an installed deepmd-kit.

    python make_training.py

Needs deepmd-kit 3.2 with PyTorch (CONTRIBUTING.md says how to install it).  A folder holds ``input.json``, the data
``train_a``, ``train_b`` and ``valid``, the checkpoint of the last step without the optimizer, and ``lcurve.out``, whose
validation columns of step 20 are those of all frames of ``valid``.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import torch

HERE = Path(__file__).parent
STEPS = 20
TYPES = {"train_a": [0, 1, 1, 0, 1, 1], "train_b": [0, 1, 1, 1, 0], "valid": [0, 1, 1, 0, 1, 1, 1]}
FRAMES = {"train_a": 3, "train_b": 2, "valid": 3}
DESCRIPTOR: dict[str, Any] = {
    "type": "dpa2",
    "repinit": {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 30, "neuron": [3, 6], "axis_neuron": 2, "tebd_dim": 3},
    "repformer": {
        "rcut": 3.5, "rcut_smth": 0.8, "nsel": 20, "nlayers": 2, "g1_dim": 6, "g2_dim": 4, "axis_neuron": 2,
        "attn1_hidden": 3, "attn1_nhead": 2, "attn2_hidden": 3, "attn2_nhead": 2,
    },
    "seed": 1,
}  # fmt: skip
DOS = {f"{when}_pref_{term}": x for term, x in zip(("dos", "cdf", "ados", "acdf"), (1.0, 0.3, 0.7, 0.05), strict=True)
       for when in ("start", "limit")}  # fmt: skip
CASES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "dipole": ({"type": "dipole"}, {"type": "tensor", "pref": 1.0, "pref_atomic": 0.7, "enable_atomic_weight": True}),
    "polar": ({"type": "polar"}, {"type": "tensor", "pref": 0.5, "pref_atomic": 0.0}),
    "polar_full": (
        {"type": "polar", "fit_diag": False, "scale": [1.5, 0.5]},
        {"type": "tensor", "pref": 0.5, "pref_atomic": 2.0},
    ),
    "dos": ({"type": "dos", "numb_dos": 5}, {"type": "dos", **DOS, "limit_pref_cdf": 0.1}),
    "property": (
        {"type": "property", "property_name": "gap", "task_dim": 2, "intensive": True},
        {"type": "property", "beta": 0.8, "metric": ["mae", "rmse", "mape"]},
    ),
    "property_sum": (
        {"type": "property", "property_name": "heat", "distinguish_types": False},
        {"type": "property", "loss_func": "rmse", "metric": ["smooth_mae", "mae", "mse", "rmse", "mape"]},
    ),
}


def labels(case: str, random: np.random.Generator, n_frames: int, types: list[int]) -> dict[str, np.ndarray]:
    """Random labels that depend on the composition."""
    n = len(types)

    def atoms(k: int) -> np.ndarray:
        return random.normal(size=(n_frames, n, k)) + 0.5 * np.array(types)[None, :, None]

    if case == "dipole":
        values = atoms(3)
        weight = random.uniform(0.5, 1.5, (n_frames, n))
        return {"dipole": values.sum(axis=1), "atomic_dipole": values, "atomic_weight": weight}
    if case == "polar":
        return {"polarizability": atoms(9).sum(axis=1)}
    if case == "polar_full":
        values = atoms(9)
        return {"polarizability": values.sum(axis=1), "atomic_polarizability": values}
    if case == "dos":
        values = atoms(5)
        return {"dos": values.sum(axis=1), "atom_dos": values}
    return {"gap": atoms(2).mean(axis=1)} if case == "property" else {"heat": atoms(1).sum(axis=1)}


def write_data(case: str, folder: Path) -> None:
    random = np.random.default_rng(sorted(CASES).index(case))
    grid = np.stack(np.meshgrid(*[np.arange(2)] * 3, indexing="ij"), axis=-1).reshape(-1, 3) * 2.2
    for name, types in TYPES.items():
        home = folder / name / "set.000"
        home.mkdir(parents=True)
        n_frames, n = FRAMES[name], len(types)
        (folder / name / "type.raw").write_text("\n".join(map(str, types)) + "\n")
        (folder / name / "type_map.raw").write_text("O\nH\n")
        np.save(home / "coord.npy", (grid[:n] + random.normal(0, 0.25, (n_frames, n, 3))).reshape(n_frames, -1))
        np.save(home / "box.npy", np.tile(np.eye(3).ravel() * 5.5, (n_frames, 1)))
        for label, values in labels(case, random, n_frames, types).items():
            np.save(home / f"{label}.npy", values.reshape(n_frames, -1))


def make(case: str) -> None:
    folder, (fitting, loss) = HERE / f"training_{case}", CASES[case]
    shutil.rmtree(folder, ignore_errors=True)
    write_data(case, folder)
    script = {
        "model": {
            "type_map": ["O", "H"],
            "descriptor": DESCRIPTOR,
            "fitting_net": {**fitting, "neuron": [8, 8], "seed": 1, "precision": "float64"},
        },
        "learning_rate": {"type": "exp", "start_lr": 0.005, "stop_lr": 1e-5, "decay_steps": 5},
        "loss": loss,
        "training": {
            "training_data": {"systems": ["train_a", "train_b"], "batch_size": 1},
            "validation_data": {"systems": ["valid"], "batch_size": 3},
            "numb_steps": STEPS,
            "seed": 10,
            "disp_file": "lcurve.out",
            "disp_freq": STEPS,
            "save_freq": STEPS,
        },
    }
    (folder / "input.json").write_text(json.dumps(script, indent=1) + "\n")
    subprocess.run(["dp", "--pt", "train", "input.json", "--skip-neighbor-stat"], cwd=folder, check=True)
    saved = torch.load(folder / f"model.ckpt-{STEPS}.pt", weights_only=True)
    torch.save({"model": saved["model"]}, folder / "model.pt")
    for path in folder.iterdir():
        if (path.is_file() and path.name not in ("input.json", "lcurve.out", "model.pt")) or path.is_symlink():
            path.unlink()


if __name__ == "__main__":
    for case in CASES:
        make(case)
