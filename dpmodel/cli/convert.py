"""``dpmodel convert``, ``change-type-map`` and ``change-bias``: from a model file to another one."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from dpmodel.backend import backend as find_backend
from dpmodel.edit.bias import change_bias
from dpmodel.edit.type_map import change_type_map
from dpmodel.edit.verified_save import expect_target, write_checked
from dpmodel.errors import InputError
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.model import read_model
from dpmodel.potential import built_for, with_precision


def convert_file(
    source: Path, target: Path, head: str | None, precision: str | None, overwrite: bool, told: Console
) -> None:
    """Write the model in ``source`` to ``target``, whose suffix says in which form."""
    expect_target(target, overwrite)
    file = read_model(source, head)
    write(target, with_precision(file, precision) if precision else file, file, overwrite, told)


def change_types_of_file(
    source: Path,
    target: Path,
    type_map: Sequence[str],
    systems: Sequence[Path],
    head: str | None,
    overwrite: bool,
    told: Console,
) -> None:
    """Write the model in ``source`` for other types, with statistics of new ones from ``systems``."""
    expect_target(target, overwrite)
    file = read_model(source, head)
    write(target, change_type_map(file, type_map, built_for(systems)), file, overwrite, told)
    new = [name for name in type_map if name not in file.settings.type_map]
    if new:
        told.print(f"new types, which have to be trained: {', '.join(new)}", markup=False)


def change_bias_of_file(
    source: Path,
    target: Path,
    systems: Sequence[Path],
    values: Sequence[str],
    backend: str,
    head: str | None,
    overwrite: bool,
    told: Console,
) -> None:
    """Write the model in ``source`` with an output bias fitted to ``systems``, or the given ``values``."""
    expect_target(target, overwrite)
    file = read_model(source, head)
    changed = change_bias(file, find_backend(backend).engine(), energies=_energies(values), systems=systems)
    for name, old, new in zip(file.settings.type_map, file.model.out_bias, changed.model.out_bias, strict=True):
        told.print(f"{name}: {old[0]:.6f} -> {new[0]:.6f} eV", markup=False)
    write(target, changed, file, overwrite, told)


def write(target: Path, file: ModelFile, original: ModelFile, overwrite: bool, told: Console) -> None:
    """Write ``file``, made from ``original``, and say how well it stood its trial."""
    worst = write_checked(target, file, original, overwrite=overwrite)
    line = f"{target}: read back, its numbers are those of the original to {worst:.0e}"
    told.print(line, soft_wrap=True, markup=False)


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
