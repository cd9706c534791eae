"""Write a model in another form, which the suffix names.

It is read back and compared with the original before it is there. --truncate and --no-truncate write it with another
meaning of nsel (docs/nsel.md), which changes its numbers where atoms have more neighbors than that.

Examples:
    dpmodel convert model.pt model.dp
    dpmodel convert multitask.pt water.dp --head water
"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from dpmodel.cli.options import Force, Head, Model, Output, Precision, console
from dpmodel.edit.precision import with_precision
from dpmodel.edit.verified_save import expect_target, write_checked
from dpmodel.io.deepmd import ModelFile, from_tree, to_tree
from dpmodel.io.model import read_model


def main(
    model: Model,
    output: Output,
    head: Head = None,
    truncate: Annotated[
        bool | None,
        typer.Option("--truncate/--no-truncate", help="Keep the nsel nearest neighbors, or all within the cutoffs."),
    ] = None,
    force: Force = False,
    precision: Precision = None,
) -> None:
    convert_file(model, output, head, precision, force, console, truncate)


def convert_file(
    source: Path,
    target: Path,
    head: str | None,
    precision: str | None,
    overwrite: bool,
    people: Console,
    truncate: bool | None = None,
) -> None:
    """Write the model in ``source`` to ``target``, whose suffix says in which form."""
    expect_target(target, overwrite)
    file = read_model(source, head)
    if truncate is not None and truncate != file.settings.descriptor.truncate:
        file = with_neighbors(file, truncate)
    write(target, with_precision(file, precision) if precision else file, file, overwrite, people)
    descriptor = file.settings.descriptor
    people.print(f"neighbors: {descriptor.nsel_meaning}", highlight=False)
    if not descriptor.truncate:
        people.print("deepmd-kit refuses such a file; for it, write one with --truncate", highlight=False)


def with_neighbors(file: ModelFile, truncate: bool) -> ModelFile:
    """The same parameters with the other meaning of ``nsel``."""
    tree = to_tree(file)
    tree["model"]["descriptor"].pop("truncate", None)  # files have it where it is off
    tree["model"]["descriptor"] |= {} if truncate else {"truncate": False}
    other = from_tree(tree)
    return file.changed(other.settings, other.model)


def write(target: Path, file: ModelFile, original: ModelFile, overwrite: bool, people: Console = console) -> None:
    """Write ``file``, made from ``original``, and say how closely it gives its numbers."""
    worst = write_checked(target, file, original, overwrite=overwrite)
    line = f"{target}: read back, its numbers are those of the original{f' to {worst:.0e}' if worst else ', exactly'}"
    people.print(line, soft_wrap=True, markup=False)
