"""Settings of learning rate, optimizer, loss and data in deepmd-kit's names (specification/training.md 1)."""

import re
from collections.abc import Iterator
from math import ceil
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, Field, PlainSerializer, PlainValidator, Tag, WithJsonSchema

from dpmodel.setting_types import Count, Index, Listed, OneOrMany, Seed, by_type
from dpmodel.settings import ANY, Settings, setting

# Learning rate

STOP_LR = 5e-8  # where nothing is said


class CommonSchedule(Settings):
    """What all schedules of the learning rate have in common."""

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
    """Exponential decay in stairs."""

    type: Literal["exp"] = setting("exp", "How the learning rate falls.")
    decay_steps: Count = setting(5000, "Steps between two stairs.", unit="steps")
    decay_rate: float | None = setting(
        None, "Factor of a stair; chosen so that the last step has stop_lr if null.", gt=0, le=1
    )
    smooth: bool = setting(False, "Decay at every step instead of in stairs.")


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


# Optimizer

ELSEWHERE = "is not supported here (use Adam or AdamW)"
MUON = tuple("momentum muon_momentum lr_adjust lr_adjust_coeff muon_mode enable_gram flash_muon magma_muon".split())
KALMAN = ("kf_blocksize", *(f"kf_{when}_pref_{term}" for when in ("start", "limit") for term in ("e", "f")))
Beta = Annotated[float, Field(ge=0, lt=1)]


class AdamSettings(Settings):
    """Adam; weight decay is added to the gradient."""

    foreign: ClassVar = dict.fromkeys((*MUON, *KALMAN), f"belongs to an optimizer that {ELSEWHERE}")

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


# Loss

TERMS = {  # and the labels that they compare with
    "e": ("energy",),
    "f": ("force",),
    "v": ("virial",),
    "ae": ("atom_ener",),
    "pf": ("force", "atom_pref"),
    "gf": ("force", "drdq"),
    "h": ("hessian",),
}
Weight = Annotated[float, Field(ge=0)]


class LossSettings(Settings):
    """How far predictions are from the labels; a prefactor goes from start to limit with the learning rate."""

    type: Literal["ener"] = setting("ener", "The kind of loss.")
    start_pref_e: Weight = setting(0.02, "Prefactor of energies at the start.")
    limit_pref_e: Weight = setting(1.0, "Prefactor of energies in the end.")
    start_pref_f: Weight = setting(1000.0, "Prefactor of forces at the start.")
    limit_pref_f: Weight = setting(1.0, "Prefactor of forces in the end.")
    start_pref_v: Weight = setting(0.0, "Prefactor of virials at the start.")
    limit_pref_v: Weight = setting(0.0, "Prefactor of virials in the end.")
    start_pref_ae: Weight = setting(0.0, "Prefactor of atomic energies at the start.")
    limit_pref_ae: Weight = setting(0.0, "Prefactor of atomic energies in the end.")
    start_pref_pf: Weight = setting(0.0, "Prefactor of weighted forces (atom_pref) at the start.")
    limit_pref_pf: Weight = setting(0.0, "Prefactor of weighted forces in the end.")
    start_pref_gf: Weight = setting(0.0, "Prefactor of generalized forces (drdq) at the start.")
    limit_pref_gf: Weight = setting(0.0, "Prefactor of generalized forces in the end.")
    start_pref_h: Weight = setting(0.0, "Prefactor of Hessians at the start.")
    limit_pref_h: Weight = setting(0.0, "Prefactor of Hessians in the end.")
    loss_func: Literal["mse", "mae"] = setting("mse", "Mean square or mean absolute differences.")
    use_huber: bool = setting(False, "Mean squares of small differences, absolute values of large ones.")
    huber_delta: OneOrMany[Annotated[float, Field(gt=0)]] = setting(
        0.01, "Where small ends: for all, or for energy, force and virial."
    )
    f_use_norm: bool = setting(False, "Differences of force vectors instead of their components.")
    relative_f: float | None = setting(None, "Divide differences of forces by the force plus this.", gt=0)
    use_default_pf: bool = setting(False, "Weigh forces by 1 where there is no atom_pref.")
    enable_atom_ener_coeff: bool = setting(False, "The energy is the sum of atomic energies times atom_ener_coeff.")
    numb_generalized_coord: Index = setting(0, "Number of generalized coordinates in drdq.")
    intensive_ener_virial: bool = setting(False, "Mean squares of energies and virials per atom.")

    @property
    def active(self) -> tuple[str, ...]:
        """The terms that count: both prefactors are nonzero (Hessian: one of them)."""
        return tuple(t for t in TERMS if (any if t == "h" else all)(self.prefactors(t)))

    @property
    def labels(self) -> frozenset[str]:
        """Names of the labels that are needed; energies in any case, for the output bias."""
        coefficients = ("atom_ener_coeff",) if self.enable_atom_ener_coeff else ()
        return frozenset(["energy", *coefficients, *(label for term in self.active for label in TERMS[term])])

    @property
    def half_off(self) -> tuple[str, ...]:
        """Terms that are switched off because only one of their prefactors is zero."""
        return tuple(t for t in TERMS if any(self.prefactors(t)) and t not in self.active)

    def prefactors(self, term: str) -> tuple[float, float]:
        """Prefactors of a term at the start and in the end."""
        return getattr(self, f"start_pref_{term}"), getattr(self, f"limit_pref_{term}")

    @property
    def deltas(self) -> tuple[float, float, float]:
        """Huber thresholds of energy, force and virial."""
        d = self.huber_delta
        return (d[0], d[1], d[2]) if isinstance(d, tuple) else (d, d, d)

    def problems(self) -> Iterator[tuple[str, str]]:
        if isinstance(self.huber_delta, tuple) and len(self.huber_delta) != 3:
            yield "huber_delta", f"should be one number or three [energy, force, virial], got {len(self.huber_delta)}"
        if self.use_huber and self.loss_func == "mae":
            yield "use_huber", "goes with loss_func 'mse', which it changes into absolute values far out"
        if self.use_huber:
            wrong = [f"start_pref_{t}" for t in ("pf", "gf", "h") if t in self.active]
            wrong += ["relative_f"] if self.relative_f is not None else []
            yield from ((name, "does not go with use_huber") for name in wrong)
        if self.f_use_norm and not (self.use_huber or self.loss_func == "mae"):
            yield "f_use_norm", "goes with loss_func 'mae' or use_huber: the square is the same without it"
        if "gf" in self.active and not self.numb_generalized_coord:
            yield "numb_generalized_coord", "should be above 0 for the term of generalized forces, got 0"
        if not self.active:
            yield (
                "start_pref_e",
                "is zero, and so are all other prefactors (of start or limit): nothing would be learned",
            )


# Data


def _batch_size(value: Any) -> Any:
    whole = value if isinstance(value, list | tuple) else [value]
    if whole and all(type(n) is int and n > 0 for n in whole):
        return tuple(value) if isinstance(value, list | tuple) else value
    if isinstance(value, str) and re.fullmatch(r"auto|(auto|max|filter):[1-9]\d*", value):
        return value
    if isinstance(value, str) and value.startswith(("mixed:", "mix:")):
        raise ValueError("a number, 'auto:N', 'max:N' or 'filter:N' (use mixed-type data instead of 'mixed:N')")
    raise ValueError("a positive integer, one for each system, 'auto', 'auto:N', 'max:N' or 'filter:N'")


BatchSize = Annotated[
    int | str | tuple[int, ...],
    PlainValidator(_batch_size),
    PlainSerializer(lambda size: size),  # pydantic's own expects tuples where it made lists, and warns
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "exclusiveMinimum": 0},
                {"type": "array", "items": {"type": "integer", "exclusiveMinimum": 0}},
                {"type": "string", "pattern": "^(auto|(auto|max|filter):[1-9][0-9]*)$"},
            ],
            "$comment": 'integer > 0, one for each system, `"auto"`, `"auto:N"`, `"max:N"` or `"filter:N"`',
        }
    ),
]
"""Frames in a batch, or the rule that gives it from the number of atoms (specification/training.md 6.1)."""


_BLOCK = r"\s*\d+\s*:\s*\d+\s*:\s*\d+(\.\d*)?([eE][+-]?\d+)?\s*"
_AUTO_PROB = rf"prob_uniform|prob_sys_size(;{_BLOCK})*"


def _auto_prob(value: Any) -> Any:
    if isinstance(value, str) and re.fullmatch(_AUTO_PROB, value):
        return value
    raise ValueError("'prob_uniform', 'prob_sys_size' or 'prob_sys_size;from:to:weight;...'")


AutoProb = Annotated[
    str, PlainValidator(_auto_prob), WithJsonSchema({"type": "string", "pattern": f"^({_AUTO_PROB})$"})
]


class DataSettings(Settings):
    """Systems, and how batches are drawn from them."""

    systems: OneOrMany[str] = setting(..., "Systems, folders to search for systems, or HDF5 files.")
    rglob_patterns: Listed[str] | None = setting(None, "Take only folders that match one of these patterns.")
    batch_size: BatchSize = setting("auto", "Frames in a batch, or the rule that gives it.", unit="frames")
    auto_prob: AutoProb = setting("prob_sys_size", "How often each system gives a batch.", aliases=("auto_prob_style",))
    sys_probs: Listed[float] | None = setting(
        None, "How often each system gives a batch; negative ones share what is left.", aliases=("sys_weights",)
    )

    ignored: ClassVar = {"set_prefix": ANY}

    def problems(self) -> Iterator[tuple[str, str]]:
        if not self.systems:
            yield "systems", "should name at least one system, or a folder of them, got none"
        fixed = sum(p for p in self.sys_probs or () if p >= 0)
        if fixed > 1 + 1e-12:
            yield "sys_probs", f"should add up to at most 1 (negative ones aside), got {fixed:g}"


class TrainingData(DataSettings):
    """Data to learn from."""

    min_pair_dist: float = setting(0.0, "Frames with two atoms closer than this are left out.", unit="angstrom", ge=0)


class ValidationData(DataSettings):
    """Data to look at while learning."""

    numb_btch: Count = setting(1, "Batches that a value is averaged over.", aliases=("numb_batch",))


# Training


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
    """How long, how often something is written, and where."""

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
    fixed: ClassVar = {"acc_freq": 1, "mixed_precision": None}

    @property
    def first_seed(self) -> int:
        """The seed as one number."""
        return one_seed(self.seed)

    def kept(self, n_steps: int) -> int:
        """How many checkpoints of a run of ``n_steps`` are kept."""
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
Shares = Annotated[dict[str, Share] | None, BeforeValidator(lambda given: None if given == {} else given)]


class MultiTraining(CommonTraining):
    """Training of several models that share parts."""

    foreign: ClassVar = {
        **dict.fromkeys(TaskData.model_fields, "stands in data_dict.NAME where there are several tasks"),
        "numb_epoch": "stands in num_epoch_dict where there are several tasks",
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
