"""The options of the descriptor that the conformance kit varies, plainest first, and the meanings of its terms."""

from collections.abc import Sequence
from typing import Any

from dpmodel.ops.activations import ACTIVATIONS

OFF_ON, ON_OFF = (False, True), (True, False)
ACTIVATION_CHOICES = (*ACTIVATIONS, "silut:1.5")  # tanh first


def cutoffs(*values: float) -> dict[str, Any]:
    """Cutoff, where the switch starts to fall (both angstrom) and number of neighbors of each block."""
    blocks = ("repinit.", "repformer.", "repinit.three_body_")
    names = [f"descriptor.{block}{name}" for block in blocks for name in ("rcut", "rcut_smth", "sel")]
    return dict(zip([name.replace(".sel", ".nsel") for name in names], values, strict=True))


TIGHT = cutoffs(4.5, 0.5, 12, 3.2, 0.5, 6, 3.2, 0.5, 5)
CUTOFFS = (
    cutoffs(4.5, 0.5, 60, 3.2, 0.5, 40, 3.2, 0.5, 40),
    cutoffs(4.6, 0.0, 60, 3.5, 0.0, 40, 3.0, 0.0, 40),
    cutoffs(4.2, 4.0, 60, 3.1, 2.9, 40, 4.8, 1.0, 70),
    TIGHT,  # more neighbors than are kept
)

REPINIT: dict[str, Sequence[Any]] = {
    "neuron": ((4,), (2, 4), (3, 3, 6)),
    "axis_neuron": (2, 1),
    "tebd_dim": (3, 2, 4),
    "tebd_input_mode": ("concat", "strip"),
    "set_davg_zero": ON_OFF,
    "activation_function": ACTIVATION_CHOICES,
    "resnet_dt": OFF_ON,
    "type_one_side": OFF_ON,
    "use_three_body": OFF_ON,
    "three_body_neuron": ((2,), (2, 4)),
}
# deepmd-kit's DPA-2 does not have these
ATTENTION: dict[str, Sequence[Any]] = {
    "attn_layer": (0, 1, 2),
    "attn": (4, 6),
    "attn_dotr": ON_OFF,
    "normalize": ON_OFF,
    "scaling_factor": (1.0, 0.5),
    "temperature": (None, 0.7),
    "ln_eps": (None, 1e-3),
}
REPFORMER: dict[str, Sequence[Any]] = {
    "nlayers": (1, 2, 3),
    "g1_dim": (4, 8, 5),
    "g2_dim": (3, 2, 4),
    "axis_neuron": (2, 1),
    "direct_dist": OFF_ON,
    "update_g1_has_conv": OFF_ON,
    "update_g1_has_drrd": OFF_ON,
    "update_g1_has_grrg": OFF_ON,
    "update_g1_has_attn": OFF_ON,
    "update_g2_has_g1g1": OFF_ON,
    "update_g2_has_attn": OFF_ON,
    "update_h2": OFF_ON,
    "use_sqrt_nnei": ON_OFF,
    "g1_out_conv": OFF_ON,
    "g1_out_mlp": OFF_ON,
    "attn1_hidden": (2, 3),
    "attn1_nhead": (1, 2, 3),
    "attn2_hidden": (2, 3),
    "attn2_nhead": (1, 2, 3),
    "attn2_has_gate": OFF_ON,
    "activation_function": ACTIVATION_CHOICES,
    "update_style": ("res_avg", "res_incr", "res_residual"),
    "set_davg_zero": ON_OFF,
    "ln_eps": (None, 1e-3),
}
DESCRIPTOR: dict[str, Sequence[Any]] = {
    **{f"repinit.{name}": choices for name, choices in REPINIT.items()},
    **{f"repformer.{name}": choices for name, choices in REPFORMER.items()},
    "concat_output_tebd": OFF_ON,
    "precision": ("float64", "float64", "float64", "float32"),
    "smooth": ON_OFF,
    "exclude_types": ((), ((0, 0),), ((0, 1),)),
    "env_protection": (0.0, 0.01),
    "add_tebd_to_repinit_out": OFF_ON,
    "use_econf_tebd": OFF_ON,
    "use_tebd_bias": OFF_ON,
}
EXTENSIONS: dict[str, Sequence[Any]] = {
    **{f"descriptor.repinit.{name}": choices for name, choices in ATTENTION.items()},
    "descriptor.padding_leak": ON_OFF,
    "descriptor.truncate": ON_OFF,
}
MEANINGS = {
    "type_embedding": "what is known of each type (docs/specification/descriptor.md 4)",
    "rows": "normalized environment rows (docs/specification/descriptor.md 3)",
    "switch": "switch of each neighbor (docs/specification/descriptor.md 3)",
    "repinit": "output of the repinit block (docs/specification/descriptor.md 5)",
    "three_body": "output of the three-body block (docs/specification/descriptor.md 7)",
    "g1": "single-atom representation (docs/specification/descriptor.md 9.2)",
    "g2": "pair representation (docs/specification/descriptor.md 9)",
    "h2": "directions of pairs (docs/specification/descriptor.md 9)",
    "rot_mat": "moment of h2 and g2 after the last layer (docs/specification/descriptor.md 10)",
    "descriptor": "the descriptor (docs/specification/descriptor.md 10)",
}
