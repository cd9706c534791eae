"""From settings to a descriptor: which parameters exist, and their shapes."""

from typing import Any

from dpmodel.dpa2.attention import GatedAttention
from dpmodel.dpa2.descriptor import DPA2
from dpmodel.dpa2.local_attention import LocalAttention
from dpmodel.dpa2.pair_attention import PairValues, PairVectors, PairWeights
from dpmodel.dpa2.repformer import Repformer, RepformerLayer
from dpmodel.dpa2.repinit import EnvironmentEmbedding, Repinit
from dpmodel.dpa2.settings import DPA2Settings, RepformerSettings
from dpmodel.dpa2.three_body import ThreeBody
from dpmodel.dpa2.type_embedding import TypeEmbedding
from dpmodel.initializers import Initializer
from dpmodel.nn import MLP, LayerNorm, Linear
from dpmodel.xp import Array

SMALL = 4.0  # gain for what repinit gives: products of averages over neighbors, around 0.1


def build_descriptor(settings: DPA2Settings, type_map: tuple[str, ...], draw: Initializer) -> DPA2:
    """The descriptor that ``settings`` describe, its arrays drawn by ``draw`` in the precision of the settings."""
    draw = draw.cast(settings.dtype)
    repinit, repformer, n_types = settings.repinit, settings.repformer, len(type_map)
    econf = None
    if settings.use_econf_tebd:
        from dpmodel.dpa2.econf import type_features

        econf = type_features(type_map).astype(draw.numpy_dtype)
    width = settings.repinit_dim
    type_embedding = TypeEmbedding.make(
        draw("type_embedding"), n_types, repinit.tebd_dim, features=econf, bias=settings.use_tebd_bias
    )
    return DPA2(
        type_embedding=type_embedding,
        repinit=build_repinit(settings, n_types, draw("repinit")),
        three_body=build_three_body(settings, n_types, draw("three_body")) if repinit.use_three_body else None,
        shape_transform=Linear.make(draw("shape_transform"), width, repformer.g1_dim, bias=False, gain=SMALL)
        if width != repformer.g1_dim
        else None,
        type_transform=Linear.make(draw("type_transform"), repinit.tebd_dim, repformer.g1_dim, bias=False)
        if settings.add_tebd_to_repinit_out
        else None,
        repformer=build_repformer(settings, n_types, draw("repformer")),
        activation=repformer.activation_function,
        concat_types=settings.concat_output_tebd,
        truncate=settings.truncate,
    )


def of_block(settings: DPA2Settings, name: str, n_types: int, draw: Initializer) -> dict[str, Any]:
    """The fields that all blocks have: fresh statistics, cutoffs, and the settings of the whole descriptor."""
    block = settings.block_settings[name]
    return {
        "mean": draw("mean").full((n_types, 4), 0.0),
        "stddev": draw("stddev").full((n_types, 4), 1.0),
        "n_types": n_types,
        "n_slots": int(block.nsel),
        "cutoff": block.cutoff,
        "smooth_cutoff": block.smooth_cutoff,
        "smooth": settings.smooth,
        "protection": settings.env_protection,
        "excluded": settings.exclude_types,
    }


def environment_embedding(
    settings: DPA2Settings, name: str, n_types: int, draw: Initializer, widths: tuple[int, ...], n_features: int
) -> EnvironmentEmbedding:
    """Embedding of one number and ``n_features`` type embeddings (by two networks in strip mode), fresh statistics."""
    repinit = settings.repinit
    strip, features = repinit.tebd_input_mode == "strip", n_features * repinit.tebd_dim
    kinds: dict[str, Any] = {"activation": repinit.activation_function, "time_step": repinit.resnet_dt}
    n_in = 1 if strip else 1 + features
    return EnvironmentEmbedding(
        **of_block(settings, name, n_types, draw),
        embedding=MLP.embedding(draw("embedding"), (n_in, *widths), **kinds),
        strip=MLP.embedding(draw("strip"), (features, *widths), **kinds) if strip else None,
        padding_leak=settings.padding_leak,
    )


def build_repinit(settings: DPA2Settings, n_types: int, draw: Initializer) -> Repinit:
    s = settings.repinit
    n_features = 1 if s.type_one_side else 2
    near = environment_embedding(settings, "repinit", n_types, draw("near"), s.neuron, n_features)
    attention = tuple(
        GatedAttention.make(
            draw(f"attention.{i}"),
            s.neuron[-1],
            s.attn,
            scaling_factor=s.scaling_factor,
            temperature=s.temperature,
            eps=s.epsilon,
            normalize=s.normalize,
            dot_directions=s.attn_dotr,
            smooth=settings.smooth,
            truncate=settings.truncate,
            n_slots=s.nsel,
        )
        for i in range(s.attn_layer)
    )
    return Repinit(near=near, attention=attention, axis=s.axis_neuron, one_side=s.type_one_side)


def build_three_body(settings: DPA2Settings, n_types: int, draw: Initializer) -> ThreeBody:
    widths = settings.repinit.three_body_neuron
    return ThreeBody(near=environment_embedding(settings, "three_body", n_types, draw("near"), widths, n_features=2))


def build_repformer(settings: DPA2Settings, n_types: int, draw: Initializer) -> Repformer:
    s = settings.repformer
    return Repformer(
        **of_block(settings, "repformer", n_types, draw),
        g2_embedding=Linear.make(draw("g2_embedding"), 1, s.g2_dim, activation=s.activation_function),
        layers=tuple(build_layer(settings, draw(f"layers.{i}"), last=i == s.nlayers - 1) for i in range(s.nlayers)),
        direct_distance=s.direct_dist,
        sqrt_counts=s.use_sqrt_nnei,
    )


def build_layer(settings: DPA2Settings, draw: Initializer, *, last: bool) -> RepformerLayer:
    """One repformer layer; the last one has no pair updates."""
    s = settings.repformer
    g1, g2, pairs = s.g1_dim, s.g2_dim, not last
    attends, turns = pairs and s.update_g2_has_attn, pairs and s.update_h2
    slots = {"n_slots": s.nsel, "smooth": settings.smooth, "truncate": settings.truncate}
    act: dict[str, Any] = {"activation": s.activation_function}
    conv_shape = (g2, g1) if s.g1_out_conv else (g1, g2)
    return RepformerLayer(
        linear1=Linear.make(draw("linear1"), g1_input_width(s), g1, **act),
        self_mlp=Linear.make(draw("self_mlp"), g1, g1, **act) if s.g1_out_mlp else None,
        proj_g1g2=Linear.make(draw("proj_g1g2"), *conv_shape, bias=False) if s.update_g1_has_conv else None,
        attn1=LocalAttention.make(draw("attn1"), g1, s.attn1_hidden, s.attn1_nhead, **slots)
        if s.update_g1_has_attn
        else None,
        linear2=Linear.make(draw("linear2"), g2, g2, **act) if pairs else None,
        proj_g1g1g2=Linear.make(draw("proj_g1g1g2"), g1, g2, bias=False) if pairs and s.update_g2_has_g1g1 else None,
        pair_weights=PairWeights.make(
            draw("pair_weights"), g2, s.attn2_hidden, s.attn2_nhead, has_gate=s.attn2_has_gate, **slots
        )
        if attends or turns
        else None,
        pair_values=PairValues.make(draw("pair_values"), g2, s.attn2_nhead) if attends else None,
        pair_norm=LayerNorm.make(draw("pair_norm"), g2, s.epsilon) if attends else None,
        pair_vectors=PairVectors.make(draw("pair_vectors"), s.attn2_nhead) if turns else None,
        **residuals(s, draw, last=last),
        g1_dim=g1,
        g2_dim=g2,
        axis=s.axis_neuron,
        has_grrg=s.update_g1_has_grrg,
        has_drrd=s.update_g1_has_drrd,
        out_conv=s.g1_out_conv,
        update_style=s.update_style,
    )


def g1_input_width(s: RepformerSettings) -> int:
    """Width of the concatenation that linear1 reads (specification/descriptor.md 9.2.2)."""
    width = 0 if s.g1_out_mlp else s.g1_dim
    width += s.g2_dim if s.update_g1_has_conv and not s.g1_out_conv else 0
    width += s.axis_neuron * s.g2_dim if s.update_g1_has_grrg else 0
    return width + (s.axis_neuron * s.g1_dim if s.update_g1_has_drrd else 0)


def residuals(s: RepformerSettings, draw: Initializer, *, last: bool) -> dict[str, tuple[Any, ...]]:
    """The terms of each update and their residual vectors (specification/descriptor.md 9.2.5)."""
    terms, widths = s.update_terms(last=last), {"g1": s.g1_dim, "g2": s.g2_dim, "h2": 1}
    if s.update_style != "res_residual":
        terms = dict.fromkeys(terms, ())

    def vector(update: str, i: int) -> Array:
        d, shape = draw(f"{update}_residual.{i}"), (widths[update],)
        normal = s.update_residual_init == "norm"
        return d.normal(shape, s.update_residual) if normal else d.full(shape, s.update_residual)

    vectors = {name: tuple(vector(name, i) for i in range(len(names))) for name, names in terms.items()}
    return {f"{name}_terms": names for name, names in terms.items()} | {
        f"{name}_residual": values for name, values in vectors.items()
    }
