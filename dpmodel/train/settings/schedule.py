"""Settings of the learning rate (specification/training.md 1.4)."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Tag

from dpmodel.setting_types import Count, Index, by_type
from dpmodel.settings import Settings, setting

STOP_LR = 5e-8  # where nothing is said


class CommonSchedule(Settings):
    """The settings that all schedules of the learning rate share."""

    type: str = setting("exp", "How the learning rate falls.")
    start_lr: float = setting(..., "Learning rate at the peak.", gt=0)
    stop_lr: float | None = setting(None, f"Learning rate at the end; {STOP_LR:g} if nothing else says.", ge=0)
    stop_lr_ratio: float | None = setting(None, "Learning rate at the end as a fraction of start_lr.", gt=0, le=1)
    warmup_steps: Index = setting(0, "Steps over which the learning rate rises to its peak.", unit="steps")
    warmup_ratio: float | None = setting(None, "The same as a fraction of all steps.", ge=0, lt=1)
    warmup_start_factor: float = setting(0.0, "Learning rate at the first step as a fraction of start_lr.", ge=0, le=1)
    scale_by_worker: Literal["linear", "sqrt", "none"] = setting(
        "linear", "Accepted for compatibility, without effect.", idle=True
    )

    @property
    def final(self) -> float:
        """Learning rate at the end."""
        if self.stop_lr_ratio is not None:
            return self.stop_lr_ratio * self.start_lr
        return STOP_LR if self.stop_lr is None else self.stop_lr

    def warmup(self, n_steps: int) -> int:
        """Number of warm-up steps of a run of ``n_steps``."""
        return self.warmup_steps if self.warmup_ratio is None else int(self.warmup_ratio * n_steps)

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.stop_lr is not None and self.stop_lr_ratio is not None:
            yield "stop_lr_ratio", "says the same as stop_lr: give only one of them"
        elif self.final > self.start_lr:
            yield "stop_lr", f"should be at most start_lr = {self.start_lr:g}, got {self.final:g}"
        if self.warmup_steps and self.warmup_ratio is not None:
            yield "warmup_ratio", "says the same as warmup_steps: give only one of them"


class ExpSchedule(CommonSchedule):
    """Exponential decay, in a staircase or smooth."""

    type: Literal["exp"] = setting("exp", "How the learning rate falls.")
    decay_steps: Count = setting(5000, "Steps between two drops of the staircase.", unit="steps")
    decay_rate: float | None = setting(
        None, "Factor of each drop; chosen so that the last step has stop_lr if null.", gt=0, le=1
    )
    smooth: bool = setting(False, "Decay at every step instead of in a staircase.")


class CosineSchedule(CommonSchedule):
    """Half a cosine from start_lr to stop_lr."""

    type: Literal["cosine"] = setting("cosine", "How the learning rate falls.")


class WSDSchedule(CommonSchedule):
    """Warm up, stay, decay at the end."""

    type: Literal["wsd"] = setting("wsd", "How the learning rate falls.")
    decay_phase_ratio: float = setting(0.1, "Length of the decay as a fraction of all steps.", gt=0, le=1)
    decay_type: Literal["inverse_linear", "cosine", "linear"] = setting("inverse_linear", "Shape of the decay.")

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.final <= 0:
            yield "stop_lr", f"should be above 0 for the schedule wsd, got {self.final:g}"


ScheduleSettings = Annotated[
    Annotated[ExpSchedule, Tag("<exp>")]
    | Annotated[CosineSchedule, Tag("<cosine>")]
    | Annotated[WSDSchedule, Tag("<wsd>")],
    by_type("exp"),
]
"""One of the schedules, chosen by ``type``."""
