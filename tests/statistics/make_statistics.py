"""Make statistics.npz and stat_file_*.hdf5: what deepmd-kit's PyTorch backend takes from frames of the reference cases.

Run in an environment with DeePMD-kit 3.2.0 (see CONTRIBUTING.md).  Energies are those of the cases; virtual atoms are
left to deepmd-kit as it finds them.
"""

import copy
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch
from deepmd.pt.model.model import get_model
from deepmd.utils.argcheck import normalize
from deepmd.utils.path import DPPath

HERE = Path(__file__).parent
CASES = HERE.parent / "reference"
NAMES = """baseline three_body exclude_types env_protection davg_nonzero fparam_aparam virtual_atom sel_overflow
strip_three_body nopbc""".split()
KEPT = "fparam_aparam", "three_body"  # a stat_file of each
BLOCKS = {"repinit": "repinit", "repinit_three_body": "three_body", "repformers": "repformer"}


def sample(io: dict[str, np.ndarray]) -> dict[str, Any]:
    """One system as deepmd-kit's loaders hand it over."""
    types = io["atype"]
    n_frames, n_atoms = types.shape
    counts = np.stack([(types == t).sum(axis=1) for t in range(int(types.max()) + 1)], axis=1)
    natoms = np.concatenate([np.full((n_frames, 2), n_atoms), counts], axis=1)
    data = {"coord": io["coord"], "atype": types, "energy": io["energy"].reshape(-1, 1)}
    data |= {"natoms": natoms, "real_natoms_vec": natoms}
    data |= {key: io[key] for key in ("fparam", "aparam") if key in io}
    found: dict[str, Any] = {key: torch.as_tensor(value) for key, value in data.items()}
    found["box"] = torch.as_tensor(io["box"].reshape(n_frames, 9)) if "box" in io else None
    return found | {f"find_{key}": 1.0 for key in ("energy", "fparam", "aparam")}


def statistics(name: str) -> dict[str, np.ndarray]:
    script = json.loads((CASES / name / "input.json").read_text())
    training = {"training_data": {"systems": ["x"]}, "numb_steps": 1}
    whole = {
        "model": script.get("model", script),
        "training": training,
        "learning_rate": {"start_lr": 1e-3},
        "loss": {},
    }
    script = normalize(whole)["model"]
    model = get_model(copy.deepcopy(script))
    with np.load(CASES / name / "io.npz") as io:
        given = sample(dict(io))
    one = {**given, **{key: script[key] for key in ("pair_exclude_types", "atom_exclude_types")}}
    model.atomic_model.compute_or_load_stat(lambda: [one], _stat_file(name) if name in KEPT else None)
    state = {key: value.numpy() for key, value in model.state_dict().items() if key != "_extra_state"}
    found = {"out_bias": state["atomic_model.out_bias"][0], "out_std": state["atomic_model.out_std"][0]}
    for theirs, ours in BLOCKS.items():
        for what in ("mean", "stddev"):
            key = f"atomic_model.descriptor.{theirs}.{what}"
            if key in state and state[key].size:
                found[f"{ours}.{what}"] = state[key][:, 0]
    for key in ("fparam_avg", "fparam_inv_std", "aparam_avg", "aparam_inv_std"):
        if f"atomic_model.fitting_net.{key}" in state:
            found[key] = state[f"atomic_model.fitting_net.{key}"]
    return found


def _stat_file(name: str) -> DPPath:
    path = HERE / f"stat_file_{name}.hdf5"
    h5py.File(path, "w").close()
    return DPPath(str(path), "a")


if __name__ == "__main__":
    every = {f"{name}/{key}": value for name in NAMES for key, value in statistics(name).items()}
    np.savez(HERE / "statistics.npz", allow_pickle=False, **every)
    print(f"{len(every)} arrays of {len(NAMES)} cases")
