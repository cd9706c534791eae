"""Another list of types: elements added, dropped, put in another order (specification/training.md 8.3)."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from dpmodel.dpa2.tables import retabulated
from dpmodel.errors import FileError, InputError
from dpmodel.initializers import Initializer
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.metadata import without_rigidity
from dpmodel.model.build import build
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, arrays, state
from dpmodel.nn import Linear

UNKNOWN = {"out_bias": 0.0, "out_std": 1.0, "fitting.bias": 0.0, "fitting.constant": 0.0}
OUTPUT = ("out_bias", "out_std")
EMBEDDING = "descriptor.type_embedding.layer.weight"

TypeNumbers = list[int | None]  # for each new type its number among the old ones


def change_type_map(
    file: ModelFile, type_map: Sequence[str], fresh: Callable[[ModelSettings], Model] = build
) -> ModelFile:
    """``file`` for the types ``type_map``, matched by name; those that stay give the same numbers as before.

    New types have the statistics of the ``fresh`` model (mean 0 and deviation 1), no output bias, and, without
    ``use_econf_tebd``, a random embedding: they have to be trained.  Raises InputError if no type would stay,
    SettingError for impossible names.
    """
    if not set(type_map) & set(file.settings.type_map):
        names = ", ".join(file.settings.type_map)
        raise InputError(f"type_map: expected at least one of the model's types {names}, got {', '.join(type_map)}")
    if not set(type_map) <= set(file.settings.type_map):
        file = replace(file, extras=without_rigidity(file.extras))
    settings = renumbered(file.settings, type_map)
    model = transplanted(ModelFile(settings, fresh(settings)), file)
    return file.changed(settings, replace(model, descriptor=retabulated(model.descriptor, file.model.descriptor)))


def numbers_of(new: Sequence[str], old: Sequence[str]) -> TypeNumbers:
    """For each name in ``new`` its place in ``old``."""
    return [old.index(name) if name in old else None for name in new]


def renumbered(settings: ModelSettings, type_map: Sequence[str]) -> ModelSettings:
    """``settings`` for other types: lists of types in their new numbers, lists with one entry a type in new order."""
    mapping = numbers_of(type_map, settings.type_map)
    new_index = {old: new for new, old in enumerate(mapping) if old is not None}

    def types(indices: Sequence[int]) -> list[int]:
        return [new_index[t] for t in indices if t in new_index]

    def pairs(index_pairs: Sequence[Sequence[int]]) -> list[list[int]]:
        return [types(pair) for pair in index_pairs if set(pair) <= new_index.keys()]

    def entries(values: Sequence[Any], unknown: Any = None) -> list[Any]:
        return [unknown if old is None else values[old] for old in mapping]

    data = settings.model_dump()
    descriptor, fitting = data["descriptor"], data["fitting_net"]
    data["type_map"] = list(type_map)
    data["atom_exclude_types"] = types(data["atom_exclude_types"])
    data["pair_exclude_types"] = pairs(data["pair_exclude_types"])
    descriptor["exclude_types"] = pairs(descriptor["exclude_types"])
    if data["preset_out_bias"]:
        data["preset_out_bias"] = {name: entries(values) for name, values in data["preset_out_bias"].items()}
    if fitting.get("sel_type") is not None:
        fitting["sel_type"] = types(np.atleast_1d(fitting["sel_type"]).tolist())
    if isinstance(fitting.get("scale"), list):
        fitting["scale"] = entries(fitting["scale"], 1.0)
    if any(energy is not None for energy in fitting.get("atom_ener") or ()):
        # one number is enough for the vacuum to be subtracted, and it must not go with its type
        fitting["atom_ener"] = entries([energy or 0.0 for energy in fitting["atom_ener"]], 0.0)
    return ModelSettings.read(data, "model")


def transplanted(fresh: ModelFile, file: ModelFile, *, head: bool = True, path: str = "model") -> Model:
    """``fresh`` with the arrays of ``file``, which is at ``path`` (without ``head``: of its descriptor alone).

    Types are matched by name; those that ``file`` does not know keep what ``fresh`` has of them (no output bias).
    Raises FileError where an array does not fit.
    """
    new, source = state(fresh.model), state(file.model)
    rows = _rows(fresh.model)
    mapping = numbers_of(fresh.settings.type_map, file.settings.type_map)
    for name, value in new.items():
        if (not head and not name.startswith("descriptor.")) or name.endswith("type_embedding.features"):
            continue
        if name not in source:
            raise FileError(f"{path}: expected {name}, which the input's model has, found no such array")
        old = source[name]
        if name in OUTPUT and not file.model.distinguish_types:
            old = np.tile(old[:1], (len(mapping), 1))  # the first type's, used for all
        elif name in rows:
            old = _by_type(name, value, old, mapping)
        elif name == EMBEDDING and fresh.model.descriptor.type_embedding.features is None:
            old = _embedding(fresh.model.descriptor.type_embedding.layer, file, fresh.settings.type_map)
        if old.shape != value.shape:
            raise FileError(f"{path}: {name} has shape {old.shape}, but the input's model wants {value.shape}")
        new[name] = old.astype(value.dtype)
    return Rebuilder(fresh.model)(new)


def _rows(model: Model) -> set[str]:
    """Paths of the arrays with a row for each type."""
    return {path for path, _, about in arrays(model) if about["dims"][0] == "n_types"}


def _by_type(name: str, fresh: np.ndarray, old: np.ndarray, mapping: TypeNumbers) -> np.ndarray:
    result = fresh.astype(np.float64)
    for new, number in enumerate(mapping):
        result[new] = UNKNOWN.get(name, result[new]) if number is None else old[number]
    return result


def _embedding(layer: Linear, file: ModelFile, type_map: Sequence[str]) -> np.ndarray:
    """Weights that give the known types the vectors they had: a shortcut adds the identity to them."""
    source, names = file.model.descriptor.type_embedding.layer, file.settings.type_map
    if tuple(type_map) == names:
        return source.weight
    vectors = dict(zip(names, source.weight + _shortcut(source), strict=True))
    new = {name: Initializer(0)(name).uniform((source.n_out,), 0.0, 1.0) for name in type_map}
    return np.stack([(new | vectors)[name] for name in type_map]) - _shortcut(layer)


def _shortcut(layer: Linear) -> np.ndarray:
    """The matrix that the shortcut of the type embedding adds to its weights."""
    if not layer.has_shortcut:
        return np.zeros((layer.n_in, layer.n_out))
    return np.tile(np.eye(layer.n_in), layer.n_out // layer.n_in)
