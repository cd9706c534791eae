"""Whether energies are off by a constant, which short training leaves where forces count most."""

from collections.abc import Sequence

import numpy as np

RECENT = 20  # batches that are looked at, the latest
FEW = 5  # batches that say nothing
SMALL = 0.005  # eV per atom


def offset(errors: Sequence[float]) -> float:
    """The mean of the ``errors`` of batches, eV per atom, if it is the larger part of them, else 0."""
    if len(errors) < FEW:
        return 0.0
    mean = float(np.mean(errors))
    return mean if abs(mean) > max(SMALL, float(np.std(errors))) else 0.0
