"""The models of ``pair_style dpmodel``: from the words of a script to potentials, types and parameters."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from dpmodel.data.structure import unknown_element
from dpmodel.engines.lammps.library import Lammps
from dpmodel.engines.lammps.options import Options
from dpmodel.engines.lammps.plugin import STYLE
from dpmodel.errors import HeadError, InputError
from dpmodel.potential import Potential, load
from dpmodel.xp import Array


def load_model(path: str, options: Options) -> Potential:
    """The model of ``pair_style``; InputError where its options do not say which head."""
    try:
        names = ("backend", "head", "device", "precision", "strict")
        how: dict[str, Any] = {name: getattr(options, name) for name in names}
        return load(path, **how, trusted=options.trust)
    except HeadError as error:
        if options.head is not None:
            raise
        line = f"pair_style {STYLE} {path} head {error.heads[0]}"
        raise InputError(f"{path} has the heads {', '.join(error.heads)}: choose one, '{line}'") from None


def type_table(lmp: Lammps, potential: Potential, elements: Sequence[str | None]) -> Array:
    """(n_types + 1,) the model's type for each of LAMMPS', which count from 1; -1 where there is none."""
    n_types = lmp.extract_global("ntypes")
    if len(elements) != n_types:
        raise InputError(
            f"pair_coeff should name an element for each of the {n_types} atom types, got {len(elements)}: "
            f"{' '.join(map(str, elements)) or 'none'}"
        )
    potential.expect_forces()
    if potential.settings.fitting_net.numb_aparam:
        raise InputError("the model takes atomic parameters (aparam), which LAMMPS does not have")
    table = [-1]
    for name in elements:
        if name is not None and name not in potential.type_map:
            raise InputError(f"pair_coeff: {name!r} is an element {unknown_element(name, potential.type_map)}")
        table.append(-1 if name is None else potential.type_map.index(name))
    if max(table) < 0:
        raise InputError("pair_coeff names no element, only NULL: the model would act on nothing")
    return np.array(table)


def frame_parameters(potential: Potential, values: Sequence[float] | None) -> Array | None:
    """(k,) what the model takes, or None if it takes none; InputError if ``values`` is something else."""
    fitting = potential.settings.fitting_net
    values = values if values is not None else fitting.default_fparam
    if len(values or ()) != fitting.numb_fparam:
        raise InputError(f"the model takes {fitting.numb_fparam} frame parameters (fparam), got {len(values or ())}")
    return np.array(values, dtype=float) if fitting.numb_fparam else None
