"""What would stop a run, or make it worthless, is looked for before it starts; nothing is written."""

import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path

from dpmodel.errors import SettingError
from dpmodel.io.files import expect_folder, expect_free
from dpmodel.statistics.neighbors import neighbor_statistics_of
from dpmodel.train.batches import Batches
from dpmodel.train.script import Script, Task
from dpmodel.train.settings import TERMS, CommonTraining
from dpmodel.train.start import Data

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


def expect_labels(script: Script, data: Mapping[str, Data]) -> None:
    """Warn of terms of the loss for which no system has labels; raise SettingError where that is all of them."""
    for name, task in script.tasks.items():
        lacking = dict(_lacking(task, data[name].train))
        words = [f"{term} ({', '.join(labels)})" for term, labels in lacking.items()]
        place = f"training.data_dict.{name}" if script.multi else "training"
        if len(lacking) == len(task.loss.active):
            raise SettingError(
                f"{place}.training_data: no system has the labels of any term of the loss: {', '.join(words)}"
            )
        if lacking:
            warnings.warn(
                f"{place}.training_data: no system has the labels of these terms of the loss, which do not count:"
                f" {', '.join(words)}",
                UserWarning,
                stacklevel=2,
            )


def expect_coordinates(script: Script, data: Mapping[str, Data]) -> None:
    """Raise SettingError where drdq has another number of generalized coordinates than the loss says."""
    for name, task in ((name, task) for name, task in script.tasks.items() if "gf" in task.loss.active):
        given, place = task.loss.numb_generalized_coord, f"loss_dict.{name}" if script.multi else "loss"
        both = [batches for batches in (data[name].train, data[name].valid) if batches is not None]
        for source in [source for batches in both for source in batches.sources]:
            drdq = source.system.frame(int(source.frames[0])).labels.get("drdq")
            if drdq is not None and drdq.shape[-1] != given:
                where = f"{source.system.path} has {drdq.shape[-1]} (drdq.npy)"
                raise SettingError(f"{place}.numb_generalized_coord is {given}, but {where}")


def _lacking(task: Task, batches: Batches) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The terms that no system has all labels of, and those labels."""
    known = [set(source.system.labels) for source in batches.sources]
    for term in task.loss.active:
        needed = set(TERMS[term]) - ({"atom_pref"} if task.loss.use_default_pf else set())
        if not any(needed <= labels for labels in known):
            yield term, tuple(sorted(needed))
