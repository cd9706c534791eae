"""Write a model with another energy of each type.

Examples:
    dpmodel change-bias model.dp new.dp --system data
    dpmodel change-bias model.dp new.dp --value O=-432.1 --value H=-13.6
"""

from collections.abc import Sequence
from typing import Annotated

import typer

from dpmodel.backend import backend as find_backend
from dpmodel.cli.convert import write
from dpmodel.cli.options import Backend, Force, Head, Model, Output, Systems, console
from dpmodel.edit.bias import change_bias
from dpmodel.edit.verified_save import expect_target
from dpmodel.errors import InputError
from dpmodel.io.model import read_model


def main(
    model: Model,
    output: Output,
    systems: Systems = None,
    values: Annotated[
        list[str] | None,
        typer.Option("--value", "-v", help="O=-432.1: energy of an atom of this type, eV; repeatable."),
    ] = None,
    head: Head = None,
    force: Force = False,
    backend: Backend = "numpy",
) -> None:
    expect_target(output, force)
    file = read_model(model, head)
    engine = find_backend(backend).engine()
    changed = change_bias(file, engine, energies=_energies(values or []), systems=systems or [])
    unit = " eV" if file.settings.fitting_net.type == "ener" else ""
    for name, old, new in zip(file.settings.type_map, file.model.out_bias, changed.model.out_bias, strict=True):
        console.print(f"{name}: {old[0]:.6f} -> {new[0]:.6f}{unit}", markup=False)
    write(output, changed, file, force)


def _energies(values: Sequence[str]) -> dict[str, float]:
    named = list(map(_named, values))
    energies = dict(named)
    if len(energies) < len(named):
        raise InputError(f"--value: expected each type once, got {', '.join(name for name, _ in named)}")
    return energies


def _named(value: str) -> tuple[str, float]:
    name, _, energy = value.rpartition("=")
    try:
        return name, float(energy)
    except ValueError:
        raise InputError(f"--value: expected NAME=ENERGY, as O=-432.1, got {value!r}") from None
