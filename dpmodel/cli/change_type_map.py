"""Write a model for other types, or in another order.

Types that stay keep their numbers; new ones have to be trained.

Examples:
    dpmodel change-type-map model.dp new.dp O H C --system data
"""

from typing import Annotated

import typer

from dpmodel.cli.convert import write
from dpmodel.cli.options import Force, Head, Model, Output, Systems, console
from dpmodel.edit.type_map import change_type_map
from dpmodel.edit.verified_save import expect_target
from dpmodel.editing import built_for
from dpmodel.io.model import read_model


def main(
    model: Model,
    output: Output,
    type_map: Annotated[list[str], typer.Argument(help="Names of the types, in their new order.", show_default=False)],
    systems: Systems = None,
    head: Head = None,
    force: Force = False,
) -> None:
    expect_target(output, force)
    file = read_model(model, head)
    write(output, change_type_map(file, type_map, built_for(systems or [])), file, force)
    new = [name for name in type_map if name not in file.settings.type_map]
    if new:
        console.print(f"new types, which have to be trained: {', '.join(new)}", markup=False)
