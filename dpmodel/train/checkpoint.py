"""Checkpoints: deepmd-kit's ``.pt`` files, with what an exact continuation needs beside the model."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dpmodel.errors import FileError
from dpmodel.io.checkpoint import from_checkpoint, heads, tensors_and_settings, to_checkpoint
from dpmodel.io.deepmd import SINGLE, ModelFile
from dpmodel.io.files import beside, damaged, replacing
from dpmodel.io.model import read_model
from dpmodel.io.torchfile import read_torchfile, write_checkpoint
from dpmodel.io.values import describe
from dpmodel.module import state
from dpmodel.train.moments import moments
from dpmodel.train.same_data import Summary, expect_summary

OURS = "dpmodel"  # the entry of the file that deepmd-kit does not look at
SUFFIX = ".pt"
PARTS = "optimizer", "ema", "best", "data"  # beside models and step, in the order of ``Checkpoint``

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Checkpoint:
    """Models by task; ``step`` is the next one to do; ``optimizer`` is empty where a file has no state of Adam."""

    models: dict[str, ModelFile]
    step: int = 0
    optimizer: Arrays = field(default_factory=dict)
    ema: Arrays = field(default_factory=dict)
    best: dict[str, Arrays] = field(default_factory=dict)  # "error" and "step" of the best by the prefix of their files
    data: dict[str, Summary] = field(default_factory=dict)  # training data by task


def write(path: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Write ``checkpoint`` so that there is the whole file, or none of it."""
    names = list(checkpoint.models)
    states: dict[str, Any] = {}
    params: dict[str, Any] = {}
    for name, model in checkpoint.models.items():
        tensors = to_checkpoint(model, os.fspath(path))
        params[name] = tensors.pop("_extra_state")["model_params"]
        states |= {key.replace("model.Default.", f"model.{name}.", 1): value for key, value in tensors.items()}
    script = params[SINGLE] if names == [SINGLE] else {"model_dict": params}
    states["_extra_state"] = {"model_params": script, "train_infos": {"lr": 0.0, "step": checkpoint.step - 1}}
    ours = {"step": checkpoint.step} | {part: getattr(checkpoint, part) for part in PARTS}
    write_checkpoint(path, {"model": states, OURS: ours})


def read(path: str | os.PathLike[str]) -> Checkpoint:
    """The checkpoint in ``path``: ours, deepmd-kit's, or any model file."""
    name = os.fspath(path)
    if Path(name).suffix.lower() != SUFFIX:
        return Checkpoint({SINGLE: read_model(name)})
    saved = read_torchfile(name)
    tensors, script = tensors_and_settings(saved, name)
    models = {head: from_checkpoint(tensors, script, head, name) for head in heads(script)}
    extra = tensors.get("_extra_state")  # a frozen model has none
    step = int((extra.get("train_infos") or {}).get("step", -1)) + 1 if isinstance(extra, dict) else 0
    ours = saved.get(OURS)
    if not isinstance(ours, dict):
        return Checkpoint(models, step, moments(saved.get("optimizer"), tensors, models, name))
    with damaged(name, "a checkpoint"):
        checkpoint = Checkpoint(models, int(ours["step"]), *(dict(ours.get(part, {})) for part in PARTS))
        for data in checkpoint.data.values():
            expect_summary(data)
    _expect_shapes(checkpoint, name)
    return checkpoint


def _expect_shapes(checkpoint: Checkpoint, file: str) -> None:
    """Raise FileError where the optimizer or the averages do not fit the models."""
    shapes = {
        f"{task}/{path}": x.shape for task, model in checkpoint.models.items() for path, x in state(model.model).items()
    }
    for name, value in [*checkpoint.optimizer.items(), *checkpoint.ema.items()]:
        path, _, kind = name.partition(":")
        wanted = () if kind == "step" else shapes.get(path)
        if not isinstance(value, np.ndarray) or value.shape != wanted:
            raise FileError(f"{file}: {name}: expected an array of shape {wanted}, found {describe(value)}")


class CheckpointManager:
    """The numbered checkpoints of a run: the newest ``keep`` of them, a link to the last, and the file of its name."""

    def __init__(self, name: str, folder: str | None, keep: int) -> None:
        self._name, self._keep = Path(name), keep
        self._folder = self._name.parent if folder is None else Path(folder)

    @property
    def folders(self) -> tuple[Path, Path]:
        """The folders that it writes to, which have to exist before ``put``."""
        return self._name.parent, self._folder

    def put(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, then point to it, then remove old ones."""
        path = self._folder / f"{self._name.name}-{checkpoint.step}{SUFFIX}"
        write(path, checkpoint)
        self._link(path)
        with replacing(self._name.parent / "checkpoint") as file:
            file.write(f"{path}\n".encode())
        for old in self._numbered()[: -self._keep]:
            if old != path:
                old.unlink(missing_ok=True)
        return path

    def _link(self, path: Path) -> None:
        """``<name>.pt``: a link where there can be links."""
        link = self._name.with_name(f"{self._name.name}{SUFFIX}")
        fresh = beside(link)
        try:
            fresh.symlink_to(os.path.relpath(path, link.parent))
            fresh.replace(link)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise FileError(f"{link}: cannot be written: {error.strerror}") from error

    def _numbered(self) -> list[Path]:
        """Checkpoints of this name, oldest first."""
        pattern = re.compile(re.escape(self._name.name) + r"-\d+" + re.escape(SUFFIX))
        paths = [path for path in self._folder.iterdir() if pattern.fullmatch(path.name)]
        return sorted(paths, key=lambda path: path.stat().st_mtime_ns)


class BestCheckpoints:
    """The best checkpoints of a run, ``<prefix>-<step>.t-<rank>.pt``."""

    def __init__(self, prefix: str, folder: Path) -> None:
        self._prefix, self.folder = prefix, folder
        self._pattern = re.compile(re.escape(prefix) + r"-(\d+)\.t-(\d+)" + re.escape(SUFFIX))

    def put(self, checkpoint: Checkpoint, steps: Sequence[int]) -> Path:
        """Write a checkpoint, then rename those of the best ``steps`` by their rank, then remove the others."""
        ranked = {step: self._path(step, rank) for rank, step in enumerate(steps, 1)}
        write(ranked[checkpoint.step], checkpoint)
        for path in sorted(self.folder.iterdir()):
            parts = self._pattern.fullmatch(path.name)
            new = ranked.get(int(parts[1])) if parts else path
            if new is None:
                path.unlink(missing_ok=True)
            elif new != path:
                path.replace(new)
        return ranked[checkpoint.step]

    def _path(self, step: int, rank: int) -> Path:
        return self.folder / f"{self._prefix}-{step}.t-{rank}{SUFFIX}"


def latest(path: str | os.PathLike[str]) -> Path:
    """The checkpoint that ``path`` means: itself, or the newest of a run if it is ``model.ckpt``, its stem."""
    stem = Path(path)
    if stem.is_file():
        return stem
    link = stem.with_name(f"{stem.name}{SUFFIX}")
    if link.is_file():
        return link
    raise FileError(f"{stem}: there is no such checkpoint")


def matching(models: Mapping[str, ModelFile], task: str, path: str) -> ModelFile:
    """The model of ``task``, or the only one there is."""
    if task in models:
        return models[task]
    if len(models) == 1 and task == SINGLE:
        return next(iter(models.values()))
    raise FileError(f"{path}: expected a model of the task {task!r}, found {', '.join(map(repr, models))}")
