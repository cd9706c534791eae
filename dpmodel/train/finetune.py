"""Fine-tuning: a pretrained model, of other types perhaps, made ready for new data (specification/training.md 8)."""

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from dpmodel.edit.type_map import transplanted
from dpmodel.errors import FileError, SettingError
from dpmodel.io.checkpoint import head_called
from dpmodel.io.deepmd import SINGLE, ModelFile
from dpmodel.io.metadata import without_rigidity
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state
from dpmodel.train.script import Script
from dpmodel.train.start import model_file

RANDOM = "RANDOM"


class Choice(NamedTuple):
    """The start of a task: the branch of the file, whether its head is copied, and whether its bias is fitted again."""

    branch: str
    head: bool
    refit: bool


def choose(script: Script, models: Mapping[str, ModelFile], branch: str | None, path: str) -> dict[str, Choice]:
    """The choice of each task of ``script`` among the ``models`` of ``path``; raises SettingError and FileError."""
    if script.multi and branch is not None:
        raise SettingError("--model-branch is for single-task training; the tasks here have finetune_head each")
    if not script.multi:
        wanted = branch or script.tasks[SINGLE].model.finetune_head or ""
        return {SINGLE: _single(models, wanted, path)}
    return {name: _of_several(name, task.model.finetune_head, models, path) for name, task in script.tasks.items()}


def _single(models: Mapping[str, ModelFile], wanted: str, path: str) -> Choice:
    first, several = next(iter(models)), len(models) > 1 or SINGLE not in models
    if several and not wanted:
        names = ", ".join(models)
        warnings.warn(
            f"{path} has the heads {names}: none is taken and the fitting net starts anew; choose one with "
            f"--model-branch ({RANDOM}: this is meant)",
            stacklevel=2,
        )
    if wanted == RANDOM or (several and not wanted):
        return Choice(first, head=False, refit=False)
    return Choice(find_branch(models, wanted or SINGLE, path), head=True, refit=True)


def _of_several(task: str, head: str | None, models: Mapping[str, ModelFile], path: str) -> Choice:
    if head is not None and head != RANDOM:
        return Choice(find_branch(models, head, path), head=True, refit=True)
    if head is None and task in models:
        return Choice(task, head=True, refit=False)  # it goes on
    return Choice(next(iter(models)), head=False, refit=False)


def find_branch(models: Mapping[str, ModelFile], wanted: str, path: str) -> str:
    """The branch called ``wanted``, by its name or one of its aliases, regardless of case."""
    name = head_called(wanted, {name: file.settings.model_branch_alias for name, file in models.items()})
    if name is not None:
        return name
    raise FileError(f"{path}: expected a branch {wanted!r}, found {', '.join(map(repr, models))} (RANDOM: a new head)")


def adopted(settings: ModelSettings, file: ModelFile, head: bool) -> ModelSettings:
    """``settings`` with the sections of the pretrained model, but for what is trainable (--use-pretrain-script)."""
    data, pretrained = settings.model_dump(), file.settings.model_dump()
    for section in ("descriptor", "fitting_net") if head else ("descriptor",):
        data[section] = pretrained[section] | {"trainable": data[section]["trainable"]}
    return ModelSettings.read(data, "model")


def adapted(fresh: ModelFile, file: ModelFile, head: bool, path: str) -> ModelFile:
    """``fresh``, made for the new data, with the parameters of ``file`` (without ``head``: of its descriptor alone)."""
    new = [name for name in fresh.settings.type_map if name not in file.settings.type_map]
    if new:
        warnings.warn(
            f"{path} does not know {', '.join(new)}, only {', '.join(file.settings.type_map)}: what belongs to the new "
            "types starts anew and has to be learned from the data",
            stacklevel=2,
        )
    without_rigidity(file.extras)  # to say that it stays behind, as all that is beside the parameters
    made = model_file(transplanted(fresh, file, head=head, path=path), fresh.settings, None)
    return replace(made, min_pair_distance=fresh.min_pair_distance)


def trainable(file: ModelFile, path: str) -> ModelFile:
    """``file``; a FileError if it is compressed and can no longer learn."""
    compressed = [name for name in state(file.model) if ".table." in name or ".type_table." in name]
    if compressed:
        raise FileError(f"{path}: expected a model that can be trained, found a compressed one ({compressed[0]})")
    return file
