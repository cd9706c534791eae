"""Model files in and out: ``read_tree`` and ``write_tree``.

A tree is nested dictionaries and lists of plain values, with NumPy arrays below keys ``@variables``.
The same tree can be in HDF5 (``.dp``) or in text (``.yaml``, ``.yml``, ``.dp.json``); see
specification/serialization.md 1.
"""

import os
from collections.abc import Iterable
from importlib import import_module
from typing import Any, NamedTuple

from dpmodel.errors import FileError
from dpmodel.io.files import expect_content, replacing


class _Format(NamedTuple):
    """``read_NAME(path)`` and ``write_NAME(file, tree, path)`` of a module that is imported when it is needed."""

    module: str
    name: str
    contents: tuple[str, ...]  # what ``sniff`` may say of such a file

    def function(self, verb: str) -> Any:
        return getattr(import_module(f"dpmodel.io.{self.module}"), f"{verb}_{self.name}")


_HDF5 = _Format("hdf5", "hdf5", ("an HDF5 file",))
_YAML = _Format("text", "yaml", ("text", "JSON text"))
_JSON = _Format("text", "json", ("JSON text",))
FORMATS = {".dp": _HDF5, ".yaml": _YAML, ".yml": _YAML, ".dp.json": _JSON}


def read_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the tree in a model file.

    Data only: nothing in the file is executed, and nothing much larger than the file is allocated.
    Raises FileError, which names the file, the place in it, what was expected and what was found.
    """
    path = os.fspath(path)
    form = _format(path)
    expect_content(path, form.contents, form.contents[0])
    tree: dict[str, Any] = form.function("read")(path)
    return tree


def write_tree(path: str | os.PathLike[str], tree: dict[str, Any], overwrite: bool = True) -> None:
    """Write ``tree`` to a model file; the suffix chooses the form.

    The file appears whole or not at all.  A ``.dp`` file can be read by deepmd-kit 3.
    """
    path = os.fspath(path)
    form = _format(path)
    with replacing(path, overwrite) as file:
        form.function("write")(file, tree, path)


def _format(path: str) -> _Format:
    expect_suffix(path, FORMATS)
    return next(form for suffix, form in FORMATS.items() if path.lower().endswith(suffix))


def expect_suffix(path: str, suffixes: Iterable[str]) -> None:
    """Raise FileError unless the name ``path`` ends in one of ``suffixes``."""
    if not path.lower().endswith(tuple(suffixes)):
        is_json = path.lower().endswith(".json")
        hint = "; '.json' belongs to Paddle's programs, a model in JSON is called '.dp.json'" if is_json else ""
        raise FileError(f"{path}: expected a name ending in one of {', '.join(suffixes)}{hint}")
