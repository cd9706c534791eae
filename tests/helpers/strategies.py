"""Hypothesis strategies: random small settings, over everything that can be set."""

from typing import Any, get_args

from hypothesis import strategies as st

from dpmodel.dpa2.econf import SYMBOLS
from dpmodel.dpa2.settings import DPA2Settings, RepformerSettings, RepinitSettings
from dpmodel.model.settings import ModelSettings
from dpmodel.ops.activations import ACTIVATIONS
from dpmodel.setting_types import Precision
from dpmodel.settings import Settings

HEADS = ("ener", "dipole", "polar", "dos", "property")
PRECISIONS = get_args(Precision)

flags = st.booleans()
widths = st.lists(st.integers(2, 6), min_size=1, max_size=3)
seeds = st.none() | st.integers(0, 9) | st.lists(st.integers(0, 9), min_size=1, max_size=2)
weights = st.none() | st.sampled_from([1e-5, 1e-3])


def switches(section: type[Settings]) -> st.SearchStrategy[dict[str, bool]]:
    """Everything in ``section`` that can be on or off."""
    names = [name for name, field in section.model_fields.items() if field.annotation is bool]
    return st.fixed_dictionaries(dict.fromkeys(names, flags))


def lengths(low: float, high: float) -> st.SearchStrategy[float]:
    """Distances in angstrom, with few digits so that failures read well."""
    return st.integers(round(low * 100), round(high * 100)).map(lambda x: x / 100)


def activations(names: tuple[str, ...]) -> st.SearchStrategy[str]:
    """Names of activations, "silut" also with its parameter."""
    return st.sampled_from(names + (("silut:1.5",) if "silut" in names else ()))


@st.composite
def cutoffs(draw: st.DrawFn) -> dict[str, dict[str, Any]]:
    """Cutoffs and selections of the three blocks, in the order that descriptor.md 2.4 asks for."""
    wide = draw(lengths(3.5, 5.0))
    narrow = draw(lengths(3.0, wide - 0.2))
    three = draw(lengths(3.0, 5.0) | st.sampled_from([narrow, wide]))
    n_narrow = draw(st.integers(20, 50))
    n_wide = draw(st.integers(n_narrow + 1, 60))
    fewest = n_wide if three > wide else n_narrow if three > narrow else 15
    most = n_narrow if three < narrow else n_wide if three < wide else 65
    return {
        "repinit": {
            "rcut": wide,
            "rcut_smth": draw(lengths(0.0, wide - 0.2)),
            "nsel": n_wide,
            "three_body_rcut": three,
            "three_body_rcut_smth": draw(lengths(0.0, three - 0.2)),
            "three_body_sel": draw(st.integers(fewest, most)),
        },
        "repformer": {"rcut": narrow, "rcut_smth": draw(lengths(0.0, narrow - 0.2)), "nsel": n_narrow},
    }


@st.composite
def repinit(draw: st.DrawFn, names: tuple[str, ...], n_types: int) -> dict[str, Any]:
    neuron = draw(widths)
    return {
        "neuron": neuron,
        "axis_neuron": draw(st.integers(1, neuron[-1])),
        "tebd_dim": draw(st.sampled_from([1, 2, 3, 4, n_types, 2 * n_types])),  # the last two have shortcuts
        "tebd_input_mode": draw(st.sampled_from(["concat", "strip"])),
        "activation_function": draw(activations(names)),
        "three_body_neuron": draw(widths),
        "attn_layer": draw(st.integers(0, 2)),
        "attn": draw(st.integers(2, 6)),
        "scaling_factor": draw(st.sampled_from([1.0, 0.5])),
        "temperature": draw(st.sampled_from([None, 0.7])),
        "ln_eps": draw(weights),
        **draw(switches(RepinitSettings)),
    }


@st.composite
def repformer(draw: st.DrawFn, names: tuple[str, ...], repinit_dim: int) -> dict[str, Any]:
    g1 = draw(st.integers(2, 6) | st.just(repinit_dim))  # the latter needs no transformation of shape
    g2 = draw(st.integers(2, 6))
    on = draw(switches(RepformerSettings))
    if not (on["update_g1_has_grrg"] or on["update_g1_has_drrd"]):
        on["g1_out_mlp"] &= on["update_g1_has_conv"] and not on["g1_out_conv"]  # something must remain for linear1
    return {
        "nlayers": draw(st.integers(1, 3)),
        "g1_dim": g1,
        "g2_dim": g2,
        "axis_neuron": draw(st.integers(1, min(g1, g2))),
        **{f"attn{i}_{name}": draw(st.integers(1, 4)) for i in (1, 2) for name in ("hidden", "nhead")},
        "activation_function": draw(activations(names)),
        "update_style": draw(st.sampled_from(["res_avg", "res_incr", "res_residual"])),
        "update_residual": draw(st.sampled_from([0.001, 0.3])),
        "update_residual_init": draw(st.sampled_from(["norm", "const"])),
        "ln_eps": draw(weights),
        **on,
    }


@st.composite
def descriptor(
    draw: st.DrawFn, names: tuple[str, ...], precisions: tuple[str, ...], type_map: list[str]
) -> dict[str, Any]:
    ranges, near = draw(cutoffs()), draw(repinit(names, len(type_map)))
    width = near["neuron"][-1] * near["axis_neuron"] + near["use_three_body"] * near["three_body_neuron"][-1]
    on = draw(switches(DPA2Settings))
    on["use_econf_tebd"] &= set(type_map) <= set(SYMBOLS)
    return {
        "type": "dpa2",
        "repinit": ranges["repinit"] | near,
        "repformer": ranges["repformer"] | draw(repformer(names, width)),
        "precision": draw(st.sampled_from(precisions)),
        "exclude_types": draw(type_pairs(len(type_map))),
        "env_protection": draw(st.sampled_from([0.0, 0.01])),
        "seed": draw(seeds),
        **on,
    }


def type_pairs(n_types: int) -> st.SearchStrategy[list[list[int]]]:
    index = st.integers(0, n_types - 1)
    return st.lists(st.lists(index, min_size=2, max_size=2), max_size=2)


@st.composite
def fitting(
    draw: st.DrawFn, kind: str, names: tuple[str, ...], precisions: tuple[str, ...], n_types: int
) -> dict[str, Any]:
    neuron, n_fparam, numbers = draw(widths), draw(st.integers(0, 2)), st.sampled_from([-1.0, 0.5, 2.0])
    a_type = st.integers(0, n_types - 1)
    a_type_or_more = st.none() | a_type | st.lists(a_type, max_size=n_types, unique=True)

    def each(values: st.SearchStrategy[Any], n: int) -> st.SearchStrategy[list[Any]]:
        return st.lists(values, min_size=n, max_size=n)

    own: dict[str, dict[str, st.SearchStrategy[Any]]] = {
        "ener": {"atom_ener": st.just([]) | each(st.none() | numbers, n_types)},
        "dipole": {"sel_type": a_type_or_more},
        "polar": {
            "fit_diag": flags,
            "scale": numbers | each(numbers, n_types),
            "shift_diag": flags,
            "sel_type": a_type_or_more,
        },
        "dos": {"numb_dos": st.integers(1, 5)},
        "property": {
            "property_name": st.sampled_from(["band_gap", "bulk_modulus"]),
            "task_dim": st.integers(1, 3),
            "intensive": flags,
            "distinguish_types": flags,
        },
    }
    return {
        "type": kind,
        "neuron": neuron,
        "activation_function": draw(activations(names)),
        "precision": draw(st.sampled_from(precisions)),
        "resnet_dt": draw(flags),
        "numb_fparam": n_fparam,
        "numb_aparam": draw(st.integers(0, 2)),
        "default_fparam": draw(st.none() | each(numbers, n_fparam)),
        "dim_case_embd": draw(st.integers(0, 2)),
        "trainable": draw(flags | each(flags, len(neuron) + 1)),
        "seed": draw(seeds),
        "rcond": draw(weights),
        "use_aparam_as_mask": draw(flags),
        **{name: draw(values) for name, values in own[kind].items()},
    }


@st.composite
def model_sections(
    draw: st.DrawFn,
    *,
    heads: tuple[str, ...] = HEADS,
    activations: tuple[str, ...] = tuple(ACTIVATIONS),
    precisions: tuple[str, ...] = PRECISIONS,
) -> dict[str, Any]:
    """The ``model`` section of a random input file: small, valid, every key of its sections given."""
    names = st.sampled_from(["H", "C", "N", "O", "Cu", "Og"]) | st.sampled_from(["X", "O_water"])
    type_map = draw(st.lists(names, min_size=1, max_size=4, unique=True))
    head = draw(fitting(draw(st.sampled_from(heads)), activations, precisions, len(type_map)))
    output = {"ener": "energy", "polar": "polarizability", "property": head.get("property_name")}
    biases = st.lists(st.none() | st.just(-1.5), min_size=len(type_map), max_size=len(type_map))
    return {
        "type": "standard",
        "type_map": type_map,
        "descriptor": draw(descriptor(activations, precisions, type_map)),
        "fitting_net": head,
        "data_stat_nbatch": draw(st.integers(1, 20)),
        "data_stat_protect": draw(st.sampled_from([0.01, 0.1])),
        "data_bias_nsample": 10,
        "pair_exclude_types": draw(type_pairs(len(type_map))),
        "atom_exclude_types": draw(st.lists(st.integers(0, len(type_map) - 1), max_size=2, unique=True)),
        "preset_out_bias": draw(st.none() | st.fixed_dictionaries({output.get(head["type"], head["type"]): biases})),
        "finetune_head": draw(st.sampled_from([None, "water"])),
        "model_branch_alias": draw(st.sampled_from([[], ["Default"]])),
        "info": draw(st.sampled_from([None, {"observed_type": ["H"]}])),
    }


def dpmodel_settings(**options: tuple[str, ...]) -> st.SearchStrategy[ModelSettings]:
    """Random small models; ``heads``, ``activations`` and ``precisions`` narrow what is drawn.

    Widths are 2 to 6, layers 1 to 3, cutoffs 3 to 5 angstrom, selections 15 to 65, types 1 to 4.
    """
    return model_sections(**options).map(ModelSettings.read)
