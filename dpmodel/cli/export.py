"""Write a model as a program that other engines run.

They are deepmd-kit and its LAMMPS, what speaks to metatomic, PyTorch in Python and C++, XLA, and Paddle.
The file carries its own test, and is there only after a fresh process loaded it and it passed.

Examples:
    dpmodel export water.dp water.pth --for deepmd-kit
    dpmodel export water.dp water.pt2 --aot
    dpmodel export water.dp water.stablehlo --platforms cpu,cuda,tpu
"""

from pathlib import Path
from typing import Annotated

import typer

from dpmodel.cli.options import Force, Head, Model, Precision, console
from dpmodel.edit.precision import with_precision
from dpmodel.export.forms import Options
from dpmodel.export.write import export
from dpmodel.io.model import read_model


def main(
    model: Model,
    output: Annotated[
        Path, typer.Argument(help="The file to write (.pth, .pt, .pt2, .stablehlo, .pdz).", show_default=False)
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--for", help="deepmd-kit, metatomic, torch, stablehlo, paddle; what the suffix says if not given."
        ),
    ] = None,
    head: Head = None,
    with_model: Annotated[
        bool, typer.Option("--with-model", help="Put the model in, too: dpmodel reads it without running the program.")
    ] = False,
    force: Force = False,
    precision: Precision = None,
    aot: Annotated[
        bool, typer.Option("--aot", help=".pt2: compile ahead of time, for C++ too; takes a minute.")
    ] = False,
    platforms: Annotated[
        str | None, typer.Option("--platforms", help=".stablehlo: cpu,cuda,rocm,tpu; the CPU if not given.")
    ] = None,
) -> None:
    options = Options(ahead=aot, platforms=tuple(platforms.split(",")) if platforms else ())
    file = read_model(model, head)
    report = export(
        output,
        with_precision(file, precision) if precision else file,
        form,
        options=options,
        overwrite=force,
        with_model=with_model,
    )
    console.print(
        f"{output}: for {report.form}, {report.size / 1e6:.1f} MB, written in {report.seconds:.1f} s; in a fresh "
        f"process its numbers are NumPy's to {report.worst:.0e} (first call {report.first_seconds:.1f} s)",
        soft_wrap=True,
        markup=False,
    )
