"""The start of training: data, and models with statistics or from a file."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import or_

import numpy as np

from dpmodel.errors import FileError, SettingError
from dpmodel.io.deepmd import SINGLE, ModelFile
from dpmodel.io.metadata import without_rigidity
from dpmodel.model.build import build
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import Rebuilder, state
from dpmodel.settings import by_path
from dpmodel.statistics.cache import kept_statistics
from dpmodel.statistics.environment import Moments, Statistics, add, scaled, statistics, with_statistics
from dpmodel.statistics.neighbors import NeighborStatistics, neighbor_statistics_of, resolve_auto_nsel, too_few
from dpmodel.train.batches import Batches, Source, open_batches
from dpmodel.train.checkpoint import matching
from dpmodel.train.same_data import Summary, summary
from dpmodel.train.script import MultiScript, Script, Task
from dpmodel.train.settings.data import DataSettings
from dpmodel.train.settings.run import one_seed

SOME = 50  # systems of a brief look


@dataclass(frozen=True)
class Data:
    """The batches of a task; ``valid`` None without validation data."""

    train: Batches
    valid: Batches | None

    @property
    def systems(self) -> int:
        return len(self.train.sources)

    @property
    def summary(self) -> Summary:
        """The training data in a checkpoint."""
        return summary([source.system for source in self.train.sources])


def open_data(script: Script, processes: int = 1) -> dict[str, Data]:
    """The data of every task; raises FileError and SettingError."""
    result = {}
    for name, task in script.tasks.items():
        valid = task.data.validation_data
        train = _batches(script, task, task.data.training_data, "training", processes)
        result[name] = Data(train, _batches(script, task, valid, "validation") if valid else None)
    return result


def _batches(script: Script, task: Task, settings: DataSettings, kind: str, processes: int = 1) -> Batches:
    section = f"training.data_dict.{task.name}" if script.multi else "training"
    return open_batches(
        settings,
        task.model,
        script.training.first_seed,
        f"{task.name} {kind}",
        processes,
        labels=task.objective.labels,
        path=f"{section}.{kind}_data",
    )


def sources(data: Mapping[str, Data], *, briefly: bool = False) -> list[Source]:
    """The training systems of all tasks; ``briefly``: some of them, from everywhere."""
    every = [source for task in data.values() for source in task.train.sources]
    return every[:: len(every) // SOME + 1] if briefly else every


def count_neighbors(data: Mapping[str, Data], script: Script, *, briefly: bool = False) -> NeighborStatistics:
    """Neighbors in the training data, within all cutoffs; ``briefly``: in the first frame of some systems."""
    cutoffs = sorted({c for task in script.tasks.values() for c, _, _ in task.model.descriptor.selections})
    n, systems = 1 if briefly else None, sources(data, briefly=briefly)
    every = (neighbor_statistics_of(source.system, int(i), cutoffs) for source in systems for i in source.frames[:n])
    return reduce(or_, every)


def resolve_nsel(script: Script, neighbors: NeighborStatistics | None) -> Script:
    """``script`` with a number for every selection that is "auto"; warns of selections that are too small.

    None where nobody looked; then there must not be an "auto" (SettingError).
    """
    if neighbors is None:
        for _, nsel, path in (s for task in script.tasks.values() for s in task.model.descriptor.selections):
            if isinstance(nsel, str):
                raise SettingError(
                    f"model.descriptor.{path} should be a number if neighbors are not counted, got {nsel!r}"
                )
        return script
    tasks = {name: replace(task, model=resolve_auto_nsel(task.model, neighbors)) for name, task in script.tasks.items()}
    for line in dict.fromkeys(line for task in tasks.values() for line in too_few(task.model.descriptor, neighbors)):
        warnings.warn(f"{line}; the farthest are left out", UserWarning, stacklevel=2)
    return replace(script, tasks=tasks)


def fresh_models(
    script: Script, data: Mapping[str, Data], neighbors: NeighborStatistics | None, *, keep: bool = False
) -> dict[str, ModelFile]:
    """Models of random parameters with the statistics of the data; ``keep`` them where the input says (stat_file)."""
    samples = {name: _sample(task, data[name].train, keep) for name, task in script.tasks.items()}
    samples = _together(samples, script, task_shares(script, data))
    models = {}
    for number, (name, task) in enumerate(sorted(script.tasks.items())):
        model = with_case(draw(task.model, script.training.first_seed), number, len(script.tasks))
        models[name] = model_file(with_statistics(model, task.model, samples[name]), task.model, neighbors)
    return {name: models[name] for name in script.tasks}


def _sample(task: Task, batches: Batches, keep: bool) -> Statistics:
    frames, path = partial(batches.first, task.model.data_stat_nbatch), task.data.stat_file
    if path is None:
        return statistics(frames(), task.model)
    return kept_statistics(path, frames, task.model, read_only=task.data.stat_file_mode == "read", write=keep)


def draw(settings: ModelSettings, seed: int) -> Model:
    """Parameters from the seeds of the model's parts, or from ``seed`` where they have none."""
    parts = settings.descriptor.seed, settings.fitting_net.seed
    of_descriptor, of_fitting = (seed if part is None else one_seed(part) for part in parts)
    model = build(settings, of_descriptor)
    return model if of_fitting == of_descriptor else replace(model, fitting=build(settings, of_fitting).fitting)


def with_case(model: Model, number: int, of: int) -> Model:
    """``model`` with the one-hot vector of its task, if it is one of several (specification/training.md 9.4)."""
    if model.fitting.case is None or of == 1:
        return model
    case = np.zeros_like(model.fitting.case)
    case[number] = 1.0
    return replace(model, fitting=replace(model.fitting, case=case))


def model_file(model: Model, settings: ModelSettings, neighbors: NeighborStatistics | None) -> ModelFile:
    """A model with what its file says beside it."""
    shortest = neighbors.shortest if neighbors and 0 < neighbors.shortest < np.inf else None
    return ModelFile(settings, model, {"model_def_script": settings.model_dump()}, shortest)


def task_shares(script: Script, data: Mapping[str, Data]) -> dict[str, float]:
    """The share of each task in the steps, up to a common factor (specification/training.md 9.3)."""
    if not isinstance(script.settings, MultiScript):
        return {SINGLE: 1.0}
    training = script.settings.training
    if training.num_epoch_dict is not None:
        return {name: training.num_epoch_dict.get(name, 0.0) * data[name].train.epoch for name in data}
    if training.model_prob is not None:
        return {name: training.model_prob.get(name, 0.0) for name in data}
    return {name: float(d.systems) for name, d in data.items()}


def _together(samples: dict[str, Statistics], script: Script, shares: Mapping[str, float]) -> dict[str, Statistics]:
    """Statistics of what tasks share are taken over all of their data (specification/training.md 9.2)."""
    for link in script.links:
        members = [task for task, level in link.members if level == 0]
        own = {task: samples[task] for task in members}
        common = _rows(own) if link.part == "descriptor" else _parameters(own, shares)
        samples = samples | {task: replace(samples[task], **common) for task in members}
    return samples


def _rows(samples: Mapping[str, Statistics]) -> dict[str, dict[str, Moments]]:
    """Environment rows of all tasks, each sample as much as any other."""
    rows = [sample.rows for sample in samples.values()]
    return {"rows": {block: reduce(add, [r[block] for r in rows]) for block in rows[0]}} if rows else {}


def _parameters(samples: Mapping[str, Statistics], shares: Mapping[str, float]) -> dict[str, Moments]:
    """Frame and atomic parameters of all tasks, each as often as it has its turn."""
    most = max(shares[task] for task in samples)
    common = {}
    for name in ("fparam", "aparam"):
        by_task = {task: moments for task, sample in samples.items() if (moments := getattr(sample, name)) is not None}
        if by_task:
            parts = [scaled(moments, shares[task] / most if most else 1.0) for task, moments in by_task.items()]
            common[name] = reduce(add, parts)
    return common


def loaded_models(script: Script, models: Mapping[str, ModelFile], path: str) -> dict[str, ModelFile]:
    """The models of ``script`` with the arrays of ``models``, which were read from ``path``.

    Raises FileError where a model is missing or an array does not fit.
    """
    return {name: _loaded(task, matching(models, name, path), path) for name, task in script.tasks.items()}


def _loaded(task: Task, file: ModelFile, path: str) -> ModelFile:
    blank, loaded = build(task.model, seed=None), state(file.model)
    if file.settings.type_map != task.model.type_map:
        raise FileError(f"{path}: its type_map is {file.settings.type_map}, that of the input {task.model.type_map}")
    wanted = state(blank)
    for name in sorted(wanted.keys() | loaded.keys()):
        ours, theirs = (tuple(s[name].shape) if name in s else None for s in (wanted, loaded))
        if ours != theirs:
            raise FileError(
                f"{path}: {name} has shape {theirs}, but the input's model wants {ours} (None: no such array);"
                " the out.json of its run has the model that fits"
            )
    tell_differences(task.model, file.settings, path)
    arrays = {name: loaded[name].astype(value.dtype) for name, value in wanted.items()}
    extras = without_rigidity(file.extras) | {"model_def_script": task.model.model_dump()}
    return replace(file, settings=task.model, model=Rebuilder(blank)(arrays), extras=extras)


UNREAD = ("seed", "trainable", "precision")  # settings that do not change what a model means


def tell_differences(ours: ModelSettings, theirs: ModelSettings, path: str, *, head: bool = True) -> None:
    """Warn of settings of descriptor and fitting net that are not those of the parameters' file; the input's count."""
    parts = ("descriptor", "fitting_net") if head else ("descriptor",)
    own, others = (dict(by_path({part: s.model_dump()[part] for part in parts}, "model.")) for s in (ours, theirs))
    common = [key for key in own if key in others and key.rpartition(".")[2] not in UNREAD]
    lines = [f"{key} is {own[key]}, there {others[key]}" for key in common if own[key] != others[key]]
    if lines:
        warnings.warn(f"{path} has other settings than the input, which counts: {'; '.join(lines)}", stacklevel=2)


def nsel_of_file(script: Script, models: Mapping[str, ModelFile], path: str) -> Script:
    """``script`` with the selections of the file where it says "auto"."""
    tasks = {}
    for name, task in script.tasks.items():
        descriptor = matching(models, name, path).settings.descriptor
        tasks[name] = replace(task, model=_take(task.model, descriptor.selections))
    return replace(script, tasks=tasks)


def _take(settings: ModelSettings, selections: list[tuple[float, int | str, str]]) -> ModelSettings:
    data = settings.model_dump()
    sizes = {path: nsel for _, nsel, path in selections}
    for _, nsel, path in settings.descriptor.selections:
        if isinstance(nsel, str) and path in sizes:
            section, name = path.split(".")
            data["descriptor"][section][name] = sizes[path]
    return ModelSettings.read(data, "model")
