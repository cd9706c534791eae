"""A model inside an exported program: its ``.dp`` as one more member of the archive, which is read and never run."""

import zipfile
from collections.abc import Mapping
from os import PathLike, fspath
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dpmodel.errors import FileError
from dpmodel.io.container import read_tree, write_tree
from dpmodel.io.files import ZIP, damaged, sniff

NAME = "model.dp"
Tree = Mapping[str, Any]


def put_model(path: str | PathLike[str], tree: dict[str, Any]) -> None:
    """Add the model ``tree`` to the archive at ``path``, where PyTorch has extra files if it is one of PyTorch's."""
    with TemporaryDirectory() as folder, zipfile.ZipFile(path, "a") as archive:
        write_tree(Path(folder) / NAME, tree)
        roots = {name.partition("/")[0] for name in archive.namelist() if "/" in name}
        archive.write(Path(folder) / NAME, f"{roots.pop()}/extra/{NAME}" if len(roots) == 1 else NAME)


def has_model(path: str | PathLike[str]) -> bool:
    """Whether there is a model in the archive at ``path``; no other file has one inside."""
    if sniff(path) != ZIP:
        return False
    with damaged(path, "an archive"), zipfile.ZipFile(path) as archive:
        return bool(_member(archive))


def model_inside(path: str | PathLike[str]) -> dict[str, Any]:
    """The tree of the model in the archive at ``path``.  Raises FileError."""
    name = fspath(path)
    with damaged(name, "an archive"), zipfile.ZipFile(name) as archive, TemporaryDirectory() as folder:
        info = archive.getinfo(_member(archive))
        if info.compress_type != zipfile.ZIP_STORED:
            raise FileError(f"{name}: the model inside is compressed, which dpmodel does not write")
        copy = Path(folder) / NAME
        copy.write_bytes(archive.read(info))
        try:
            return read_tree(copy)
        except FileError as error:
            raise FileError(str(error).replace(str(copy), f"{name}, {NAME} inside")) from None


def _member(archive: zipfile.ZipFile) -> str:
    """The name of the model in ``archive``, empty if there is none."""
    return next((name for name in archive.namelist() if name == NAME or name.endswith(f"/extra/{NAME}")), "")
