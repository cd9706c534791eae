"""Settings of a model, in the names of deepmd-kit's input file.

See specification/training.md 1.1, 1.3 and specification/model.md 2.1, 5.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, Tag

from dpmodel.dpa2.settings import DPA2Settings
from dpmodel.graph import Selection
from dpmodel.setting_types import (
    Activation,
    Count,
    Index,
    Listed,
    OneOrMany,
    Precision,
    Seed,
    TypePairs,
    Widths,
    by_type,
    dtype_name,
)
from dpmodel.settings import ANY, Settings, setting

Name = Annotated[str, Field(min_length=1)]


class CommonFittingSettings(Settings):
    """The settings that all fitting nets share."""

    type: str = setting("ener", "The kind of fitting net.")
    neuron: Widths = setting((120, 120, 120), "Widths of the hidden layers.", aliases=("n_neuron",))
    activation_function: Activation = setting("tanh", "Activation of the hidden layers.")
    precision: Precision = setting("default", "Precision of parameters and arithmetic; the default is float64.")
    resnet_dt: bool = setting(True, "Scale the shortcut layers by trained time steps.")
    numb_fparam: Index = setting(0, "Number of frame parameters, such as a temperature.")
    numb_aparam: Index = setting(0, "Number of atomic parameters.")
    default_fparam: Listed[float] | None = setting(None, "Frame parameters of frames that come without.")
    dim_case_embd: Index = setting(0, "Width of the one-hot vector that tells the tasks of a multi-task model apart.")
    trainable: OneOrMany[bool] = setting(
        True, "Train the parameters; a list has one flag for each hidden layer and one for the output layer."
    )
    seed: Seed = setting(None, "Seed of the initial parameters.")
    rcond: float | None = setting(None, "Relative cut-off of the least squares for the output bias.", sparse=True, gt=0)
    use_aparam_as_mask: bool = setting(False, "Keep the atomic parameters out of the network.", sparse=True)

    @property
    def dtype(self) -> str:
        """``precision`` as the name of a dtype."""
        return dtype_name(self.precision)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.default_fparam is not None and len(self.default_fparam) != self.numb_fparam:
            yield "default_fparam", _length("numb_fparam", self.numb_fparam, self.default_fparam)
        if isinstance(self.trainable, tuple) and len(self.trainable) != len(self.neuron) + 1:
            yield "trainable", _length("neuron plus one", len(self.neuron) + 1, self.trainable)


class EnergyFitting(CommonFittingSettings):
    """The energy, with forces and virial as its derivatives."""

    type: Literal["ener"] = setting("ener", "The kind of fitting net.")
    atom_ener: Listed[float | None] = setting(
        (),
        "One entry a type. If any is a number, the network's value for an atom without surroundings is subtracted;"
        " the numbers themselves are not used.",
    )
    layer_name: Listed[str | None] | None = setting(
        None, "Accepted for compatibility with TensorFlow models, without effect.", sparse=True, idle=True
    )

    @property
    def output(self) -> str:
        """Name of the quantity in ``preset_out_bias``."""
        return "energy"


class DipoleFitting(CommonFittingSettings):
    """The dipole moment."""

    type: Literal["dipole"] = setting("dipole", "The kind of fitting net.")
    sel_type: OneOrMany[Index] | None = setting(
        None, "Types of the atoms that carry a dipole; all if null.", aliases=("dipole_type",)
    )

    @property
    def output(self) -> str:
        """Name of the quantity in ``preset_out_bias``."""
        return "dipole"


class PolarFitting(CommonFittingSettings):
    """The polarizability tensor."""

    type: Literal["polar"] = setting("polar", "The kind of fitting net.")
    fit_diag: bool = setting(True, "Fit a diagonal matrix in the local frame instead of a full one.")
    scale: OneOrMany[float] = setting(1.0, "Factor on the fitted matrix, for all types or for each.")
    shift_diag: bool = setting(True, "Shift the diagonal by the mean polarizability of the type.")
    sel_type: OneOrMany[Index] | None = setting(
        None, "Types of the atoms that carry a polarizability; all if null.", aliases=("pol_type",)
    )

    @property
    def output(self) -> str:
        """Name of the quantity in ``preset_out_bias``."""
        return "polarizability"


class DosFitting(CommonFittingSettings):
    """The density of states on a grid of energies."""

    type: Literal["dos"] = setting("dos", "The kind of fitting net.")
    precision: Precision = setting("float64", "Precision of parameters and arithmetic.")
    numb_dos: Count = setting(300, "Number of grid points.")

    @property
    def output(self) -> str:
        """Name of the quantity in ``preset_out_bias``."""
        return "dos"


class PropertyFitting(CommonFittingSettings):
    """Any other property of a structure."""

    type: Literal["property"] = setting("property", "The kind of fitting net.")
    property_name: Name = setting(..., "Name of the property, also of its data files.")
    task_dim: Count = setting(1, "Number of components of the property.")
    intensive: bool = setting(False, "Average over atoms instead of summing.")
    distinguish_types: bool = setting(True, "Normalize the output by statistics of each type instead of common ones.")

    @property
    def output(self) -> str:
        """Name of the quantity in ``preset_out_bias``."""
        return self.property_name


FittingSettings = Annotated[
    Annotated[EnergyFitting, Tag("<ener>")]
    | Annotated[DipoleFitting, Tag("<dipole>")]
    | Annotated[PolarFitting, Tag("<polar>")]
    | Annotated[DosFitting, Tag("<dos>")]
    | Annotated[PropertyFitting, Tag("<property>")],
    by_type("ener"),
]
"""One of the fitting nets, chosen by ``type``."""


class ModelSettings(Settings):
    """One model: names of the types, descriptor and fitting net."""

    type: Literal["standard"] = setting("standard", "The kind of model.")
    type_map: Annotated[Listed[Name], Field(min_length=1)] = setting(
        ..., "Names of the types; a type is its position in this list."
    )
    descriptor: DPA2Settings = setting(..., "How the surroundings of an atom are described.")
    fitting_net: FittingSettings = setting(..., "What is predicted from the description.")
    data_stat_nbatch: Count = setting(10, "Number of batches of each system that statistics use.", unit="batches")
    data_stat_protect: float = setting(1e-2, "Smallest standard deviation of frame and atomic parameters.", gt=0)
    data_bias_nsample: Count = setting(
        10, "Accepted for compatibility with TensorFlow models, without effect.", idle=True
    )
    pair_exclude_types: TypePairs = setting((), "Pairs of types that are not neighbors of each other.")
    atom_exclude_types: Listed[Index] = setting(
        (), "Types whose atoms contribute nothing themselves but remain neighbors of others."
    )
    preset_out_bias: dict[str, Listed[OneOrMany[float] | None]] | None = setting(
        None, "Fixed output biases: for an output, such as energy, one entry a type, null where it is fitted."
    )
    finetune_head: Name | None = setting(None, "Branch of the pretrained model to start from.", sparse=True)
    model_branch_alias: Listed[Name] = setting((), "Other names of this branch of a multi-task model.", sparse=True)
    info: dict[str, Any] | None = setting(None, "Notes that travel with the model.", sparse=True)

    ignored: ClassVar = {"srtab_add_bias": ANY, "bridging_r_inner": ANY, "bridging_r_outer": ANY}
    fixed: ClassVar = {"bridging_method": "None"}
    foreign: ClassVar = {
        **dict.fromkeys(
            ("use_srtab", "smin_alpha", "sw_rmin", "sw_rmax"),
            "belongs to a model that turns into a table of pairs (ZBL) at short distances: only DPA-2 alone is here",
        ),
        "spin": "belongs to a model of magnetic moments, with a second atom for each: only DPA-2 without them is here",
        "pairtab": "is a table of pair potentials without a network: only DPA-2 is here",
        "linear_ener": "is a weighted sum of models: only DPA-2 alone is here, so read its parts one by one",
        "frozen": "is a model kept in another file: read that file",
    }

    @property
    def n_types(self) -> int:
        """Number of types."""
        return len(self.type_map)

    @property
    def cutoff(self) -> float:
        """The widest cutoff of the descriptor, angstrom."""
        return self.descriptor.cutoff

    @property
    def selection(self) -> Selection:
        """The neighbors that the model asks for; raises SettingError while a number of neighbors is "auto"."""
        descriptor = self.descriptor
        return Selection(
            blocks=descriptor.blocks,
            n_types=self.n_types,
            pair_exclude=self.pair_exclude_types,
            truncate=descriptor.truncate,
        )

    def problems(self) -> Iterator[tuple[str, str]]:
        repeated = [name for name, times in Counter(self.type_map).items() if times > 1]
        if repeated:
            yield "type_map", f"should name each type once, got {', '.join(map(repr, repeated))} more than once"
        if self.descriptor.use_econf_tebd:
            from dpmodel.dpa2.econf import SYMBOLS

            unknown = ", ".join(repr(name) for name in self.type_map if name not in SYMBOLS)
            if unknown:
                yield "type_map", f"should hold element symbols with use_econf_tebd, got {unknown}"
        yield from self._type_indices()
        yield from self._lengths()

    def _type_indices(self) -> Iterator[tuple[str, str]]:
        """Indices of types that ``type_map`` does not have."""
        selected = getattr(self.fitting_net, "sel_type", None)
        by_path = {
            "pair_exclude_types": [i for pair in self.pair_exclude_types for i in pair],
            "atom_exclude_types": self.atom_exclude_types,
            "descriptor.exclude_types": [i for pair in self.descriptor.exclude_types for i in pair],
            "fitting_net.sel_type": (selected,) if isinstance(selected, int) else selected or (),
        }
        for path, indices in by_path.items():
            outside = sorted({i for i in indices if i >= self.n_types})
            if outside:
                got = ", ".join(map(str, outside))
                yield path, f"should hold types below {self.n_types}, the length of type_map, got {got}"

    def _lengths(self) -> Iterator[tuple[str, str]]:
        """Lists that should have one entry for each type."""
        lists: dict[str, Any] = {
            "fitting_net.atom_ener": getattr(self.fitting_net, "atom_ener", ()) or None,
            "fitting_net.scale": getattr(self.fitting_net, "scale", None),
        }
        for name, values in (self.preset_out_bias or {}).items():
            if name != self.fitting_net.output:
                yield f"preset_out_bias.{name}", f"is not an output of the model, which is {self.fitting_net.output!r}"
            lists[f"preset_out_bias.{name}"] = values
        for path, values in lists.items():
            if isinstance(values, tuple) and len(values) != self.n_types:
                yield path, _length("type_map", self.n_types, values)


def _length(of: str, length: int, values: tuple[Any, ...]) -> str:
    return f"should have {length} entries (as many as {of}), got {len(values)}"
