"""Model files of every kind, by their suffix."""

import os
from pathlib import Path

from dpmodel.errors import FileError
from dpmodel.io.checkpoint import heads, read_checkpoint, save_checkpoint, settings_of, tensors_and_settings
from dpmodel.io.container import FORMATS, read_tree, write_tree
from dpmodel.io.deepmd import ModelFile, from_tree, to_tree
from dpmodel.io.torchfile import read_torchfile
from dpmodel.model.settings import ModelSettings

READ_ONLY = (".pth",)
CHECKPOINTS = (".pt", *READ_ONLY)


def read_model(path: str | os.PathLike[str], head: str | None = None) -> ModelFile:
    """The model in ``path``, in NumPy arrays; ``head`` chooses one of a multi-task checkpoint.

    Reads deepmd-kit's ``.dp`` and ``.yaml``, PyTorch checkpoints ``.pt`` and frozen ``.pth``, without their software;
    nothing in a file is executed.  Raises FileError.
    """
    name = os.fspath(path)
    if Path(name).suffix.lower() in CHECKPOINTS:
        return from_tree(read_checkpoint(name, head), name)
    if head is not None:
        raise FileError(f"{name}: expected a multi-task checkpoint (.pt) to choose head {head!r} from")
    return from_tree(read_tree(name), name)


def heads_of(path: str | os.PathLike[str]) -> dict[str, ModelSettings]:
    """The settings of each model of a multi-task checkpoint; of other files nothing.  Raises FileError."""
    if Path(path).suffix.lower() != ".pt":
        return {}
    file = os.fspath(path)
    branches = heads(tensors_and_settings(read_torchfile(file), file)[1])
    return {name: settings_of(branches, name, file) for name in branches} if len(branches) > 1 else {}


def expect_writable(path: str | os.PathLike[str]) -> None:
    """Raise FileError if no model can be written under the name ``path``."""
    name = os.fspath(path).lower()
    if name.endswith(READ_ONLY):
        raise FileError(f"{path}: .pth holds programs and is only read; write {', '.join(FORMATS)} or .pt")
    if not name.endswith((".pt", *FORMATS)):
        raise FileError(f"{path}: expected a name ending in one of {', '.join(FORMATS)}, .pt")


def write_model(path: str | os.PathLike[str], model: ModelFile) -> None:
    """Write ``model`` to ``path``: ``.dp``, ``.yaml`` or ``.dp.json``, or the ``.pt`` of deepmd-kit's PyTorch backend.

    Raises FileError, for a compressed model as ``.pt`` too: deepmd-kit could not read it.
    """
    expect_writable(path)
    name = os.fspath(path)
    if Path(name).suffix.lower() in CHECKPOINTS:
        save_checkpoint(name, to_tree(model))
    else:
        write_tree(name, to_tree(model))
