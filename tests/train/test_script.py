"""Input files: defaults of the specification, every cross check, old names, multi-task references."""

import json
import warnings
from pathlib import Path
from typing import Any

import pytest

from dpmodel.errors import FileError, SettingError
from dpmodel.model.settings import ModelSettings
from dpmodel.train.loss import Objective
from dpmodel.train.script import Link, load_script, read_script
from dpmodel.train.settings.data import ValidationData
from dpmodel.train.settings.loss import EnergyLoss
from dpmodel.train.settings.optimizer import AdamSettings, AdamWSettings
from dpmodel.train.settings.run import TrainingSettings
from dpmodel.train.settings.schedule import CosineSchedule, ExpSchedule, WSDSchedule
from sample_settings import MODEL

# The tables of training.md 1.4 - 1.7

SCHEDULE = {
    "stop_lr": None,
    "stop_lr_ratio": None,
    "warmup_steps": 0,
    "warmup_ratio": None,
    "warmup_start_factor": 0.0,
    "scale_by_worker": "linear",
}
DATA = {"rglob_patterns": None, "batch_size": "auto", "auto_prob": "prob_sys_size", "sys_probs": None}
DEFAULTS = [
    (ExpSchedule, {"start_lr": 1.0}, SCHEDULE | {"decay_steps": 5000, "decay_rate": None, "smooth": False}),
    (CosineSchedule, {"start_lr": 1.0}, SCHEDULE),
    (WSDSchedule, {"start_lr": 1.0}, SCHEDULE | {"decay_phase_ratio": 0.1, "decay_type": "inverse_linear"}),
    (AdamSettings, {}, {"adam_beta1": 0.9, "adam_beta2": 0.999, "weight_decay": 0.0}),
    (AdamWSettings, {}, {"adam_beta1": 0.9, "adam_beta2": 0.999, "weight_decay": 0.001}),
    (
        EnergyLoss,
        {},
        {"start_pref_e": 0.02, "limit_pref_e": 1.0, "start_pref_f": 1000.0, "limit_pref_f": 1.0}
        | {f"{when}_pref_{term}": 0.0 for when in ("start", "limit") for term in ("v", "ae", "pf", "gf", "h")}
        | {"use_default_pf": False, "relative_f": None, "enable_atom_ener_coeff": False, "numb_generalized_coord": 0}
        | {"use_huber": False, "loss_func": "mse", "f_use_norm": False, "huber_delta": 0.01}
        | {"intensive_ener_virial": False},
    ),
    (
        TrainingSettings,
        {"training_data": {"systems": "here"}, "numb_steps": 1},
        {"validation_data": None, "stat_file": None, "stat_file_mode": "update", "seed": None}
        | {"disp_file": "lcurve.out", "disp_freq": 1000, "save_freq": 1000, "save_dir": None}
        | {"save_ckpt": "model.ckpt", "max_ckpt_keep": 5, "ckpt_keep_ratio": None, "enable_ema": False}
        | {"ema_decay": 0.999, "ema_ckpt_keep": None, "change_bias_after_training": False, "disp_training": True}
        | {"time_training": True, "disp_avg": False, "tensorboard": False, "tensorboard_log_dir": "log"}
        | {"tensorboard_freq": 1, "gradient_max_norm": None},
    ),
    (ValidationData, {"systems": "here"}, DATA | {"numb_btch": 1}),
]


@pytest.mark.parametrize(("cls", "given", "expected"), DEFAULTS, ids=[cls.__name__ for cls, _, _ in DEFAULTS])
def test_defaults(cls: Any, given: dict[str, Any], expected: dict[str, Any]) -> None:
    found = cls.read(given)
    assert {name: getattr(found, name) for name in expected} == expected


def single(**sections: Any) -> dict[str, Any]:
    data = {
        "model": MODEL,
        "learning_rate": {"start_lr": 0.001, "stop_lr": 1e-6},
        "training": {"training_data": {"systems": ["a"]}, "numb_steps": 100},
    }
    for name, values in sections.items():
        data[name] = data.get(name, {}) | values
    return data


def multi(**training: Any) -> dict[str, Any]:
    branch = {"type_map": "tm", "descriptor": "d", "fitting_net": {}}
    shared = {"tm": MODEL["type_map"], "d": MODEL["descriptor"], "f": {"neuron": [8]}}
    data = {"training_data": {"systems": "a"}}
    return {
        "model": {"model_dict": {"A": branch | {"fitting_net": "f"}, "B": dict(branch)}, "shared_dict": shared},
        "learning_rate": {"start_lr": 0.001},
        "loss_dict": {"A": {}, "B": {"start_pref_v": 1, "limit_pref_v": 1}},
        "training": {"data_dict": {"A": data, "B": data}, "numb_steps": 10} | training,
    }


def test_one_task() -> None:
    script = read_script(single(_comment={}, validating={"_full": True}, nvnmd={}))
    assert list(script.tasks) == ["Default"]
    assert not script.multi
    assert script.settings.learning_rate.final == 1e-6
    again = read_script(json.loads(json.dumps(script.settings.model_dump())))
    assert again.settings == script.settings


WRONG = [
    ({"learning_rate": {"stop_lr_ratio": 0.1}}, r"learning_rate.stop_lr_ratio says the same as stop_lr"),
    ({"learning_rate": {"stop_lr": 0.1}}, r"learning_rate.stop_lr should be at most start_lr = 0.001, got 0.1"),
    ({"learning_rate": {"start_lr": 0.0}}, r"learning_rate.start_lr should be above 0"),
    ({"learning_rate": {"warmup_steps": 5, "warmup_ratio": 0.1}}, r"learning_rate.warmup_ratio says the same"),
    ({"learning_rate": {"warmup_steps": 100}}, r"warmup_steps should be below the number of steps, 100, got 100"),
    ({"learning_rate": {"type": "wsd", "stop_lr": 0.0}}, r"stop_lr should be above 0 for the schedule wsd"),
    ({"learning_rate": {"type": "expp"}}, r"learning_rate.type should be .*did you mean 'exp'"),
    ({"learning_rate": {"type": ["exp"]}}, r"learning_rate.type should be 'exp', .*got \['exp'\]"),
    ({"optimizer": {"type": {}}}, r"optimizer.type should be 'Adam', 'AdamW', got {}"),
    (
        {"optimizer": {"type": "LKF"}},
        r"optimizer.type is deepmd-kit's layer-wise Kalman .*\(use Adam or AdamW\), got 'LKF'",
    ),
    ({"optimizer": {"type": "HybridMuon"}}, r"optimizer.type is deepmd-kit's own variant of Muon: that of PyTorch and"),
    ({"optimizer": {"type": "LKF", "kf_blocksize": 9}}, r"^optimizer.type is deepmd-kit's layer-wise Kalman filter"),
    ({"optimizer": {"type": "adamw"}}, r"optimizer.type should be 'Adam', 'AdamW', got 'adamw'; did you mean 'AdamW'"),
    ({"optimizer": {"lr_adjust": 1.0}}, r"optimizer.lr_adjust belongs to an optimizer that is not supported here"),
    ({"optimizer": {"adam_beta1": 1.0}}, r"optimizer.adam_beta1 should be below 1"),
    ({"loss": {"start_pref": 1}}, r"loss.start_pref is not a setting; did you mean 'start_pref_"),
    ({"loss": {"use_huber": True, "relative_f": 1.0}}, r"loss.relative_f does not go with use_huber"),
    ({"loss": {"use_huber": True, "start_pref_h": 1.0}}, r"loss.start_pref_h does not go with use_huber"),
    ({"loss": {"huber_delta": [0.1, 0.2]}}, r"loss.huber_delta should be one number or three"),
    ({"loss": {"f_use_norm": True}}, r"loss.f_use_norm goes with"),
    ({"loss": {"start_pref_gf": 1, "limit_pref_gf": 1}}, r"numb_generalized_coord should be above 0"),
    ({"loss": {"limit_pref_e": 0, "limit_pref_f": 0}}, r"nothing would be learned"),
    ({"training": {"numb_epoch": 2}}, r"training.numb_steps or numb_epoch is required, and only one"),
    ({"training": {"stop_batch": 7}}, r"stop_batch is another name of numb_steps"),
    ({"training": {"dispfreq": 7}}, r"training.dispfreq is not a setting; did you mean 'disp_freq'"),
    ({"training": {"acc_freq": 0}}, r"training.acc_freq should be above 0 steps, got 0"),
    ({"training": {"training_data": {"systems": "a", "batch_size": "mix:4"}}}, r"batch_size should be .* or 'mixed:N'"),
    ({"training": {"training_data": {"systems": []}}}, r"training_data.systems should name at least one system"),
    ({"training": {"training_data": {"systems": "a", "batch_size": 0}}}, r"batch_size should be a positive"),
    ({"training": {"training_data": {"systems": "a", "auto_prob": "prob"}}}, r"auto_prob should be 'prob_uniform'"),
    ({"training": {"training_data": {"systems": "a", "sys_probs": [0.7, 0.7]}}}, r"add up to at most 1"),
    (
        {"model": {"fitting_net": {"type": "dipole"}}},
        r"loss.type should be 'tensor', which is for dipole models, got",
    ),
]


@pytest.mark.parametrize(("sections", "message"), WRONG, ids=[message[:40] for _, message in WRONG])
def test_what_cannot_be_used(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        read_script(single(**sections))


@pytest.mark.parametrize("size", [3, "max:9", [1, 2]])
def test_batch_sizes_are_written_as_they_were_read(size: Any) -> None:
    script = read_script(single(training={"training_data": {"systems": ["a", "b"], "batch_size": size}}))
    again = json.loads(json.dumps(script.content()))
    assert again["training"]["training_data"]["batch_size"] == size
    assert read_script(again).settings == script.settings


def test_all_problems_at_once() -> None:
    with pytest.raises(SettingError, match="3 settings cannot be used"):
        read_script(single(loss={"a": 1}, learning_rate={"start_lr": -1}, training={"disp_freq": 0}))


def test_warm_up_where_old_inputs_have_it() -> None:
    """As deepmd-kit's water examples do; what stands in the new place counts."""
    with pytest.warns(UserWarning, match=r"'training.warmup_steps' is now 'learning_rate.warmup_steps'"):
        script = read_script(single(training={"warmup_steps": 2}))
    assert script.settings.learning_rate.warmup_steps == 2
    with pytest.warns(UserWarning, match=r"warmup_steps"):
        script = read_script(single(training={"warmup_steps": 2}, learning_rate={"warmup_steps": 1}))
    assert script.settings.learning_rate.warmup_steps == 1


def test_old_places_are_accepted_with_a_warning() -> None:
    old = single(training={"opt_type": "AdamW", "weight_decay": 0.1})
    with pytest.warns(UserWarning, match=r"'training.opt_type' is now 'optimizer.type'"):
        script = read_script(old)
    assert isinstance(script.settings.optimizer, AdamWSettings)
    assert script.settings.optimizer.weight_decay == 0.1
    flat = single()
    flat["training"] = {"systems": ["a"], "batch_size": 3, "numb_steps": 1}
    with pytest.warns(UserWarning, match=r"'systems' is now 'training_data.systems'"):
        script = read_script(flat)
    assert script.tasks["Default"].data.training_data.batch_size == 3


@pytest.mark.parametrize("name", ["stop_batch", "num_step", "num_steps", "numb_step"])
def test_aliases(name: str) -> None:
    data = single()
    data["training"][name] = data["training"].pop("numb_steps")
    with pytest.warns(UserWarning, match=f"'{name}' is now 'numb_steps'"):
        assert read_script(data).training.numb_steps == 100


def said(data: dict[str, Any]) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        read_script(data)
    return [str(warning.message) for warning in found]


def test_one_line_for_all_old_names() -> None:
    data = single(training={"opt_type": "Adam"}, model={"fitting_net": {"n_neuron": [3]}})
    data["training"]["training_data"]["sys_weights"] = [1.0]
    assert said(data) == [
        "old names of settings: 'training.opt_type' is now 'optimizer.type', 'n_neuron' is now 'neuron',"
        " 'sys_weights' is now 'sys_probs'"
    ]


def test_one_line_for_all_without_effect() -> None:
    data = single(training={"enable_compile": True, "zero_stage": 0, "profiling": False, "time_training": False})
    data |= {"validating": {"full_validation": True, "validation_freq": 10, "amp_infer": True}, "nvnmd": {}}
    assert said(data) == ["settings without effect here: 'amp_infer', 'enable_compile', 'time_training'"]
    assert said(single(validating={"full_validation": False, "validation_freq": 10})) == []


def test_active_terms() -> None:
    one_sided = EnergyLoss.read({"start_pref_v": 1.0, "start_pref_h": 1.0})
    assert [term.name for term in one_sided.active] == ["e", "f", "h"]
    assert one_sided.half_off == ("v",)


@pytest.mark.parametrize(
    ("given", "labels"),
    [
        ({}, "energy force"),
        ({"start_pref_e": 0.0, "start_pref_h": 1.0}, "energy force hessian"),  # the bias wants energies
        ({"start_pref_pf": 1.0, "limit_pref_pf": 1.0, "limit_pref_f": 0.0}, "energy force atom_pref"),
        (
            {"start_pref_v": 1.0, "limit_pref_v": 1.0, "enable_atom_ener_coeff": True},
            "energy force virial atom_ener_coeff",
        ),
    ],
)
def test_labels_that_are_needed(given: dict[str, Any], labels: str) -> None:
    assert Objective.of(EnergyLoss.read(given), ModelSettings.read(MODEL)).labels == set(labels.split())


@pytest.mark.parametrize(("ratio", "steps", "kept"), [(None, 10_000, 5), (0.25, 10_000, 3), (0.01, 500, 1)])
def test_checkpoints_to_keep(ratio: float | None, steps: int, kept: int) -> None:
    data = {"training_data": {"systems": "a"}, "numb_steps": steps, "ckpt_keep_ratio": ratio}
    assert TrainingSettings.read(data).n_checkpoints(steps) == kept


def test_several_tasks() -> None:
    script = read_script(multi())
    assert script.multi
    assert list(script.tasks) == ["A", "B"]
    assert list(script.tasks["B"].objective.needs) == ["e", "f", "v"]
    assert script.tasks["A"].model.type_map == tuple(MODEL["type_map"])
    assert script.links == (Link("descriptor", "d", (("A", 0), ("B", 0))),)


def test_levels_of_sharing() -> None:
    data = multi()
    data["model"]["model_dict"]["A"] |= {"descriptor": "d:1", "fitting_net": "f"}
    data["model"]["model_dict"]["B"] |= {"fitting_net": "f:0"}
    data["model"]["data_stat_nbatch"] = 3
    script = read_script(data)
    descriptor, fitting = script.links
    assert descriptor == Link("descriptor", "d", (("B", 0), ("A", 1)))
    assert fitting == Link("fitting_net", "f", (("A", 0), ("B", 0)))
    assert {task.model.data_stat_nbatch for task in script.tasks.values()} == {3}
    again = read_script(script.content())
    assert again.links == script.links
    assert again.tasks == script.tasks


@pytest.mark.parametrize(
    ("section", "message"),
    [
        (
            {"training_data": {"systems": "a"}},
            r"^training.training_data belongs in data_dict.NAME where there are several",
        ),
        ({"stat_file": "a"}, r"^training.stat_file belongs in data_dict.NAME"),
        ({"numb_epoch": 3}, r"^training.numb_epoch belongs in num_epoch_dict"),
    ],
)
def test_places_of_single_task_training(section: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        read_script(multi(**section))


def test_loss_beside_several_tasks() -> None:
    with pytest.raises(SettingError, match=r"^loss belongs in loss_dict.NAME where there are several tasks$"):
        read_script(multi() | {"loss": {}})


def test_branches_are_sections() -> None:
    data = multi()
    data["model"]["model_dict"]["B"] = "A"
    with pytest.raises(SettingError, match=r"^model.model_dict.B should be a section \{...\}, got 'A'$"):
        read_script(data)


def test_shared_parts_that_nobody_names() -> None:
    data = multi()
    data["model"]["shared_dict"] |= {"_comment": "x", "typo": {}}
    assert said(data) == ["entries of model.shared_dict that no branch names: typo"]


def test_wrong_references() -> None:
    data = multi()
    data["model"]["model_dict"]["A"]["descriptor"] = "e"
    with pytest.raises(SettingError, match=r"model_dict.A.descriptor should be a section or one of tm, d, f, got 'e'"):
        read_script(data)
    data["model"]["model_dict"]["A"]["descriptor"] = "d:2"
    with pytest.raises(SettingError, match=r"levels 0, 1 of sharing, got '2'"):
        read_script(data)


def test_names_of_tasks_agree() -> None:
    data = multi(model_prob={"A": 1, "C": 1})
    with pytest.raises(SettingError, match=r"^training.model_prob.C is not one of the branches A, B of model.model_d"):
        read_script(data)
    data = multi(model_prob={"A": 1, "B": 1})
    del data["training"]["data_dict"]["B"]
    with pytest.raises(SettingError, match=r"^training.data_dict.B is required: model.model_dict has this branch$"):
        read_script(data)
    data = multi()
    data["loss_dict"]["C"] = {}
    del data["training"]["data_dict"]["B"]
    with pytest.raises(SettingError, match=r"(?s)loss_dict.C is not one of.*data_dict.B is required"):
        read_script(data)


def test_branches_without_a_turn() -> None:
    """Perhaps somebody forgot them; a zero is meant."""
    assert said(multi(model_prob={"A": 1.0})) == [
        "branches that are never trained, since training.model_prob lacks them: B"
    ]
    epochs = multi(num_epoch_dict={"B": 2})
    del epochs["training"]["numb_steps"]
    assert said(epochs) == ["branches that are never trained, since training.num_epoch_dict lacks them: A"]
    assert said(multi(model_prob={"A": 1.0, "B": 0.0}, num_epoch_dict={})) == []  # empty: not given


def test_files(tmp_path: Path) -> None:
    for name, text in (("input.json", json.dumps(single())), ("input.yaml", json.dumps(single()))):
        (tmp_path / name).write_text(text)
        assert load_script(tmp_path / name).training.numb_steps == 100
    (tmp_path / "marked.json").write_text(json.dumps(single()), encoding="utf-8-sig")
    assert load_script(tmp_path / "marked.json").training.numb_steps == 100
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(FileError, match=r"bad.json: expected JSON"):
        load_script(tmp_path / "bad.json")
    with pytest.raises(FileError, match="cannot be read"):
        load_script(tmp_path / "none.json")
