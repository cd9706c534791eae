"""Turn labeled data of other programs into systems.

dpdata reads them.

Examples:
    dpmodel data convert OUTCAR data --format vasp/outcar
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from dpmodel.cli.options import told
from dpmodel.errors import FileError, SettingError
from dpmodel.io.files import damaged, expect_free


def main(
    paths: Annotated[list[Path], typer.Argument(help="Files of another program.")],
    output: Annotated[Path, typer.Argument(help="New folder for the systems.", show_default=False)],
    kind: Annotated[str, typer.Option("--format", help="dpdata's name of the format: vasp/outcar, ...")],
    mixed: Annotated[bool, typer.Option("--mixed", help="All compositions together.")] = False,
) -> None:
    told.print(f"wrote {convert_data(paths, output, kind, mixed)}", markup=False, soft_wrap=True)


def convert_data(paths: Sequence[Path], output: Path, kind: str, mixed: bool) -> Path:
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
    expect_free(output, overwrite=False)
    systems = dpdata.MultiSystems()
    for path in paths:
        if not path.exists():
            raise FileError(f"{path}: there is no such file")
        with damaged(path, f"data of the format {kind}"):
            systems.append(*_read(dpdata, path, kind))
    if not systems.get_nframes():
        raise FileError(f"{', '.join(map(str, paths))}: expected labeled frames, found none")
    with tempfile.TemporaryDirectory(dir=output.absolute().parent, prefix=f".{output.name}.") as folder:
        made = Path(folder) / "data"
        systems.to("deepmd/npy/mixed" if mixed else "deepmd/npy", str(made))
        shutil.move(made, output)
    return output


def _dpdata(kind: str) -> Any:
    try:
        import dpdata
        from dpdata.format import Format
    except ModuleNotFoundError as error:
        raise SettingError("data of other programs need dpdata: pip install 'dpmodel[train]'") from error
    known = sorted(Format.get_formats())
    if kind not in known:
        raise SettingError(f"format should be one of {', '.join(known)}, got {kind!r}")
    return dpdata


def _read(dpdata: Any, path: Path, kind: str) -> list[Any]:
    """Systems of one file: many compositions where the format can hold them."""
    try:
        return list(dpdata.MultiSystems.from_file(str(path), fmt=kind).systems.values())
    except NotImplementedError:
        return [dpdata.LabeledSystem(str(path), fmt=kind)]
