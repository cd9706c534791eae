"""dpa1_attention.npz: what deepmd-kit's DPA-1 descriptor makes of a structure, attention included.

    python make_dpa1_attention.py

deepmd-kit's DPA-2 cannot have attention layers in repinit; its DPA-1 is that block alone.  Needs deepmd-kit 3.2.
For each case NAME the file holds ``NAME/settings`` (JSON: the repinit section and the options it shares),
``NAME/descriptor`` (nf, n, ng * axis_neuron) and ``NAME/<path>``, every array under its path in dpmodel's descriptor.
The structures are ``coord``, ``atype`` and ``box``.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from deepmd.dpmodel.descriptor.dpa1 import DescrptDPA1
from deepmd.dpmodel.utils.nlist import extend_input_and_build_neighbor_list
from make_reference import perturb, structures  # type: ignore[import-not-found]  # beside this script

BLOCK = {"rcut": 4.0, "rcut_smth": 1.0, "nsel": 24, "neuron": [3, 6], "axis_neuron": 2, "tebd_dim": 3, "attn": 5}
RENAMED = {"nsel": "sel", "smooth": "smooth_type_embedding"}

CASES: dict[str, dict[str, Any]] = {
    "one_layer": {"attn_layer": 1},
    "three_layers": {"attn_layer": 3, "scaling_factor": 0.5, "ln_eps": 1e-3},
    "strip": {"attn_layer": 2, "tebd_input_mode": "strip", "resnet_dt": True},
    "not_smooth": {"attn_layer": 2, "smooth": False},
    "no_angles": {"attn_layer": 2, "attn_dotr": False},
    "not_normalized": {"attn_layer": 1, "normalize": False, "temperature": 0.7},
    "crowded": {"attn_layer": 2, "nsel": 7},
    "excluded": {"attn_layer": 2, "exclude_types": [[0, 1]], "set_davg_zero": False, "type_one_side": True},
    "excluded_not_smooth": {"attn_layer": 2, "exclude_types": [[0, 0]], "smooth": False},
    "mean": {"attn_layer": 2, "set_davg_zero": False},
    "mean_strip": {"attn_layer": 2, "set_davg_zero": False, "tebd_input_mode": "strip"},
    "mean_strip_not_smooth": {"attn_layer": 1, "set_davg_zero": False, "tebd_input_mode": "strip", "smooth": False},
}


def main() -> None:
    rng = np.random.default_rng(0)
    given = structures(rng, False, {})
    found: dict[str, Any] = {key: given[key] for key in ("coord", "atype", "box")}
    for name, options in CASES.items():
        settings = {"set_davg_zero": True} | BLOCK | options
        found[f"{name}/settings"] = json.dumps(settings)
        found |= {f"{name}/{key}": value for key, value in evaluate(settings, given, rng).items()}
    np.savez_compressed(Path(__file__).parent / "dpa1_attention.npz", **found)


def evaluate(settings: dict[str, Any], given: dict[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Arrays of a model of these settings, and what it gives."""
    arguments = {RENAMED.get(key, key): value for key, value in settings.items()}
    tree = DescrptDPA1(**arguments, ntypes=2, concat_output_tebd=False, seed=1).serialize()
    perturb(tree, rng)
    if not settings["set_davg_zero"]:
        tree["@variables"]["davg"][:, :, 0] = np.array([[-0.1], [0.2]])
    model = DescrptDPA1.deserialize(copied(tree))
    model.disable_graph_lower()
    x, t, mapping, nlist = extend_input_and_build_neighbor_list(
        given["coord"], given["atype"], settings["rcut"], [settings["nsel"]], mixed_types=True, box=given["box"]
    )
    return arrays(tree) | {"descriptor": model.call(x.reshape(2, -1, 3), t, nlist, mapping=mapping)[0]}


def copied(tree: Any) -> Any:
    """A copy that deepmd-kit may take to pieces."""
    if isinstance(tree, dict):
        return {key: copied(value) for key, value in tree.items()}
    return [copied(value) for value in tree] if isinstance(tree, list) else tree


def arrays(tree: dict[str, Any]) -> dict[str, np.ndarray]:
    """Arrays by their paths in dpmodel."""
    found = linear("type_embedding.layer", tree["type_embedding"]["embedding"]["layers"][0])
    for key, name in (("embeddings", "embedding"), ("embeddings_strip", "strip")):
        for i, layer in enumerate(tree[key]["networks"][0]["layers"] if key in tree else []):
            found |= linear(f"repinit.near.{name}.layers.{i}", layer)
    for i, layer in enumerate(tree["attention_layers"]["attention_layers"]):
        for name in ("in_proj", "out_proj"):
            found |= linear(f"repinit.attention.{i}.{name}", layer["attention_layer"][name])
        found |= linear(f"repinit.attention.{i}.norm", layer["attn_layer_norm"])
    found["repinit.near.mean"] = tree["@variables"]["davg"][:, 0, :]
    found["repinit.near.stddev"] = tree["@variables"]["dstd"][:, 0, :]
    return found


def linear(path: str, layer: dict[str, Any]) -> dict[str, np.ndarray]:
    names = {"w": "weight", "b": "bias", "idt": "idt"}
    return {f"{path}.{names[key]}": value for key, value in layer["@variables"].items() if value is not None}


if __name__ == "__main__":
    main()
