"""The settings of models: real files, ranges, and what must agree between settings."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from dpmodel.model.settings import ModelSettings
from dpmodel.setting_types import dtype_name
from sample_settings import ABSENT, MODEL, THREE, full, model, refusal

CASES = sorted(Path(__file__).parent.parent.glob("reference/*/input.json"))


# Real input files


@pytest.mark.parametrize("path", CASES, ids=lambda path: path.parent.name)
def test_reads_real_inputs(path):
    section = json.loads(path.read_text())["model"]
    assert_keeps(ModelSettings.read(section, "model").model_dump(), section)


def assert_keeps(dump: dict[str, Any], section: dict[str, Any]) -> None:
    """Every value of ``section`` stands in ``dump``."""
    for key, value in section.items():
        if isinstance(value, dict):
            assert_keeps(dump[key], value)
        else:
            assert dump[key] == value, key


def test_there_are_real_inputs():
    assert len(CASES) >= 30


def test_reads_what_deepmd_kit_writes_back():
    """Its normalized scripts hold keys of features that we do without, at values where they do nothing."""
    extra = {"srtab_add_bias": True, "bridging_method": "None", "bridging_r_inner": 0.5, "bridging_r_outer": 0.8}
    more: dict[str, Any] = {"model_branch_alias": [], "info": {"observed_type": ["H", "O"]}, "preset_out_bias": None}
    settings = ModelSettings.read(MODEL | extra | more)
    assert settings.info == {"observed_type": ["H", "O"]}
    assert "bridging_method is not supported (only 'None' is), got 'ZBL'" in refusal({"bridging_method": "ZBL"})


def test_writes_what_deepmd_kit_reads():
    """At their defaults, keys that deepmd-kit does not know are left out."""
    dump = ModelSettings.read(MODEL).model_dump()
    ours = {"padding_leak", "truncate", "attn_layer", "attn", "temperature", "finetune_head", "info"}
    assert not ours & (dump.keys() | dump["descriptor"].keys() | dump["descriptor"]["repinit"].keys())
    changed = model({"descriptor.truncate": False, "repinit.attn_layer": 2})
    dump = ModelSettings.read(changed).model_dump()
    assert dump["descriptor"]["truncate"] is False
    assert dump["descriptor"]["repinit"]["attn_layer"] == 2


# Ranges: one table for every bound of a single setting

POSITIVE = {
    "repinit": ["axis_neuron", "tebd_dim", "attn"],
    "repformer": ["nlayers", "g1_dim", "g2_dim", "axis_neuron"]
    + [f"attn{i}_{name}" for i in (1, 2) for name in ("hidden", "nhead")],
    "data": ["data_stat_nbatch", "data_bias_nsample"],
}
POSITIVE_NUMBERS = [
    "repinit.rcut",
    "repinit.three_body_rcut",
    "repinit.scaling_factor",
    "repinit.temperature",
    "repinit.ln_eps",
    "repformer.rcut",
    "repformer.ln_eps",
    "fitting.rcond",
    "data_stat_protect",
]
NOT_NEGATIVE = [
    "repinit.rcut_smth",
    "repinit.three_body_rcut_smth",
    "repinit.attn_layer",
    "repformer.rcut_smth",
    "repformer.update_residual",
    "descriptor.env_protection",
    "descriptor.seed",
    "fitting.numb_fparam",
    "fitting.numb_aparam",
    "fitting.dim_case_embd",
    "fitting.seed",
]


@pytest.mark.parametrize("value", [0, -3])
@pytest.mark.parametrize(
    "path",
    [f"{section}.{name}".removeprefix("data.") for section, names in POSITIVE.items() for name in names]
    + POSITIVE_NUMBERS,
)
def test_must_be_positive(path, value):
    where = full(path)
    assert re.search(rf"model\.{where} should be above 0( \w+)?, got {value}", refusal({path: value}))


@pytest.mark.parametrize("path", NOT_NEGATIVE)
def test_must_not_be_negative(path):
    where = full(path)
    assert re.search(rf"model\.{where} should be at least 0( \w+)?, got -1", refusal({path: -1}))


@pytest.mark.parametrize("path", ["repinit.neuron", "repinit.three_body_neuron", "fitting.neuron"])
def test_widths_must_be_positive(path):
    where = full(path)
    assert f"model.{where}[1] should be above 0, got 0" in refusal({path: [8, 0]})


def test_bounds_carry_their_unit():
    assert "should be above 0 Å, got -1.0" in refusal({"repinit.rcut": -1.0})


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("repinit.tebd_input_mode", "strp", "should be 'concat' or 'strip', got 'strp'; did you mean 'strip'?"),
        ("repinit.tebd_input_mode", "foo", "should be 'concat' or 'strip', got 'foo'"),
        ("repformer.update_style", "res_average", "'res_avg', 'res_incr' or 'res_residual', got 'res_average'"),
        ("repformer.update_residual_init", "normal", "should be 'norm' or 'const', got 'normal'"),
        ("repinit.activation_function", "tanhh", "got 'tanhh'; did you mean 'tanh'?"),
        ("repformer.activation_function", "swish", "'silu'"),
        ("descriptor.precision", "float46", "got 'float46'; did you mean 'float64'?"),
        ("fitting.precision", "fp32", "got 'fp32'"),
        ("fitting.type", "enr", "got 'enr'; did you mean 'ener'?"),
        ("descriptor.type", "se_e2_a", "should be 'dpa2', got 'se_e2_a'"),
        ("type", "pairwise", "should be 'standard', got 'pairwise'"),
    ],
)
def test_choices(path, value, message):
    where = full(path)
    text = refusal({path: value})
    assert text.startswith(f"model.{where} should be ")
    assert message in text


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("type", "linear_ener", "is a weighted sum of models: only DPA-2 alone is here, so read its parts one by one"),
        ("type", "pairtab", "is a table of pair potentials"),
        ("use_srtab", "zbl.txt", "belongs to a model that turns into a table of pairs (ZBL)"),
        ("spin", {"use_spin": [True, False]}, "belongs to a model of magnetic moments"),
    ],
)
def test_other_models_are_named(path, value, message):
    assert refusal({path: value}).startswith(f"model.{path} {message}")


def test_foreign_descriptor_gives_one_error_not_one_for_each_key():
    text = refusal({"descriptor.type": "se_e2_a", "descriptor.sel": [46, 92], "descriptor.rcut": 6.0})
    assert text == "model.descriptor.type should be 'dpa2', got 'se_e2_a'"


# Checks between settings

NO_UPDATES = {"repformer.update_g1_has_grrg": False, "repformer.update_g1_has_drrd": False}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"repinit.rcut_smth": 6.0}, "descriptor.repinit.rcut_smth should be below rcut = 6.0 Å, got 6.0"),
        ({"repformer.rcut_smth": 4.5}, "descriptor.repformer.rcut_smth should be below rcut = 4.0 Å, got 4.5"),
        (
            THREE | {"repinit.three_body_rcut_smth": 4.0},
            "descriptor.repinit.three_body_rcut_smth should be below three_body_rcut = 4.0 Å, got 4.0",
        ),
        ({"repformer.rcut": 6}, "descriptor.repformer.rcut should be below repinit.rcut = 6.0 Å, got 6.0"),
        ({"repformer.nsel": 120}, "descriptor.repformer.nsel should be below repinit.nsel = 120, got 120"),
        (  # wider than the repformer, fewer neighbors
            THREE | {"repinit.three_body_rcut": 5.0},
            "descriptor.repformer.nsel should be at most repinit.three_body_sel = 40, whose cutoff is wider, got 48",
        ),
        (  # narrower than repinit, more neighbors
            THREE | {"repinit.three_body_sel": 121},
            "descriptor.repinit.three_body_sel should be at most repinit.nsel = 120, whose cutoff is wider, got 121",
        ),
        (  # narrower than the repformer, more neighbors
            THREE | {"repinit.three_body_rcut": 3.0, "repinit.three_body_sel": 49},
            "descriptor.repinit.three_body_sel should be at most repformer.nsel = 48, whose cutoff is wider, got 49",
        ),
        (
            {"repinit.axis_neuron": 17, "repinit.neuron": [4, 16]},
            "descriptor.repinit.axis_neuron should be at most the last of neuron = 16, got 17",
        ),
        ({"repformer.g2_dim": 3}, "descriptor.repformer.axis_neuron should be at most g2_dim = 3, got 4"),
        ({"repformer.g1_dim": 3}, "descriptor.repformer.axis_neuron should be at most g1_dim = 3, got 4"),
        (NO_UPDATES, "descriptor.repformer.g1_out_mlp leaves nothing for the common linear layer of g1"),
        (NO_UPDATES | {"repformer.update_g1_has_conv": False, "repformer.g1_out_conv": False}, "empty concatenation"),
        ({"type_map": ["O", "H", "O"]}, "type_map should name each type once, got 'O' more than once"),
        ({"type_map": []}, "type_map should be a list of at least 1, got []"),
        ({"type_map": ["O", ""]}, "type_map[1] should be text of at least 1 character(s), got ''"),
        (
            {"type_map": ["O", "HW"], "descriptor.use_econf_tebd": True},
            "type_map should hold element symbols with use_econf_tebd, got 'HW'",
        ),
        ({"pair_exclude_types": [[0, 2]]}, "pair_exclude_types should hold types below 2, the length of type_map"),
        ({"atom_exclude_types": [5, 2]}, "atom_exclude_types should hold types below 2, the length of type_map, got 2"),
        ({"atom_exclude_types": [-1]}, "atom_exclude_types[0] should be at least 0, got -1"),
        ({"descriptor.exclude_types": [[2, 0]]}, "descriptor.exclude_types should hold types below 2"),
        ({"fitting_net": {"type": "dipole", "sel_type": 2}}, "fitting_net.sel_type should hold types below 2"),
        ({"fitting_net": {"type": "polar", "sel_type": [0, 3]}}, "fitting_net.sel_type should hold types below 2"),
        (
            {"fitting.numb_fparam": 2, "fitting.default_fparam": [1.0]},
            "fitting_net.default_fparam should have 2 entries (as many as numb_fparam), got 1",
        ),
        (
            {"fitting.trainable": [True, False]},
            "fitting_net.trainable should have 3 entries (as many as neuron plus one), got 2",
        ),
        (
            {"fitting.atom_ener": [1.0]},
            "fitting_net.atom_ener should have 2 entries (as many as type_map), got 1",
        ),
        (
            {"fitting_net": {"type": "polar", "scale": [1.0, 1.0, 1.0]}},
            "fitting_net.scale should have 2 entries (as many as type_map), got 3",
        ),
        (
            {"preset_out_bias": {"energy": [1.0]}},
            "preset_out_bias.energy should have 2 entries (as many as type_map), got 1",
        ),
        (
            {"preset_out_bias": {"dos": [1.0, 2.0]}},
            "preset_out_bias.dos is not an output of the model, which is 'energy'",
        ),
        ({"fitting_net": {"type": "dos", "numb_dos": 0}}, "fitting_net.numb_dos should be above 0, got 0"),
        (
            {"fitting_net": {"type": "property", "property_name": "x", "task_dim": 0}},
            "fitting_net.task_dim should be above 0, got 0",
        ),
        (
            {"fitting_net": {"type": "property", "property_name": ""}},
            "fitting_net.property_name should be text of at least 1 character(s), got ''",
        ),
    ],
)
def test_checks_between_settings(changes, message):
    text = refusal(changes)
    assert f"model.{message}" in text or (message == "empty concatenation" and message in text)


@pytest.mark.parametrize(
    "changes",
    [
        {"repinit.three_body_rcut_smth": 5.0},  # three-body is off
        {"repinit.three_body_sel": 500},
        THREE | {"repinit.three_body_sel": 120},
        THREE | {"repinit.three_body_rcut": 6.0, "repinit.three_body_sel": 130},
        THREE | {"repinit.three_body_sel": "auto"},
        {"repinit.nsel": "auto", "repformer.nsel": 500},
        {"repformer.g2_dim": 3, "repformer.update_g1_has_grrg": False},
        {"repformer.g1_dim": 3, "repformer.update_g1_has_drrd": False},
        NO_UPDATES | {"repformer.g1_out_mlp": False},
        NO_UPDATES | {"repformer.g1_out_conv": False},
        {"type_map": ["O", "HW"]},
        {"preset_out_bias": {"energy": [None, None]}},
        {"fitting_net": {"type": "dos", "numb_dos": 2}, "preset_out_bias": {"dos": [None, [0.5, 1.5]]}},
        {"fitting.default_fparam": [1.0, 2.0], "fitting.numb_fparam": 2},
    ],
)
def test_no_check_goes_too_far(changes):
    ModelSettings.read(model(changes))


def test_every_problem_is_listed():
    text = refusal({"repinit.rcut": -1.0, "repinit.neuron": [4, 0, 2.5], "repformer.nlayer": 3, "type_map": ABSENT})
    assert text.splitlines() == [
        "5 settings cannot be used:",
        "  model.type_map is required: Names of the types; a type is its position in this list.",
        "  model.descriptor.repinit.rcut should be above 0 Å, got -1.0",
        "  model.descriptor.repinit.neuron[1] should be above 0, got 0",
        "  model.descriptor.repinit.neuron[2] should be an integer, got 2.5",
        "  model.descriptor.repformer.nlayer is not a setting; did you mean 'nlayers'?",
    ]


# What the builder asks for


def test_dimensions():
    settings = ModelSettings.read(model({}))
    assert settings.n_types == 2
    assert settings.cutoff == 6.0
    assert settings.descriptor.dim_out == 128 + 8
    assert settings.descriptor.repinit_dim == 100 * 16
    changes = {"descriptor.concat_output_tebd": False, "repinit.three_body_rcut": 7.0, "repinit.three_body_sel": 150}
    settings = ModelSettings.read(model(THREE | changes))
    assert settings.cutoff == 7.0
    assert settings.descriptor.dim_out == 128
    assert settings.descriptor.repinit_dim == 100 * 16 + 8


@pytest.mark.parametrize(
    ("changes", "resolved"),
    [
        ({}, True),
        ({"repinit.nsel": "auto"}, False),
        ({"repformer.nsel": "auto:1.2"}, False),
        ({"repinit.three_body_sel": "auto"}, True),
        (THREE | {"repinit.three_body_sel": "auto"}, False),
    ],
)
def test_resolved(changes, resolved):
    assert ModelSettings.read(model(changes)).descriptor.resolved is resolved


@pytest.mark.parametrize(
    ("name", "dtype"),
    [
        ("default", "float64"),
        ("double", "float64"),
        ("float64", "float64"),
        ("single", "float32"),
        ("float32", "float32"),
        ("half", "float16"),
        ("float16", "float16"),
        ("bfloat16", "bfloat16"),
    ],
)
def test_precision_names(name, dtype):
    settings = ModelSettings.read(model({"descriptor.precision": name, "fitting.precision": name}))
    assert dtype_name(name) == settings.descriptor.dtype == settings.fitting_net.dtype == dtype
    assert settings.descriptor.precision == name


@pytest.mark.parametrize(
    ("fitting", "output"),
    [
        ({}, "energy"),
        ({"type": "dipole"}, "dipole"),
        ({"type": "polar"}, "polarizability"),
        ({"type": "dos"}, "dos"),
        ({"type": "property", "property_name": "band_gap"}, "band_gap"),
    ],
)
def test_outputs(fitting, output):
    assert ModelSettings.read(model({"fitting_net": fitting})).fitting_net.output == output


def test_settings_are_frozen_and_hashable():
    settings = ModelSettings.read(MODEL)
    with pytest.raises(ValueError, match="frozen"):
        settings.descriptor.repinit.rcut = 5.0
    assert hash(settings) == hash(ModelSettings.read(MODEL))
