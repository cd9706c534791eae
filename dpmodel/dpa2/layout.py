"""The descriptor in deepmd-kit's files: layout, names of tensors, settings (specification/serialization.md 4)."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from dpmodel.dpa2.attention import GatedAttention
from dpmodel.dpa2.descriptor import DPA2
from dpmodel.dpa2.repformer import RepformerLayer
from dpmodel.dpa2.repinit import EnvironmentEmbedding
from dpmodel.dpa2.settings import DEFAULT_EPSILON, DPA2Settings
from dpmodel.nn import MLP, Linear
from dpmodel.nn.layout import Leaf, Tree, collection, layer_norm, linear

# newest version of each class that can be read
NEWEST = {"Descriptor": 4, "TypeEmbedNet": 2, "RepformerLayer": 2}
# parts of the tree whose settings are copies
ARGUMENTS = {"repinit_args": "repinit", "repformer_args": "repformer"}
# the entry of each block that may have tables
ENTRIES = {"repinit": "repinit_variable", "three_body": "repinit_three_body_variable"}
# part of a place in the tree: part of a tensor's name; what is not listed has the same name in both
TENSORS = {
    "repinit_variable": "repinit",
    "repinit_three_body_variable": "repinit_three_body",
    "repformers_variable": "repformers",
    "repformer_layers": "layers",
    "embeddings": "filter_layers",
    "embeddings_strip": "filter_layers_strip",
    "embedding": "embedding.embedding_net",  # the type embedding's
    "compress": "",
    "davg": "mean",
    "dstd": "stddev",
}


def settings_in(tree: Mapping[str, Any], arguments: Mapping[str, dict[str, Any]]) -> dict[str, Any]:
    """The settings in the descriptor's ``tree`` and its ``arguments``, those of older versions filled in."""
    repformer = dict(arguments["repformer_args"])
    if repformer.get("ln_eps") == DEFAULT_EPSILON:
        repformer["ln_eps"] = None
    settings = {key: value for key, value in tree.items() if key not in NO_SETTINGS}
    version = tree.get("@version", 1)
    if isinstance(version, int) and version < 3:
        repformer |= {"use_sqrt_nnei": False, "g1_out_conv": False, "g1_out_mlp": False}
        settings.setdefault("use_tebd_bias", True)
    return settings | {"repinit": arguments["repinit_args"], "repformer": repformer}


NO_SETTINGS = {
    *"@class @version ntypes type_map type_embedding tebd_transform g1_shape_tranform repformers_variable".split(),
    *ARGUMENTS,
    *ENTRIES.values(),
}


def layer_count(settings: DPA2Settings) -> int:
    """The number of layers that the settings ask for; each has at least one array."""
    a, b = settings.repinit, settings.repformer
    return b.nlayers + a.attn_layer + len(a.neuron) + (len(a.three_body_neuron) if a.use_three_body else 0)


def extensions(settings: DPA2Settings, model: DPA2) -> Iterator[str]:
    """The features of a descriptor that deepmd-kit 3.2 does not have, and so cannot read or ignores."""
    if settings.repinit.attn_layer:
        yield "attention in repinit"
    if not settings.padding_leak or not settings.truncate:
        yield "padding_leak, truncate"
    if model.three_body is not None and model.three_body.near.table is not None:
        yield "tables of the three-body block"


class Layout:
    """The descriptor's part of a file; ``model`` tells which arrays there are, its values are not looked at."""

    def __init__(self, settings: DPA2Settings, type_map: tuple[str, ...], model: DPA2) -> None:
        self.settings, self.type_map, self.model = settings, type_map, model
        self.kind: dict[str, Any] = {"precision": settings.dtype, "trainable": settings.trainable}

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
        for name, block in m.first_blocks.items():
            tree[ENTRIES[name]] = self.environment_embedding(block.near, f"{name}.near")
        if m.repinit.attention:
            tree["repinit_variable"]["attention_layers"] = self.attention(m.repinit.attention)
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
