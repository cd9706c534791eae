"""Write a model in another form, which the suffix names.

It is read back and compared with the original before it is there.

Examples:
    dpmodel convert model.pt model.dp
    dpmodel convert multitask.pt water.dp --head water
"""

from pathlib import Path

from rich.console import Console

from dpmodel.cli.options import Force, Head, Model, Output, Precision, told
from dpmodel.edit.verified_save import expect_target, write_checked
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model
from dpmodel.potential import with_precision


def main(model: Model, output: Output, head: Head = None, force: Force = False, precision: Precision = None) -> None:
    convert_file(model, output, head, precision, force, told)


def convert_file(
    source: Path, target: Path, head: str | None, precision: str | None, overwrite: bool, people: Console
) -> None:
    """Write the model in ``source`` to ``target``, whose suffix says in which form."""
    expect_target(target, overwrite)
    file = read_model(source, head)
    write(target, with_precision(file, precision) if precision else file, file, overwrite, people)


def write(target: Path, file: ModelFile, original: ModelFile, overwrite: bool, people: Console = told) -> None:
    """Write ``file``, made from ``original``, and say how closely it gives its numbers."""
    worst = write_checked(target, file, original, overwrite=overwrite)
    line = f"{target}: read back, its numbers are those of the original to {worst:.0e}"
    people.print(line, soft_wrap=True, markup=False)
