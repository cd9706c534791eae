"""The defaults of settings are those of the specification."""

from typing import Any

import pytest

from dpmodel.dpa2.settings import DPA2Settings, RepformerSettings, RepinitSettings
from dpmodel.errors import SettingError
from dpmodel.model.settings import (
    DipoleFitting,
    DosFitting,
    EnergyFitting,
    ModelSettings,
    PolarFitting,
    PropertyFitting,
)
from dpmodel.settings import Settings
from sample_settings import MODEL, REPFORMER, REPINIT

# The tables of descriptor.md 6, 12, 13, training.md 1.1 and model.md 2.1, 5

FITTING_DEFAULTS = {
    "neuron": (120, 120, 120),
    "activation_function": "tanh",
    "precision": "default",
    "resnet_dt": True,
    "numb_fparam": 0,
    "numb_aparam": 0,
    "default_fparam": None,
    "dim_case_embd": 0,
    "trainable": True,
    "rcond": None,
    "seed": None,
    "use_aparam_as_mask": False,
}
DEFAULTS: dict[type[Settings], dict[str, Any]] = {
    RepinitSettings: {
        "neuron": (25, 50, 100),
        "axis_neuron": 16,
        "tebd_dim": 8,
        "tebd_input_mode": "concat",
        "set_davg_zero": True,
        "activation_function": "tanh",
        "type_one_side": False,
        "resnet_dt": False,
        "use_three_body": False,
        "three_body_neuron": (2, 4, 8),
        "three_body_rcut": 4.0,
        "three_body_rcut_smth": 0.5,
        "three_body_sel": 40,
        "attn": 128,
        "attn_layer": 0,
        "attn_dotr": True,
        "attn_mask": False,
        "normalize": True,
        "scaling_factor": 1.0,
        "temperature": None,
        "trainable_ln": True,
        "ln_eps": None,
    },
    RepformerSettings: {
        "nlayers": 3,
        "g1_dim": 128,
        "g2_dim": 16,
        "axis_neuron": 4,
        "direct_dist": False,
        "update_g1_has_conv": True,
        "update_g1_has_drrd": True,
        "update_g1_has_grrg": True,
        "update_g1_has_attn": True,
        "update_g2_has_g1g1": True,
        "update_g2_has_attn": True,
        "use_sqrt_nnei": True,
        "g1_out_conv": True,
        "g1_out_mlp": True,
        "update_h2": False,
        "attn1_hidden": 64,
        "attn1_nhead": 4,
        "attn2_hidden": 16,
        "attn2_nhead": 4,
        "attn2_has_gate": False,
        "activation_function": "tanh",
        "update_style": "res_avg",
        "update_residual": 0.001,
        "update_residual_init": "norm",
        "set_davg_zero": True,
        "trainable_ln": True,
        "ln_eps": None,
    },
    DPA2Settings: {
        "type": "dpa2",
        "concat_output_tebd": True,
        "precision": "default",
        "smooth": True,
        "exclude_types": (),
        "env_protection": 0.0,
        "trainable": True,
        "seed": None,
        "add_tebd_to_repinit_out": False,
        "use_econf_tebd": False,
        "use_tebd_bias": False,
        "padding_leak": True,
        "truncate": True,
    },
    ModelSettings: {
        "type": "standard",
        "data_stat_nbatch": 10,
        "data_stat_protect": 1e-2,
        "data_bias_nsample": 10,
        "pair_exclude_types": (),
        "atom_exclude_types": (),
        "preset_out_bias": None,
        "finetune_head": None,
        "model_branch_alias": (),
        "info": None,
    },
    EnergyFitting: FITTING_DEFAULTS | {"type": "ener", "atom_ener": (), "layer_name": None},
    DipoleFitting: FITTING_DEFAULTS | {"type": "dipole", "sel_type": None},
    PolarFitting: FITTING_DEFAULTS
    | {"type": "polar", "fit_diag": True, "scale": 1.0, "shift_diag": True, "sel_type": None},
    DosFitting: FITTING_DEFAULTS | {"type": "dos", "precision": "float64", "numb_dos": 300},
    PropertyFitting: FITTING_DEFAULTS
    | {"type": "property", "task_dim": 1, "intensive": False, "distinguish_types": True},
}
REQUIRED: dict[type[Settings], dict[str, Any]] = {
    RepinitSettings: REPINIT,
    RepformerSettings: REPFORMER,
    DPA2Settings: {"repinit": REPINIT, "repformer": REPFORMER},
    ModelSettings: {key: MODEL[key] for key in ("type_map", "descriptor", "fitting_net")},
    PropertyFitting: {"property_name": "band_gap"},
}


@pytest.mark.parametrize("section", [*DEFAULTS], ids=lambda section: section.__name__)
def test_defaults_are_those_of_the_specification(section):
    required, defaults = REQUIRED.get(section, {}), DEFAULTS[section]
    settings = section.read(required)
    assert {name: getattr(settings, name) for name in defaults} == defaults
    assert set(section.model_fields) == set(required) | set(defaults)


@pytest.mark.parametrize("section", [*REQUIRED], ids=lambda section: section.__name__)
def test_required_settings_say_what_they_are(section):
    with pytest.raises(SettingError) as error:
        section.read({}, "here")
    for name in REQUIRED[section]:
        assert f"here.{name} is required: {section.model_fields[name].description}" in str(error.value)


def test_epsilon_of_layer_normalization():
    assert RepinitSettings.read(REPINIT).epsilon == 1e-5
    assert RepformerSettings.read(REPFORMER | {"ln_eps": 1e-3}).epsilon == 1e-3
