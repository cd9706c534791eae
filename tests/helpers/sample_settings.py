"""A small model section, and ways to spoil it."""

import copy
from typing import Any

import pytest

from dpmodel.errors import SettingError
from dpmodel.model.settings import ModelSettings

MODEL: dict[str, Any] = {
    "type_map": ["O", "H"],
    "descriptor": {
        "type": "dpa2",
        "repinit": {"rcut": 6.0, "rcut_smth": 0.5, "nsel": 120},
        "repformer": {"rcut": 4.0, "rcut_smth": 3.5, "nsel": 48},
    },
    "fitting_net": {"neuron": [24, 24]},
}
REPINIT, REPFORMER = MODEL["descriptor"]["repinit"], MODEL["descriptor"]["repformer"]
PATHS = {"repinit": "descriptor.repinit", "repformer": "descriptor.repformer", "fitting": "fitting_net"}
ABSENT = object()
THREE = {"repinit.use_three_body": True}


def full(path: str) -> str:
    """``"repinit.rcut"`` as a path from the model section."""
    first, *rest = path.split(".")
    return ".".join([PATHS.get(first, first), *rest])


def model(changes: dict[str, Any]) -> dict[str, Any]:
    """MODEL with ``{"repinit.rcut": 5.0}`` applied; ABSENT removes."""
    section = copy.deepcopy(MODEL)
    for path, value in changes.items():
        *parents, key = full(path).split(".")
        inner = section
        for part in parents:
            inner = inner[part]
        if value is ABSENT:
            del inner[key]
        else:
            inner[key] = value
    return section


def refusal(changes: dict[str, Any]) -> str:
    with pytest.raises(SettingError) as error:
        ModelSettings.read(model(changes), "model")
    return str(error.value)
