"""The commands on model files: ``dpmodel show``, ``compress`` and the like."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dpmodel.cli.arguments import Backend, Force, Head, Model, Output, Precision, told

app = typer.Typer()


@app.command()
def show(model: Model, head: Head = None) -> None:
    """Show what is in a model file: settings, numbers of parameters, versions; the heads, if it has several."""
    from dpmodel.cli.show import show_file

    Console(highlight=False).print(show_file(model, head))


@app.command()
def diff(
    model: Model,
    other: Model,
    head_a: Annotated[str | None, typer.Option(help="Which model of the first file, if it has several.")] = None,
    head_b: Annotated[str | None, typer.Option(help="Which model of the second file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="For programs.")] = False,
) -> None:
    """Tell in which settings and arrays two models differ; exit code 1 if they do."""
    from dpmodel.cli.diff import diff_files

    found = diff_files(model, other, head_a, head_b)
    print(found.to_json() if as_json else found)
    if not found.equal:
        raise typer.Exit(1)


@app.command()
def convert(model: Model, output: Output, head: Head = None, precision: Precision = None, force: Force = False) -> None:
    """Write a model in another form, which the suffix names; read back and compared before it is there."""
    from dpmodel.cli.convert import convert_file

    convert_file(model, output, head, precision, force, told)


@app.command()
def change_type_map(
    model: Model,
    output: Output,
    type_map: Annotated[list[str], typer.Argument(help="Names of the types, in their new order.", show_default=False)],
    systems: Annotated[
        list[Path] | None, typer.Option("--system", "-s", help="Data that the statistics of new types are taken from.")
    ] = None,
    head: Head = None,
    force: Force = False,
) -> None:
    """Write a model for other types: more, fewer, or in another order.  Those that stay keep their numbers."""
    from dpmodel.cli.convert import change_types_of_file

    change_types_of_file(model, output, type_map, systems or [], head, force, told)


@app.command()
def change_bias(
    model: Model,
    output: Output,
    systems: Annotated[
        list[Path] | None, typer.Option("--system", "-s", help="Data that the bias is fitted to.")
    ] = None,
    values: Annotated[
        list[str] | None, typer.Option("--value", "-v", help="O=-432.1: energy of an atom of this type, eV.")
    ] = None,
    backend: Backend = "numpy",
    head: Head = None,
    force: Force = False,
) -> None:
    """Write a model with another output bias: the energy that every atom of a type has."""
    from dpmodel.cli.convert import change_bias_of_file

    change_bias_of_file(model, output, systems or [], values or [], backend, head, force, told)


@app.command()
def compress(
    model: Model,
    output: Annotated[Path, typer.Argument(help="The compressed model (.dp, .yaml, .dp.json).", show_default=False)],
    step: Annotated[float, typer.Option(help="Spacing of the knots of the tables.")] = 0.01,
    extrapolate: Annotated[float, typer.Option(help="Tables go on, coarser, to this many times their end.")] = 5.0,
    training_script: Annotated[
        Path | None, typer.Option(help="Input file whose data say how close atoms come, if the model does not.")
    ] = None,
    backend: Backend = "numpy",
    head: Head = None,
    force: Force = False,
) -> None:
    """Put tables in place of embedding networks; shows what that changes before it writes."""
    from dpmodel.cli.compress import compress_file

    compress_file(model, output, step, extrapolate, training_script, backend, head, force, told)
