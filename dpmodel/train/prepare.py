"""From an input file to a run that is ready to start."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dpmodel.backend import Alone, Engine, Processes
from dpmodel.edit.bias import with_fitted_bias
from dpmodel.errors import SettingError
from dpmodel.io.deepmd import ModelFile
from dpmodel.train.checkpoint import Checkpoint, latest, matching, read
from dpmodel.train.checks import expect_labels, expect_numbers, expect_places, expect_widths, tell_changes, tell_doubts
from dpmodel.train.finetune import adapted, adopted, choose, trainable
from dpmodel.train.loop import Training
from dpmodel.train.script import Script
from dpmodel.train.start import (
    Data,
    count_neighbors,
    fresh_models,
    loaded_models,
    nsel_of_file,
    open_data,
    resolve_nsel,
    tell_differences,
)

Tell = Callable[[str], None]


@dataclass(frozen=True)
class StartFrom:
    """The origin of the models: at most one of the first three, a fresh start if there is none.

    ``restart``: go on with a run, to the same numbers as without the interruption; ``init_model``: its parameters and
    statistics, but a new run; ``finetune``: a pretrained model for new data, from its ``branch``.  The last two take
    its sections of the input if ``use_pretrain_script``.  ``count_neighbors`` in all training data, for fresh and
    fine-tuned models.
    """

    restart: Path | None = None
    init_model: Path | None = None
    finetune: Path | None = None
    branch: str | None = None
    use_pretrain_script: bool = False
    count_neighbors: bool = True

    def __post_init__(self) -> None:
        sources = [name for name in ("restart", "init_model", "finetune") if getattr(self, name) is not None]
        if len(sources) > 1:
            raise SettingError(f"{' and '.join(sources)} say different things: give only one of them")
        if self.branch and self.finetune is None:
            raise SettingError("model_branch goes with finetune")
        if self.use_pretrain_script and self.finetune is None and self.init_model is None:
            raise SettingError("use_pretrain_script goes with finetune or init_model")

    @property
    def descriptor(self) -> dict[str, Any] | None:
        """The section that the input may leave empty, since it is taken from the file."""
        path = self.finetune or self.init_model
        if path is None or not self.use_pretrain_script:
            return None
        return next(iter(read(latest(path)).models.values())).settings.descriptor.model_dump()


def prepare(
    script: Script,
    engine: Engine,
    origin: StartFrom | None = None,
    tell: Tell = lambda _: None,
    processes: Processes | None = None,
    *,
    keep: bool = True,
) -> Training:
    """The run that ``script`` describes, its data opened, its models made or read; raises what is wrong with them.

    Every one of several ``processes`` prepares the same.  ``keep`` new statistics where the input says (stat_file).
    """
    origin, processes = origin or StartFrom(), processes or Alone()
    expect_places(script.training)
    data = open_data(script, processes.size)
    expect_labels(script, data)
    expect_widths(script, data)
    expect_numbers(data)
    for name, d in data.items():
        frames = sum(len(source.frames) for source in d.train.sources)
        tell(f"{name}: {frames} frames of {d.systems} systems, {d.train.epoch} batches to see all of them")
    if origin.restart is None and (origin.init_model is not None or not origin.count_neighbors):
        tell_doubts(data, count_neighbors(data, script, briefly=True), briefly=True)
    if origin.restart is not None or origin.init_model is not None:
        return _read(script, data, engine, processes, origin, tell)
    pretrained = _Pretrained(script, origin) if origin.finetune is not None else None
    if pretrained is not None:
        script = pretrained.script
    neighbors = count_neighbors(data, script) if origin.count_neighbors else None
    script = resolve_nsel(script, neighbors)
    if neighbors is not None:
        tell(f"closest atoms: {neighbors.shortest:.3f} Å; most neighbors: {_listed(neighbors.most)}")
        tell_doubts(data, neighbors)
    models = fresh_models(script, data, neighbors, keep=keep and processes.rank == 0)
    if pretrained is not None:
        models = pretrained.models(models, data, engine)
    return Training(script, data, Checkpoint(models), engine, processes)


def _read(
    script: Script, data: dict[str, Data], engine: Engine, processes: Processes, origin: StartFrom, tell: Tell
) -> Training:
    """A run that goes on, or a new one from the arrays of a file."""
    file = latest(origin.restart or origin.init_model or "")
    checkpoint, path = read(file), str(file)
    for model in checkpoint.models.values():
        trainable(model, path)
    if origin.use_pretrain_script:
        pretrained = {name: matching(checkpoint.models, name, path) for name in script.tasks}
        tasks = {n: replace(t, model=adopted(t.model, pretrained[n], head=True)) for n, t in script.tasks.items()}
        script = replace(script, tasks=tasks)
    script = nsel_of_file(script, checkpoint.models, path)
    models = loaded_models(script, checkpoint.models, path)
    if origin.restart is None:
        return Training(script, data, Checkpoint(models), engine, processes)
    tell_changes(data, checkpoint.data, path)
    optimizer = checkpoint.optimizer if script.tasks.keys() <= checkpoint.models.keys() else {}
    if not optimizer:
        tell(f"{file} has no state of Adam for this run: the optimizer starts anew at step {checkpoint.step}")
    start = replace(checkpoint, models=models, optimizer=optimizer)
    run = Training(script, data, start, engine, processes, append=True)
    if run.finished:
        why = "" if run.step >= run.n_steps else ", and validation has not improved for validating.patience"
        tell(f"{file} is at step {run.step} of {run.n_steps}{why}: nothing is left to do")
    return run


class _Pretrained:
    """The part of a file that fine-tuning takes."""

    def __init__(self, script: Script, origin: StartFrom) -> None:
        assert origin.finetune is not None
        self._path = str(latest(origin.finetune))
        self._files = {name: trainable(file, self._path) for name, file in read(self._path).models.items()}
        self._choices = choose(script, self._files, origin.branch, self._path)
        tasks = dict(script.tasks)
        if origin.use_pretrain_script:
            for name, choice in self._choices.items():
                model = adopted(tasks[name].model, self._files[choice.branch], choice.head)
                tasks[name] = replace(tasks[name], model=model)
        self.script = replace(script, tasks=tasks)

    def models(self, fresh: dict[str, ModelFile], data: dict[str, Data], engine: Engine) -> dict[str, ModelFile]:
        """``fresh`` models with the parameters of the file, their bias fitted to the data."""
        result = {}
        for name, choice in self._choices.items():
            pretrained = self._files[choice.branch]
            model = adapted(fresh[name], pretrained, choice.head, self._path)
            tell_differences(model.settings, pretrained.settings, self._path, head=choice.head)
            if choice.refit:
                frames = data[name].train.first(self.script.tasks[name].model.data_stat_nbatch)
                model = with_fitted_bias(model, frames, engine)
            result[name] = model
        return result


def _listed(most: dict[float, int]) -> str:
    return ", ".join(f"{n} within {cutoff:g} Å" for cutoff, n in most.items())
