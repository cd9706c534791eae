"""Fine-tuning: a pretrained model, of other types perhaps, made ready for new data (spec training.md 8)."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from dpmodel.errors import FileError, SettingError
from dpmodel.io.deepmd import ModelFile
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, arrays, state
from dpmodel.nn import Linear
from dpmodel.train.batches import generator
from dpmodel.train.script import SINGLE, Script
from dpmodel.train.start import model_file

RANDOM = "RANDOM"
UNKNOWN = {"out_bias": 0.0, "out_std": 1.0, "fitting.bias": 0.0, "fitting.scale": 1.0, "fitting.constant": 0.0}
EMBEDDING = "descriptor.type_embedding.layer.weight"


class Choice(NamedTuple):
    """Where a task starts: the branch of the file, whether its head is copied, and whether its bias is fitted again."""

    branch: str
    head: bool
    refit: bool


def choose(script: Script, models: Mapping[str, ModelFile], branch: str | None, path: str) -> dict[str, Choice]:
    """What each task of ``script`` takes from the ``models`` of ``path``; raises SettingError and FileError."""
    if script.multi and branch is not None:
        raise SettingError("--model-branch is for single-task training; the tasks here have finetune_head each")
    if not script.multi:
        wanted = branch or script.tasks[SINGLE].model.finetune_head or ""
        return {SINGLE: _single(models, wanted, path)}
    return {name: _of_several(name, task.model.finetune_head, models, path) for name, task in script.tasks.items()}


def _single(models: Mapping[str, ModelFile], wanted: str, path: str) -> Choice:
    first, several = next(iter(models)), len(models) > 1 or SINGLE not in models
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
    """The branch called ``wanted``, by its name or one of its aliases."""
    for name, file in models.items():
        if wanted == name or wanted in _aliases(file):
            return name
    raise FileError(f"{path}: expected a branch {wanted!r}, found {', '.join(map(repr, models))} (RANDOM: a new head)")


def _aliases(file: ModelFile) -> Any:
    script = file.extras.get("model_def_script")
    return (script.get("model_branch_alias") if isinstance(script, dict) else None) or ()


def adopted(settings: ModelSettings, file: ModelFile, head: bool) -> ModelSettings:
    """``settings`` with the sections of the pretrained model, but for what is trainable (--use-pretrain-script)."""
    data, theirs = settings.model_dump(), file.settings.model_dump()
    for section in ("descriptor", "fitting_net") if head else ("descriptor",):
        data[section] = theirs[section] | {"trainable": data[section]["trainable"]}
    return ModelSettings.read(data, "model")


def transplanted(fresh: ModelFile, file: ModelFile, head: bool, path: str) -> ModelFile:
    """``fresh``, made for the new data, with the parameters of ``file`` (without ``head``: of its descriptor alone).

    Types are matched by name; those that ``file`` does not know keep what ``fresh`` has of them (no output bias).
    Raises FileError where an array does not fit.
    """
    new, given = state(fresh.model), state(file.model)
    rows = _rows(fresh.model)
    mapping = _mapping(fresh.settings, file.settings)
    for name, value in new.items():
        if not head and not name.startswith("descriptor."):
            continue
        if name not in given:
            raise FileError(f"{path}: expected {name}, which the input's model has, found no such array")
        old = given[name]
        if name in rows:
            old = _by_type(name, value, old, mapping)
        elif name == EMBEDDING and fresh.model.descriptor.type_embedding.features is None:
            old = _embedding(fresh.model.descriptor.type_embedding.layer, file, mapping)
        elif name.endswith("type_embedding.features"):
            continue
        if old.shape != value.shape:
            raise FileError(f"{path}: {name} has shape {old.shape}, but the input's model wants {value.shape}")
        new[name] = old.astype(value.dtype)
    made = model_file(Rebuilder(fresh.model)(new), fresh.settings, None)
    return ModelFile(made.settings, made.model, made.extras | {"@variables": fresh.extras["@variables"]})


TypeNumbers = list[int | None]  # for each new type its number among the old ones


def _mapping(new: ModelSettings, old: ModelSettings) -> TypeNumbers:
    return [old.type_map.index(name) if name in old.type_map else None for name in new.type_map]


def _rows(model: Model) -> set[str]:
    """Paths of the arrays with a row for each type."""
    found = {path for path, _, about in arrays(model) if about["dims"][0] == "n_types"}
    return {path for path in found if not path.endswith(".features")}


def _by_type(name: str, fresh: np.ndarray, old: np.ndarray, mapping: TypeNumbers) -> np.ndarray:
    result = fresh.astype(np.float64)
    for new, number in enumerate(mapping):
        result[new] = UNKNOWN.get(name, result[new]) if number is None else old[number]
    return result


def _embedding(layer: Linear, file: ModelFile, mapping: TypeNumbers) -> np.ndarray:
    """Weights that give the known types the vectors they had: a shortcut adds the identity to them."""
    source = file.model.descriptor.type_embedding.layer
    if mapping == list(range(source.n_in)):
        return source.weight
    vectors = source.weight + _shortcut(source)
    random = generator(0, "new types").uniform(size=(len(mapping), source.n_out))
    rows = [random[new] if number is None else vectors[number] for new, number in enumerate(mapping)]
    return np.stack(rows) - _shortcut(layer)


def _shortcut(layer: Linear) -> np.ndarray:
    """What the shortcut of the type embedding adds to the rows of its weights."""
    if not layer.has_shortcut:
        return np.zeros((layer.n_in, layer.n_out))
    return np.tile(np.eye(layer.n_in), layer.n_out // layer.n_in)


def trainable(file: ModelFile, path: str) -> ModelFile:
    """``file``; a FileError if it is compressed and can no longer learn."""
    compressed = [name for name in state(file.model) if ".table." in name or ".type_table." in name]
    if compressed:
        raise FileError(f"{path}: expected a model that can be trained, found a compressed one ({compressed[0]})")
    return file
