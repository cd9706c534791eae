"""One or several models on an engine, and one step of learning."""

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np

from dpmodel.backend import AdamRule, Alone, Engine, Processes
from dpmodel.capabilities import why_not
from dpmodel.dpa2.settings import DPA2Settings
from dpmodel.errors import SettingError, TrainingError
from dpmodel.execution import Execution
from dpmodel.io.deepmd import ModelFile
from dpmodel.memory import Memory
from dpmodel.model.model import Model
from dpmodel.model.settings import CommonFittingSettings, ModelSettings
from dpmodel.module import Rebuilder, arrays, state
from dpmodel.train.loss import Batch, loss
from dpmodel.train.offset import RECENT, offset
from dpmodel.train.script import Link, Script
from dpmodel.train.settings.optimizer import AdamWSettings
from dpmodel.xp import Array, map_arrays, namespace

Arrays = dict[str, np.ndarray]
Named = dict[str, Array]
Keys = dict[str, str]  # of a task: the name under which the array at each path is held


class Learner:
    """The models of ``script`` on ``engine``, ready to learn.

    Arrays are held once, under ``task/path`` of the task that the others take them from.
    """

    def __init__(
        self, script: Script, models: Mapping[str, ModelFile], engine: Engine, processes: Processes | None = None
    ) -> None:
        self.script, self.engine, self._processes = script, engine, processes or Alone()
        _expect_derivatives(script, engine)
        self.files = dict(models)
        self.keys = shared_keys({name: file.model for name, file in models.items()}, script.links)
        owned = {key for keys in self.keys.values() for key in keys.values()}
        held: Arrays = {}
        trained: set[str] = set()
        for name, file in models.items():
            held |= {key: value for path, value in state(file.model).items() if (key := f"{name}/{path}") in owned}
            own = {self.keys[name][path] for path in trained_paths(file.model, file.settings)}
            if not own:
                section = f"model.model_dict.{name}" if script.multi else "model"
                raise SettingError(f"{section}: nothing would be learned: descriptor and fitting_net are not trainable")
            trained |= own
        self.optimizer = engine.optimizer({k: v for k, v in held.items() if k in trained}, _rule(script))
        self.fixed = {key: engine.native(value) for key, value in held.items() if key not in trained}
        self._start_lr = script.settings.learning_rate.start_lr
        self._gradients = {name: self._program(self._gradient_function, name) for name in models}
        self._losses = {name: self._program(self._loss_function, name) for name in models}
        self._norm, self._limit, self._add = engine.compile(norm), engine.compile(limited), engine.compile(added)
        self._waiting: Named = {}  # gradients that add up until the parameters move
        self._errors = {name: deque[float](maxlen=RECENT) for name in models}  # mean ones of energies, eV per atom

    def step(self, task: str, batch: Batch, learning_rate: float, *, move: bool = True) -> dict[str, float]:
        """Learn from one batch, of which every process may have a part; the columns of the learning curve before it.

        Unless the parameters are to ``move``, the gradient is added to that of the next step.  Raises TrainingError,
        and learns nothing, if the loss or its gradient is not finite.
        """
        arguments = self._arguments(task, batch, learning_rate)
        gradients, total, reports = self._together(*self._gradients[task](*arguments))
        self._errors[task] += [float(self.engine.numpy(reports[name])) for name in reports if name == "mean_e"]
        value = float(self.engine.numpy(total))
        factor = 0.5 / max(value, 1e-300) ** 0.5 if self.script.tasks[task].objective.root else 1.0
        if self._waiting or factor != 1.0:
            gradients = self._add(self._waiting, gradients, self._number(factor))
        size = self.norm(gradients)
        if not (math.isfinite(value) and math.isfinite(size)):
            raise TrainingError(f"the loss is {value:.3g}, the norm of its gradient {size:.3g}")
        self._waiting = {} if move else gradients
        if not move:
            return self._columns(task, total, reports)
        most = self.script.training.gradient_max_norm
        if most:
            gradients = self._limit(gradients, self._number(size), self._number(most))
        self.optimizer.step(gradients, learning_rate)
        return self._columns(task, total, reports)

    def evaluate(self, task: str, batch: Batch, learning_rate: float) -> dict[str, float]:
        """The columns of the learning curve for one batch."""
        return self._columns(task, *self._losses[task](*self._arguments(task, batch, learning_rate)))

    def offsets(self) -> dict[str, float]:
        """By task, the constant by which energies were off in the latest steps, eV per atom; 0 where it is none."""
        return {task: offset(errors) for task, errors in self._errors.items()}

    def norm(self, values: Mapping[str, Array]) -> float:
        """Root of the sum of all squares of ``values``; not finite where that is too large."""
        with np.errstate(all="ignore"):  # NumPy would warn of what is looked for
            return float(self.engine.numpy(self._norm(dict(values))))

    def models(self, parameters: Mapping[str, Array] | None = None) -> dict[str, ModelFile]:
        """The models as they are now, or with other ``parameters``, in NumPy arrays."""
        now = {**self.fixed, **(self.optimizer.parameters if parameters is None else parameters)}
        held = {key: self.engine.numpy(value) for key, value in now.items()}
        return {name: self._model_file(name, held) for name in self.files}

    def _model_file(self, name: str, held: Arrays) -> ModelFile:
        file = self.files[name]
        values = {path: held[key].astype(state(file.model)[path].dtype) for path, key in self.keys[name].items()}
        return replace(file, model=Rebuilder(file.model)(values))

    def _arguments(self, task: str, batch: Batch, learning_rate: float) -> tuple[Any, ...]:
        """Trained and fixed arrays by path, the batch and the prefactors on the engine."""
        keys, parameters = self.keys[task], self.optimizer.parameters
        trained = {key: parameters[key] for key in dict.fromkeys(keys.values()) if key in parameters}
        fixed = {key: self.fixed[key] for key in dict.fromkeys(keys.values()) if key in self.fixed}
        weights = self.script.tasks[task].objective.prefactors(learning_rate, self._start_lr)
        return trained, fixed, map_arrays(self.engine.native, batch), {t: self._number(w) for t, w in weights.items()}

    def _together(self, gradients: Named, total: Array, reports: Named) -> tuple[Named, Array, Named]:
        """Sums over the processes."""
        if self._processes.size == 1:
            return gradients, total, reports
        total, *rest = summed([total, *gradients.values(), *reports.values()], self._processes)
        n = len(gradients)
        return dict(zip(gradients, rest[:n], strict=True)), total, dict(zip(reports, rest[n:], strict=True))

    def _number(self, x: float) -> Array:
        return self.engine.native(np.array(x))

    def _columns(self, task: str, total: Array, reports: Mapping[str, Array]) -> dict[str, float]:
        values = {term: float(self.engine.numpy(value)) for term, value in reports.items()}
        return self.script.tasks[task].objective.reported(float(self.engine.numpy(total)), values)

    def _program(self, make: Callable[..., Any], task: str) -> Callable[..., Any]:
        """The result of ``make(task, execution)`` for a batch: in bins, or all atoms at once in a compiled program."""
        engine, alone = self.engine, self._processes.size == 1
        memory = Memory(engine, self.files[task].settings.descriptor)
        # of the latest bins of atoms only, for every batch has its own
        compiled = lru_cache(maxsize=64)(lambda execution: engine.compile(make(task, execution)))

        def run(trained: Named, fixed: Named, batch: Batch, weights: Any) -> Any:
            execution = engine.run(slope=True)
            if engine.rounds_shapes or engine.device != "cpu":  # a Hessian is computed column by column all the same
                return compiled(Execution(loop=execution.loop, repeat=execution.repeat))(trained, fixed, batch, weights)
            graph = map_arrays(engine.numpy, batch.graph)
            return memory.run(execution, graph, lambda e: compiled(e)(trained, fixed, batch, weights), alone=alone)

        return run

    def _loss_function(self, task: str, execution: Execution) -> Callable[..., Any]:
        rebuild, keys = Rebuilder(self.files[task].model), self.keys[task]
        objective, grad = self.script.tasks[task].objective, self.engine.grad_and_aux

        def function(trained: dict[str, Array], fixed: dict[str, Array], batch: Batch, weights: Any) -> Any:
            held = trained | fixed
            return loss(
                rebuild({path: held[key] for path, key in keys.items()}), batch, weights, objective, grad, execution
            )

        return function

    def _gradient_function(self, task: str, execution: Execution) -> Callable[..., Any]:
        value, grad = self._loss_function(task, execution), self.engine.grad_and_aux

        def function(trained: dict[str, Array], fixed: dict[str, Array], batch: Batch, weights: Any) -> Any:
            names = list(trained)

            def of(*values: Array) -> tuple[Array, Any]:
                total, reports = value(dict(zip(names, values, strict=True)), fixed, batch, weights)
                return total, (total, reports)

            slopes, (total, reports) = grad(of, *trained.values())
            return dict(zip(names, slopes, strict=True)), total, reports

        return function


def summed(values: Sequence[Array], processes: Processes) -> list[Array]:
    """Each of ``values`` added up over the processes, in one message of double precision."""
    xp = namespace(values[0])
    flat = [xp.reshape(xp.astype(value, xp.float64), (-1,)) for value in values]
    total, result, start = processes.sum(xp.concat(flat)), [], 0
    for value, part in zip(values, flat, strict=True):
        stop = start + part.shape[0]
        result.append(xp.astype(xp.reshape(total[start:stop], value.shape), value.dtype))
        start = stop
    return result


def norm(values: Named) -> Array:
    """Root of the sum of all squares, 0-d, in double precision."""
    wide = [namespace(x).astype(x, namespace(x).float64) for x in values.values()]
    xp = namespace(wide[0])
    return xp.sqrt(sum(xp.sum(x * x) for x in wide))


def added(waiting: Named, gradients: Named, factor: Array) -> Named:
    """``gradients`` times ``factor``, and those that are ``waiting``."""
    scaled = {key: g * namespace(g).astype(factor, g.dtype) for key, g in gradients.items()}
    both = {key: waiting[key] + scaled[key] if key in waiting else scaled[key] for key in scaled}
    return waiting | both


def limited(gradients: Named, size: Array, most: Array) -> Named:
    """``gradients``, of norm ``size``, scaled down to a norm of ``most`` (specification/training.md 4)."""
    factor = namespace(size).clip(most / (size + 1e-6), None, 1.0)
    return {key: g * namespace(g).astype(factor, g.dtype) for key, g in gradients.items()}


def _expect_derivatives(script: Script, engine: Engine) -> None:
    """Raise SettingError where the loss has a Hessian that ``engine`` cannot learn from."""
    reason = why_not("hessian_loss", engine.name)
    for name in [name for name, task in script.tasks.items() if reason and "h" in task.objective.needs]:
        section = f"loss_dict.{name}" if script.multi else "loss"
        raise SettingError(
            f"{section}.start_pref_h: {engine.name} cannot learn from a Hessian: {reason}; take torch or jax"
        )


def _rule(script: Script) -> AdamRule:
    s = script.settings.optimizer
    return AdamRule(s.adam_beta1, s.adam_beta2, s.weight_decay, decoupled=isinstance(s, AdamWSettings))


# Which arrays are trained, and which are the same


def trained_paths(model: Model, settings: ModelSettings) -> list[str]:
    """Paths of the arrays that the settings let learn."""
    frozen = tuple(_frozen(settings.descriptor, settings.fitting_net, len(model.fitting.network.layers)))
    paths = [path for path, _, about in arrays(model) if about["trainable"]]
    return [path for path in paths if not path.startswith(frozen)]


def _frozen(descriptor: DPA2Settings, fitting: CommonFittingSettings, n_layers: int) -> Sequence[str]:
    flags = fitting.trainable if isinstance(fitting.trainable, tuple) else (fitting.trainable,) * n_layers
    layers = [f"fitting.network.layers.{i}." for i, flag in enumerate(flags) if not flag]
    return [*layers, *([] if descriptor.trainable else ["descriptor."])]


SHARED = {  # beginnings of paths that tasks share, by part and level (specification/training.md 9.2)
    ("descriptor", 0): ("descriptor.",),
    ("descriptor", 1): ("descriptor.type_embedding.",),
    ("fitting_net", 0): ("fitting.network.", "fitting.fparam_", "fitting.aparam_"),
}


def shared_keys(models: Mapping[str, Model], links: Sequence[Link]) -> dict[str, Keys]:
    """For every task, where the array at each path is held."""
    keys = {task: {path: f"{task}/{path}" for path in state(model)} for task, model in models.items()}
    for link in links:
        base = link.members[0][0]
        for task, level in link.members[1:]:
            prefixes = SHARED[link.part, level]
            keys[task] |= {path: keys[base][path] for path in keys[task] if path.startswith(prefixes)}
    return keys
