"""The models and numbers in these folders, from an installed deepmd-kit.

    python make_reference.py check [NAME ...]   recompute the numbers of all (or some) folders and compare
    python make_reference.py draw NAME ...      draw models and structures anew, then compute

Needs deepmd-kit 3.2 (CONTRIBUTING.md says how to install it), not dpmodel.  A folder holds ``input.json`` (what a
user would write; ``draw`` writes those of the cases named below), ``model.dp`` (the model, every array perturbed so
that no default value hides a mistake) and ``io.npz``: inputs, and outputs of deepmd-kit's NumPy backend (the
descriptor's own interface and ``numpy_*``) and, where PyTorch is installed, of its PyTorch backend (energies, forces,
virials).
"""

import argparse
import copy
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from deepmd.dpmodel.model.base_model import BaseModel
from deepmd.dpmodel.model.model import get_model
from deepmd.dpmodel.utils.nlist import extend_input_and_build_neighbor_list
from deepmd.dpmodel.utils.serialization import load_dp_model, save_dp_model

HERE = Path(__file__).parent
INPUTS = ("coord", "box", "pbc", "atype", "fparam", "aparam")
NAMES = {
    "global_dipole": "dipole",
    "dipole": "atom_dipole",
    "global_polar": "polarizability",
    "polar": "atom_polarizability",
}

DESCRIPTOR: dict[str, Any] = {
    "type": "dpa2",
    "repinit": {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 30, "neuron": [3, 6], "axis_neuron": 2, "tebd_dim": 3},
    "repformer": {
        "rcut": 3.5, "rcut_smth": 0.8, "nsel": 20, "nlayers": 2, "g1_dim": 6, "g2_dim": 4, "axis_neuron": 2,
        "attn1_hidden": 3, "attn1_nhead": 2, "attn2_hidden": 3, "attn2_nhead": 2,
    },
    "seed": 1,
}  # fmt: skip
ENERGY = {"neuron": [6, 6]}

# fitting_net, and what else the model section has; "virtual": the last atom of the second frame is
CASES: dict[str, dict[str, Any]] = {
    "head_dipole": {"fitting_net": {"type": "dipole"}},
    "head_polar": {"fitting_net": {"type": "polar", "scale": [1.5, -2.0]}},
    "head_polar_full": {"fitting_net": {"type": "polar", "fit_diag": False, "scale": 1.5}},
    "head_polar_unshifted": {"fitting_net": {"type": "polar", "shift_diag": False}},
    "head_dos": {"fitting_net": {"type": "dos", "numb_dos": 5}},
    "head_property": {"fitting_net": {"type": "property", "property_name": "gap", "task_dim": 2}},
    "head_property_intensive": {
        "fitting_net": {"type": "property", "property_name": "gap", "intensive": True, "distinguish_types": False},
        "atom_exclude_types": [1],
        "virtual": True,
    },
    "vacuum": {"fitting_net": {"type": "ener", "atom_ener": [None, -3.0], "numb_fparam": 2, "numb_aparam": 1}},
    "case_embd": {"fitting_net": {"type": "ener", "dim_case_embd": 3, "numb_aparam": 2}},
    "default_fparam": {"fitting_net": {"type": "ener", "numb_fparam": 2, "default_fparam": [0.3, -1.2]}},
    "atom_exclude_types": {"fitting_net": {"type": "ener"}, "atom_exclude_types": [0], "virtual": True},
    "pair_exclude_types": {"fitting_net": {"type": "ener"}, "pair_exclude_types": [[0, 1]]},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=["check", "draw"])
    parser.add_argument("names", nargs="*", metavar="NAME")
    chosen = parser.parse_args()
    if chosen.action == "draw":
        for name in chosen.names:
            draw(HERE / name)
    for name in chosen.names or sorted(path.parent.name for path in HERE.glob("*/io.npz")):
        check(HERE / name)


# --- drawing ---


def draw(folder: Path) -> None:
    """A folder's files, from the table above or from the ``input.json`` that is there."""
    rng = np.random.default_rng(zlib.crc32(folder.name.encode()))
    folder.mkdir(exist_ok=True)
    case = copy.deepcopy(CASES.get(folder.name, {}))
    virtual = case.pop("virtual", False)
    if case:
        case["fitting_net"] = ENERGY | case["fitting_net"]
        section = {"type_map": ["O", "H"], "descriptor": DESCRIPTOR} | case
        (folder / "input.json").write_text(json.dumps({"model": section}, indent=1))
    section = json.loads((folder / "input.json").read_text())["model"]
    tree = get_model(section).serialize()
    perturb(tree, rng)
    save_dp_model(str(folder / "model.dp"), {"model": tree, "model_def_script": section, "backend": "dpmodel"})
    given = structures(rng, virtual, section["fitting_net"])
    arrays: dict[str, Any] = given | compute(folder, given)
    np.savez_compressed(folder / "io.npz", **arrays)


def perturb(tree: Any, rng: np.random.Generator) -> None:
    """Every array of the tree, in place."""
    for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
        if isinstance(value, np.ndarray):
            tree[key] = perturbed(key, value, rng)
        elif isinstance(value, dict | list):
            perturb(value, rng)


def perturbed(key: Any, value: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if key == "dstd":  # the same in all slots and for x, y and z
        radial, angular = rng.uniform(0.1, 0.3, (2, len(value), 1, 1))
        return np.broadcast_to(np.concatenate([radial] + [angular] * 3, axis=-1), value.shape).astype(value.dtype)
    if key == "davg":
        return value  # not zero only where set_davg_zero is false, and then in the radial part
    scale = 0.1 if np.any(value) else 1.0  # what is zero by default should not stay small
    return (value + scale * rng.standard_normal(value.shape)).astype(value.dtype)


def structures(rng: np.random.Generator, virtual: bool, fitting: dict[str, Any]) -> dict[str, np.ndarray]:
    """Two frames of seven atoms in a skewed cell, no two atoms closer than one angstrom."""
    box = np.array([[4.6, 0.0, 0.0], [0.7, 4.9, 0.0], [-0.4, 0.9, 5.3]]) + 0.1 * rng.standard_normal((2, 3, 3))
    given = {"coord": np.stack([spread(rng, b, 7) for b in box]), "box": box, "pbc": np.array(True)}
    given["atype"] = np.array([[0, 1, 1, 0, 1, 1, 0], [1, 0, 1, 1, 0, 0, 1]])
    if virtual:
        given["atype"][1, -1] = -1
    if fitting.get("numb_fparam") and not fitting.get("default_fparam"):
        given["fparam"] = rng.standard_normal((2, fitting["numb_fparam"]))
    if fitting.get("numb_aparam"):
        given["aparam"] = rng.standard_normal((2, 7, fitting["numb_aparam"]))
    return given


def spread(rng: np.random.Generator, box: np.ndarray, count: int) -> np.ndarray:
    images = np.stack(np.meshgrid(*[[-1, 0, 1]] * 3), axis=-1).reshape(-1, 3) @ box
    placed: list[np.ndarray] = []
    while len(placed) < count:
        new = rng.uniform(size=3) @ box
        if all(np.linalg.norm(new - x + images, axis=1).min() > 1.0 for x in placed):
            placed.append(new)
    return np.array(placed)


# --- computing ---


def compute(folder: Path, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    tree = load_dp_model(str(folder / "model.dp"))["model"]
    return with_numpy(BaseModel.deserialize(copy.deepcopy(tree)), given) | with_torch(tree, given)


def arguments(given: dict[str, np.ndarray]) -> dict[str, Any]:
    box = given["box"].reshape(-1, 9) if "box" in given else None
    return {"box": box, "fparam": given.get("fparam"), "aparam": given.get("aparam")}


def with_numpy(model: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    coord, atype = given["coord"], given["atype"]
    outputs = model.call(coord, atype, **arguments(given))
    found = {f"numpy_{NAMES.get(k, k)}": v for k, v in outputs.items() if v is not None and k != "mask"}
    reach, excluded = (model.get_rcut(), model.get_sel()), model.atomic_model.pair_excl
    x, t, mapping, nlist = extend_input_and_build_neighbor_list(
        coord, atype, *reach, mixed_types=True, box=given.get("box"), pair_excl=excluded
    )
    x = x.reshape(len(coord), -1, 3)
    ordered = model.format_nlist(x, t, nlist, extra_nlist_sort=True)  # what is excluded leaves holes
    described = model.atomic_model.descriptor(x, t, ordered, mapping=mapping)
    found |= {"ext_coord": x, "ext_atype": t, "mapping": mapping, "nlist": nlist}
    return found | dict(zip(("descriptor", "rot_mat", "g2", "h2", "sw"), described, strict=True))


def with_torch(tree: Any, given: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same by PyTorch, with forces and virials; nothing if it is not installed or the model gives no energy."""
    if tree["fitting"]["type"] != "ener":
        return {}
    try:
        import torch
        from deepmd.pt.model.model import BaseModel as TorchModel
    except ImportError:
        return {}
    model = TorchModel.deserialize(copy.deepcopy(tree))
    tensors = {key: value if value is None else torch.as_tensor(value) for key, value in arguments(given).items()}
    coord, atype = torch.tensor(given["coord"], requires_grad=True), torch.as_tensor(given["atype"])
    outputs = {k: v.detach().numpy() for k, v in model(coord, atype, do_atomic_virial=True, **tensors).items()}
    for key in ("virial", "atom_virial"):
        outputs[key] = outputs[key].reshape(*outputs[key].shape[:-1], 3, 3)
    return {key: outputs[key] for key in ("energy", "atom_energy", "force", "virial", "atom_virial")}


def check(folder: Path) -> None:
    """Print how far the stored numbers are from those of the installed deepmd-kit."""
    found = differences(folder)
    name = max(found, key=lambda key: found[key])
    print(f"{folder.name:24} {len(found)} arrays agree to {found[name]:.1e} ({name})")


def differences(folder: Path) -> dict[str, float]:
    """By how much each stored array differs from the recomputed one, relative to its largest number."""
    stored = dict(np.load(folder / "io.npz"))
    found = compute(folder, {key: stored[key] for key in INPUTS if key in stored})
    return {
        key: float(np.max(np.abs(found[key] - stored[key]))) / float(np.max(np.abs(stored[key])))
        for key in found.keys() & stored.keys()
    }


if __name__ == "__main__":
    main()
