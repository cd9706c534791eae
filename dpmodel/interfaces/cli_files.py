"""The commands on model files: ``dpmodel show``, ``compress`` and the like."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dpmodel.interfaces.arguments import Backend, Head, Model, told

app = typer.Typer()


@app.command()
def show(model: Model, head: Head = None) -> None:
    """Show what is in a model file: settings, numbers of parameters, versions."""
    from dpmodel.interfaces.show import show_file

    Console(highlight=False).print(show_file(model, head))


@app.command()
def compress(
    model: Model,
    output: Annotated[Path, typer.Argument(help="The compressed model (.dp, .yaml).", show_default=False)],
    step: Annotated[float, typer.Option(help="Spacing of the knots of the tables.")] = 0.01,
    extrapolate: Annotated[float, typer.Option(help="Tables go on, coarser, to this many times their end.")] = 5.0,
    training_script: Annotated[
        Path | None, typer.Option(help="Input file whose data say how close atoms come, if the model does not.")
    ] = None,
    backend: Backend = "numpy",
) -> None:
    """Put tables in place of embedding networks; shows what that changes before it writes."""
    from dpmodel.interfaces.compress import compress_file

    compress_file(model, output, step, extrapolate, training_script, backend, told)
