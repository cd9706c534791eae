"""The JSON schema of the input file."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from dpmodel.cli.app import app
from dpmodel.errors import SettingError
from dpmodel.train.script import read_script
from small_water import MODEL

WATER = Path(__file__).parents[2] / "examples" / "water" / "input.json"


def printed(*options: str) -> dict[str, Any]:
    result = CliRunner().invoke(app, ["schema", *options])
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def at(schema: dict[str, Any], *path: str) -> dict[str, Any]:
    """The part of the schema for the setting at ``path``, through references."""
    part = schema
    for name in path:
        part = part["properties"][name]
        while "$ref" in part:
            part = schema["$defs"][part["$ref"].rpartition("/")[2]]
    return part


def test_of_one_task() -> None:
    schema = printed()
    assert at(schema, "training", "gradient_max_norm")["description"]
    assert at(schema, "model", "type_map")["type"] == "array"
    assert not at(schema, "training")["additionalProperties"]
    assert set(schema["required"]) == {"model", "learning_rate", "training"}


@pytest.mark.parametrize("part", ["type_map", "descriptor", "fitting_net"])
def test_branches_may_name_what_they_share(part: str) -> None:
    branch = printed("--multi-task")["$defs"]["ModelSettings"]["properties"][part]
    assert {"type": "string"} in branch["anyOf"]


# The schema and the reader agree about whole files


def single(*changes: tuple[str, Any]) -> dict[str, Any]:
    """A file as deepmd-kit's examples are; ``changes`` set what stands at a dotted path, ``...`` takes it out."""
    model: dict[str, Any] = deepcopy(MODEL) | {"_comment": "that's all"}
    model["fitting_net"] |= {"resnet_dt": True, "seed": 1, "_comment": "that's all"}
    data: dict[str, Any] = {
        "_comment": "that's all",
        "model": model,
        "learning_rate": {"type": "exp", "decay_steps": 5000, "start_lr": 0.001, "stop_lr": 3.51e-08},
        "loss": {"type": "ener", "start_pref_e": 0.02, "limit_pref_e": 1, "start_pref_f": 1000, "_comment": "all"},
        "training": {
            "stat_file": "./dpa2.hdf5",
            "training_data": {"systems": ["../data/data_0"], "batch_size": 1, "_comment": "that's all"},
            "validation_data": {"systems": "../data/data_3", "batch_size": "auto:8"},
            "numb_steps": 1000000,
            "gradient_max_norm": 5.0,
            "seed": 10,
        },
    }
    for path, value in changes:
        *sections, name = path.split(".")
        part = data
        for section in sections:
            part = part.setdefault(section, {})
        if value is ...:
            del part[name]
        else:
            part[name] = value
    return data


def multi(*changes: tuple[str, Any]) -> dict[str, Any]:
    given = single(*changes)
    model, training, loss = given["model"], given["training"], given.pop("loss")
    data = {key: training.pop(key) for key in ("training_data", "validation_data", "stat_file")}
    branch = {"type_map": "types", "descriptor": "common:1", "fitting_net": model["fitting_net"], "data_stat_nbatch": 1}
    shared = {"types": model["type_map"], "common": model["descriptor"]}
    given["model"] = {"shared_dict": shared, "model_dict": {"A": branch, "B": branch}, "data_stat_protect": 0.1}
    training |= {"data_dict": {"A": data, "B": data}, "model_prob": {"A": 0.5, "B": 1}}
    return given | {"loss_dict": {"A": loss, "B": loss}}


GOOD = {
    "example": json.loads(WATER.read_text()),
    "plain": single(),
    "several tasks": multi(),
    "automatic": single(("model.descriptor.repinit.nsel", "auto:1.2"), ("training.training_data.batch_size", [3])),
    "lists": single(("training.seed", [1, 2]), ("loss.huber_delta", [0.1, 0.2, 0.3]), ("loss.use_huber", True)),
    "shares": single(("training.training_data.auto_prob", "prob_sys_size; 0:1:0.5; 1:2:3")),
    "another type": single(("optimizer", {"type": "AdamW"}), ("learning_rate", {"type": "cosine", "start_lr": 0.1})),
    "no types": single(("optimizer", {"weight_decay": 0.1}), ("learning_rate", {"start_lr": 0.1, "decay_steps": 5})),
    "no validation": single(("training.validation_data", None)),
    "old names": single(
        ("training.numb_steps", ...),
        ("training.stop_batch", 5),
        ("training.training_data.sys_weights", [1.0]),
        ("model.fitting_net.neuron", ...),
        ("model.fitting_net.n_neuron", [5]),
    ),
    "old places": single(
        ("training.opt_type", "AdamW"),
        ("training.warmup_steps", 3),
        ("training.systems", "a"),
        ("training.training_data", ...),
        ("model.descriptor.repinit_axis_neuron", 3),
        ("model.descriptor.repinit.axis_neuron", ...),
    ),
    "without effect": single(("validating", {}), ("training.zero_stage", 1), ("training.acc_freq", 1)),
}
BAD = {
    "typo": single(("training.disp_frq", 1)),
    "typo in a branch": multi(("model.fitting_net.neuronn", [3])),
    "old name of another section": single(("training.sys_weights", [1.0])),
    "no model": single(("model", ...)),
    "no cutoff": single(("model.descriptor.repinit.rcut", ...)),
    "no data": single(("training.training_data", ...)),
    "negative": single(("training.disp_freq", -1)),
    "above the range": single(("optimizer.adam_beta1", 1.0)),
    "text for a number": single(("learning_rate.start_lr", "0.1")),
    "number for text": single(("training.save_ckpt", 3)),
    "number for a list": single(("model.fitting_net.neuron", 3)),
    "a word for a rule": single(("training.training_data.batch_size", "large")),
    "a rule of shares": single(("training.training_data.auto_prob", "prob_sys_sizes")),
    "unknown optimizer": single(("optimizer.type", "LKF")),
    "key of another schedule": single(("learning_rate.type", "cosine")),
    "another value than the only one": single(("training.mixed_precision", {"compute_prec": "float16"})),
}


def faults(data: dict[str, Any]) -> list[str]:
    schema = printed(*(["--multi-task"] if "model_dict" in data.get("model", {}) else []))
    Draft202012Validator.check_schema(schema)
    return [error.message for error in Draft202012Validator(schema).iter_errors(data)]


@pytest.mark.filterwarnings("ignore:old names of settings", "ignore:settings without effect")
@pytest.mark.parametrize("name", GOOD)
def test_good_files(name: str) -> None:
    assert faults(GOOD[name]) == []
    read_script(GOOD[name])


@pytest.mark.parametrize("name", BAD)
def test_bad_files(name: str) -> None:
    assert faults(BAD[name])
    with pytest.raises(SettingError):
        read_script(BAD[name])
