"""Model files of every kind, by their suffix."""

import os
from collections.abc import Callable
from typing import Any, NamedTuple

from dpmodel.errors import FileError
from dpmodel.io.container import FORMATS, expect_suffix, read_tree, write_tree
from dpmodel.io.deepmd import SINGLE, ModelFile, from_tree, to_tree
from dpmodel.io.files import sniff
from dpmodel.model.settings import ModelSettings

HDF5 = "an HDF5 file"
READ_ONLY = (".pth",)
CHECKPOINTS = (".pt", *READ_ONLY)


def read_model(path: str | os.PathLike[str], head: str | None = None) -> ModelFile:
    """The model in ``path``, in NumPy arrays; ``head`` chooses one of a multi-task checkpoint.

    Reads deepmd-kit's ``.dp`` and ``.yaml``, PyTorch checkpoints ``.pt`` and frozen ``.pth``, without their software;
    nothing in a file is executed.  Raises FileError.
    """
    name = os.fspath(path)
    expect_suffix(name, (*FORMATS, *CHECKPOINTS))
    if name.lower().endswith(READ_ONLY):
        read = _frozen(name)
    else:
        read = None if name.lower().endswith(CHECKPOINTS) else read_tree
    if read is None:
        from dpmodel.io.checkpoint import read_checkpoint

        return read_checkpoint(name, head)
    if head not in (None, SINGLE):
        raise FileError(f"{name}: expected a multi-task checkpoint (.pt) to choose head {head!r} from")
    return from_tree(read(name), name)


def _frozen(name: str) -> Callable[[str], dict[str, Any]] | None:
    """The reader of a frozen file in which ``dpmodel-dp`` left the model, under deepmd-kit's name or in a program."""
    from dpmodel.io.inside import has_model, model_inside

    if sniff(name) == HDF5:
        from dpmodel.io.hdf5 import read_hdf5

        return read_hdf5
    return model_inside if has_model(name) else None


class Contents(NamedTuple):
    """The part of a checkpoint beside one model: settings of each model if there are several, averaged parameters."""

    heads: dict[str, ModelSettings]
    averaged: bool


def contents_of(path: str | os.PathLike[str]) -> Contents:
    """The contents of a checkpoint; other files have one model.  Raises FileError."""
    file = os.fspath(path)
    if not file.lower().endswith(".pt"):
        return Contents({}, averaged=False)
    from dpmodel.io.checkpoint import heads, settings_of, tensors_and_settings
    from dpmodel.io.torchfile import read_torchfile

    saved = read_torchfile(file)
    branches = heads(tensors_and_settings(saved, file)[1])
    several = {name: settings_of(branches, name, file) for name in branches} if len(branches) > 1 else {}
    parts = (saved, saved.get("dpmodel"))  # where deepmd-kit has them, and where our training does
    return Contents(several, any(isinstance(part, dict) and bool(part.get("ema")) for part in parts))


def expect_writable(path: str | os.PathLike[str], *, tables: bool = False) -> None:
    """Raise FileError if no model, or none with ``tables``, can be written under the name ``path``."""
    name = os.fspath(path)
    if name.lower().endswith(READ_ONLY):
        raise FileError(f"{path}: .pth holds programs and is only read; write {', '.join(FORMATS)} or .pt")
    expect_suffix(name, (*FORMATS, ".pt"))
    if tables and name.lower().endswith(CHECKPOINTS):
        from dpmodel.io.checkpoint import NO_TABLES

        raise FileError(f"{path}: {NO_TABLES}")


def write_model(path: str | os.PathLike[str], model: ModelFile) -> None:
    """Write ``model`` to ``path``: ``.dp``, ``.yaml`` or ``.dp.json``, or the ``.pt`` of deepmd-kit's PyTorch backend.

    Raises FileError, for a compressed model as ``.pt`` too: deepmd-kit could not read it.
    """
    expect_writable(path)
    name = os.fspath(path)
    if name.lower().endswith(CHECKPOINTS):
        from dpmodel.io.checkpoint import save_checkpoint

        save_checkpoint(name, model)
    else:
        write_tree(name, to_tree(model))
