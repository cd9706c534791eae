"""The command ``dpmodel``.  Results go to standard output, everything said to people to standard error.

Exit codes: 0 done, 1 models or backends disagree (``compare``, ``diff``), 2 an input that cannot be used, 130 training
stopped on request.
"""

import sys
import warnings
from typing import Annotated

import typer
from rich.markup import escape

import dpmodel
from dpmodel.cli.commands import group
from dpmodel.cli.options import console
from dpmodel.errors import DpmodelError, NeighborOverflowWarning, printable

app = group(
    {
        "Start": ["example", "doctor"],
        "Use models": [
            "eval=evaluate",
            "describe",
            "model-devi",
            "label",
            "relax",
            "lammps",
        ],
        "Train models": [
            "train",
            "test=accuracy",
            "plot",
            "neighbor-stat",
            "data",
            "schema",
        ],
        "Look at models": ["show", "diff", "compare"],
        "Change models": ["convert", "compress", "calibrate", "change-bias", "change-type-map", "export"],
    },
    name="dpmodel",
    help="DPA-2 interatomic potentials on NumPy, PyTorch, JAX and Paddle.",
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"dpmodel {dpmodel.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and leave.")
    ] = False,
) -> None:
    """Options before the command."""


def _tell(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    if issubclass(category, NeighborOverflowWarning):
        warnings.simplefilter("ignore", NeighborOverflowWarning)  # a trajectory would say it once a batch
    console.print(f"[yellow]warning:[/] {escape(printable(str(message)))}", soft_wrap=True)


def main(arguments: list[str] | None = None) -> None:
    """Run the command, that of the process if there are no ``arguments``; errors become one line and exit code 2."""
    warnings.showwarning = _tell
    warnings.simplefilter("always", NeighborOverflowWarning)
    try:
        app(args=arguments, prog_name="dpmodel")
    except DpmodelError as error:
        console.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        sys.exit(2)


if __name__ == "__main__":
    main()
