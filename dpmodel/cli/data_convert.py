"""Turn labeled data of other programs into systems.

dpdata reads them.

Examples:
    dpmodel data convert OUTCAR data --format vasp/outcar
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any

import typer

from dpmodel.cli.options import console
from dpmodel.data.systems import System, find_systems
from dpmodel.errors import FileError, SettingError
from dpmodel.io.files import damaged, expect_folder, make_folder, sniff, staged

SHOWN = 20  # systems that are listed one by one


def main(
    paths: Annotated[list[Path], typer.Argument(help="Files of another program.")],
    output: Annotated[Path, typer.Argument(help="New folder for the systems.", show_default=False)],
    kind: Annotated[str, typer.Option("--format", "-f", help="dpdata's name of the format: vasp/outcar, ...")],
    mixed: Annotated[bool, typer.Option("--mixed", help="All compositions together.")] = False,
) -> None:
    convert_data(paths, output, kind, mixed)
    console.print(f"wrote {contents(output)}", markup=False, soft_wrap=True)


def convert_data(paths: Sequence[Path], output: Path, kind: str, mixed: bool) -> None:
    """Write the labeled frames in ``paths``, which have dpdata's format ``kind``, as systems in the folder ``output``.

    A system for every composition, or ``mixed`` ones.  The folder is new, and appears whole or not at all.

    Raises
    ------
    SettingError
        If dpdata is not installed, or does not know the format.
    FileError
        If ``output`` exists, or a file cannot be read.
    """
    dpdata = _dpdata(kind)
    if output.exists():
        raise FileError(f"{output}: exists already; remove it or choose another name")
    expect_folder(output.parent)
    systems = dpdata.MultiSystems()
    for path in paths:
        if not path.exists():
            raise FileError(f"{path}: there is no such file")
        with damaged(path, f"data of the format {kind} (it is {_what(path)})"):
            systems.append(*_read(dpdata, path, kind))
    if not systems.get_nframes():
        raise FileError(f"{', '.join(map(str, paths))}: expected labeled frames, found none")
    make_folder(output.parent)
    with staged(output) as folder:
        systems.to("deepmd/npy/mixed" if mixed else "deepmd/npy", str(folder))


def contents(folder: Path) -> str:
    """The systems and frames in a folder, counted."""
    systems = [System(path) for path in find_systems(str(folder))]
    atoms = [sum(int(s.counts(i).sum()) for i in range(len(s))) for s in systems]
    labels = sorted({name for system in systems for name in system.labels})
    head = f"{folder}: {len(systems)} systems, {sum(map(len, systems))} frames, {sum(atoms)} atoms in all"
    lines = [f"  {s.path}: {len(s)} frames, {n / len(s):g} atoms each" for s, n in zip(systems, atoms, strict=True)]
    return "\n".join([f"{head}; labels: {', '.join(labels)}", *(lines if len(lines) <= SHOWN else ())])


def _what(path: Path) -> str:
    """The kind of a file in words; that of a text file by ASE, if it is installed."""
    words = "a directory" if path.is_dir() else sniff(path)
    with suppress(ImportError, OSError, UnicodeDecodeError):
        from ase.io.formats import UnknownFileTypeError, filetype

        with suppress(UnknownFileTypeError):
            words += f", {filetype(str(path))} for ASE" if path.is_file() else ""
    return words


def _dpdata(kind: str) -> Any:
    try:
        import dpdata
        from dpdata.format import Format
    except ModuleNotFoundError as error:
        raise SettingError("data of other programs need dpdata: pip install 'dpmodel[train]'") from error
    formats = sorted(Format.get_formats())
    if kind not in formats:
        raise SettingError(f"format should be one of {', '.join(formats)}, got {kind!r}")
    return dpdata


def _read(dpdata: Any, path: Path, kind: str) -> list[Any]:
    """Systems of one file: many compositions where the format can hold them.

    dpdata gives all frames of a trajectory of ASE the elements of the first one, but not those of other files of ASE.
    """
    kind = {"ase/traj": "ase/structure"}.get(kind, kind)
    try:
        return list(dpdata.MultiSystems.from_file(str(path), fmt=kind).systems.values())
    except NotImplementedError:
        return [dpdata.LabeledSystem(str(path), fmt=kind)]
