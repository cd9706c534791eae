"""The training loop, the same for every backend (specification/training.md 5)."""

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from dpmodel.backend import Alone, Engine, Processes
from dpmodel.data.systems import Frame
from dpmodel.edit.bias import with_fitted_bias
from dpmodel.errors import SettingError, TrainingError
from dpmodel.io.deepmd import SINGLE, ModelFile
from dpmodel.io.files import make_folder
from dpmodel.train.batches import TaskSampler
from dpmodel.train.checkpoint import BestCheckpoints, Checkpoint, CheckpointManager
from dpmodel.train.collate import collate
from dpmodel.train.curve import Columns, Curve
from dpmodel.train.learner import Learner
from dpmodel.train.loss import Batch
from dpmodel.train.same_data import Summary
from dpmodel.train.schedule import schedule
from dpmodel.train.script import MultiScript, Script
from dpmodel.train.settings.run import TrainingSettings
from dpmodel.train.start import Data, task_shares
from dpmodel.train.validation import Validation, validations
from dpmodel.xp import Array

Watch = Callable[[int, str, Columns, float], None]  # step from 1, task, columns, learning rate


class Training:
    """One run: the learner, its data, and where in the run it is.

    With several ``processes`` each learns from its part of every batch, and the first one writes.
    """

    def __init__(
        self,
        script: Script,
        data: Mapping[str, Data],
        start: Checkpoint,
        engine: Engine,
        processes: Processes | None = None,
        *,
        append: bool = False,
    ) -> None:
        """Go on from ``start``; ``append`` to the learning curve."""
        self.script, self.data, self.engine, self.processes = script, data, engine, processes or Alone()
        self.step, self.n_steps = start.step, number_of_steps(script, data)
        self.learner = Learner(script, start.models, engine, self.processes)
        if start.optimizer:
            self.learner.optimizer.load(_over(self.learner.optimizer.state(), start.optimizer))
        self._rate = schedule(script.settings.learning_rate, self.n_steps)
        self._turns = TaskSampler(task_shares(script, data), script.training.first_seed)
        self._selections = {name: task.model.selection for name, task in script.tasks.items()}
        self._average = (
            Average(self.learner, script.training.ema_decay, start.ema) if script.training.enable_ema else None
        )
        self._checkpoint_managers = _checkpoint_managers(script, self.n_steps)
        self.validations = validations(script, data, engine, self.n_steps, start.best, append=append)
        folder = Path(script.settings.validating.save_best_dir or Path(script.training.save_ckpt).parent)
        self._best = {v.prefix: BestCheckpoints(v.prefix, folder) for v in self.validations}
        self.written: dict[str, Path] = {}  # files by kind: the last of each
        self.spent: dict[str, float] = {}  # seconds by kind of work
        self.taken = 0  # steps that were learned from since the start
        self.smallest: dict[str, tuple[float, int]] = {}  # errors of the curve by column, and their step
        self._append = append
        self._curve: Curve | None = None  # files are touched when the run starts
        self._board: Watch | None = None
        self._sums: dict[str, list[Columns]] = {}
        self._saved = start.step if append else -1
        self._out_of_patience = append and any(v.exhausted(self.step) for v in self.validations[:1])

    def run(self, watch: Watch = lambda *_: None) -> bool:
        """Learn to the end, or until SIGINT or SIGTERM asks to stop; then a checkpoint is written and False returned.

        Raises TrainingError if loss, gradient or parameters are no longer finite; the last checkpoint is from before.
        """
        if self._append and self.finished:
            return True  # nothing is left to do
        if self.processes.rank == 0:
            self._open()
        with _stopping() as stop, ThreadPoolExecutor(1) as reader:
            for step in range(self.step - self.step % self.script.training.acc_freq, self.step):
                task, batch = self._turns(step)[0], self._read(reader, step).result()
                self.learner.step(task, batch, self._rate(step), move=False)  # gradients that were waiting
            following = self._read(reader, self.step)
            while not self.finished and not self._anybody(stop.is_set()):
                with self._timed("data"):
                    batch, task = following.result(), self._turns(self.step)[0]
                following = self._read(reader, self.step + 1)
                self._learn(task, batch, watch)
            following.cancel()
            refit = self.finished and self.script.training.change_bias_after_training
            if self._saved != self.step or refit:
                self._save(refit)
        return self.finished

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or validation has not become better for as long as the patience lasts."""
        return self.step >= self.n_steps or self._out_of_patience

    def is_displayed(self, step: int) -> bool:
        """Whether there is a row of the learning curve after ``step``: the first, the last and every ``disp_freq``."""
        return step in (1, self.n_steps) or step % self.script.training.disp_freq == 0

    @contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.spent[what] = self.spent.get(what, 0.0) + time.monotonic() - start

    def _open(self) -> None:
        """Folders and files that the run writes."""
        training = self.script.training
        folders = [folder for manager in self._checkpoint_managers for folder in manager.folders]
        for folder in [*folders, *(best.folder for best in self._best.values())]:
            make_folder(folder)
        done = self.step if self._append else None
        self._curve = _curve(self.script, self.data, done) if training.disp_training else None
        self._board = _board(self.script) if training.tensorboard else None

    def _anybody(self, flag: bool) -> bool:
        """Whether ``flag`` is set in any process: all stop after the same step."""
        if self.processes.size == 1:
            return flag
        return bool(self.engine.numpy(self.processes.sum(self.engine.native(np.array([float(flag)]))))[0] > 0.0)

    def _learn(self, task: str, batch: Batch, watch: Watch) -> None:
        """One step and what is written after it."""
        training, rate = self.script.training, self._rate(self.step)
        try:
            with self._timed("steps"):
                columns = self.learner.step(task, batch, rate, move=(self.step + 1) % training.acc_freq == 0)
        except TrainingError as error:
            raise TrainingError(
                f"step {self.step + 1}: {error}; the last checkpoint is from before."
                " Is the learning rate too high, or are there bad data (dpmodel data check)?"
            ) from None
        if self._average is not None:
            self._average.add()
        self.step, self.taken = self.step + 1, self.taken + 1
        if self._curve is not None:
            if training.disp_avg:
                self._sums.setdefault(task, []).append(columns)
            if self.is_displayed(self.step):
                with self._timed("validation"):
                    trained, validated = self._trained(task, columns, rate), self._validated(rate)
                    self._curve.row(self.step, trained, validated, rate)
                self._remember({**trained, **validated})
                self._sums = {}
        if self._board is not None and self.step % training.tensorboard_freq == 0:
            self._board(self.step, task, columns, rate)
        watch(self.step, task, columns, rate)
        for validation in self.validations:
            if validation.due(self.step):
                with self._timed("validation"):
                    self._validate(validation)
        if self.step % training.save_freq == 0:
            with self._timed("saving"):
                self._save()

    def _remember(self, errors: Mapping[str, Columns]) -> None:
        """Take in a row of the curve: errors of validation where there are some."""
        for task, columns in errors.items():
            for name in (name for name in columns if not math.isnan(columns[name])):
                key = f"{name} of {task}" if self.script.multi else name
                self.smallest[key] = min(self.smallest.get(key, (math.inf, 0)), (columns[name], self.step))

    def _validate(self, validation: Validation) -> None:
        """All validation data; a checkpoint if it is among the best."""
        if not self.processes.rank:
            models = self.models(averaged=validation.averaged)
            if validation.run(self.step, models):
                now = Checkpoint(models, self.step) if validation.averaged else self.checkpoint()
                steps = [step for _, step in validation.records]
                self.written[validation.prefix] = self._best[validation.prefix].put(now, steps)
        if validation is self.validations[0]:
            self._out_of_patience = self._anybody(validation.exhausted(self.step))

    def _trained(self, task: str, columns: Columns, rate: float) -> Mapping[str, Columns]:
        """Training columns of every task: of this step's batch or averaged, of a fresh batch for the others."""
        result = {task: columns}
        if self.script.training.disp_avg:
            result = {name: _mean([(1.0, c) for c in values]) for name, values in self._sums.items()}
        for name in self.script.tasks:
            if name not in result:
                batch = self._collated(name, self.data[name].train.frames(self.step))
                result[name] = self.learner.evaluate(name, batch, rate)
        return result

    def _validated(self, rate: float) -> Mapping[str, Columns]:
        """Validation columns of every task that has such data, weighted by atoms."""
        result = {}
        for name, data in self.data.items():
            settings = self.script.tasks[name].data.validation_data
            if data.valid is None or settings is None:
                continue
            values = []
            for k in range(settings.numb_btch):
                frames = data.valid.frames(self.step * settings.numb_btch + k)
                batch = self._collated(name, frames)
                values.append((float(batch.labels.n_atoms), self.learner.evaluate(name, batch, rate)))
            result[name] = _mean(values)
        return result

    # --- data ---

    def _read(self, reader: ThreadPoolExecutor, step: int) -> "Future[Batch]":
        """This process's part of the batch of a step, made while another one is learned from."""
        task, number = self._turns(step)
        part = slice(self.processes.rank, None, self.processes.size)
        return reader.submit(lambda: self._collated(task, self.data[task].train.frames(number), part))

    def _collated(self, task: str, frames: list[Frame], part: slice = slice(None)) -> Batch:
        uncounted = self.script.tasks[task].objective.uncounted
        rounded = self.engine.rounds_shapes
        return collate(frames, self._selections[task], part=part, rounded=rounded, uncounted=uncounted)

    # --- what is kept ---

    def checkpoint(self) -> Checkpoint:
        """The run as it is now."""
        ema = self._average.state() if self._average else {}
        best = {v.prefix: v.state() for v in self.validations}
        return Checkpoint(self.models(), self.step, self.learner.optimizer.state(), ema, best, self._summaries)

    @cached_property
    def _summaries(self) -> dict[str, Summary]:
        return {name: data.summary for name, data in self.data.items()}

    def _refitted(self, models: dict[str, ModelFile]) -> dict[str, ModelFile]:
        """``models`` with their output bias fitted to the training data once more."""
        limits = {name: task.model.data_stat_nbatch for name, task in self.script.tasks.items()}
        return {
            name: with_fitted_bias(file, self.data[name].train.first(limits[name]), self.engine)
            for name, file in models.items()
        }

    def models(self, *, averaged: bool = False) -> dict[str, ModelFile]:
        """The models as they are now, or with ``averaged`` parameters."""
        return self.learner.models(self._average.parameters if averaged and self._average else None)

    def _save(self, refit: bool = False) -> None:
        """Write a checkpoint; ``refit``: with output biases fitted again."""
        size = self.learner.norm(self.learner.optimizer.parameters)
        if not math.isfinite(size):
            raise TrainingError(
                f"step {self.step}: the norm of the parameters is {size}; the last checkpoint is from before."
                " Is the learning rate too high?"
            )
        self._saved = self.step
        if self.processes.rank:
            return
        if self._average is not None:
            averaged = self.models(averaged=True)
            self._checkpoint_managers[1].put(Checkpoint(self._refitted(averaged) if refit else averaged, self.step))
        now = self.checkpoint()
        now = replace(now, models=self._refitted(now.models)) if refit else now
        self.written["checkpoint"] = self._checkpoint_managers[0].put(now)


class Average:
    """An exponential average of the parameters over the steps."""

    def __init__(self, learner: Learner, decay: float, start: Mapping[str, Any]) -> None:
        self._learner, self._engine = learner, learner.engine
        now = {key: self._engine.numpy(value) for key, value in learner.optimizer.parameters.items()}
        self.parameters = {key: self._engine.native(value) for key, value in _over(now, start).items()}

        def move(old: dict[str, Array], new: dict[str, Array]) -> dict[str, Array]:
            return {k: old[k] * decay + new[k] * (1.0 - decay) for k in old}

        self._move = self._engine.compile(move)

    def add(self) -> None:
        """Take in the parameters as they are now."""
        self.parameters = self._move(self.parameters, self._learner.optimizer.parameters)

    def state(self) -> dict[str, Any]:
        """The averages in NumPy arrays."""
        return {key: self._engine.numpy(value) for key, value in self.parameters.items()}


def _over(now: Mapping[str, Any], saved: Mapping[str, Any]) -> dict[str, Any]:
    """``now`` with what a file ``saved`` of it, in the precision of now; what that lacks was not trained before."""
    return {name: np.asarray(saved.get(name, value), dtype=value.dtype) for name, value in now.items()}


def number_of_steps(script: Script, data: Mapping[str, Data]) -> int:
    """Steps of the run, from passes over the data if those are given (specification/training.md 6.2, 9.3)."""
    training = script.training
    if isinstance(training, TrainingSettings) and training.numb_epoch is not None:
        return math.ceil(training.numb_epoch * data[SINGLE].train.epoch)
    if isinstance(script.settings, MultiScript) and script.settings.training.num_epoch_dict is not None:
        return math.ceil(sum(task_shares(script, data).values()))
    return training.numb_steps or 0


def _checkpoint_managers(script: Script, n_steps: int) -> list[CheckpointManager]:
    """The manager of the checkpoints, and that of averages."""
    t, number = script.training, script.training.n_checkpoints(n_steps)
    return [
        CheckpointManager(t.save_ckpt, t.save_dir, number),
        *([CheckpointManager(f"{t.save_ckpt}_ema", t.save_dir, t.ema_ckpt_keep or number)] if t.enable_ema else []),
    ]


def _curve(script: Script, data: Mapping[str, Data], done: int | None) -> Curve:
    names = {name: sorted(task.objective.reported(0.0, {})) for name, task in script.tasks.items()}
    validated = {name: d.valid is not None for name, d in data.items()}
    return Curve(script.training.disp_file, names, validated, multi=script.multi, done=done)


def _board(script: Script) -> Watch:
    """The writer of values for TensorBoard."""
    try:
        from tensorboard.summary import Writer
    except ModuleNotFoundError as error:
        raise SettingError("training.tensorboard needs TensorBoard: pip install 'dpmodel[train]'") from error
    make_folder(script.training.tensorboard_log_dir)
    writer = Writer(script.training.tensorboard_log_dir)

    def write(step: int, task: str, columns: Columns, learning_rate: float) -> None:
        prefix = f"{task}/" if script.multi else ""
        for name, value in {**columns, "lr": learning_rate}.items():
            writer.add_scalar(f"{prefix}{name}", value, step)
        writer.flush()

    return write


def _mean(values: Sequence[tuple[float, Columns]]) -> dict[str, float]:
    """Mean of columns with weights, each over those that have it."""
    result = {}
    for name in values[0][1]:
        finite = [(weight, columns[name]) for weight, columns in values if not math.isnan(columns[name])]
        total = sum(weight for weight, _ in finite)
        result[name] = sum(weight * value for weight, value in finite) / total if finite else math.nan
    return result


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """An event that the first SIGINT or SIGTERM sets; a second one has its usual effect."""
    asked = threading.Event()
    before: dict[int, Any] = {}

    def ask(number: int, frame: FrameType | None) -> None:
        asked.set()
        signal.signal(number, before[number])

    if threading.current_thread() is threading.main_thread():
        before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
