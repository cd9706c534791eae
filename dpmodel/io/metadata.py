"""Metadata beside the model in a file: where it comes from, the script it was trained with, a distance."""

import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.tree import map_leaves
from dpmodel.io.values import check_array, describe, plain_value

DISTANCE = "min_nbor_dist"
RIGIDITY = "last_layer_rigidity"  # how certain the model is (dpmodel.statistics.rigidity)
UNKNOWN = (0.0, -1.0)


def extras_of(tree: Mapping[str, Any], file: str) -> dict[str, Any]:
    """All that ``tree`` has beside its model and the shortest distance, copied.  Raises FileError."""
    beside = {key: value for key, value in tree.items() if key not in ("model", DISTANCE)}
    for key in ("@variables", "model_def_script"):
        if beside.get(key) is None:
            beside.pop(key, None)
        elif not isinstance(beside[key], dict):
            raise FileError(f"{file}: /{key}: expected a mapping, found {describe(beside[key])}")
    if "@variables" in beside:
        beside["@variables"] = {key: value for key, value in beside["@variables"].items() if key != DISTANCE}
    copied: dict[str, Any] = map_leaves(beside, _leaf, file)
    return copied


def without_rigidity(extras: Mapping[str, Any]) -> dict[str, Any]:
    """``extras`` of a model that has become another, to which its uncertainty does not belong; says so in a warning."""
    if RIGIDITY in extras:
        line = (
            "the uncertainty in the file is that of the model before: it is left out; 'dpmodel calibrate' finds it anew"
        )
        warnings.warn(line, UserWarning, stacklevel=3)
    return {key: value for key, value in extras.items() if key != RIGIDITY}


def _leaf(value: Any, flagged: bool, where: str) -> Any:
    return check_array(value, where).copy() if flagged and value is not None else plain_value(value, where)


def distance_entries(distance: float | None, variables: Mapping[str, Any]) -> dict[str, Any]:
    """The top-level entries of a tree that hold ``distance``: deepmd-kit converts one and compresses with the other."""
    if distance is None:
        return {"@variables": dict(variables)}
    return {DISTANCE: distance, "@variables": {**variables, DISTANCE: np.asarray(distance)}}


def shortest_distance(tree: Mapping[str, Any], file: str) -> float | None:
    """Shortest distance between atoms of the training data, angstrom, from either of two entries; None if not known."""
    for prefix, entry in (("/@variables", tree.get("@variables") or {}), ("", tree)):
        if entry.get(DISTANCE) is not None:
            distance = _distance(entry[DISTANCE], f"{file}: {prefix}/{DISTANCE}")
            return None if distance in UNKNOWN else distance
    return None


def _distance(value: Any, where: str) -> float:
    array = check_array(value, where)
    number = float(array.item()) if array.size == 1 and array.dtype.kind in "iuf" else np.nan
    if not (0 < number < np.inf or number in UNKNOWN):
        actual = describe(array.item() if array.size == 1 else value)
        raise FileError(f"{where}: expected a distance (0, -1 or null where it is not known), found {actual}")
    return number
