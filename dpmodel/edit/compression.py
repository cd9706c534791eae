"""Models with tables in the place of embedding networks (specification/compression.md)."""

from dataclasses import replace

from dpmodel.dpa2.tables import obstacles, tabulate
from dpmodel.errors import DpmodelError
from dpmodel.io.deepmd import ModelFile

STEP, EXTRAPOLATE = 0.01, 5.0  # as deepmd-kit has them


def compress(
    file: ModelFile, *, min_pair_distance: float, step: float = STEP, extrapolate: float = EXTRAPOLATE
) -> ModelFile:
    """``file`` with tables beside its embedding networks, which are used instead of them from now on.

    ``min_pair_distance`` (angstrom): the shortest distance that the fine part of a table has to cover; ``step``: the
    spacing of its knots, ten times as much from there to ``extrapolate`` times its end.  Raises DpmodelError
    with every obstacle.
    """
    descriptor, how = file.model.descriptor, (min_pair_distance, step, extrapolate)
    reasons = list(obstacles(file.settings.descriptor, descriptor, *how))
    if reasons:
        raise DpmodelError("this model cannot be compressed: " + "; ".join(reasons))
    return replace(file, model=replace(file.model, descriptor=tabulate(descriptor, *how)))
