"""The whole input file (specification/training.md 1, 9.1), brought to one form: single-task training is one task."""

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, NamedTuple

import yaml
from pydantic import Field

from dpmodel.errors import FileError, SettingError
from dpmodel.io.deepmd import SINGLE
from dpmodel.io.files import read_text
from dpmodel.model.settings import ModelSettings
from dpmodel.settings import OLD, Settings, remark, remarks_together, setting
from dpmodel.train.loss import Objective
from dpmodel.train.settings.loss import LOSSES, EnergyLoss, LossSettings
from dpmodel.train.settings.optimizer import ELSEWHERE, KALMAN, MUON, AdamSettings, OptimizerSettings
from dpmodel.train.settings.run import CommonTraining, MultiTraining, TaskData, TrainingSettings
from dpmodel.train.settings.schedule import ScheduleSettings
from dpmodel.train.settings.validating import ValidatingSettings

SHARED = ("type_map", "descriptor", "fitting_net")  # what branches may take from shared_dict
OLD_PLACES = {  # keys of ``training`` in old files: where they are now
    "opt_type": ("optimizer", "type"),
    **{key: ("optimizer", key) for key in ("adam_beta1", "adam_beta2", "weight_decay", *KALMAN, *MUON)},
    "warmup_steps": ("learning_rate", "warmup_steps"),
}


class Link(NamedTuple):
    """Tasks that share a descriptor or a fitting net, called ``key`` in ``shared_dict``.

    ``members`` are (task, level), those that share most first.
    """

    part: str
    key: str
    members: tuple[tuple[str, int], ...]


@dataclass(frozen=True)
class Task:
    """One model, what it is trained on, and how its errors count."""

    name: str
    model: ModelSettings
    loss: LossSettings
    data: TaskData

    @property
    def objective(self) -> Objective:
        """The loss that it minimizes."""
        return Objective.of(self.loss, self.model)


class CommonScript(Settings):
    """The sections that input files of one and of several tasks share."""

    learning_rate: ScheduleSettings = setting(..., "How the learning rate goes with the steps.")
    optimizer: OptimizerSettings = setting(AdamSettings(), "How parameters follow from gradients.")
    validating: ValidatingSettings = setting(ValidatingSettings(), "Full validation, and which checkpoints are best.")

    ignored: ClassVar = {"nvnmd": {"enable": False}}
    foreign: ClassVar = ELSEWHERE


class SingleScript(CommonScript):
    """The input file of single-task training."""

    model: ModelSettings = setting(..., "The model.")
    loss: LossSettings = setting(EnergyLoss(), "How far predictions are from the labels.")
    training: TrainingSettings = setting(..., "Data, number of steps, files.")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from _suits(self.loss, self.model, "loss")
        yield from _warm_up_ends(self)

    def tasks(self) -> dict[str, Task]:
        """The one task."""
        return {SINGLE: Task(SINGLE, self.model, self.loss, self.training)}


class MultiModel(Settings):
    """Models that share parts."""

    model_dict: Annotated[dict[str, ModelSettings], Field(min_length=1)] = setting(..., "The model of each task.")
    shared_dict: dict[str, Any] = setting({}, "Parts that branches name instead of having their own.")

    def problems(self) -> Iterator[tuple[str, str]]:
        models = self.model_dict
        for name, model in models.items():
            if model.type_map != next(iter(models.values())).type_map:
                yield f"model_dict.{name}.type_map", "should be that of all branches: put it into shared_dict"
        if len({model.data_stat_protect for model in models.values()}) > 1:
            yield "model_dict", "should have the same data_stat_protect in all branches"
        widths = {model.fitting_net.dim_case_embd for model in models.values()}
        if len(widths) > 1 or 0 < max(widths) < len(models):
            yield "model_dict", f"should have the same dim_case_embd everywhere, 0 or at least {len(models)}"
        if "RANDOM" in models:
            yield "model_dict.RANDOM", "is a reserved name"


class MultiScript(CommonScript):
    """The input file of multi-task training."""

    foreign: ClassVar = {**CommonScript.foreign, "loss": "belongs in loss_dict.NAME where there are several tasks"}

    model: MultiModel = setting(..., "The models.")
    loss_dict: dict[str, LossSettings] = setting({}, "The loss of each task.")
    training: MultiTraining = setting(..., "Data, number of steps, files.")

    def problems(self) -> Iterator[tuple[str, str]]:
        names, training = list(self.model.model_dict), self.training
        sections: dict[str, Mapping[str, Any]] = {"loss_dict": self.loss_dict, "training.data_dict": training.data_dict}
        shares = {"training.model_prob": training.model_prob, "training.num_epoch_dict": training.num_epoch_dict}
        for path, named in (sections | {path: share or {} for path, share in shares.items()}).items():
            for name in [name for name in named if name not in names]:
                yield f"{path}.{name}", f"is not one of the branches {', '.join(names)} of model.model_dict"
            for name in [name for name in names if named and name not in named]:
                if path in sections:
                    yield f"{path}.{name}", "is required: model.model_dict has this branch"
                else:
                    remark(f"branches that are never trained, since {path} lacks them", name)
        for task in self.tasks().values() if set(names) == set(training.data_dict) else ():
            yield from _suits(task.loss, task.model, f"loss_dict.{task.name}")
        yield from _warm_up_ends(self)

    def tasks(self) -> dict[str, Task]:
        """The tasks in the order of ``model_dict``."""
        data, losses = self.training.data_dict, self.loss_dict
        return {
            name: Task(name, model, losses.get(name, EnergyLoss()), data[name])
            for name, model in self.model.model_dict.items()
        }


def _suits(loss: LossSettings, model: ModelSettings, path: str) -> Iterator[tuple[str, str]]:
    """The problems of a loss for the head of a model."""
    kind = model.fitting_net.type
    if kind not in loss.heads:
        right = next(name for name, heads in LOSSES.items() if kind in heads)
        yield f"{path}.type", f"should be {right!r}, which is for {kind} models, got {loss.type!r}"


def _warm_up_ends(script: Any) -> Iterator[tuple[str, str]]:
    n_steps, warm_up = script.training.numb_steps, script.learning_rate.warmup_steps
    if n_steps and warm_up >= n_steps:
        yield "learning_rate.warmup_steps", f"should be below the number of steps, {n_steps}, got {warm_up}"


@dataclass(frozen=True)
class Script:
    """A checked input file; ``settings`` are its sections with all defaults."""

    settings: SingleScript | MultiScript
    tasks: dict[str, Task]
    links: tuple[Link, ...] = ()

    @property
    def training(self) -> CommonTraining:
        """The section ``training``."""
        return self.settings.training

    @property
    def multi(self) -> bool:
        """Whether the file is one of multi-task training."""
        return isinstance(self.settings, MultiScript)

    def content(self) -> dict[str, Any]:
        """The input file for the ``tasks`` as they are now, with all defaults."""
        models = {name: task.model.model_dump() for name, task in self.tasks.items()}
        if not self.multi:
            return self.settings.model_dump() | {"model": models[SINGLE]}
        shared: dict[str, Any] = {}
        for link in self.links:
            for task, level in link.members:
                shared.setdefault(link.key, models[task][link.part])
                models[task][link.part] = f"{link.key}:{level}"
        return self.settings.model_dump() | {"model": {"shared_dict": shared, "model_dict": models}}


def read_script(data: Any, descriptor: Mapping[str, Any] | None = None) -> Script:
    """The input file whose content (nested mappings, as from JSON) is ``data``.

    ``descriptor``: of a pretrained model, for models that leave theirs empty.

    Raises
    ------
    SettingError
        Naming every unknown, missing, ill-typed or inconsistent setting by its path.
    """
    if not isinstance(data, Mapping):
        raise SettingError(f"input should be a section {{...}}, got {type(data).__name__}")
    with remarks_together():
        return _read(_modern(dict(data)), descriptor)


def _read(data: dict[str, Any], descriptor: Mapping[str, Any] | None) -> Script:
    if not (isinstance(data.get("model"), Mapping) and "model_dict" in data["model"]):
        model = {"model": _filled(data["model"], descriptor)} if "model" in data else {}
        single = SingleScript.read(data | model)
        return Script(single, single.tasks())
    model, links = expanded(data["model"])
    model["model_dict"] = {name: _filled(branch, descriptor) for name, branch in model["model_dict"].items()}
    several = MultiScript.read(data | {"model": model})
    return Script(several, several.tasks(), links)


def _filled(model: Any, descriptor: Mapping[str, Any] | None) -> Any:
    """The section of a model with ``descriptor`` in place of an empty one."""
    if descriptor is None or not isinstance(model, Mapping):
        return model
    section = model.get("descriptor") or {}
    if not isinstance(section, Mapping) or {key for key in section if not key.startswith("_")} - {"type", "trainable"}:
        return model
    return {"fitting_net": {}, **model, "descriptor": {**descriptor, **section}}


class _Loader(yaml.SafeLoader):
    """YAML 1.1 takes 1e-3, which has no point, for text."""


_Loader.add_implicit_resolver("tag:yaml.org,2002:float", re.compile(r"[-+]?\d+[eE][-+]?\d+$"), list("-+0123456789"))


def load_script(path: str | os.PathLike[str], descriptor: Mapping[str, Any] | None = None) -> Script:
    """The input file at ``path``, JSON or YAML; ``descriptor`` as for ``read_script``."""
    text = read_text(path)
    try:
        data = json.loads(text) if Path(path).suffix.lower() == ".json" else yaml.load(text, _Loader)  # noqa: S506
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise FileError(f"{path}: expected JSON or YAML: {error}") from error
    return read_script(data, descriptor)


def _modern(data: dict[str, Any]) -> dict[str, Any]:
    """Keys moved from ``training``, where old files have them; a key that is in the new place already stays."""
    training = data.get("training")
    old = [key for key in OLD_PLACES if isinstance(training, Mapping) and key in training]
    if not old:
        return data
    assert isinstance(training, Mapping)
    result = data | {"training": {key: value for key, value in training.items() if key not in old}}
    for key in old:
        section, name = OLD_PLACES[key]
        remark(OLD, f"'training.{key}' is now '{section}.{name}'")
        values = result.get(section) or {}
        if isinstance(values, Mapping):
            result[section] = {name: training[key], **values}
    return result


def expanded(model: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Link, ...]]:
    """The model section with shared parts for their names, and who shares them (specification/training.md 9)."""
    shared, branches = model.get("shared_dict") or {}, model["model_dict"]
    if not isinstance(shared, Mapping) or not isinstance(branches, Mapping):
        raise SettingError("model.model_dict and model.shared_dict should be sections {...}")
    defaults = {key: value for key, value in model.items() if key not in ("shared_dict", "model_dict")}
    members: dict[tuple[str, str], list[tuple[str, int]]] = {}
    result: dict[str, Any] = {}
    for name, branch in branches.items():
        if str(name).startswith("_"):
            continue
        if not isinstance(branch, Mapping):
            raise SettingError(f"model.model_dict.{name} should be a section {{...}}, got {branch!r}")
        result[name] = new = defaults | dict(branch)
        for part in [part for part in SHARED if isinstance(new.get(part), str)]:
            key, level = _reference(new[part], f"model.model_dict.{name}.{part}", shared)
            new[part] = shared[key]
            members.setdefault((part, key), []).append((name, level))
    for key in sorted(shared.keys() - {key for _, key in members}):
        if not key.startswith("_"):
            remark("entries of model.shared_dict that no branch names", key)
    links = [
        Link(part, key, tuple(sorted(tasks, key=lambda member: member[1])))
        for (part, key), tasks in members.items()
        if part != "type_map" and len(tasks) > 1
    ]
    return {"model_dict": result, "shared_dict": dict(shared)}, tuple(links)


def _reference(text: str, path: str, shared: Mapping[str, Any]) -> tuple[str, int]:
    """The key and the level in "key:level"."""
    key, colon, level = text.partition(":")
    if key not in shared:
        raise SettingError(
            f"{path} should be a section or one of {', '.join(shared) or 'model.shared_dict'}, got {text!r}"
        )
    allowed = (0, 1) if path.endswith("descriptor") else (0,)
    if colon and level not in map(str, allowed):
        raise SettingError(f"{path} has levels {', '.join(map(str, allowed))} of sharing, got {level!r}")
    return key, int(level or 0)
