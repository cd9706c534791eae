"""deepmd-kit's layout of a model, with a name where each array goes (specification/serialization.md 2-5).

One description serves both directions: to write, every ``Leaf`` is replaced by its array; to read,
the description and the file are walked together.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from dpmodel.dpa2.attention import GatedAttention
from dpmodel.dpa2.repformer import RepformerLayer
from dpmodel.dpa2.repinit import EnvironmentEmbedding
from dpmodel.dpa2.settings import DPA2Settings
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.nn import MLP, LayerNorm, Linear

Tree = dict[str, Any]


@dataclass(frozen=True)
class Leaf:
    """An array of the model by its path, and how the file holds it.

    ``copies``: repeated so many times along a new axis 1 (statistics, one row a slot); ``lead``: with an axis of length
    1 in front; ``packed``: (n, 6, width) as (n, 6 * width) with the six coefficients together (tables).
    """

    path: str
    copies: int = 0
    lead: bool = False
    packed: bool = False


def model_template(settings: ModelSettings, model: Model) -> Tree:
    """The ``model`` entry of a file; ``model`` tells which arrays there are, its values are not looked at."""
    return {
        "@class": "Model",
        "@version": 2,
        "type": "standard",
        "type_map": list(settings.type_map),
        "atom_exclude_types": list(settings.atom_exclude_types),
        "pair_exclude_types": [list(pair) for pair in settings.pair_exclude_types],
        "rcond": settings.fitting_net.rcond,
        "preset_out_bias": settings.model_dump()["preset_out_bias"],
        "@variables": {"out_bias": Leaf("out_bias", lead=True), "out_std": Leaf("out_std", lead=True)},
        "descriptor": Descriptor(settings, model).tree(),
        "fitting": fitting(settings, model),
    }


def linear(layer: Linear, path: str, *, precision: str, trainable: bool, stored_activation: str | None = None) -> Tree:
    """One layer.  deepmd-kit applies some activations outside the layer and then stores "none"."""
    return {
        "@class": "Layer",
        "@version": 2,
        "bias": layer.bias is not None,
        "use_timestep": layer.idt is not None,
        "activation_function": stored_activation or layer.activation,
        "resnet": layer.resnet,
        "precision": precision,
        "trainable": trainable,
        "@variables": {
            name: None if value is None else Leaf(f"{path}.{field}")
            for name, field, value in (
                ("w", "weight", layer.weight),
                ("b", "bias", layer.bias),
                ("idt", "idt", layer.idt),
            )
        },
    }


def layer_norm(norm: LayerNorm, path: str, *, precision: str, trainable: bool) -> Tree:
    return {
        "@class": "LayerNorm",
        "@version": 1,
        "eps": norm.eps,
        "trainable": trainable,
        "precision": precision,
        "@variables": {"w": Leaf(f"{path}.weight"), "b": Leaf(f"{path}.bias")},
    }


def collection(network: Tree, kind: str, n_types: int) -> Tree:
    """A NetworkCollection of one network for all types."""
    return {
        "@class": "NetworkCollection",
        "@version": 1,
        "ndim": 0,
        "ntypes": n_types,
        "network_type": kind,
        "networks": [network],
    }


class Descriptor:
    """Writes the descriptor's part; holds what all of it needs."""

    def __init__(self, settings: ModelSettings, model: Model) -> None:
        self.type_map, self.model = settings.type_map, model.descriptor
        self.settings: DPA2Settings = settings.descriptor
        self.kind: dict[str, Any] = {"precision": self.settings.dtype, "trainable": self.settings.trainable}

    def tree(self) -> Tree:
        s, m = self.settings, self.model
        dumped = s.model_dump()
        version = 3 if m.repinit.near.type_table is None else 4
        tree: Tree = {"@class": "Descriptor", "type": "dpa2", "@version": version, "ntypes": len(self.type_map)}
        tree |= {
            "repinit_args": dumped.pop("repinit"),
            "repformer_args": dumped.pop("repformer") | {"ln_eps": s.repformer.epsilon},
        }
        tree |= {key: value for key, value in dumped.items() if key not in ("type", "seed")}
        tree |= {"type_map": list(self.type_map), "type_embedding": self.type_embedding()}
        shape = m.shape_transform
        tree["g1_shape_tranform"] = (
            {"@class": "Identity", "@version": 1} if shape is None else self.linear(shape, "shape_transform")
        )
        if m.type_transform is not None:
            tree["tebd_transform"] = self.linear(m.type_transform, "type_transform")
        tree["repinit_variable"] = self.environment_embedding(m.repinit.near, "repinit.near")
        if m.repinit.attention:
            tree["repinit_variable"]["attention_layers"] = self.attention(m.repinit.attention)
        if m.three_body is not None:
            tree["repinit_three_body_variable"] = self.environment_embedding(m.three_body.near, "three_body.near")
        tree["repformers_variable"] = self.repformer()
        return tree

    def linear(self, layer: Linear, path: str, stored_activation: str | None = None) -> Tree:
        return linear(layer, f"descriptor.{path}", stored_activation=stored_activation, **self.kind)

    def leaf(self, path: str, copies: int = 0) -> Leaf:
        return Leaf(f"descriptor.{path}", copies)

    def type_embedding(self) -> Tree:
        s, layer = self.settings, self.model.type_embedding.layer
        net = self.embedding(MLP(layers=(layer,)), ("type_embedding.layer",), activation="Linear")
        net["layers"][0]["trainable"] = True
        return {
            "@class": "TypeEmbedNet",
            "@version": 2,
            "ntypes": len(self.type_map),
            "neuron": [layer.n_out],
            "resnet_dt": False,
            "precision": s.precision,
            "activation_function": "Linear",
            "trainable": s.trainable,
            "padding": True,
            "use_econf_tebd": s.use_econf_tebd,
            "use_tebd_bias": s.use_tebd_bias,
            "type_map": list(self.type_map),
            "embedding": net | {"resnet_dt": False, "bias": s.use_tebd_bias},
        }

    def embedding(self, net: MLP, paths: tuple[str, ...], activation: str | None = None) -> Tree:
        return {
            "@class": "EmbeddingNetwork",
            "@version": 2,
            "in_dim": net.layers[0].n_in,
            "neuron": [layer.n_out for layer in net.layers],
            "activation_function": activation or net.layers[0].activation,
            "resnet_dt": self.settings.repinit.resnet_dt,
            "bias": True,
            "precision": self.settings.dtype,
            "layers": [self.linear(layer, path, activation) for layer, path in zip(net.layers, paths, strict=True)],
        }

    def environment_embedding(self, near: EnvironmentEmbedding, path: str) -> Tree:
        n_types = len(self.type_map)

        def net(name: str) -> Tree:
            mlp = getattr(near, name)
            paths = tuple(f"{path}.{name}.layers.{i}" for i in range(len(mlp.layers)))
            return collection(self.embedding(mlp, paths), "embedding_network", n_types)

        tree = {"embeddings": net("embedding")} | self.statistics(near, path)
        tree |= {"embeddings_strip": net("strip")} if near.strip is not None else {}
        return tree | ({"compress": self.tables(near, path)} if near.type_table is not None else {})

    def tables(self, near: EnvironmentEmbedding, path: str) -> Tree:
        """Tables of a compressed model; the networks stay in the file beside them."""
        arrays: Tree = {"type_embd_data": self.leaf(f"{path}.type_table.rows")}
        if near.table is not None:
            t = near.table
            info = np.array([t.lower, t.upper, t.top, t.fine, t.coarse, t.check_frequency])
            arrays["compress_data"] = [Leaf(f"descriptor.{path}.table.coefficients", packed=True)]
            arrays["compress_info"] = [info.astype(self.settings.dtype)]
        return {"geo_compress": near.table is not None, "@variables": arrays}

    def statistics(self, block: Any, path: str) -> Tree:
        """Statistics are stored for every slot, and the protection of distances as zero whatever it is."""
        return {
            "env_mat": {
                "rcut": block.cutoff,
                "rcut_smth": block.smooth_cutoff,
                "protection": 0.0,
                "use_exp_switch": False,
            },
            "@variables": {
                "davg": self.leaf(f"{path}.mean", block.n_slots),
                "dstd": self.leaf(f"{path}.stddev", block.n_slots),
            },
        }

    def attention(self, layers: tuple[GatedAttention, ...]) -> Tree:
        """DPA-1's entry; deepmd-kit's DPA-2 has none and cannot read it."""
        s = self.settings.repinit
        scalars: Tree = {
            "nnei": s.nsel,
            "embed_dim": s.neuron[-1],
            "hidden_dim": s.attn,
            "dotr": s.attn_dotr,
            "do_mask": s.attn_mask,
            "scaling_factor": s.scaling_factor,
            "normalize": s.normalize,
            "temperature": s.temperature,
            "precision": self.settings.dtype,
        }
        norms = {"trainable_ln": s.trainable_ln, "ln_eps": s.epsilon}
        trains_norm = self.settings.trainable and s.trainable_ln

        def layer(i: int, attention: GatedAttention) -> Tree:
            path = f"repinit.attention.{i}"
            inner = scalars | {"num_heads": 1, "bias": True, "smooth": self.settings.smooth}
            inner["in_proj"] = self.linear(attention.in_proj, f"{path}.in_proj")
            inner["out_proj"] = self.linear(attention.out_proj, f"{path}.out_proj")
            norm = layer_norm(
                attention.norm, f"descriptor.{path}.norm", precision=self.settings.dtype, trainable=trains_norm
            )
            return scalars | norms | {"attention_layer": inner, "attn_layer_norm": norm}

        return {
            "@class": "NeighborGatedAttention",
            "@version": 1,
            "layer_num": len(layers),
            **scalars,
            **norms,
            "attention_layers": [layer(i, attention) for i, attention in enumerate(layers)],
        }

    def repformer(self) -> Tree:
        m = self.model.repformer
        return {
            "g2_embd": self.linear(m.g2_embedding, "repformer.g2_embedding", "none"),
            "repformer_layers": [self.layer(i, layer) for i, layer in enumerate(m.layers)],
        } | self.statistics(m, "repformer")

    def layer(self, i: int, m: RepformerLayer) -> Tree:
        s, path = self.settings.repformer, f"repformer.layers.{i}"
        pairs = m.linear2 is not None
        scalars = """rcut rcut_smth g1_dim g2_dim axis_neuron update_g1_has_conv update_g1_has_drrd update_g1_has_grrg
            update_g1_has_attn attn1_hidden attn1_nhead attn2_hidden attn2_nhead attn2_has_gate activation_function
            update_style trainable_ln use_sqrt_nnei g1_out_conv g1_out_mlp""".split()
        tree: Tree = {"@class": "RepformerLayer", "@version": 2} | {key: getattr(s, key) for key in scalars}
        tree |= {
            "sel": [s.nsel],
            "ntypes": len(self.type_map),
            "update_chnnl_2": pairs,
            "smooth": self.settings.smooth,
            "precision": self.settings.precision,
            "ln_eps": s.epsilon,
        }
        tree |= {key: pairs and getattr(s, key) for key in ("update_g2_has_g1g1", "update_g2_has_attn", "update_h2")}
        plain = {
            "linear1": "linear1", "linear2": "linear2", "proj_g1g2": "proj_g1g2", "proj_g1g1g2": "proj_g1g1g2",
            "g1_self_mlp": "self_mlp",
        }  # fmt: skip
        for key, name in plain.items():
            if getattr(m, name) is not None:
                tree[key] = self.linear(getattr(m, name), f"{path}.{name}", "none")
        tree |= self.attentions(m, path)
        if s.update_style == "res_residual":
            names = ("g1_residual", "g2_residual", "h2_residual")
            tree["@variables"] = {
                name: [self.leaf(f"{path}.{name}.{k}") for k in range(len(getattr(m, name)))] for name in names
            }
        return tree

    def attentions(self, m: RepformerLayer, path: str) -> Tree:
        """The four small classes of a layer's two attentions."""
        tree: Tree = {}
        precision = {"precision": self.settings.precision}

        def entry(key: str, name: str, kind: str, dims: tuple[int, int], maps: tuple[str, ...], extra: Tree) -> None:
            block = getattr(m, name)
            if block is not None:
                head = {"@class": kind, "@version": 1, "input_dim": dims[0], "head_num": dims[1]}
                maps_tree = {x: self.linear(getattr(block, x), f"{path}.{name}.{x}") for x in maps}
                tree[key] = head | extra | precision | maps_tree

        shared = {"smooth": self.settings.smooth, "attnw_shift": 20.0}
        s, g1, g2 = self.settings.repformer, m.g1_dim, m.g2_dim
        pair = {"hidden_dim": s.attn2_hidden, "has_gate": s.attn2_has_gate} | shared
        entry("attn2g_map", "pair_weights", "Atten2Map", (g2, s.attn2_nhead), ("mapqk",), pair)
        entry("attn2_mh_apply", "pair_values", "Atten2MultiHeadApply", (g2, s.attn2_nhead), ("mapv", "head_map"), {})
        entry("attn2_ev_apply", "pair_vectors", "Atten2EquiVarApply", (g2, s.attn2_nhead), ("head_map",), {})
        local = {"hidden_dim": s.attn1_hidden} | shared
        entry("loc_attn", "attn1", "LocalAtten", (g1, s.attn1_nhead), ("mapq", "mapkv", "head_map"), local)
        if m.pair_norm is not None:
            # deepmd-kit passes the flag of the descriptor on to neither this layer nor that of the type embedding
            norm = layer_norm(m.pair_norm, f"descriptor.{path}.pair_norm", trainable=s.trainable_ln, **precision)
            tree["attn2_lm"] = norm
        return tree


# version, name of the output and further keys of each head (specification/serialization.md 5)
FITTINGS = {
    "ener": (4, "energy", ("atom_ener", "dim_out")),
    "dipole": (4, "dipole", ("embedding_width", "r_differentiable", "c_differentiable")),
    "polar": (5, "polar", ("embedding_width", "fit_diag", "shift_diag")),
    "dos": (4, "dos", ("dim_out", "atom_ener")),
    "property": (6, "", ("dim_out", "atom_ener", "task_dim", "intensive", "distinguish_types")),
}


def fitting(settings: ModelSettings, model: Model) -> Tree:
    """The fitting net's part."""
    s, m = settings.fitting_net, model.fitting
    version, name, extra = FITTINGS[s.type]
    trainable = list(s.trainable) if isinstance(s.trainable, tuple) else [s.trainable] * (len(s.neuron) + 1)
    dumped = s.model_dump()
    stored = {
        "neuron",
        "resnet_dt",
        "numb_fparam",
        "numb_aparam",
        "dim_case_embd",
        "default_fparam",
        "activation_function",
    }
    known = {
        "dim_out": m.n_net,
        "embedding_width": settings.descriptor.repformer.g2_dim,
        "r_differentiable": True,
        "c_differentiable": True,
    }
    buffers = {
        "bias_atom_e": "bias", "case_embd": "case", "fparam_avg": "fparam_avg", "fparam_inv_std": "fparam_inv_std",
        "aparam_avg": "aparam_avg", "aparam_inv_std": "aparam_inv_std",
    } | ({"scale": "scale", "constant_matrix": "constant"} if s.type == "polar" else {})  # fmt: skip
    tree = {
        "@class": "Fitting",
        "@version": version,
        "var_name": name or dumped["property_name"],
        "ntypes": settings.n_types,
    }
    tree |= {"type": s.type, "dim_descrpt": settings.descriptor.dim_out, "precision": s.precision, "rcond": s.rcond}
    tree |= {key: dumped[key] for key in stored}
    tree |= {
        "mixed_types": True,
        "exclude_types": list(settings.atom_exclude_types),
        "type_map": list(settings.type_map),
        "tot_ener_zero": False,
        "trainable": trainable,
        "layer_name": dumped.get("layer_name"),
        "use_aparam_as_mask": s.use_aparam_as_mask,
        "spin": None,
        "@variables": {
            key: None if getattr(m, field) is None else Leaf(f"fitting.{field}") for key, field in buffers.items()
        },
        "nets": collection(fitting_network(settings, model, trainable), "fitting_network", settings.n_types),
    }
    return tree | {key: known.get(key, dumped.get(key)) for key in extra}


def fitting_network(settings: ModelSettings, model: Model, trainable: list[bool]) -> Tree:
    s, layers = settings.fitting_net, model.fitting.network.layers
    return {
        "@class": "FittingNetwork",
        "@version": 1,
        "in_dim": layers[0].n_in,
        "out_dim": layers[-1].n_out,
        "neuron": list(s.neuron),
        "activation_function": s.activation_function,
        "resnet_dt": s.resnet_dt,
        "precision": s.precision,
        "bias_out": True,
        "layers": [
            linear(layer, f"fitting.network.layers.{i}", precision=s.dtype, trainable=flag)
            for i, (layer, flag) in enumerate(zip(layers, trainable, strict=True))
        ],
    }
