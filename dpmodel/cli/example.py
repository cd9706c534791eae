"""Copy an example: a model, structures, data, input files.

water: a small DPA-2 trained on GFN1-xTB water, its data and input.json, structures, a script for LAMMPS.

Examples:
    dpmodel example water
    dpmodel example water somewhere/else
"""

import shutil
from importlib.resources import as_file, files
from pathlib import Path
from typing import Annotated

import typer

from dpmodel.cli.options import console
from dpmodel.errors import InputError
from dpmodel.settings import nearest

NEXT = """\
cd {folder}
dpmodel show water.dp
dpmodel eval water.dp water.xyz
dpmodel test water.dp -s data/valid_16
dpmodel data check data"""


def main(
    name: Annotated[str, typer.Argument(help="Which example: water.")] = "water",
    folder: Annotated[
        Path | None, typer.Argument(help="A new folder; the example's name if not given.", show_default=False)
    ] = None,
) -> None:
    source = files("dpmodel") / "examples"
    names = sorted(entry.name for entry in source.iterdir() if entry.is_dir())
    if name not in names:
        raise InputError(f"there is no example {name!r}: there is {', '.join(names)}{nearest(name, names)}")
    folder = folder or Path(name)
    if folder.exists():
        raise InputError(f"{folder} exists: name a new folder, dpmodel example {name} FOLDER")
    try:
        with as_file(source / name) as path:
            shutil.copytree(path, folder)
    except OSError as error:
        raise InputError(f"{folder}: cannot be written ({error})") from error
    console.print(f"{folder} holds a model, structures, data and input files. Try:")
    print(NEXT.format(folder=folder))
