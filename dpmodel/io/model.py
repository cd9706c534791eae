"""Model files of every kind, by their suffix."""

import os
from typing import NamedTuple

from dpmodel.errors import FileError
from dpmodel.io.container import FORMATS, expect_suffix, read_tree, write_tree
from dpmodel.io.deepmd import SINGLE, ModelFile, from_tree, to_tree
from dpmodel.io.files import sniff
from dpmodel.io.inside import has_model, model_inside
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
    native = name.lower().endswith(READ_ONLY) and sniff(name) == HDF5  # what dpmodel-dp freezes under deepmd-kit's name
    packed = name.lower().endswith(READ_ONLY) and has_model(name)
    if name.lower().endswith(CHECKPOINTS) and not (native or packed):
        from dpmodel.io.checkpoint import read_checkpoint

        return read_checkpoint(name, head)
    if head not in (None, SINGLE):
        raise FileError(f"{name}: expected a multi-task checkpoint (.pt) to choose head {head!r} from")
    if packed:
        return from_tree(model_inside(name), name)
    if native:
        from dpmodel.io.hdf5 import read_hdf5

        return from_tree(read_hdf5(name), name)
    return from_tree(read_tree(name), name)


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
