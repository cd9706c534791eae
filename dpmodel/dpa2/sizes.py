"""DPA-2 in the sizes of deepmd-kit's examples, as sections of an input file."""

from collections.abc import Mapping
from typing import Any, Literal

from dpmodel.dpa2.settings import DPA2Settings

Size = Literal["small", "medium", "large"]

LAYERS = {"small": (3, False), "medium": (6, True), "large": (12, True)}  # of the repformer; with attention on pairs
WIDE, NARROW = 6.0, 4.0  # angstrom: cutoffs of repinit, and of the other blocks
TEXT = """\
    type: dpa2
    precision: float64
    seed: 1
    repinit:  # the first description of an atom, from all its neighbors
      rcut: {wide}  # Å
      rcut_smth: 0.5
      nsel: {nsel_wide}  # atoms have up to {most_wide} neighbors within {wide:g} Å
      neuron: [25, 50, 100]
      axis_neuron: 12
      tebd_dim: 8
      use_three_body: true
      three_body_rcut: {narrow}
      three_body_rcut_smth: {smooth}
      three_body_sel: {nsel_three}  # up to {most_narrow} within {narrow:g} Å
    repformer:  # layers of message passing
      rcut: {narrow}
      rcut_smth: {smooth}
      nsel: {nsel_narrow}
      nlayers: {layers}  # {size}; small 3, medium 6, large 12
      g1_dim: 128
      g2_dim: 32
      axis_neuron: 4
      attn1_hidden: 128
      attn1_nhead: 4
      attn2_hidden: 32
      attn2_nhead: 4
      attn2_has_gate: true
      update_g1_has_attn: false
      update_g2_has_g1g1: false
      update_g2_has_attn: {attention}  # attention on pairs, in medium and large
      update_style: res_residual
      update_residual: 0.01
      update_residual_init: norm
"""


def sized(size: Size) -> dict[str, Any]:
    """The section ``descriptor`` of a model; numbers of neighbors are left to the data."""
    layers, attention = LAYERS[size]
    return {
        "type": "dpa2",
        "repinit": {
            "rcut": WIDE, "rcut_smth": 0.5, "nsel": "auto", "axis_neuron": 12, "use_three_body": True,
            "three_body_rcut": NARROW, "three_body_rcut_smth": NARROW - 0.5, "three_body_sel": "auto",
        },
        "repformer": {
            "rcut": NARROW, "rcut_smth": NARROW - 0.5, "nsel": "auto", "nlayers": layers, "g1_dim": 128, "g2_dim": 32,
            "attn1_hidden": 128, "attn2_hidden": 32, "attn2_has_gate": True, "update_g1_has_attn": False,
            "update_g2_has_g1g1": False, "update_g2_has_attn": attention, "update_style": "res_residual",
            "update_residual": 0.01,
        },
    }  # fmt: skip


def commented(settings: DPA2Settings, size: Size, most: Mapping[float, int]) -> str:
    """The same section as YAML with comments; ``most``: how many neighbors atoms have within each cutoff."""
    repinit, repformer = settings.repinit, settings.repformer
    return TEXT.format(
        wide=WIDE,
        narrow=NARROW,
        smooth=NARROW - 0.5,
        nsel_wide=repinit.nsel,
        nsel_three=repinit.three_body_sel,
        nsel_narrow=repformer.nsel,
        most_wide=most[WIDE],
        most_narrow=most[NARROW],
        layers=repformer.nlayers,
        size=size,
        attention=str(repformer.update_g2_has_attn).lower(),
    )
