"""Settings of the optimizer (specification/training.md 1.7)."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, Tag

from dpmodel.setting_types import by_type
from dpmodel.settings import Settings, setting

INSTEAD = "is not supported here (use Adam or AdamW)"
OWN_MUON = (
    "is deepmd-kit's own variant of Muon: that of PyTorch and Optax chooses and scales directions in another way;"
    f" it {INSTEAD}"
)
ELSEWHERE = {
    "LKF": f"is deepmd-kit's layer-wise Kalman filter, which no library has; it {INSTEAD}",
    "AdaMuon": OWN_MUON,
    "HybridMuon": OWN_MUON,
}
"""Optimizers of deepmd-kit that are not here, and why."""
MUON = tuple("momentum muon_momentum lr_adjust lr_adjust_coeff muon_mode enable_gram flash_muon magma_muon".split())
KALMAN = ("kf_blocksize", *(f"kf_{when}_pref_{term}" for when in ("start", "limit") for term in ("e", "f")))
Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamSettings(Settings):
    """Adam; weight decay is added to the gradient."""

    foreign: ClassVar = dict.fromkeys((*MUON, *KALMAN), f"belongs to an optimizer that {INSTEAD}")

    type: Literal["Adam"] = setting("Adam", "The optimizer.")
    adam_beta1: Beta = setting(0.9, "Memory of the mean gradient.")
    adam_beta2: Beta = setting(0.999, "Memory of the mean square of the gradient.")
    weight_decay: float = setting(0.0, "Strength of the weight decay.", ge=0)


class AdamWSettings(AdamSettings):
    """Adam; weights decay by themselves."""

    type: Literal["AdamW"] = setting("AdamW", "The optimizer.")  # type: ignore[assignment]
    weight_decay: float = setting(0.001, "Strength of the weight decay.", ge=0)


OptimizerSettings = Annotated[
    Annotated[AdamSettings, Tag("<Adam>")] | Annotated[AdamWSettings, Tag("<AdamW>")], by_type("Adam")
]
"""One of the optimizers, chosen by ``type``."""
