"""Other models made from one: tables for its networks, other types, other energies of atoms."""

from collections.abc import Callable, Mapping, Sequence
from os import PathLike, fspath

from dpmodel.data.systems import System, find_systems
from dpmodel.edit.bias import change_bias as rebiased
from dpmodel.edit.compression import EXTRAPOLATE, STEP
from dpmodel.edit.compression import compress as tabulate
from dpmodel.edit.type_map import change_type_map as retyped
from dpmodel.errors import DpmodelError
from dpmodel.model.build import build
from dpmodel.model.model import Model
from dpmodel.model.settings import ModelSettings
from dpmodel.potential import Potential
from dpmodel.statistics.environment import statistics, with_statistics


def compress(
    potential: Potential,
    *,
    min_pair_distance: float | None = None,
    step: float = STEP,
    extrapolate: float = EXTRAPOLATE,
) -> Potential:
    """``potential`` with tables instead of its embedding networks (of models with ``tebd_input_mode: strip``).

    Parameters
    ----------
    potential : Potential
        The model; it stays as it is.
    min_pair_distance : float, optional
        Shortest distance (angstrom) that the fine part of the tables has to cover; the one of the training data, if
        the file has it.
    step, extrapolate : float
        Spacing of the knots, and how many times its end a table goes on at ten times that spacing.

    Raises
    ------
    DpmodelError
        With every obstacle, and what to do about it.
    """
    distance = potential.file.min_pair_distance if min_pair_distance is None else min_pair_distance
    if distance is None:
        raise DpmodelError("the file does not say how close atoms came in the training data: give min_pair_distance")
    file = tabulate(potential.file, min_pair_distance=distance, step=step, extrapolate=extrapolate)
    return Potential(file, potential.engine, strict=potential.strict)


def change_type_map(
    potential: Potential, type_map: Sequence[str], *, systems: Sequence[str | PathLike[str]] = ()
) -> Potential:
    """``potential`` for the types ``type_map``, matched by name: more of them, fewer, or in another order.

    Types that stay keep their numbers.  New ones have to be trained: they have no output bias, the statistics of their
    atoms in ``systems`` (of none: mean 0, deviation 1), and, without ``use_econf_tebd``, a random embedding.  Raises
    InputError if no type would stay, SettingError for names that cannot be, FileError for ``systems``.
    """
    return Potential(retyped(potential.file, type_map, built_for(systems)), potential.engine, strict=potential.strict)


def built_for(systems: Sequence[str | PathLike[str]]) -> Callable[[ModelSettings], Model]:
    """A function that builds a model with the statistics of all frames in and below ``systems``, if there are any."""

    def built(settings: ModelSettings) -> Model:
        paths = find_systems([fspath(path) for path in systems])
        frames = (frame for path in paths for frame in System(path, settings, ()))
        return with_statistics(build(settings), settings, statistics(frames, settings))

    return built if systems else build


def change_bias(
    potential: Potential,
    energies: Mapping[str, float] | None = None,
    *,
    systems: Sequence[str | PathLike[str]] = (),
) -> Potential:
    """``potential`` with another energy for every atom of a type.

    Parameters
    ----------
    potential : Potential
        An energy model; it stays as it is.
    energies : dict, optional
        The output bias by the name of the type, eV; types that are not named keep theirs.
    systems : list of path, optional
        Instead: labeled data, whose energies the model should have on average, by least squares.

    Raises
    ------
    InputError, FileError
        For other models, unknown types, and data without energies.
    """
    file = rebiased(potential.file, potential.engine, energies=energies, systems=systems)
    return Potential(file, potential.engine, strict=potential.strict)
