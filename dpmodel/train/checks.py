"""Checks before a run starts, for what would stop it or make it worthless; nothing is written."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from dpmodel.data.units import SAMPLE, doubts
from dpmodel.errors import SettingError
from dpmodel.io.files import expect_folder, expect_free
from dpmodel.statistics.neighbors import NeighborStatistics, neighbor_statistics_of, no_neighbors
from dpmodel.train.batches import Batches
from dpmodel.train.same_data import Summary, difference
from dpmodel.train.script import Script, Task
from dpmodel.train.settings.run import CommonTraining
from dpmodel.train.start import Data, sources

NEAR = 1.0  # angstrom: far enough to find atoms at the same place


def expect_places(training: CommonTraining) -> None:
    """Raise FileError where the files of a run cannot be."""
    expect_folder(Path(training.save_ckpt).parent)
    if training.save_dir is not None:
        expect_folder(training.save_dir)
    if training.disp_training:
        expect_free(training.disp_file, overwrite=True)
    if training.tensorboard:
        expect_folder(training.tensorboard_log_dir)


def expect_numbers(data: Mapping[str, Data]) -> None:
    """Read all validation data; raises FileError that names what is not finite, and atoms at the same place."""
    for batches in (d.valid for d in data.values() if d.valid is not None):
        for source in batches.sources:
            for i in source.frames:
                neighbor_statistics_of(source.system, int(i), [NEAR])


def tell_doubts(data: Mapping[str, Data], neighbors: NeighborStatistics, *, briefly: bool = False) -> None:
    """Warn of units of the training data that cannot be; ``briefly``: of some systems."""
    remarks = [no_neighbors(neighbors)]
    for system in (source.system for source in sources(data, briefly=briefly)):
        if {"energy", "force"} <= set(system.labels):
            odd = doubts(system.frame(i) for i in range(min(len(system), SAMPLE)))
            remarks += [f"{system.path}: {odd}"] if odd else []
    for remark in filter(None, remarks):
        warnings.warn(remark, UserWarning, stacklevel=2)


def tell_changes(data: Mapping[str, Data], before: Mapping[str, Summary], path: str) -> None:
    """Warn of training data that are not those ``before``, of the checkpoint at ``path``."""
    for task in data.keys() & before.keys():
        changes = difference(before[task], data[task].summary)
        if changes:
            warnings.warn(
                f"{path} was trained on other data than there are now ({changes}), and goes on with these; to learn "
                "from other data from the first step on: --init-model in the place of --restart",
                UserWarning,
                stacklevel=2,
            )


def expect_labels(script: Script, data: Mapping[str, Data]) -> None:
    """Warn of terms of the loss for which no system has labels; raise SettingError where that is all of them."""
    for name, task in script.tasks.items():
        lacking = dict(_lacking(task, data[name].train))
        words = [f"{term} ({', '.join(labels)})" for term, labels in lacking.items()]
        section = f"training.data_dict.{name}" if script.multi else "training"
        if len(lacking) == len(task.objective.needs):
            raise SettingError(
                f"{section}.training_data: no system has the labels of any term of the loss: {', '.join(words)}"
            )
        if lacking:
            warnings.warn(
                f"{section}.training_data: no system has the labels of these terms of the loss, which do not count:"
                f" {', '.join(words)}",
                UserWarning,
                stacklevel=2,
            )


def expect_widths(script: Script, data: Mapping[str, Data]) -> None:
    """Raise SettingError where labels have another number of components than loss and model say."""
    for name, task in script.tasks.items():
        both = [batches for batches in (data[name].train, data[name].valid) if batches is not None]
        for source in [source for batches in both for source in batches.sources]:
            labels = source.system.frame(int(source.frames[0])).labels
            for label, width in task.objective.widths.items():
                if label in labels and labels[label].shape[-1] != width:
                    where = f"{source.system.path} has {labels[label].shape[-1]} ({label}.npy)"
                    raise SettingError(f"{_setting_of(label, name, script)} is {width}, but {where}")


def _setting_of(label: str, name: str, script: Script) -> str:
    """The setting that says how wide a label is."""
    if label == "drdq":
        return f"{f'loss_dict.{name}' if script.multi else 'loss'}.numb_generalized_coord"
    model = f"model.model_dict.{name}" if script.multi else "model"
    return f"{model}.fitting_net.{'numb_dos' if label.endswith('dos') else 'task_dim'}"


def _lacking(task: Task, batches: Batches) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The terms that no system has all labels of, and those labels."""
    available = [set(source.system.labels) for source in batches.sources]
    for term, needed in task.objective.needs.items():
        if not any(set(needed) <= labels for labels in available):
            yield term, tuple(sorted(needed))
