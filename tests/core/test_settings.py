"""Settings: what is accepted, what is refused and in which words, and what is generated from the declarations."""

import copy
import json
import math
import re
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
from dpmodel.ops.activations import ACTIVATIONS, activation
from dpmodel.settings import Settings
from dpmodel.settings_reference import reference
from sample_settings import ABSENT, MODEL, REPFORMER, REPINIT, full, model, refusal
from strategies import dpmodel_settings, model_sections

FITTINGS = (EnergyFitting, DipoleFitting, PolarFitting, DosFitting, PropertyFitting)
SECTIONS: tuple[type[Settings], ...] = (ModelSettings, DPA2Settings, RepinitSettings, RepformerSettings, *FITTINGS)


# Types


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"repinit.rcut": 6}, 6.0),  # an integer is a number
        ({"repinit.nsel": "auto"}, "auto"),
        ({"repinit.nsel": "auto:1.5"}, "auto:1.5"),
        ({"repinit.nsel": "auto:1"}, "auto:1"),
        ({"repinit.activation_function": "Tanh"}, "tanh"),
        ({"repinit.activation_function": "SiluT:2.5"}, "silut:2.5"),
        ({"repinit.activation_function": "Linear"}, "linear"),
        ({"repformer.activation_function": "custom_silu:10"}, "custom_silu:10"),
        ({"descriptor.exclude_types": [[0, 1], [1, 1]]}, ((0, 1), (1, 1))),
        ({"descriptor.seed": [1, 2]}, (1, 2)),
        ({"descriptor.seed": 3}, 3),
        ({"fitting.trainable": [True, False, True]}, (True, False, True)),
        ({"fitting.atom_ener": [None, -1]}, (None, -1.0)),
        ({"preset_out_bias": {"energy": [None, 1]}}, {"energy": (None, 1.0)}),
    ],
)
def test_accepted_values(changes, expected):
    settings = ModelSettings.read(model(changes))
    (path,) = changes
    for part in full(path).split("."):
        settings = getattr(settings, part)
    assert settings == expected
    assert type(settings) is type(expected)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("repinit.rcut", "6.0", "a number, got '6.0'"),
        ("repinit.rcut", True, "a number, got True"),
        ("repinit.rcut", math.nan, "a finite number, got nan"),
        ("repinit.rcut", math.inf, "a finite number, got inf"),
        ("repinit.rcut", None, "a number, got None"),
        ("repinit.rcut", 1e300, "at most 50 Å, got 1e+300"),
        ("repinit.axis_neuron", 2.0, "an integer, got 2.0"),
        ("repinit.axis_neuron", "2", "an integer, got '2'"),
        ("repinit.axis_neuron", True, "an integer, got True"),
        ("repinit.resnet_dt", 1, "true or false, got 1"),
        ("repinit.resnet_dt", "yes", "true or false, got 'yes'"),
        ("repinit.neuron", 3, "a list, got 3"),
        ("repinit.neuron", "25", "a list, got '25'"),
        ("repinit.neuron", [], "a list of at least 1, got []"),
        ("repinit.activation_function", 3, "text, got 3"),
        ("descriptor.repinit", [1], "a section {...}, got [1]"),
        ("fitting_net", "ener", "a section {...}, got 'ener'"),
        ("preset_out_bias", [1], "a section {...}, got [1]"),
        ("type_map", "O H", "a list, got 'O H'"),
        ("finetune_head", 1, "text, got 1"),
        ("fitting.default_fparam", 3, "a list, got 3"),
    ],
)
def test_wrong_types(path, value, expected):
    where = full(path)
    assert refusal({path: value}) == f"model.{where} should be {expected}"


@pytest.mark.parametrize("name", [*ACTIVATIONS, *map(str.upper, ACTIVATIONS), "silut:3.5", "custom_silu:-1e-1"])
def test_accepted_activations_exist(name):
    assert callable(activation(RepinitSettings.read(REPINIT | {"activation_function": name}).activation_function))


@pytest.mark.parametrize("name", ["tanh:1", "silut:", "silut:x", "silut:nan", "silut:inf", ":3", "", "tan h"])
def test_refused_activations(name):
    assert f"got {name!r}" in refusal({"repformer.activation_function": name})


@pytest.mark.parametrize("value", [0, -5, 2.0, True, "12", "auto:0.9", "auto:", "auto:x", "auto:inf", "Auto", [20]])
@pytest.mark.parametrize("path", ["repinit.nsel", "repformer.nsel", "repinit.three_body_sel"])
def test_refused_selections(path, value):
    expected = "should be a positive integer, 'auto' or 'auto:f' with a factor f of at least 1, got"
    assert f"model.descriptor.{path} {expected} {value!r}" in refusal({path: value})


@pytest.mark.parametrize("value", [[0], [0, 1, 2], [0, -1], [0, 1.0], [0, True], "01", 3, None])
@pytest.mark.parametrize("path", ["pair_exclude_types", "descriptor.exclude_types"])
def test_refused_pairs(path, value):
    assert refusal({path: [[0, 1], value]}) == (
        f"model.{path}[1] should be a pair of type indices [i, j], got {value!r}"
    )


# Names


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("repinit.rcutt", "did you mean 'rcut'?"),
        ("repinit.neurons", "did you mean 'neuron'?"),
        ("repformer.update_g1_has_convolution", "did you mean 'update_g1_has_conv'?"),
        ("descriptor.rep_init", "did you mean 'repinit'?"),
        ("fitting.numb_fparm", "did you mean 'numb_fparam'?"),
        ("typemap", "did you mean 'type_map'?"),
        ("zzz", "known are atom_exclude_types, data_bias_nsample"),
    ],
)
def test_unknown_keys(path, hint):
    where = full(path)
    assert refusal({path: 1}).startswith(f"model.{where} is not a setting; {hint}")


@pytest.mark.parametrize(
    ("section", "alias", "name", "value"),
    [
        (DPA2Settings, "repformer_add_type_ebd_to_seq", "add_tebd_to_repinit_out", True),
        *((fitting, "n_neuron", "neuron", (5, 6)) for fitting in FITTINGS),
        (DipoleFitting, "dipole_type", "sel_type", (0,)),
        (PolarFitting, "pol_type", "sel_type", 1),
    ],
)
def test_aliases(section, alias, name, value):
    required = {DPA2Settings: {"repinit": REPINIT, "repformer": REPFORMER}, PropertyFitting: {"property_name": "x"}}
    given = required.get(section, {}) | {alias: value}
    with pytest.warns(UserWarning, match=f"old names of settings: '{alias}' is now '{name}'"):
        settings = section.read(given)
    assert getattr(settings, name) == value
    assert alias not in settings.model_dump()
    with pytest.raises(SettingError, match=f"here.{alias} is another name of {name}: give only one of them"):
        section.read(given | {name: value}, "here")


def test_flat_names_of_old_files():
    """The first versions of DPA-2 had one flat section."""
    flat = {f"repinit_{key}": value for key, value in REPINIT.items()}
    flat |= {f"repformer_{key}": value for key, value in REPFORMER.items()}
    flat |= {"repinit_activation": "gelu", "repformer_axis_dim": 3, "tebd_dim": 4}
    with pytest.warns(UserWarning, match=r"'repinit_rcut' is now 'repinit.rcut'.*'tebd_dim' is now 'repinit.tebd_dim'"):
        settings = DPA2Settings.read(flat)
    nested = {
        "repinit": REPINIT | {"activation_function": "gelu", "tebd_dim": 4},
        "repformer": REPFORMER | {"axis_neuron": 3},
    }
    assert settings == DPA2Settings.read(nested)
    with pytest.raises(SettingError, match=r"d\.repinit_rcut is another name of repinit\.rcut: give only one"):
        DPA2Settings.read(nested | {"repinit_rcut": 5.0}, "d")
    with pytest.raises(SettingError, match=r"d\.repinit should be a section"):
        DPA2Settings.read({"repinit": 5, "repformer": REPFORMER, "repinit_rcut": 5.0}, "d")


def test_comments():
    commented = model({f"{path}_comment": ["that's all"] for path in ("", "repinit.", "repformer.", "fitting.")})
    assert ModelSettings.read(commented) == ModelSettings.read(MODEL)


def test_input_is_left_alone():
    given = model({"_comment": "x", "fitting.n_neuron": [5], "fitting.neuron": ABSENT})
    before = copy.deepcopy(given)
    with pytest.warns(UserWarning, match="'n_neuron' is now 'neuron'"):
        ModelSettings.read(given)
    assert given == before


# What is generated


def test_schema_is_plain_json_with_bounds_and_units():
    schema = json.loads(json.dumps(ModelSettings.model_json_schema()))
    rcut = schema["$defs"]["RepinitSettings"]["properties"]["rcut"]
    assert (rcut["type"], rcut["exclusiveMinimum"], rcut["unit"]) == ("number", 0, "Å")
    style = schema["$defs"]["RepformerSettings"]["properties"]["update_style"]
    assert style["enum"] == ["res_avg", "res_incr", "res_residual"]
    for section in (schema, *schema["$defs"].values()):
        assert section["additionalProperties"] is False
        assert section["patternProperties"] == {"^_": {}}
        for name, prop in section["properties"].items():
            assert prop["description"].endswith("."), name


def test_reference_page_has_a_row_for_every_setting():
    page = reference(ModelSettings, "model")
    headings = ["model", "model.descriptor", "model.descriptor.repinit", "model.descriptor.repformer"]
    headings += [f"model.fitting_net ({kind})" for kind in ("ener", "dipole", "polar", "dos", "property")]
    tables = dict(re.findall(r"### `([^`]+)`\n(.*?)(?=\n\n###|\Z)", page, flags=re.DOTALL))
    assert list(tables) == headings
    for heading, section in zip(headings, SECTIONS, strict=True):
        rows = re.findall(r"^\| `(\w+)`", tables[heading], flags=re.MULTILINE)
        assert rows == list(section.model_fields)
        assert all(line.count(" | ") == 4 for line in tables[heading].splitlines() if line.startswith("| `"))


def test_reference_page_shows_names_bounds_defaults_and_units():
    page = reference(ModelSettings, "model")
    for row in (
        "| `rcut` | number > 0 ≤ 50 | required | Å | Cutoff radius of repinit. |",
        "| `neuron`, `n_neuron` | [integer > 0, ...] | `[120, 120, 120]` |  | Widths of the hidden layers. |",
        '| `tebd_input_mode` | `"concat"`, `"strip"` | `"concat"` |',
        "| `ln_eps` | number > 0 or null | `null` |",
        "| `pair_exclude_types` | [[integer, integer], ...] | `[]` |",
    ):
        assert row in page


# Everything at random

no_deadline = hypothesis.settings(deadline=None)  # the first example pays for what is built lazily


@no_deadline
@given(model_sections())
def test_round_trip(section):
    settings = ModelSettings.read(section)
    assert ModelSettings.read(json.loads(json.dumps(settings.model_dump(), allow_nan=False))) == settings
    assert ModelSettings.read(json.loads(settings.model_dump_json())) == settings


@no_deadline
@given(dpmodel_settings(heads=("ener",), activations=("tanh", "gelu"), precisions=("float64",)))
def test_strategy_narrows(settings):
    assert settings.fitting_net.type == "ener"
    assert {settings.descriptor.repinit.activation_function, settings.fitting_net.activation_function} <= {
        "tanh",
        "gelu",
    }
    assert settings.descriptor.precision == "float64"


leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
anything = st.recursive(leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


def places(section: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The path of every value inside ``section``."""
    items = section.items() if isinstance(section, dict) else enumerate(section) if isinstance(section, list) else ()
    return [*([path] if path else []), *(p for key, value in items for p in places(value, (*path, key)))]


@no_deadline
@given(model_sections(), anything, st.data())
def test_no_input_fails_in_another_way(section, junk, data):
    """One value replaced by anything at all: the settings are read, or refused with a path and one error type."""
    *parents, key = data.draw(st.sampled_from(places(section)))
    inner = section
    for part in parents:
        inner = inner[part]
    inner[key] = junk
    try:
        settings = ModelSettings.read(section, "model")
    except SettingError as error:
        lines = str(error).splitlines()
        assert all(line.strip().startswith("model") for line in (lines[1:] if len(lines) > 1 else lines))
    else:
        assert ModelSettings.read(settings.model_dump()) == settings
