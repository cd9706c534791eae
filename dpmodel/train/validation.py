"""Full validation: errors on all validation data, which checkpoints are best, and when to stop (``validating``)."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dpmodel.accuracy import STRESS, Quantity, accuracy, quantities, total
from dpmodel.backend import Engine
from dpmodel.errors import FileError, SettingError
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.io.deepmd import ModelFile
from dpmodel.module import state
from dpmodel.train.batches import Batches
from dpmodel.train.script import Script, Task
from dpmodel.train.settings.validating import ValidatingSettings
from dpmodel.train.start import Data

Records = tuple[tuple[float, int], ...]  # (error, step) of the best checkpoints, best first


class Metric(NamedTuple):
    """A quantity of a task, how it is called and shown, and the measure."""

    task: str
    token: str
    quantity: Quantity
    unit: str
    scale: float
    measure: str = "MAE"


def metrics_of(task: Task) -> list[Metric]:
    """The errors that validation can show: of energies deepmd-kit's, of other heads those of ``dpmodel test``."""
    available = quantities(task.model)
    if task.model.fitting_net.type != "ener":
        return [Metric(task.name, q.name, q, q.unit, 1.0) for q in available if q.label in task.objective.labels]
    energy, force, virial = available
    rows = (("E", energy, "e"), ("F", force, "f"), ("S", STRESS, "v"), ("V", virial, "v"))
    active = task.objective.needs
    return [Metric(task.name, name, q, f"m{q.unit}", 1000.0) for name, q, term in rows if term in active]


class Validation:
    """The validations of one run, and what is best so far; the first of several processes does them.

    ``averaged``: of the averaged parameters; ``records``: error and step of the best.
    """

    def __init__(
        self,
        script: Script,
        data: Mapping[str, Batches],
        engine: Engine,
        n_steps: int,
        *,
        averaged: bool = False,
        append: bool = False,
    ) -> None:
        """Raises SettingError where there is nothing to validate, or not what is to be best."""
        self.settings: ValidatingSettings = script.settings.validating
        self.averaged, self.prefix = averaged, "best_ema.ckpt" if averaged else "best.ckpt"
        self.records: Records = ()
        self._data, self._engine, self._multi = data, engine, script.multi
        self._first = self.settings.first_step(n_steps)
        every = [m for name in data for m in metrics_of(script.tasks[name])]
        self.metric = self._chosen(every)
        hidden = "S" if self.metric.token == "V" else "V"
        self._shown = [m for m in every if m.token != hidden]
        log = Path(self.settings.full_val_file)
        self._log = log.with_name(f"{log.stem}_ema{log.suffix}") if averaged else log
        self._append = append and self._log.exists()
        self._evaluators: dict[str, Evaluator] = {}

    def due(self, step: int) -> bool:
        """Whether there is a validation after ``step``, counted from 1."""
        first, often = self._first, self.settings.validation_freq
        return first is not None and step >= max(first, 1) and (step - first) % often == 0

    def exhausted(self, step: int) -> bool:
        """Whether the patience is at its end after ``step``."""
        patience, often = self.settings.patience, self.settings.validation_freq
        return patience is not None and bool(self.records) and (step - self.records[0][1]) // often >= patience

    def state(self) -> dict[str, np.ndarray]:
        """``records`` in arrays."""
        errors, steps = [error for error, _ in self.records], [step for _, step in self.records]
        return {"error": np.array(errors), "step": np.array(steps, dtype=np.int64)}

    def run(self, step: int, models: Mapping[str, ModelFile]) -> bool:
        """Validate ``models`` and write a line; True if they are among the best and to be kept."""
        numbers = {name: self._errors(name, models[name]) for name in self._data}
        error = numbers[self.metric.task].get(_key(self.metric))
        if error is None:
            raise FileError(f"validation data of {self.metric.task} have no {self.metric.quantity.label}")
        others = [record for record in self.records if record[1] != step]
        self.records = tuple(sorted([*others, (error, step)])[: self.settings.max_best_ckpt])
        best = (error, step) in self.records
        self._write(step, numbers, best)
        return best and self.settings.save_best

    def _chosen(self, every: list[Metric]) -> Metric:
        text = self.settings.validation_metric
        task, _, name = text.rpartition("/")
        token, _, measure = name.strip().rpartition(":")
        fitting = [m for m in every if m.token.lower() == token.lower() and (m.task == task or not self._multi)]
        if not fitting or measure.upper() not in ("MAE", "RMSE"):
            prefix = {m: f"{m.task}/" if self._multi else "" for m in every}
            choices = ", ".join(f"{prefix[m]}{m.token}:{x}" for m in every for x in ("MAE", "RMSE"))
            raise SettingError(
                f"validating.validation_metric should be one of {choices or '(no validation data)'} (what the loss"
                f" learns and the validation data have), got {text!r}"
            )
        return fitting[0]._replace(measure=measure.upper())

    def _errors(self, name: str, file: ModelFile) -> dict[str, float]:
        """Errors of one task by their names."""
        evaluator = self._evaluators.setdefault(name, Evaluator(file, self._engine))
        evaluator.state = {path: self._engine.native(value) for path, value in state(file.model).items()}
        wants = Wants(forces=any(m.quantity.label in ("force", "virial") for m in self._shown if m.task == name))
        compared, parts = tuple(m.quantity for m in self._shown if m.task == name), []
        for source in self._data[name].sources:
            frames = [source.system.frame(int(i)) for i in source.frames]
            batches = evaluator.evaluate([frame.structure for frame in frames], wants, strict=False)
            predictions = [prediction for batch in batches for prediction in batch]
            parts.append(accuracy(source.system.path, file.settings, frames, predictions, compared))
        return total(parts).numbers()

    def _write(self, step: int, numbers: Mapping[str, Mapping[str, float]], best: bool) -> None:
        """One line of errors, in milli-electronvolts for energies."""
        columns = [(m, x) for m in self._shown for x in ("MAE", "RMSE")]
        names = [f"{m.token}_{x}{f'_{m.task}' if self._multi else ''}" for m, x in columns]
        heads = [f"{name}({m.unit})" if m.unit else name for name, (m, _) in zip(names, columns, strict=True)]
        widths = [max(18, len(head)) for head in heads]
        values = [numbers[m.task].get(_key(m._replace(measure=x)), float("nan")) * m.scale for m, x in columns]
        cells = [f"{value:<{width}.5g}" for value, width in zip(values, widths, strict=True)]
        titles = [f"{head:<{width}}" for head, width in zip(heads, widths, strict=True)]
        header = "" if self._append else f"# step     {'  '.join(titles)}".rstrip() + "\n"
        note = f"# best so far: step {step}\n" if best and self.records[0][1] == step else ""
        try:
            with self._log.open("a" if self._append else "w", encoding="utf-8") as file:
                file.write(f"{header}{step:8d}   {'  '.join(cells)}".rstrip() + f"\n{note}")
        except OSError as error:
            raise FileError(f"{self._log}: cannot be written: {error.strerror}") from error
        self._append = True


def validations(
    script: Script,
    data: Mapping[str, Data],
    engine: Engine,
    n_steps: int,
    best: Mapping[str, Mapping[str, np.ndarray]],
    *,
    append: bool,
) -> list[Validation]:
    """Full validation of the parameters, and of their averages, as far as the input asks; ``best`` of a checkpoint."""
    settings, valid = script.settings.validating, {name: d.valid for name, d in data.items() if d.valid is not None}
    if settings.first_step(n_steps) is None:
        return []
    asked = [False] * settings.full_validation + [True] * (settings.ema_full_validation and script.training.enable_ema)
    made = [Validation(script, valid, engine, n_steps, averaged=averaged, append=append) for averaged in asked]
    for validation in made:
        record = best.get(validation.prefix, {"error": (), "step": ()})
        validation.records = tuple((float(e), int(s)) for e, s in zip(record["error"], record["step"], strict=True))
    return made


def _key(metric: Metric) -> str:
    return f"{metric.measure.lower()}_{metric.quantity.name}"
