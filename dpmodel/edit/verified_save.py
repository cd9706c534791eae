"""A model file is put in its place only after it was read back and gave the numbers that it should."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from dpmodel.accuracy import AGREEMENT
from dpmodel.backend import backend
from dpmodel.data.samples import asked, mixture
from dpmodel.errors import FileError, InputError, NeighborOverflowWarning
from dpmodel.evaluator import Evaluator, Wants
from dpmodel.io.deepmd import ModelFile
from dpmodel.io.files import expect_free, staged
from dpmodel.io.model import expect_writable, read_model, write_model
from dpmodel.model.settings import ModelSettings
from dpmodel.module import state

Arrays = dict[str, np.ndarray]

ROUGH = 1e-2  # of half precisions


def tolerance_of(settings: ModelSettings) -> float:
    """The precision to which two evaluations of a model agree, relative to the largest number."""
    return max(AGREEMENT.get(dtype, ROUGH) for dtype in (settings.descriptor.dtype, settings.fitting_net.dtype))


def expect_target(path: str | os.PathLike[str], overwrite: bool, *, tables: bool = False) -> None:
    """Raise FileError, before any work is done, where ``write_checked`` could not write a model (with ``tables``)."""
    expect_writable(path, tables=tables)
    expect_free(path, overwrite)


def write_checked(
    path: str | os.PathLike[str], file: ModelFile, original: ModelFile, *, overwrite: bool = False
) -> float:
    """Write ``file``, made from ``original``, once it has been read back and tried; or nothing at all.

    Its arrays must be those of ``file`` in memory.  With NumPy, on a small periodic structure of all its types, it must
    give finite numbers, and on one of the types that ``original`` has, too, the numbers of ``original`` with the output
    bias of ``file``: energies, forces and virials of every atom, or the outputs of another head.

    Returns
    -------
    float
        The largest difference from ``original``, relative to the largest number of its kind.

    Raises
    ------
    FileError
        If the file exists and may not be overwritten, cannot be written, or does not pass the trial.
    """
    expect_writable(path)
    with staged(path, overwrite) as temporary:
        write_model(temporary, file)
        written = read_model(temporary)
        expect_same_arrays(path, state(written.model), state(file.model))
        try:
            return tried(path, written, file, original)
        except InputError as error:  # the model cannot take a small structure of its types
            raise FileError(f"{path}: not written: {error}") from error


def tried(path: str | os.PathLike[str], written: ModelFile, file: ModelFile, original: ModelFile) -> float:
    """The difference of the numbers of ``written`` from those of ``original``; FileError where it is too large."""
    every, names = file.settings.type_map, original.settings.type_map
    numbers = answers(written, every)
    same = tuple(name for name in names if name in every)
    if same != every:
        numbers = answers(written, same)
    allowed = max(tolerance_of(f.settings) for f in (file, original))
    return expect_equal(path, numbers, expected(file, original, same), allowed)


def expected(file: ModelFile, original: ModelFile, names: Sequence[str]) -> Arrays:
    """The numbers of ``original``, with the output bias of ``file`` in the place of its own."""
    bias, types = original.model.out_bias.copy(), original.settings.type_map
    for name in names:
        bias[types.index(name)] = file.model.out_bias[file.settings.type_map.index(name)]
    if not original.model.distinguish_types:  # the first type's counts for all
        bias[:] = file.model.out_bias[0]
    return answers(replace(original, model=replace(original.model, out_bias=bias)), names)


def answers(file: ModelFile, names: Sequence[str]) -> Arrays:
    """The numbers of a model for a periodic structure of the types ``names``: atomic energies, forces and virials."""
    evaluator = Evaluator(file, backend("numpy").engine())
    is_energy = file.settings.fitting_net.type == "ener"
    wants = Wants(atom_virial="edges" if is_energy else None)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NeighborOverflowWarning)
        [[prediction]] = evaluator.evaluate([asked(mixture(len(names)), names, file.settings)], wants, strict=False)
    if not is_energy:
        return prediction.outputs
    return {"energies": prediction.atom_energy[0], "forces": prediction.forces[0], "virials": prediction.atom_virial[0]}


def expect_same_arrays(path: str | os.PathLike[str], arrays: Arrays, right: Arrays) -> None:
    """Raise FileError where an array is not, number for number, the right one."""
    lost = [name for name, value in right.items() if name not in arrays or not np.array_equal(arrays[name], value)]
    if lost:
        raise FileError(f"{path}: not written: read back, arrays are not what they were: {', '.join(lost[:3])}")


def expect_equal(path: str | os.PathLike[str], numbers: Arrays, right: Arrays, allowed: float) -> float:
    """The largest difference, relative to the largest number; FileError if it is above ``allowed``."""
    worst = 0.0
    for name, value in right.items():
        difference, scale = float(np.abs(numbers[name] - value).max()), float(np.abs(value).max())
        relative = difference / scale if scale else difference
        if not relative <= allowed:
            raise FileError(f"{path}: not written: read back, the model gives {name} that differ by {difference:.1e} "
                            f"from the original's, of {scale:.1e}; allowed is {allowed:g} of that")  # fmt: skip
        worst = max(worst, relative)
    return worst
