"""Frames of the reference cases, with their energies as labels."""

import json

from dpmodel.data.structure import structures
from dpmodel.data.systems import Frame
from dpmodel.model.settings import ModelSettings
from reference_cases import HERE, case


def case_settings(name: str) -> ModelSettings:
    data = json.loads((HERE / name / "input.json").read_text())
    return ModelSettings.read(data.get("model", data))


def case_frames(name: str, settings: ModelSettings) -> list[Frame]:
    c = case(name)
    given = c.frames
    made = structures(
        given.pop("positions"),
        given.pop("types"),
        given.pop("cell", None),
        type_map=settings.type_map,
        n_fparam=settings.fitting_net.numb_fparam,
        n_aparam=settings.fitting_net.numb_aparam,
        **given,
    )
    return [Frame(s, {"energy": e}) for s, e in zip(made, c.io["energy"].reshape(-1), strict=True)]
