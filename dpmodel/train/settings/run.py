"""Settings of a run (specification/training.md 1.6)."""

from collections.abc import Iterator
from math import ceil
from typing import Annotated, ClassVar, Literal

from pydantic import BeforeValidator, Field

from dpmodel.setting_types import Count, Index, Seed
from dpmodel.settings import ANY, Settings, setting
from dpmodel.train.settings.data import TrainingData, ValidationData


class TaskData(Settings):
    """The data of one task."""

    training_data: TrainingData = setting(..., "Data to learn from.")
    validation_data: ValidationData | None = setting(None, "Data to look at while learning.")
    stat_file: Annotated[str, Field(min_length=1)] | None = setting(
        None, "HDF5 file (.h5, .hdf5) or folder that keeps the statistics of the data for other runs."
    )
    stat_file_mode: Literal["update", "read"] = setting(
        "update", "Compute statistics that the file does not have and keep them there, or only read them."
    )


class CommonTraining(Settings):
    """The length of a run, and what it writes, how often and where."""

    numb_steps: Index | None = setting(
        None, "Number of steps.", unit="steps", aliases=("stop_batch", "num_step", "num_steps", "numb_step")
    )
    seed: Seed = setting(None, "Seed of batches, and of parameters that have no seed of their own; 0 if null.")
    disp_file: str = setting("lcurve.out", "File of the learning curve.")
    disp_freq: Count = setting(1000, "Steps between two lines of the learning curve.", unit="steps")
    disp_avg: bool = setting(False, "Average the training values over the steps between two lines.")
    disp_training: bool = setting(True, "Write the learning curve.")
    time_training: bool = setting(True, "Accepted for compatibility, without effect.", idle=True)
    save_freq: Count = setting(1000, "Steps between two checkpoints.", unit="steps")
    save_dir: str | None = setting(None, "Directory of the numbered checkpoints.")
    save_ckpt: Annotated[str, Field(min_length=1)] = setting("model.ckpt", "Beginning of the names of checkpoints.")
    max_ckpt_keep: Count = setting(5, "Number of checkpoints to keep.")
    ckpt_keep_ratio: float | None = setting(None, "The same as a fraction of all checkpoints.", gt=0, le=1)
    enable_ema: bool = setting(False, "Average the parameters over the steps.")
    ema_decay: float = setting(0.999, "Memory of that average.", ge=0, lt=1)
    ema_ckpt_keep: Count | None = setting(None, "Number of averaged models to keep; max_ckpt_keep if null.")
    change_bias_after_training: bool = setting(False, "Fit the output bias again in the end.")
    gradient_max_norm: float | None = setting(
        None, "Largest norm of the gradient; it is scaled down to it. Off if null or 0.", ge=0
    )
    acc_freq: Count = setting(1, "Steps whose gradients add up before the parameters move.", unit="steps")
    tensorboard: bool = setting(False, "Write the learning curve for TensorBoard, too.")
    tensorboard_log_dir: str = setting("log", "Directory for TensorBoard.")
    tensorboard_freq: Count = setting(1, "Steps between two values for TensorBoard.", unit="steps")

    ignored: ClassVar = {
        "profiling": False,
        "profiling_file": ANY,
        "enable_profiler": False,
        "zero_stage": 0,
        "enable_compile": False,
        "enable_tf32": False,
        "neighbor_graph_method": "auto",
        "set_prefix": ANY,
    }
    fixed: ClassVar = {"mixed_precision": None}

    @property
    def first_seed(self) -> int:
        """The seed as one number."""
        return one_seed(self.seed)

    def n_checkpoints(self, n_steps: int) -> int:
        """The number of checkpoints that a run of ``n_steps`` keeps."""
        if self.ckpt_keep_ratio is None:
            return self.max_ckpt_keep
        return max(1, ceil(self.ckpt_keep_ratio * ceil(n_steps / self.save_freq)))


def one_seed(seed: int | tuple[int, ...] | None) -> int:
    """A seed of the input file as one number."""
    if isinstance(seed, tuple):
        return seed[0] if seed else 0
    return seed or 0


class TrainingSettings(CommonTraining, TaskData):
    """Training of one model."""

    numb_epoch: float | None = setting(
        None,
        "Number of passes over the data, instead of numb_steps.",
        gt=0,
        aliases=("num_epoch", "numb_epochs", "num_epochs"),
    )

    moved: ClassVar = {name: f"training_data.{name}" for name in ("systems", "batch_size", "auto_prob", "sys_probs")}

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.numb_steps is None) == (self.numb_epoch is None):
            yield "numb_steps", "or numb_epoch is required, and only one of them"


Share = Annotated[float, Field(ge=0)]
Shares = Annotated[dict[str, Share] | None, BeforeValidator(lambda value: None if value == {} else value)]


class MultiTraining(CommonTraining):
    """Training of several models that share parts."""

    foreign: ClassVar = {
        **dict.fromkeys(TaskData.model_fields, "belongs in data_dict.NAME where there are several tasks"),
        "numb_epoch": "belongs in num_epoch_dict where there are several tasks",
    }

    data_dict: Annotated[dict[str, TaskData], Field(min_length=1)] = setting(..., "The data of each task.")
    model_prob: Shares = setting(None, "How often each task has its turn.")
    num_epoch_dict: Shares = setting(
        None, "Number of passes over the data of each task, instead of numb_steps and model_prob."
    )

    def problems(self) -> Iterator[tuple[str, str]]:
        if self.num_epoch_dict is not None and (self.numb_steps is not None or self.model_prob is not None):
            yield "num_epoch_dict", "takes the place of numb_steps and model_prob: give either"
        if self.num_epoch_dict is None and self.numb_steps is None:
            yield "numb_steps", "or num_epoch_dict is required"
        for name in ("model_prob", "num_epoch_dict"):
            shares = getattr(self, name)
            if shares is not None and not sum(shares.values()) > 0:
                yield name, "should have a number above 0"
