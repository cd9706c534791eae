"""Settings of full validation, in the names of deepmd-kit."""

from typing import ClassVar

from dpmodel.setting_types import Count
from dpmodel.settings import Settings, setting


class ValidatingSettings(Settings):
    """All validation data every so often, and the best checkpoints by their errors."""

    full_validation: bool = setting(False, "Compare with all validation data every so often.")
    ema_full_validation: bool = setting(False, "The same with averaged parameters, if training.enable_ema.")
    validation_freq: Count = setting(5000, "Steps between two full validations.", unit="steps")
    save_best: bool = setting(True, "Keep the checkpoints with the smallest errors.")
    save_best_dir: str | None = setting(None, "Their directory; that of save_ckpt if null.")
    max_best_ckpt: Count = setting(1, "How many of them to keep.")
    validation_metric: str = setting(
        "E:MAE",
        "What is best: E, F, V, S (energy, forces, virial, stress) or the name of a label, then MAE or RMSE;"
        " TASK/E:MAE if there are several tasks.",
    )
    full_val_file: str = setting("val.log", "File of the errors.")
    full_val_start: float = setting(
        0.5, "First step, below 1 as a fraction of all steps; 1 means never.", ge=0, unit="steps"
    )
    patience: Count | None = setting(
        None, "Stop after this many full validations without a better one; deepmd-kit does not know it.", sparse=True
    )

    ignored: ClassVar = {"compiled_infer": False, "tf32_infer": False, "amp_infer": False}

    def first_step(self, n_steps: int) -> int | None:
        """The first step of full validation in a run of ``n_steps``; None if there is none."""
        if self.full_val_start == 1:
            return None
        return int(self.full_val_start * n_steps) if self.full_val_start < 1 else int(self.full_val_start)
