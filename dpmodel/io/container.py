"""Model files in and out: ``read_tree`` and ``write_tree``.

A tree is nested dictionaries and lists of plain values, with NumPy arrays below keys ``@variables``.
The same tree can stand in HDF5 (``.dp``) or in text (``.yaml``, ``.yml``, ``.dp.json``); see
specification/serialization.md 1.
"""

import os
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, NamedTuple

from dpmodel.errors import FileError
from dpmodel.io.files import expect_content, replacing
from dpmodel.io.hdf5 import read_hdf5, write_hdf5
from dpmodel.io.text import read_json, read_yaml, write_json, write_yaml


class _Format(NamedTuple):
    read: Callable[[str], dict[str, Any]]
    write: Callable[[BinaryIO, dict[str, Any], str], None]
    found: tuple[str, ...]  # what ``sniff`` may say of such a file


_HDF5 = _Format(read_hdf5, write_hdf5, ("an HDF5 file",))
_YAML = _Format(read_yaml, write_yaml, ("text", "JSON text"))
_JSON = _Format(read_json, write_json, ("JSON text",))
FORMATS = {".dp": _HDF5, ".yaml": _YAML, ".yml": _YAML, ".dp.json": _JSON}


def read_tree(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the tree in a model file.

    Data only: nothing in the file is executed, and nothing much larger than the file is allocated.
    Raises FileError, which names the file, the place in it, what was expected and what was found.
    """
    path = os.fspath(path)
    form = _format(path)
    expect_content(path, form.found, form.found[0])
    return form.read(path)


def write_tree(path: str | os.PathLike[str], tree: dict[str, Any], overwrite: bool = True) -> None:
    """Write ``tree`` to a model file; the suffix chooses the form.

    The file appears whole or not at all.  A ``.dp`` file can be read by deepmd-kit 3.
    """
    path = os.fspath(path)
    form = _format(path)
    with replacing(path, overwrite) as file:
        form.write(file, tree, path)


def _format(path: str) -> _Format:
    expect_suffix(path, FORMATS)
    return next(form for suffix, form in FORMATS.items() if path.lower().endswith(suffix))


def expect_suffix(path: str, suffixes: Iterable[str]) -> None:
    """Raise FileError unless the name ``path`` ends in one of ``suffixes``."""
    if not path.lower().endswith(tuple(suffixes)):
        is_json = path.lower().endswith(".json")
        hint = "; '.json' belongs to Paddle's programs, a model in JSON is called '.dp.json'" if is_json else ""
        raise FileError(f"{path}: expected a name ending in one of {', '.join(suffixes)}{hint}")
