"""Settings of the DPA-2 descriptor (specification/descriptor.md 13), in the names of deepmd-kit's input file."""

from collections.abc import Iterator
from itertools import pairwise
from typing import ClassVar, Literal, NamedTuple

from dpmodel.errors import SettingError
from dpmodel.graph import Block
from dpmodel.setting_types import Activation, Count, Nsel, Precision, Seed, TypePairs, Widths, dtype_name
from dpmodel.settings import Settings, setting

LENGTH = "Å"

WIDEST = 50.0  # angstrom; an atom of a solid has more than 30,000 neighbors within it
DEFAULT_EPSILON = 1e-5  # in layer normalizations


class RepinitSettings(Settings):
    """The first block: neighbors within the widest cutoff, seen through an embedding network."""

    rcut: float = setting(..., "Cutoff radius of repinit.", unit=LENGTH, gt=0, le=WIDEST)
    rcut_smth: float = setting(..., "Distance where the switch of repinit starts to fall.", unit=LENGTH, ge=0)
    nsel: Nsel = setting(..., "Number of nearest neighbors that repinit keeps.", unit="atoms")
    neuron: Widths = setting((25, 50, 100), "Widths of the embedding network.")
    axis_neuron: Count = setting(16, "Number of embedding channels on the short axis of the descriptor matrix.")
    tebd_dim: Count = setting(8, "Width of the type embedding.")
    tebd_input_mode: Literal["concat", "strip"] = setting(
        "concat", "Whether types enter the embedding network beside the distance or as a separate factor."
    )
    set_davg_zero: bool = setting(True, "Keep the mean of the environment matrix at zero.")
    activation_function: Activation = setting("tanh", "Activation of the embedding networks.")
    resnet_dt: bool = setting(False, "Scale the shortcut layers of the embedding networks by trained time steps.")
    type_one_side: bool = setting(False, "Embed the neighbor's type only, not the pair of types.")
    use_three_body: bool = setting(False, "Add the three-body block.")
    three_body_neuron: Widths = setting((2, 4, 8), "Widths of the embedding network of the three-body block.")
    three_body_rcut: float = setting(4.0, "Cutoff radius of the three-body block.", unit=LENGTH, gt=0, le=WIDEST)
    three_body_rcut_smth: float = setting(
        0.5, "Distance where the switch of the three-body block starts to fall.", unit=LENGTH, ge=0
    )
    three_body_sel: Nsel = setting(40, "Number of nearest neighbors of the three-body block.", unit="atoms")

    # Attention among the neighbors (specification/descriptor.md 6): deepmd-kit has it in DPA-1 only.
    attn_layer: int = setting(0, "Number of attention layers.", sparse=True, ge=0)
    attn: Count = setting(128, "Hidden width of the attention.", sparse=True)
    attn_dotr: bool = setting(
        True, "Multiply attention weights by the cosine between the neighbors' directions.", sparse=True
    )
    attn_mask: bool = setting(False, "Accepted for compatibility, without effect.", sparse=True)
    normalize: bool = setting(True, "Normalize queries, keys and values of the attention.", sparse=True)
    scaling_factor: float = setting(1.0, "Attention logits are divided by sqrt(attn * this).", sparse=True, gt=0)
    temperature: float | None = setting(
        None, "Attention logits are multiplied by this instead of 1/sqrt(attn * scaling_factor).", sparse=True, gt=0
    )
    trainable_ln: bool = setting(True, "Train the layer normalization of the attention.", sparse=True)
    ln_eps: float | None = setting(
        None, "Small number in the layer normalization of the attention; 1e-5 if null.", sparse=True, gt=0
    )

    @property
    def epsilon(self) -> float:
        """``ln_eps`` with its default filled in."""
        return DEFAULT_EPSILON if self.ln_eps is None else self.ln_eps

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.rcut_smth >= self.rcut:
            yield "rcut_smth", f"should be below rcut = {self.rcut} Å, got {self.rcut_smth}"
        if self.axis_neuron > self.neuron[-1]:
            yield "axis_neuron", f"should be at most the last of neuron = {self.neuron[-1]}, got {self.axis_neuron}"
        if self.use_three_body and self.three_body_rcut_smth >= self.three_body_rcut:
            limit, got = self.three_body_rcut, self.three_body_rcut_smth
            yield "three_body_rcut_smth", f"should be below three_body_rcut = {limit} Å, got {got}"


class RepformerSettings(Settings):
    """The second block: layers that pass messages between neighbors within a shorter cutoff."""

    rcut: float = setting(..., "Cutoff radius of the repformer.", unit=LENGTH, gt=0, le=WIDEST)
    rcut_smth: float = setting(..., "Distance where the switch of the repformer starts to fall.", unit=LENGTH, ge=0)
    nsel: Nsel = setting(..., "Number of nearest neighbors that the repformer keeps.", unit="atoms")
    nlayers: Count = setting(3, "Number of repformer layers.")
    g1_dim: Count = setting(128, "Width of the atomic representation g1.")
    g2_dim: Count = setting(16, "Width of the pair representation g2.")
    axis_neuron: Count = setting(4, "Number of channels on the short axis of the symmetrized products.")
    direct_dist: bool = setting(
        False, "Start g2 and h2 from the plain distance and vector instead of the environment matrix."
    )
    update_g1_has_conv: bool = setting(True, "Update g1 by a convolution with g2.")
    update_g1_has_drrd: bool = setting(True, "Update g1 by the symmetrized product of the neighbors' g1.")
    update_g1_has_grrg: bool = setting(True, "Update g1 by the symmetrized product of g2.")
    update_g1_has_attn: bool = setting(True, "Update g1 by attention over the neighbors.")
    update_g2_has_g1g1: bool = setting(True, "Update g2 by the product of the g1 of both atoms.")
    update_g2_has_attn: bool = setting(True, "Update g2 by gated attention among the neighbors.")
    use_sqrt_nnei: bool = setting(
        True, "Divide sums of vectors over neighbors by the square root of nsel instead of nsel."
    )
    g1_out_conv: bool = setting(True, "Add the convolution to g1 directly instead of feeding it to the linear layer.")
    g1_out_mlp: bool = setting(True, "Give g1 a layer of its own instead of feeding it to the common linear layer.")
    update_h2: bool = setting(False, "Update the equivariant pair representation h2.")
    attn1_hidden: Count = setting(64, "Hidden width per head of the attention that updates g1.")
    attn1_nhead: Count = setting(4, "Number of heads of the attention that updates g1.")
    attn2_hidden: Count = setting(16, "Hidden width per head of the attention that updates g2 and h2.")
    attn2_nhead: Count = setting(4, "Number of heads of the attention that updates g2 and h2.")
    attn2_has_gate: bool = setting(False, "Gate the logits of the attention that updates g2 by the product of h2.")
    activation_function: Activation = setting("tanh", "Activation of the repformer.")
    update_style: Literal["res_avg", "res_incr", "res_residual"] = setting(
        "res_avg", "How a representation and its updates are combined: average, increment, or trained residual weights."
    )
    update_residual: float = setting(0.001, "Initial size of the residual weights of res_residual.", ge=0)
    update_residual_init: Literal["norm", "const"] = setting(
        "norm", "Whether the residual weights start normally distributed or constant."
    )
    set_davg_zero: bool = setting(True, "Keep the mean of the environment matrix at zero.")
    trainable_ln: bool = setting(True, "Train the layer normalization.")
    ln_eps: float | None = setting(None, "Small number in the layer normalization; 1e-5 if null.", gt=0)

    @property
    def epsilon(self) -> float:
        """``ln_eps`` with its default filled in."""
        return DEFAULT_EPSILON if self.ln_eps is None else self.ln_eps

    def update_terms(self, *, last: bool) -> dict[str, tuple[str, ...]]:
        """The terms that update g1, g2 and h2 in a layer, in the order in which files number their residual vectors."""
        pairs = not last
        updates = {
            "g1": {
                "self_mlp": self.g1_out_mlp,
                "convolution": self.update_g1_has_conv and self.g1_out_conv,
                "linear1": True,
                "attn1": self.update_g1_has_attn,
            },
            "g2": {
                "linear2": pairs,
                "g1g1": pairs and self.update_g2_has_g1g1,
                "attention": pairs and self.update_g2_has_attn,
            },
            "h2": {"attention": pairs and self.update_h2},
        }
        return {name: tuple(term for term, used in terms.items() if used) for name, terms in updates.items()}

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.rcut_smth >= self.rcut:
            yield "rcut_smth", f"should be below rcut = {self.rcut} Å, got {self.rcut_smth}"
        for used, name in ((self.update_g1_has_grrg, "g2_dim"), (self.update_g1_has_drrd, "g1_dim")):
            if used and self.axis_neuron > getattr(self, name):
                yield "axis_neuron", f"should be at most {name} = {getattr(self, name)}, got {self.axis_neuron}"
        conv_inside = self.update_g1_has_conv and not self.g1_out_conv
        if self.g1_out_mlp and not (conv_inside or self.update_g1_has_grrg or self.update_g1_has_drrd):
            yield (
                "g1_out_mlp",
                "leaves nothing for the common linear layer of g1 (empty concatenation): turn on update_g1_has_grrg"
                " or update_g1_has_drrd, or update_g1_has_conv without g1_out_conv, or turn off g1_out_mlp",
            )


class BlockSettings(NamedTuple):
    """The settings that the blocks have in common, and where the model has the statistics of each."""

    cutoff: float  # angstrom
    smooth_cutoff: float  # angstrom: where the switch starts to fall
    nsel: int | str
    nsel_path: str  # of the setting, below the descriptor
    has_mean: bool  # whether the mean of the environment matrix is that of the data, not zero
    statistics: str  # path of the module with mean and stddev, below the descriptor


class DPA2Settings(Settings):
    """The DPA-2 descriptor: repinit, an optional three-body block, and the repformer."""

    type: Literal["dpa2"] = setting("dpa2", "The kind of descriptor.")
    repinit: RepinitSettings = setting(..., "The repinit block.")
    repformer: RepformerSettings = setting(..., "The repformer block.")
    concat_output_tebd: bool = setting(True, "Append the type embedding to the descriptor.")
    precision: Precision = setting("default", "Precision of parameters and arithmetic; the default is float64.")
    smooth: bool = setting(True, "Let every update vanish smoothly at the cutoff.")
    exclude_types: TypePairs = setting((), "Pairs of types that do not see each other inside the descriptor.")
    env_protection: float = setting(0.0, "Added to distances before they divide.", unit=LENGTH, ge=0)
    trainable: bool = setting(True, "Train the parameters of the descriptor.")
    seed: Seed = setting(None, "Seed of the initial parameters.")
    add_tebd_to_repinit_out: bool = setting(
        False,
        "Add a transformed type embedding to what repinit hands over.",
        aliases=("repformer_add_type_ebd_to_seq",),
    )
    use_econf_tebd: bool = setting(False, "Embed types by their electron configuration.")
    use_tebd_bias: bool = setting(False, "Give the type embedding a bias.")
    padding_leak: bool = setting(
        True,
        "Let empty neighbor slots contribute where set_davg_zero is false, as deepmd-kit's dense backends do.",
        sparse=True,
    )
    truncate: bool = setting(
        True, "Keep only the nsel nearest neighbors; otherwise use all within the cutoff.", sparse=True
    )

    moved: ClassVar = {
        **{f"repinit_{name}": f"repinit.{name}" for name in RepinitSettings.model_fields},
        **{f"repformer_{name}": f"repformer.{name}" for name in RepformerSettings.model_fields},
        "tebd_dim": "repinit.tebd_dim",
        "repinit_activation": "repinit.activation_function",
        "repformer_activation": "repformer.activation_function",
        "repformer_axis_dim": "repformer.axis_neuron",
    }

    @property
    def resolved(self) -> bool:
        """Whether every ``nsel`` in use is a number, no longer "auto"."""
        return all(isinstance(block.nsel, int) for block in self.block_settings.values())

    @property
    def cutoff(self) -> float:
        """The widest cutoff of the blocks in use, angstrom."""
        return max(block.cutoff for block in self.block_settings.values())

    @property
    def block_settings(self) -> dict[str, BlockSettings]:
        """The settings of each block in use, by its name."""
        a, b = self.repinit, self.repformer
        wide, narrow = (a.rcut, a.rcut_smth, a.nsel), (b.rcut, b.rcut_smth, b.nsel)
        three = (a.three_body_rcut, a.three_body_rcut_smth, a.three_body_sel)
        blocks = {
            "repinit": BlockSettings(*wide, "repinit.nsel", not a.set_davg_zero, "repinit.near"),
            "three_body": BlockSettings(*three, "repinit.three_body_sel", not a.set_davg_zero, "three_body.near"),
            "repformer": BlockSettings(*narrow, "repformer.nsel", not b.set_davg_zero, "repformer"),
        }
        return {name: block for name, block in blocks.items() if name != "three_body" or a.use_three_body}

    @property
    def blocks(self) -> dict[str, Block]:
        """The neighbors that each block asks for; raises SettingError while an ``nsel`` is "auto"."""
        if not self.resolved:
            raise SettingError('model.descriptor: nsel is "auto"; it becomes a number when training counts neighbors')
        return {name: Block(block.cutoff, int(block.nsel)) for name, block in self.block_settings.items()}

    @property
    def selections(self) -> list[tuple[float, int | str, str]]:
        """``(cutoff, nsel, path of nsel)`` of the blocks in use."""
        return [(block.cutoff, block.nsel, block.nsel_path) for block in self.block_settings.values()]

    @property
    def increasing(self) -> list[tuple[str, str]]:
        """Paths of selections of which the second one has to be the larger."""
        return [("repformer.nsel", "repinit.nsel")]

    @property
    def nsel_meaning(self) -> str:
        """The choice of neighbors in words."""
        return "the nsel nearest" if self.truncate else "all within the cutoffs (nsel only normalizes)"

    @property
    def exportable_takes_all(self) -> bool:
        """Whether deepmd-kit's exportable backend takes all neighbors, if the model has no tables.

        See specification/descriptor.md 12.
        """
        zero = self.repinit.set_davg_zero and self.repformer.set_davg_zero
        return zero and not self.repinit.use_three_body

    @property
    def repinit_dim(self) -> int:
        """Width of what repinit and the three-body block hand over: ``ng * axis_neuron (+ three_body_neuron[-1])``."""
        width = self.repinit.neuron[-1] * self.repinit.axis_neuron
        return width + self.repinit.three_body_neuron[-1] if self.repinit.use_three_body else width

    @property
    def dim_out(self) -> int:
        """Width of the descriptor: ``g1_dim``, with the type embedding if ``concat_output_tebd``."""
        return self.repformer.g1_dim + (self.repinit.tebd_dim if self.concat_output_tebd else 0)

    @property
    def rotation_width(self) -> int:
        """Number of vectors in the ``rot_mat`` of an atom."""
        return self.repformer.g2_dim

    @property
    def dtype(self) -> str:
        """``precision`` as the name of a dtype."""
        return dtype_name(self.precision)

    def problems(self) -> Iterator[tuple[str, str]]:
        wide, narrow = self.repinit, self.repformer
        if narrow.rcut >= wide.rcut:
            yield "repformer.rcut", f"should be below repinit.rcut = {wide.rcut} Å, got {narrow.rcut}"
        if isinstance(wide.nsel, int) and isinstance(narrow.nsel, int) and narrow.nsel >= wide.nsel:
            yield "repformer.nsel", f"should be below repinit.nsel = {wide.nsel}, got {narrow.nsel}"
        counted = sorted((rcut, nsel, path) for rcut, nsel, path in self.selections if isinstance(nsel, int))
        for (_, fewer, path), (_, more, wider) in pairwise(counted):
            if "three_body_sel" in path + wider and fewer > more:
                yield path, f"should be at most {wider} = {more}, whose cutoff is wider, got {fewer}"
